//! What a run sends: entries gather into turns, turns go to the store in order, and what is told about them waits until
//! they are durable.

use std::{collections::VecDeque, panic::Location, sync::Arc};

use super::drive::Drive;
use crate::{
    engine::Event,
    failpoint::{Failpoint, pass},
    journal::{Entry, Kind, Payload, Role, Site},
    store::{Mark, Receipt, Say, Turn},
    time::Timestamp,
};

/// What is gathering, and what is on its way.
pub(super) struct Outbox {
    pub(super) parts: Parts,
    /// How many turns were sent.
    pub(super) sent: u64,
    /// What is to be told, and the turn that must be durable before.
    events: VecDeque<(u64, Event)>,
    receipt: Arc<dyn Receipt>,
}

/// What the next turn will hold.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) entries: Vec<Entry>,
    pub(super) marks: Vec<Mark>,
    pub(super) takes: Vec<u64>,
    pub(super) says: Vec<Say>,
}

/// An entry before it has its number.
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) body: Payload,
    pub(super) key: Option<Arc<str>>,
    pub(super) site: Option<&'static Location<'static>>,
    pub(super) attempt: u32,
    pub(super) input: Option<Payload>,
    /// It is at least so late.
    pub(super) not_before: Timestamp,
}

impl Draft {
    /// About the run as a whole.
    pub(super) fn new(kind: Kind, body: Payload) -> Draft {
        Draft { kind, body, key: None, site: None, attempt: 0, input: None, not_before: Timestamp(i64::MIN) }
    }

    /// About an operation.
    pub(super) fn of(self, key: Arc<str>, site: &'static Location<'static>) -> Draft {
        Draft { key: Some(key), site: Some(site), ..self }
    }
}

impl Outbox {
    pub(super) fn new(receipt: Arc<dyn Receipt>) -> Outbox {
        Outbox { parts: Parts::default(), sent: 0, events: VecDeque::new(), receipt }
    }

    /// The number of the turn that is gathering.
    pub(super) fn next(&self) -> u64 {
        self.sent + 1
    }

    /// The last turn was not applied, and is sent again; `keep` says what is still true of it then.
    pub(super) fn resend_events(&mut self, keep: impl Fn(&Event) -> bool) {
        let (last, next) = (self.sent, self.next());
        self.events.retain(|(turn, event)| *turn != last || keep(event));
        self.events.iter_mut().filter(|(turn, _)| *turn == last).for_each(|(turn, _)| *turn = next);
    }
}

impl Drive {
    /// Appends an entry, now.
    pub(super) fn append(&mut self, draft: Draft) -> u64 {
        let mut state = self.core.state();
        if draft.kind.role() != Role::Command {
            // Arrivals alone move the run's time.
            state.now = self.core.worker.clock.now().max(state.now).max(draft.not_before);
        }
        let at = state.now;
        let fingerprint = state.fingerprint.folded();
        drop(state);
        let seq = self.next_seq;
        self.next_seq += 1;
        (self.suspect, self.leaving, self.idle_since, self.is_of_another) = (false, 0, None, false);
        self.core.count_new_entry(seq);
        let entries = &mut self.out.parts.entries;
        if entries.capacity() == 0 {
            // Most turns have one entry: room for four would be the largest thing a step makes.
            entries.reserve_exact(1);
        }
        entries.push(Entry {
            seq,
            kind: draft.kind.code(),
            key: draft.key,
            attempt: draft.attempt,
            input: draft.input,
            body: draft.body,
            site: draft.site.map(Site::Here),
            build: self.core.worker.build.clone(),
            fingerprint,
            at,
        });
        seq
    }

    /// The letter is recorded by the turn that is gathering.
    pub(super) fn take(&mut self, letter: Option<u64>) {
        let Some(n) = letter else { return };
        self.inbox.take(n);
        if !self.inbox.has_letters() {
            self.core.state().table.forget_keys();
        }
        self.out.parts.takes.push(n);
    }

    /// Sends what has gathered.
    pub(super) fn flush(&mut self) {
        let parts = std::mem::take(&mut self.out.parts);
        if parts.entries.is_empty() && parts.marks.is_empty() && parts.takes.is_empty() {
            return;
        }
        self.send(self.turn_of(parts));
    }

    pub(super) fn turn_of(&self, parts: Parts) -> Turn {
        let Parts { entries, marks, takes, says } = parts;
        let claimed = &self.core.claimed;
        Turn { run: claimed.row.run, load: claimed.load, entries, marks, takes, says, end: None }
    }

    pub(super) fn send(&mut self, turn: Turn) {
        pass(Failpoint::TurnSent);
        self.out.sent += 1;
        if self.core.worker.rehearsal.dies_before_turn() {
            return;
        }
        self.core.worker.store.commit(self.core.worker.fence, turn, &self.out.receipt);
        self.core.worker.rehearsal.turn_was_sent();
    }

    /// How many turns are not durable yet.
    pub(super) fn unsettled(&self) -> u64 {
        self.out.sent - self.core.news.settled_turns()
    }

    /// Whether everything that was sent is durable; what is to be told about it is told before the answer.
    pub(super) fn all_durable(&mut self) -> bool {
        let settled = self.core.news.settled_turns();
        // Looked at after the count: a receipt brings its trouble before it counts.
        if self.core.news.is_troubled() {
            return false;
        }
        self.tell_settled(settled);
        settled == self.out.sent
    }

    /// Tells `event` once the turn that is gathering is durable.
    pub(super) fn tell_durable(&mut self, event: impl FnOnce() -> Event) {
        if self.core.worker.has_audience() {
            self.out.events.push_back((self.out.next(), event()));
        }
    }

    /// Tells what is durable, now that so many turns are.
    pub(super) fn tell_settled(&mut self, settled: u64) {
        let events = &mut self.out.events;
        while let Some((_, event)) = events.pop_front_if(|(turn, _)| *turn <= settled) {
            self.core.worker.tell(|| event);
        }
        if events.is_empty() && events.capacity() > 0 {
            *events = VecDeque::new();
        }
    }
}
