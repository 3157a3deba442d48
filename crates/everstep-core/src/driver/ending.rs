//! How a load of a run ends: returned, cancelled, stuck, given back. Each is one turn; a turn that compares the inbox
//! and finds it moved is sent again.

use serde_json::value::RawValue;
use std::{
    task::{Context, Waker},
    time::Duration,
};

use super::{
    closing::Fate,
    drive::{Drive, Next, Phase},
    outbox::Draft,
    room::Room,
};
use crate::{
    engine::Event,
    error::{Code, Error, ErrorKind},
    failpoint::{Failpoint, pass},
    journal::{Entry, Failure, Kind, Payload, Reply, Role, Start, decode, encode},
    status::Status,
    store::{End, LetterId, Mark, Say, Turn},
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
    pub(super) fn end(&mut self, end: End) -> Next {
        if let End::Finished { .. } | End::Restarted { .. } = &end {
            self.say_farewell();
            self.answer_the_rest();
        }
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

    /// Requests that were taken and not answered get an error: nobody else will answer them.
    fn answer_the_rest(&mut self) {
        let asked = self.core.state().table.has_aside().map(|aside| std::mem::take(&mut aside.asked));
        let message = format!("run `{}` has ended or begun anew without answering", self.core.id());
        let reply = Reply::Failure(Failure::of(ErrorKind::NotAllowed, Code::NO_ANSWER, message));
        let at = self.core.state().now;
        let answered = |id| Say::Answered { id: LetterId(id), body: encode(&reply), at };
        self.out.parts.says.extend(asked.into_iter().flatten().map(answered));
    }

    /// The function returned.
    pub(super) fn end_returned(&mut self, outcome: Result<Payload, Error>) -> Next {
        if let Some(next) = self.pass_rest("returned", outcome.is_err()) {
            return next;
        }
        if self.is_undoing() {
            self.record_commands();
            return self.end_closed();
        }
        self.record_commands();
        self.hear_jobs(&mut Context::from_waker(Waker::noop()));
        loop {
            let orphan = self.core.state().table.has_aside().and_then(|aside| aside.orphans.pop_front());
            let Some(orphan) = orphan else { break };
            self.record_orphan(orphan);
        }
        let run = self.core.id().clone();
        let (status, body) = match outcome {
            Ok(body) => {
                self.tell_durable(|| Event::Completed { run });
                (Status::Completed, body)
            }
            Err(error) => {
                let mut failure = error.to_failure(None).within(self.core.worker.settings.payload_bytes_max);
                // A failure that was wrapped on its way out still ended the run: it was the last thing handed over.
                failure.cause = failure.cause.or(self.core.state().last_failure);
                let body = encode(&failure);
                if self.has_to_undo() {
                    self.function = None;
                    self.close(Kind::Failing, body, Fate::Failed(failure));
                    return Next::Again;
                }
                self.tell_durable(|| Event::Failed { run, error: failure.message });
                (Status::Failed, body)
            }
        };
        let kind = if status == Status::Completed { Kind::Completed } else { Kind::Failed };
        let input = self.undelivered();
        self.append(Draft { input, ..Draft::new(kind, body) });
        let at = self.core.state().now;
        self.end(End::Finished { status, inbox_n: self.inbox.known(), at })
    }

    /// The function begins anew.
    pub(super) fn end_restarted(&mut self, input: Option<Box<RawValue>>) -> Next {
        if let Some(next) = self.pass_rest("restarts", false) {
            return next;
        }
        self.record_commands();
        let Some(input) = input else { return Next::Again };
        let carried = self.core.state().table.has_aside().map(|aside| aside.mail.carry()).unwrap_or_default();
        let deadline = (self.core.deadline != Timestamp::NEVER).then_some(self.core.deadline.0);
        let (incarnation, digest, parent) =
            (self.core.incarnation, self.core.digest, self.core.parent.as_deref().cloned());
        let start = Start { incarnation, digest, input, deadline, carried, parent, prefix: None };
        let body = encode(&start);
        let seq = self.append(Draft::new(Kind::Restarted, body));
        let last = self.out.parts.entries.iter().rfind(|entry| entry.seq == seq).expect("just appended");
        let first = Entry { seq: 0, kind: Kind::Started.code(), fingerprint: 0, ..last.clone() };
        let (run, generation) = (self.core.id().clone(), self.core.generation() + 1);
        self.tell_durable(|| Event::Restarted { run, generation });
        self.end(End::Restarted { first: Box::new(first) })
    }

    /// Whether something is registered to be undone, or a job at the store may still be.
    fn has_to_undo(&self) -> bool {
        self.core.state().table.has_aside().is_some_and(|aside| {
            !aside.undos.is_empty() || (aside.undos.has_offers() && !aside.jobs.is_empty())
        })
    }

    /// The numbers of entries whose signals nobody has, as the outcome keeps them.
    pub(super) fn undelivered(&mut self) -> Option<Payload> {
        let left = self.core.state().table.has_aside().map(|aside| aside.mail.left()).unwrap_or_default();
        (!left.is_empty()).then(|| encode(&left))
    }

    /// Entries that were not delivered before the function returned: the losers of races, which were claimed, and what says
    /// that it failed. `Some` if the run goes another way for them.
    fn pass_rest(&mut self, ended: &str, failed: bool) -> Option<Next> {
        while let Some(entry) = self.replay.pop_front() {
            match (entry.known_kind(), &entry.key) {
                (Some(Kind::Failing), _) if failed => return Some(self.fail_again(&entry)),
                (Some(Kind::Failing), _) => {
                    return Some(self.diverged(&entry, "the code has not failed"));
                }
                (Some(Kind::CancelAsked | Kind::DeadlinePassed), _) => {
                    return Some(self.deliver_recorded(entry));
                }
                (Some(kind), Some(_)) if kind.role() == Role::Command => {
                    if self.is_missed(kind, &entry) {
                        return Some(self.diverged(&entry, &format!("the code {ended} without doing it")));
                    }
                }
                (_, Some(_)) => {
                    if let Err(next) = self.pass_late(ended, &entry) {
                        return Some(next);
                    }
                }
                (_, None) => {}
            }
        }
        None
    }

    /// The function failed as it is recorded, and is not called again.
    fn fail_again(&mut self, entry: &Entry) -> Next {
        match self.pass_arrival(Kind::Failing, entry) {
            Some(next) => next,
            None => self.close_failed_again(Kind::Failing, entry),
        }
    }

    /// The run fails with the error that is recorded.
    pub(super) fn close_failed_again(&mut self, kind: Kind, entry: &Entry) -> Next {
        match decode::<Failure>(&entry.body) {
            Ok(failure) => self.close_again(kind, Fate::Failed(failure)),
            Err(why) => self.stuck_for(
                StuckReason::Undecodable,
                None,
                format!("entry {} (the run's failure) cannot be read: {why}", entry.seq),
            ),
        }
    }

    /// Needs a person, unless somebody has asked to cancel: that was acknowledged, and a stuck run would not hear it.
    pub(super) fn end_stuck(&mut self, stuck: Stuck) -> Next {
        // What is registered is all that is to be undone, if the function has been given the whole journal.
        let knows_all = !matches!(stuck.reason, StuckReason::Diverged | StuckReason::Undecodable);
        if knows_all && self.closing.is_none() {
            if let Some(asked) = self.replay.pop_front_if(|entry| ends_from_outside(entry)) {
                return self.deliver_recorded(asked);
            }
            if self.replay.is_empty() && self.cancel() {
                self.polled_in_grace(false);
                return Next::Again;
            }
        }
        if self.is_of_another && stuck.reason.is_of_code() {
            // Its build may be able to. Nobody is asked here, because a store takes its time to answer.
            self.drop_function();
            self.phase = Phase::Unfit(Box::new(stuck));
            return Next::Again;
        }
        if self.closing.is_none() && self.cancel() {
            return self.end_without_undos();
        }
        // A stuck run is set aside already.
        self.take_all_pauses();
        let at = self.core.worker.clock.now();
        self.core.worker.warn_stuck(self.core.id(), &stuck);
        let (run, told) = (self.core.id().clone(), stuck.clone());
        self.tell_durable(|| Event::Stuck { run, reason: told.reason, detail: told.detail });
        self.end(End::Stuck { stuck, inbox_n: self.inbox.known(), at })
    }

    /// A person has set it aside, and nothing of it runs.
    pub(super) fn end_paused(&mut self) -> Next {
        self.take_all_pauses();
        let run = self.core.id().clone();
        self.tell_durable(|| Event::Paused { run });
        self.end(End::Paused { inbox_n: self.inbox.known() })
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

    /// Replayed to where it would go on: that is all that a check wants to know.
    pub(super) fn end_checked(&mut self) -> Next {
        let is_waiting = self.core.state().table.is_waiting();
        match is_waiting {
            true => self.end(End::Parked { wake_at: None, inbox_n: self.inbox.known() }),
            false => self.end_waits_for_nothing(),
        }
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
            Some(end @ (End::Stuck { .. } | End::Parked { .. } | End::Paused { .. })) => {
                *end = End::GivenBack { wake_at: Timestamp(0) };
                // It was acknowledged, and is heard by the next load.
                turn.takes.retain(|n| Some(*n) != self.pausing);
            }
            _ => {}
        }
        let finished = matches!(turn.end, Some(End::Finished { .. }));
        let turn = Turn::clone(turn);
        self.out
            .resend_events(|event| finished || !matches!(event, Event::Stuck { .. } | Event::Paused { .. }));
        self.send(turn);
    }
}

/// Whether the function was dropped at this entry, whatever it was doing.
fn ends_from_outside(entry: &Entry) -> bool {
    matches!(entry.known_kind(), Some(Kind::CancelAsked | Kind::DeadlinePassed))
}
