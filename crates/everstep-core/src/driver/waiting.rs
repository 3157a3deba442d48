//! Nothing to do at the moment: what wakes a run again, and what is said of bodies that take long.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    drive::{Drive, Next},
    dropped::Orphan,
    table::{Happened, Row, Slot, Stage},
};
use crate::{
    journal::Payload,
    store::{Mark, StartedRow, Transacted},
    time::Timestamp,
};

/// How long a body runs before people see it as running, and how long one may stay woken and unpolled.
const SLOW: Duration = Duration::from_secs(1);
/// So many turns may be on their way to the disk before timers wait for it: with up to 256 entries each they are more
/// than a healthy disk ever owes, and what a dead one owes stays bounded.
const TURNS_UNSETTLED_MAX: u64 = 64;

/// A timer that is set.
pub(super) type Alarm = (Timestamp, Pin<Box<tokio::time::Sleep>>);

impl Drive {
    /// Reads the inbox if a message came, sets the timer, looks for what hangs.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>) -> Next {
        let heard = self.read_inbox(cx) | self.hear_jobs(cx);
        if heard || self.room.poll_free(&self.core.worker.steps, cx) {
            return Next::Again;
        }
        let mut state = self.core.state();
        let has_jobs = state.table.has_aside().is_some_and(|aside| !aside.jobs.is_empty());
        let (busy, waiting) = (state.table.running > 0, has_jobs || state.table.is_waiting());
        let first = state.table.deadlines.first().map_or(Timestamp::NEVER, |(at, _)| at);
        drop(state);
        let due = self.due(first);
        if self.pausing.is_some() && !busy {
            return self.end_paused();
        }
        if self.core.news.stopping().is_some() && !busy {
            return self.give_back();
        }
        if !waiting && self.reading.is_none() && !self.unread && self.all_durable() {
            return self.end_waits_for_nothing();
        }
        if busy && self.look_for_slow() {
            return Next::Again;
        }
        let is_idle = !busy && !has_jobs && self.only_waits();
        let parks_at = if is_idle { self.parks_at(due) } else { self.stays() };
        if parks_at <= self.core.worker.clock.now() {
            return self.park(due);
        }
        let due = if self.is_ahead_of_the_disk() || self.may_hear() { Timestamp::NEVER } else { due };
        let slow = if busy { self.slow_check } else { Timestamp::NEVER };
        self.set_timer(due.min(slow).min(self.look_again()).min(parks_at), cx)
    }

    /// When something is due by the clock; `first` is the first of the operations'.
    fn due(&self, first: Timestamp) -> Timestamp {
        match &self.closing {
            None => first.min(self.core.deadline),
            Some(closing) => closing.grace_until().unwrap_or(first),
        }
    }

    /// Whether nothing can happen here that replay would not find again: all is durable, and no step waits to begin.
    fn only_waits(&mut self) -> bool {
        let wants_to_begin = self.core.state().table.wants_to_begin();
        self.live && !wants_to_begin && self.reading.is_none() && !self.unread && self.all_durable()
    }

    /// When a run that only waits leaves memory; never, if something of it is due soon.
    fn parks_at(&mut self, due: Timestamp) -> Timestamp {
        let worker = &self.core.worker;
        let now = worker.clock.now();
        let wait = if worker.is_crowded() { Duration::ZERO } else { worker.settings.park_after };
        let at = self.idle_since.get_or_insert(now).after(wait);
        self.core.news.set_idle(true);
        if due > at.after(wait) { at } else { Timestamp::NEVER }
    }

    fn stays(&mut self) -> Timestamp {
        self.idle_since = None;
        self.core.news.set_idle(false);
        Timestamp::NEVER
    }

    /// Whether so much is on its way that timers wait; the next receipt wakes the run.
    pub(super) fn is_ahead_of_the_disk(&self) -> bool {
        self.unsettled() > TURNS_UNSETTLED_MAX
    }

    /// Whether a letter may have come that was not read yet.
    pub(super) fn may_hear(&self) -> bool {
        self.reading.is_some() || self.unread || self.core.news.is_nudged()
    }

    /// When to try again what cannot be done at the moment, though nothing tells when it can.
    fn look_again(&self) -> Timestamp {
        match self.held_back || self.unread {
            true => self.core.worker.clock.now().after(SLOW),
            false => Timestamp::NEVER,
        }
    }

    pub(super) fn read_inbox(&mut self, cx: &mut Context<'_>) -> bool {
        if self.core.news.take_nudge() | std::mem::take(&mut self.unread) {
            let (run, known) = (self.core.claimed.row.run, self.inbox.known());
            self.reading = Some(self.core.worker.store.inbox(run, known));
        }
        let Some(reading) = &mut self.reading else { return false };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return false };
        self.reading = None;
        match read {
            Ok(letters) => self.inbox.hear(letters),
            Err(error) => {
                tracing::warn!(run = %self.core.id(), %error, "the inbox cannot be read; trying again");
                self.unread = true;
            }
        }
        !self.unread
    }

    /// What became of the jobs of transactional steps that were dropped: what was committed is recorded.
    pub(super) fn hear_jobs(&mut self, cx: &mut Context<'_>) -> bool {
        let jobs = self.core.state().table.has_aside().map(|aside| std::mem::take(&mut aside.jobs));
        let jobs = jobs.unwrap_or_default();
        if jobs.is_empty() {
            return false;
        }
        let (mut open, mut heard) = (Vec::new(), false);
        for (key, mut answer) in jobs {
            let Poll::Ready(said) = answer.as_mut().poll(cx) else {
                open.push((key, answer));
                continue;
            };
            heard = true;
            let mut state = self.core.state();
            let aside = state.table.aside();
            // Perhaps its letter came first.
            let step = aside.left.remove(&key);
            if let (Some(step), Ok(Transacted::Committed { n, body })) = (step, said) {
                aside.orphans.push_back(Orphan { step, what: Happened::Known(body), takes: Some(n) });
            }
        }
        self.core.state().table.aside().jobs.append(&mut open);
        heard
    }

    fn set_timer(&mut self, at: Timestamp, cx: &mut Context<'_>) -> Next {
        if at == Timestamp::NEVER {
            self.timer = None;
            return Next::Wait;
        }
        if self.timer.as_ref().is_none_or(|(set, _)| *set != at) {
            self.timer = Some((at, Box::pin(self.core.worker.clock.until(at))));
        }
        let (_, timer) = self.timer.as_mut().expect("just set");
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.timer = None;
                Next::Again
            }
            Poll::Pending => Next::Wait,
        }
    }

    /// Marks bodies that run for long, so that people see them, and reports those that nobody polls.
    fn look_for_slow(&mut self) -> bool {
        let now = self.core.worker.clock.now();
        if self.slow_check != Timestamp::NEVER && now < self.slow_check {
            return false;
        }
        let marks_before = self.out.parts.marks.len();
        let mut state = self.core.state();
        let mut said = Vec::new();
        for slot in state.table.iter_mut() {
            let Stage::Running { since } = slot.stage else { continue };
            let details = slot.body.as_ref().and_then(|body| body.ctx().take_details());
            said.extend(details.clone().map(|details| (slot.key.clone(), details)));
            self.out.parts.marks.extend(mark_slow(slot, since, now, details));
            if is_forgotten(slot, now) {
                tracing::warn!(run = %self.core.id(), step = %slot.key, line = %slot.site,
                    "a step has begun, is ready to go on, and nobody polls it: it holds what it holds until its future is polled");
            }
        }
        if !said.is_empty() {
            state.table.aside().details.extend(said);
        }
        drop(state);
        self.slow_check = now.after(SLOW);
        self.out.parts.marks.len() > marks_before
    }
}

/// The row of a body that has run for long, or that says how far it has come.
fn mark_slow(slot: &mut Slot, since: Timestamp, now: Timestamp, details: Option<Payload>) -> Option<Mark> {
    if details.is_none() && (slot.row.is_some() || now.since(since) < SLOW) {
        return None;
    }
    let details = details.or_else(|| slot.body.as_ref()?.ctx().last().cloned());
    let attempt = slot.attempt();
    slot.row = Some(Row { attempt, began: true });
    Some(Mark::Started(StartedRow { key: slot.key.clone(), attempt, at: since, abandoned: false, details }))
}

/// Whether its body has been woken for long and nobody polled it; told once.
fn is_forgotten(slot: &mut Slot, now: Timestamp) -> bool {
    if !slot.body.as_ref().is_some_and(|body| body.is_woken()) {
        slot.unpolled_since = None;
        return false;
    }
    let since = *slot.unpolled_since.get_or_insert(now);
    let long = now.since(since) >= SLOW && !slot.warned;
    slot.warned |= long;
    long
}
