//! The end of a run that does not return `Ok`: the journal says why it ends, running bodies get a grace, what they
//! return is recorded, the function is dropped, and what is registered is undone; only then comes the outcome. On replay
//! the function is dropped at the same entry.

use std::time::Duration;

use super::{
    drive::{Drive, Next},
    dropped::{Dropped, Orphan},
    outbox::Draft,
    table::{Happened, Sort, Table},
    undos::{UNDO, undoing},
};
use crate::{
    Code, ErrorKind,
    digest::Fingerprint,
    engine::Event,
    failpoint::{Failpoint, pass},
    journal::{Entry, Failure, Kind, Payload, Role, encode},
    status::Status,
    store::{End, LetterKind, Mark, Received},
    time::Timestamp,
};

/// How a run ends once everything is undone.
pub(super) enum Fate {
    Failed(Failure),
    Cancelled(String),
}

/// A run that is ending.
pub(super) struct Closing {
    fate: Fate,
    stage: Stage,
    /// Its function ended by itself.
    returned: bool,
}

enum Stage {
    Grace(Grace),
    /// The function is gone; the numbers of entries whose signals nobody had.
    Undoing {
        left: Option<Payload>,
    },
}

/// While bodies may end.
struct Grace {
    /// When those that have not ended are dropped.
    until: Timestamp,
    /// As it was when the run began to end: what the function does since is not replayed.
    fingerprint: Fingerprint,
    /// Nobody can poll its bodies any more: the function has returned or panicked.
    is_over: bool,
}

impl Closing {
    /// When its grace ends, if it is in it.
    pub(super) fn grace_until(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Grace(grace) => Some(grace.until),
            Stage::Undoing { .. } => None,
        }
    }
}

impl Drive {
    pub(super) fn is_in_grace(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.grace_until().is_some())
    }

    /// Whether the run undoes what is registered.
    pub(super) fn is_undoing(&self) -> bool {
        self.closing.is_some() && !self.is_in_grace()
    }

    /// The run is to end, and `kind` says so in the journal. Nothing is delivered to its function any more.
    pub(super) fn close(&mut self, kind: Kind, body: Payload, fate: Fate) {
        if self.live {
            self.record_commands();
        }
        self.pause_no_more();
        let returned = kind == Kind::Failing;
        let not_before = match kind {
            Kind::DeadlinePassed => self.core.deadline,
            _ => Timestamp(i64::MIN),
        };
        self.append(Draft { not_before, ..Draft::new(kind, body) });
        let wait = if returned { Duration::ZERO } else { self.core.worker.settings.cancel_grace };
        let until = self.core.worker.clock.now().after(wait);
        let fingerprint = self.core.state().fingerprint;
        let stage = Stage::Grace(Grace { until, fingerprint, is_over: returned });
        self.closing = Some(Box::new(Closing { fate, stage, returned }));
        if !returned {
            let mut state = self.core.state();
            let bodies: Vec<_> = state.table.iter_mut().filter_map(|slot| slot.body.clone()).collect();
            drop(state);
            bodies.iter().for_each(|body| body.ctx().cancel(until));
        }
    }

    /// Ends the run if its time is over.
    pub(super) fn pass_deadline(&mut self) -> bool {
        if self.closing.is_some() || self.core.deadline > self.core.worker.clock.now() {
            return false;
        }
        let message = "the run's deadline passed before it ended";
        let failure = Failure::of(ErrorKind::Timeout, Code::TIMEOUT, message);
        self.close(Kind::DeadlinePassed, encode(&failure), Fate::Failed(failure));
        true
    }

    /// The same, as it is recorded: what ended within the grace follows.
    pub(super) fn close_again(&mut self, kind: Kind, fate: Fate) -> Next {
        let fingerprint = self.core.state().fingerprint;
        let stage = Stage::Grace(Grace { until: Timestamp(i64::MIN), fingerprint, is_over: true });
        self.closing = Some(Box::new(Closing { fate, stage, returned: kind == Kind::Failing }));
        while let Some(entry) = self.replay.pop_front_if(|entry| is_late(entry)) {
            if let Err(next) = self.pass_late("ended", &entry) {
                return next;
            }
        }
        if self.replay.is_empty() {
            self.live = true;
            self.take_late_records();
        }
        self.begin_undoing()
    }

    /// A recorded outcome that nobody gets: of a step that was dropped, or that ended when the function was not called any
    /// more.
    pub(super) fn pass_late(&mut self, ended: &str, entry: &Entry) -> Result<(), Next> {
        let key = entry.key.clone().expect("only keyed entries are late");
        self.core.count_entry(entry.seq);
        let mut state = self.core.state();
        state.now = state.now.max(entry.at);
        let is_claimed = state.table.claims().is_some_and(|claims| claims.contains_key(&key));
        if is_claimed {
            state.table.aside().undos.register(entry);
        }
        state.table.aside().commands.arrived();
        drop(state);
        match is_claimed {
            true => Ok(()),
            false => Err(self.diverged(entry, &format!("the code {ended} without asking for it"))),
        }
    }

    /// A transaction that committed before the last crash is undone like any other step.
    fn take_late_records(&mut self) {
        let recorded: Vec<_> = (self.inbox.letters())
            .filter(|received| LetterKind::from_code(received.letter.kind) == Some(LetterKind::Recorded))
            .cloned()
            .collect();
        for received in recorded {
            let key = received.letter.name;
            let claim = self.core.state().table.claims().and_then(|claims| claims.get(&key).copied());
            let Some((Sort::Step, _, site)) = claim else { continue };
            let step = Dropped { key, site, attempt: 1, input: None };
            let what = Happened::Known(received.letter.body);
            self.record_orphan(Orphan { step, what, takes: Some(received.n) });
        }
    }

    /// A round in which nothing is delivered and nothing starts: bodies may end.
    pub(super) fn grace_round(&mut self) -> Next {
        while self.record_late() {}
        let mut state = self.core.state();
        let has_jobs = state.table.has_aside().is_some_and(|aside| !aside.jobs.is_empty());
        let has_bodies = state.table.running > 0;
        drop(state);
        let now = self.core.worker.clock.now();
        let Some(Closing { stage: Stage::Grace(grace), .. }) = self.closing.as_deref_mut() else {
            return Next::Again;
        };
        if has_bodies && !grace.is_over && now < grace.until {
            return Next::Wait;
        }
        if has_bodies && !grace.is_over && self.withdraw_jobs() {
            // The store says what became of them, soon.
            return Next::Wait;
        }
        if has_jobs {
            return self.wait_for_jobs();
        }
        self.begin_undoing()
    }

    /// Nothing but what the store says ends the grace now: a time that has passed would wake the run again and again.
    fn wait_for_jobs(&mut self) -> Next {
        if let Some(Closing { stage: Stage::Grace(grace), .. }) = self.closing.as_deref_mut() {
            (grace.is_over, grace.until) = (true, Timestamp::NEVER);
        }
        Next::Wait
    }

    /// Bodies that are jobs of the store are withdrawn, not dropped: whether that came too late must be known, or what they
    /// did would not be undone. Whether there are any.
    fn withdraw_jobs(&mut self) -> bool {
        if let Some(Closing { stage: Stage::Grace(grace), .. }) = self.closing.as_deref_mut() {
            grace.until = Timestamp::NEVER;
        }
        let mut state = self.core.state();
        let mut wakers = Vec::new();
        for slot in state.table.iter_mut().filter(|slot| slot.transacts && slot.stage.is_running()) {
            slot.expired = Some(false);
            wakers.push(slot.waker.clone());
        }
        drop(state);
        let any = !wakers.is_empty();
        wakers.into_iter().for_each(super::drive::wake);
        any
    }

    /// Makes an entry of what a body has returned that nobody waits for any more.
    fn record_late(&mut self) -> bool {
        let mut state = self.core.state();
        let Some(candidate) = state.table.candidates.pop_front() else {
            let orphan = state.table.has_aside().and_then(|aside| aside.orphans.pop_front());
            drop(state);
            let Some(orphan) = orphan else { return false };
            self.record_orphan(orphan);
            return true;
        };
        let slot = state.table.get(candidate.op);
        slot.happened = false;
        let row = slot.clear_row();
        let step = Dropped {
            key: slot.key.clone(),
            site: slot.site,
            attempt: slot.attempt(),
            input: slot.input.take(),
        };
        drop(state);
        self.out.parts.marks.extend(row);
        self.record_orphan(Orphan { step, what: candidate.what, takes: candidate.takes });
        true
    }

    /// The function was polled while it may not go on.
    pub(super) fn polled_in_grace(&mut self, is_pending: bool) -> Next {
        let Some(Closing { stage: Stage::Grace(grace), .. }) = self.closing.as_deref_mut() else {
            return Next::Again;
        };
        grace.is_over |= !is_pending;
        self.core.state().fingerprint = grace.fingerprint;
        Next::Again
    }

    /// The function is dropped, and what is registered is undone; if nothing is, the run is over.
    fn begin_undoing(&mut self) -> Next {
        let left = self.undelivered();
        let mut state = self.core.state();
        let fingerprint = state.fingerprint;
        let undos = state.table.has_aside().map(|aside| std::mem::take(&mut aside.undos));
        let mut undos = undos.unwrap_or_default();
        let first_op = state.table.slots.len();
        drop(state);
        let mut cleanups = Vec::new();
        if let Some(closing) = self.closing.as_deref_mut() {
            closing.stage = Stage::Undoing { left };
            if closing.returned {
                cleanups = undos.forget_cleanups();
            }
        }
        let has_nothing = undos.is_empty() && undos.has_no_cleanups();
        if has_nothing {
            return self.end_closed();
        }
        pass(Failpoint::UndoingBegins);
        self.mark_abandoned();
        let kept = self.core.state().table.has_aside().map(|aside| {
            let commands = std::mem::take(&mut aside.commands).without_made();
            (commands, std::mem::take(&mut aside.rows), std::mem::take(&mut aside.rewinds))
        });
        self.drop_function();
        drop(cleanups);
        let mut table = Table::beginning_at(first_op);
        let aside = table.aside();
        (aside.commands, aside.rows, aside.rewinds) = kept.unwrap_or_default();
        aside.claims = (!self.replay.is_empty()).then(Default::default);
        let mut state = self.core.state();
        (state.table, state.fingerprint, state.first_op, state.ended) = (table, fingerprint, first_op, false);
        drop(state);
        self.function = Some(undoing(self.core.clone(), undos));
        self.must_poll = true;
        Next::Again
    }

    /// Rows of bodies that are dropped now say so; rows of those that never began go.
    fn mark_abandoned(&mut self) {
        let mut state = self.core.state();
        let (now, table) = (state.now, &mut state.table);
        let ops: Vec<usize> = table.iter().filter(|(_, slot)| slot.row.is_some()).map(|(op, _)| op).collect();
        let marks: Vec<Mark> = ops.into_iter().filter_map(|op| table.abandon(op, now)).collect();
        let left = table.has_aside().map(|aside| std::mem::take(&mut aside.marks));
        drop(state);
        self.out.parts.marks.extend(left.into_iter().flatten().chain(marks));
    }

    /// The function cannot be replayed to where it stood, so nobody knows all that is to be undone.
    pub(super) fn end_without_undos(&mut self) -> Next {
        tracing::warn!(run = %self.core.id(), "a run that could not be replayed was cancelled: nothing of it is undone");
        let left = self.undelivered();
        if let Some(closing) = self.closing.as_deref_mut() {
            closing.stage = Stage::Undoing { left };
        }
        self.end_closed()
    }

    /// Somebody ends the run at once: bodies are dropped where they stand, and nothing is undone.
    pub(super) fn end_killed(&mut self) -> bool {
        let Some(Received { n, letter }) = self.inbox.kill() else { return false };
        let (n, why) = (*n, String::from_utf8_lossy(&letter.body.bytes).into_owned());
        if self.live {
            // It has happened, and nobody else would tell.
            self.record_commands();
            while self.record_late() {}
        }
        self.take(Some(n));
        let left = self.undelivered();
        self.append(Draft::new(Kind::KillAsked, encode(&why)));
        if let Some(entry) = self.out.parts.entries.last_mut() {
            // Whatever the function had done by then.
            entry.fingerprint = 0;
        }
        let stage = Stage::Undoing { left };
        self.closing =
            Some(Box::new(Closing { fate: Fate::Cancelled(killed(&why)), stage, returned: false }));
        self.end_closed();
        true
    }

    /// The same, as it is recorded without its outcome, which is always written with it: a journal that was cut.
    pub(super) fn end_killed_again(&mut self, why: &str) -> Next {
        let (fate, stage) = (Fate::Cancelled(killed(why)), Stage::Undoing { left: None });
        self.closing = Some(Box::new(Closing { fate, stage, returned: false }));
        self.end_closed()
    }

    /// Everything is undone: the outcome, as it would have been without.
    pub(super) fn end_closed(&mut self) -> Next {
        let Some(closing) = self.closing.take() else { return Next::Again };
        let input = match closing.stage {
            Stage::Undoing { left } => left,
            Stage::Grace(_) => None,
        };
        let run = self.core.id().clone();
        let (kind, body, status) = match &closing.fate {
            Fate::Failed(failure) => {
                self.tell_durable(|| Event::Failed { run, error: failure.message.clone() });
                (Kind::Failed, encode(failure), Status::Failed)
            }
            Fate::Cancelled(why) => {
                self.tell_durable(|| Event::Cancelled { run });
                (Kind::Cancelled, encode(why), Status::Cancelled)
            }
        };
        self.append(Draft { input, ..Draft::new(kind, body) });
        let at = self.core.state().now;
        self.end(End::Finished { status, inbox_n: self.inbox.known(), at })
    }
}

/// What the outcome of a killed run says.
pub(crate) fn killed(why: &str) -> String {
    format!("killed: {why}")
}

/// Whether a recorded entry is an outcome that came when the function was not called any more.
fn is_late(entry: &Entry) -> bool {
    let arrived = entry.known_kind().is_some_and(|kind| kind.role() == Role::Arrival);
    arrived && entry.key.as_deref().is_some_and(|key| !is_of_ending(key))
}

/// Whether this is the key of a step of a run's ending.
fn is_of_ending(key: &str) -> bool {
    key.strip_prefix(UNDO).is_some_and(|rest| rest.starts_with('/'))
}
