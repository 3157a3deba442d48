//! How a load of a run ends: returned, cancelled, stuck, given back. Each is one turn; a turn that compares the inbox
//! and finds it moved is sent again.

use serde_json::value::RawValue;
use std::{
    task::{Context, Waker},
    time::Duration,
};

use super::{
    drive::{Drive, Next, Phase},
    outbox::Draft,
    room::Room,
};
use crate::{
    engine::Event,
    error::Error,
    failpoint::{Failpoint, pass},
    journal::{Entry, Kind, Payload, Role, Start, encode},
    status::Status,
    store::{End, Mark, Turn},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// How long a run that this binary cannot read is left to others before it is looked at again.
pub(crate) const LEAVE: Duration = Duration::from_secs(30);

impl Drive {
    /// Drops the function and all its bodies. Guards of the user run here.
    pub(super) fn drop_function(&mut self) {
        self.core.state().ended = true;
        if let Some(function) = self.function.take() {
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(function)));
            if dropped.is_err() {
                tracing::warn!(run = %self.core.id(), "a value of the workflow panicked while it was dropped");
            }
        }
        // A `Ctx` that was kept elsewhere keeps the run's memory, but no place among the running steps.
        self.room = Room::default();
        let mut state = self.core.state();
        let left = std::mem::take(&mut state.table);
        drop(state);
        drop(left);
    }

    /// The function is dropped before the turn is sent: what its guards do, they do while the run is still ours.
    fn end(&mut self, end: End) -> Next {
        let mut parts = std::mem::take(&mut self.out.parts);
        let mut state = self.core.state();
        if let Some(aside) = state.table.has_aside() {
            parts.marks.append(&mut aside.marks);
        }
        // Rows of bodies that were about to begin tell of nothing.
        let unbegun = state.table.iter().filter(|(_, slot)| slot.row.is_some_and(|row| !row.began));
        parts.marks.extend(unbegun.map(|(_, slot)| Mark::Cleared(slot.key.clone())));
        drop(state);
        self.drop_function();
        pass(Failpoint::RunEnds);
        let mut turn = self.turn_of(parts);
        turn.end = Some(end);
        self.phase = Phase::Ending(Box::new(turn.clone()));
        self.send(turn);
        Next::Again
    }

    /// The function returned.
    pub(super) fn end_returned(&mut self, outcome: Result<Payload, Error>) -> Next {
        if let Some(entry) = self.unclaimed_rest() {
            return self.diverged(&entry, "the code returned without asking for it");
        }
        self.record_commands();
        self.hear_jobs(&mut Context::from_waker(Waker::noop()));
        loop {
            let orphan = self.core.state().table.has_aside().and_then(|aside| aside.orphans.pop_front());
            let Some(orphan) = orphan else { break };
            self.record_orphan(orphan);
        }
        let (run, left) = (self.core.id().clone(), self.undelivered());
        let status = match outcome {
            Ok(body) => {
                self.tell_durable(|| Event::Completed { run });
                self.append(Draft { input: left, ..Draft::new(Kind::Completed, body) });
                Status::Completed
            }
            Err(error) => {
                let mut failure = error.to_failure(None).within(self.core.worker.settings.payload_bytes_max);
                // A failure that was wrapped on its way out still ended the run: it was the last thing handed over.
                failure.cause = failure.cause.or(self.core.state().last_failure);
                self.tell_durable(|| Event::Failed { run, error: failure.message.clone() });
                self.append(Draft { input: left, ..Draft::new(Kind::Failed, encode(&failure)) });
                Status::Failed
            }
        };
        let at = self.core.state().now;
        self.end(End::Finished { status, inbox_n: self.inbox.known(), at })
    }

    /// The function begins anew.
    pub(super) fn end_restarted(&mut self, input: Option<Box<RawValue>>) -> Next {
        if let Some(entry) = self.unclaimed_rest() {
            return self.diverged(&entry, "the code restarts without asking for it");
        }
        self.record_commands();
        let Some(input) = input else { return Next::Again };
        let carried = self.core.state().table.has_aside().map(|aside| aside.mail.carry()).unwrap_or_default();
        let start = Start { incarnation: self.core.incarnation, digest: self.core.digest, input, carried };
        let body = encode(&start);
        let seq = self.append(Draft::new(Kind::Restarted, body));
        let last = self.out.parts.entries.iter().rfind(|entry| entry.seq == seq).expect("just appended");
        let first = Entry { seq: 0, kind: Kind::Started.code(), fingerprint: 0, ..last.clone() };
        let (run, generation) = (self.core.id().clone(), self.core.generation() + 1);
        self.tell_durable(|| Event::Restarted { run, generation });
        self.end(End::Restarted { first: Box::new(first) })
    }

    /// The numbers of entries whose signals nobody has, as the outcome keeps them.
    fn undelivered(&mut self) -> Option<Payload> {
        let left = self.core.state().table.has_aside().map(|aside| aside.mail.left()).unwrap_or_default();
        (!left.is_empty()).then(|| encode(&left))
    }

    /// An entry that was never delivered and that nobody claimed; losers of a race were claimed.
    fn unclaimed_rest(&mut self) -> Option<crate::journal::Entry> {
        let rest = std::mem::take(&mut self.replay);
        rest.into_iter().find(|entry| match (entry.known_kind(), &entry.key) {
            (Some(kind), Some(_)) if kind.role() == Role::Command => self.is_missed(kind, entry),
            (_, Some(key)) => {
                self.core.state().table.claims().is_some_and(|claims| !claims.contains_key(key))
            }
            (_, None) => false,
        })
    }

    /// Somebody asked for it, just `now` or in an entry that is delivered again. The function is dropped here, live and
    /// on replay.
    pub(super) fn end_cancelled(&mut self, why: String, now: bool) {
        let body = encode(&why);
        if self.live {
            self.record_commands();
        }
        if now {
            self.append(Draft::new(Kind::CancelAsked, body.clone()));
        }
        let left = self.undelivered();
        self.append(Draft { input: left, ..Draft::new(Kind::Cancelled, body) });
        let run = self.core.id().clone();
        self.tell_durable(|| Event::Cancelled { run });
        let at = self.core.state().now;
        self.end(End::Finished { status: Status::Cancelled, inbox_n: self.inbox.known(), at });
    }

    /// Needs a person, unless somebody has asked to cancel: that was acknowledged, and a stuck run would not hear it.
    pub(super) fn end_stuck(&mut self, stuck: Stuck) -> Next {
        if self.cancel() {
            return Next::Again;
        }
        let at = self.core.worker.clock.now();
        tracing::warn!(run = %self.core.id(), %stuck, "a run is stuck");
        let (run, told) = (self.core.id().clone(), stuck.clone());
        self.tell_durable(|| Event::Stuck { run, reason: told.reason, detail: told.detail });
        self.end(End::Stuck { stuck, inbox_n: self.inbox.known(), at })
    }

    pub(super) fn end_panicked(&mut self, said: &str) -> Next {
        let after = self.core.state().last_call.map_or("its beginning".to_string(), ToString::to_string);
        let detail = format!("the workflow function panicked after {after}: {said}");
        self.stuck_for(StuckReason::Panicked, None, detail)
    }

    pub(super) fn end_waits_for_nothing(&mut self) -> Next {
        let after = self.core.state().last_call.map_or("its beginning".to_string(), ToString::to_string);
        let detail =
            format!("the function waits, after {after}, for something that is no step, timer or signal");
        self.stuck_for(StuckReason::WaitsForNothing, None, detail)
    }

    /// Out of memory, until what it waits for comes.
    pub(super) fn park(&mut self, due: Timestamp) -> Next {
        pass(Failpoint::RunParks);
        let wake_at = (due != Timestamp::NEVER).then_some(due);
        self.end(End::Parked { wake_at, inbox_n: self.inbox.known() })
    }

    /// Free for any worker, at once.
    pub(super) fn give_back(&mut self) -> Next {
        pass(Failpoint::RunGivenBack);
        self.end(End::GivenBack { wake_at: Timestamp(0) })
    }

    /// Another binary may be able to read it.
    pub(super) fn leave_to_another(&mut self, what: String) -> Next {
        tracing::warn!(run = %self.core.id(), what, "this binary does not know what the journal holds: the run is left to one that does");
        let wake_at = self.core.worker.clock.now().after(LEAVE);
        self.end(End::GivenBack { wake_at })
    }

    /// A message came while the last turn was on its way; nothing of that turn was written.
    pub(super) fn end_again(&mut self, moved_to: u64) {
        let Phase::Ending(turn) = &mut self.phase else { return };
        match &mut turn.end {
            // The function has returned: a message that comes now comes too late, and stays undelivered.
            Some(End::Finished { inbox_n, .. }) => *inbox_n = moved_to,
            // The message may be what helps, or what is waited for: load it anew with it.
            Some(end @ (End::Stuck { .. } | End::Parked { .. })) => {
                *end = End::GivenBack { wake_at: Timestamp(0) }
            }
            _ => {}
        }
        let finished = matches!(turn.end, Some(End::Finished { .. }));
        let turn = Turn::clone(turn);
        self.out.resend_events(|event| finished || !matches!(event, Event::Stuck { .. }));
        self.send(turn);
    }
}
