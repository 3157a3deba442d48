//! Loads that end without a driver: a run that cannot even be tried, a stuck one that is only cancelled.

use std::{sync::Arc, time::Duration};

use super::{event::Event, worker::Worker};
use crate::{
    driver::{
        LEAVE,
        children::{Family, has_children},
        find_cancel, find_kill, killed,
    },
    journal::{Entry, Kind, Start, decode, encode},
    status::Status,
    store::{Claimed, End, LetterKind, Loaded, Receipt, Received, Say, Settled, StoreError, Turn},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// How long a stuck run is left alone that was woken by nothing this binary knows.
const LEAVE_STUCK: Duration = Duration::from_secs(60);
/// How long a run is left alone that could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Worker {
    /// Why a run cannot even be tried.
    pub(super) fn unfit(&self, claimed: &Claimed, loaded: &Loaded) -> Option<Stuck> {
        let damaged = |detail| Some(Stuck { reason: StuckReason::JournalDamaged, key: None, detail });
        if loaded.entries.is_empty() {
            return damaged("the journal is empty".to_string());
        }
        let gap = loaded.entries.iter().zip(0u64..).find(|(entry, seq)| entry.seq != *seq);
        if let Some((entry, seq)) = gap {
            return damaged(format!("entry {} stands where entry {seq} should be", entry.seq));
        }
        let first = &loaded.entries[0];
        if let Some(kind) = first.known_kind().filter(|kind| *kind != Kind::Started) {
            return damaged(format!("entry 0 is `{}`, and no start", kind.word()));
        }
        if claimed.row.takeovers > self.settings.takeovers_max {
            let inside: Vec<_> = loaded.started.iter().map(|row| &*row.key).collect();
            let detail = format!(
                "its worker died {} times while it was inside `{}`, without getting further",
                claimed.row.takeovers,
                inside.join("`, `")
            );
            let key = loaded.started.first().map(|row| row.key.clone());
            return Some(Stuck { reason: StuckReason::CrashesWorker, key, detail });
        }
        None
    }

    /// Entry 0 is of a kind that this binary does not know: another binary may be able to read it.
    pub(super) fn leave_to_another(self: &Arc<Self>, claimed: &Claimed, kind: u16) {
        tracing::warn!(run = %claimed.row.id, kind, "this binary does not know the kind of entry 0: the run is left to one that does");
        let wake_at = self.clock.now().after(LEAVE);
        self.settle(claimed, Default::default(), (End::GivenBack { wake_at }, None));
    }

    /// A claimed run that needs a person before it can be driven; unless one has asked to cancel: that was acknowledged,
    /// and a stuck run would not hear it.
    pub(super) fn settle_stuck(self: &Arc<Self>, claimed: &Claimed, loaded: &Loaded, stuck: Stuck) {
        if self.settle_killed(claimed, loaded) {
            return;
        }
        if let Some(asked) = find_cancel(&loaded.inbox) {
            return self.settle_cancelled(claimed, loaded, asked);
        }
        self.warn_stuck(&claimed.row.id, &stuck);
        let event =
            Event::Stuck { run: claimed.row.id.clone(), reason: stuck.reason, detail: stuck.detail.clone() };
        let end = End::Stuck { stuck, inbox_n: inbox_n(claimed, loaded), at: self.clock.now() };
        self.settle(claimed, Default::default(), (end, Some(event)));
    }

    /// A claimed run that could not be read: damage is for a person, anything else may pass.
    pub(super) fn settle_unread(self: &Arc<Self>, claimed: &Claimed, error: StoreError) {
        tracing::error!(run = %claimed.row.id, %error, "a run could not be read");
        match error {
            StoreError::Damaged(what) => {
                let stuck =
                    Stuck { reason: StuckReason::JournalDamaged, key: None, detail: what.to_string() };
                self.settle_stuck(claimed, &Loaded::nothing(), stuck);
            }
            _ => {
                let end = End::GivenBack { wake_at: self.clock.now().after(LOOK_AGAIN) };
                self.settle(claimed, Default::default(), (end, None));
            }
        }
    }

    /// A stuck run is woken only to be cancelled: its function is not called.
    pub(super) fn wake_stuck(self: &Arc<Self>, claimed: &Claimed, loaded: &Loaded) {
        match find_cancel(&loaded.inbox) {
            Some(asked) => self.settle_cancelled(claimed, loaded, asked),
            None => {
                // Woken for nothing that this binary knows: left as it was. Not for ever, or a message that comes at
                // this very moment would never be seen.
                let end = End::GivenBack { wake_at: self.clock.now().after(LEAVE_STUCK) };
                self.settle(claimed, Default::default(), (end, None));
            }
        }
    }

    /// Ends a claimed run at once, if somebody asked for it: its function is not called.
    pub(super) fn settle_killed(self: &Arc<Self>, claimed: &Claimed, loaded: &Loaded) -> bool {
        let asked = find_kill(&loaded.inbox);
        if let Some(asked) = asked {
            self.settle_cancelled(claimed, loaded, asked);
        }
        asked.is_some()
    }

    fn settle_cancelled(self: &Arc<Self>, claimed: &Claimed, loaded: &Loaded, asked: &Received) {
        let at = self.clock.now();
        let why = String::from_utf8_lossy(&asked.letter.body.bytes);
        let (kind, end) = match asked.letter.kind == LetterKind::Kill as u16 {
            true => (Kind::KillAsked, killed(&why)),
            false => (Kind::CancelAsked, why.to_string()),
        };
        let next = loaded.entries.last().map_or(0, |entry| entry.seq + 1);
        let entry = |offset: u64, kind: Kind, body: &str| Entry {
            seq: next + offset,
            kind: kind.code(),
            key: None,
            attempt: 0,
            input: None,
            body: encode(&body),
            site: None,
            build: self.build.clone(),
            fingerprint: 0,
            at,
        };
        let entries = vec![entry(0, kind, &why), entry(1, Kind::Cancelled, &end)];
        // Of a start that cannot be read nobody knows whose child it is.
        let start: Option<Start> = loaded.entries.first().and_then(|first| decode(&first.body).ok());
        let parent = start.as_ref().and_then(|start| start.parent.as_ref());
        let family = Family { parent, has_children: has_children(&loaded.entries) };
        let says = family.farewell(&claimed.row.id, &entries[1], &self.entropy);
        let end = End::Finished { status: Status::Cancelled, inbox_n: inbox_n(claimed, loaded), at };
        let event = Event::Cancelled { run: claimed.row.id.clone() };
        self.settle(claimed, (entries, vec![asked.n], says), (end, Some(event)));
    }

    /// Ends a load that has no driver; the event is told when that is durable. A message that comes at the same time
    /// gives the run back instead.
    pub(super) fn settle(
        self: &Arc<Self>,
        claimed: &Claimed,
        (entries, takes, says): (Vec<Entry>, Vec<u64>, Vec<Say>),
        (end, event): (End, Option<Event>),
    ) {
        let (run, load) = (claimed.row.run, claimed.load);
        let turn = Turn { run, load, entries, marks: Vec::new(), takes, says, end: Some(end) };
        let receipt = Arc::new(SettleReceipt { worker: self.clone(), claimed: claimed.clone(), event });
        self.store.commit(self.fence, turn, &(receipt as Arc<dyn Receipt>));
    }
}

/// Messages ever received, as far as this load knows.
fn inbox_n(claimed: &Claimed, loaded: &Loaded) -> u64 {
    loaded.inbox.last().map_or(claimed.row.inbox_n, |r| r.n.max(claimed.row.inbox_n))
}

/// Hears what became of a load that was ended without a driver.
struct SettleReceipt {
    worker: Arc<Worker>,
    claimed: Claimed,
    event: Option<Event>,
}

impl Receipt for SettleReceipt {
    fn settled(&self, settled: Settled) {
        match settled {
            Settled::Durable { .. } => {
                self.worker.residents.accepted(self.claimed.row.run);
                if let Some(event) = &self.event {
                    self.worker.tell(|| event.clone());
                }
            }
            // A message came: the run is given back and will be loaded with it. From another thread, because a store
            // must not be called from its own receipt.
            Settled::Moved { .. } => {
                let (worker, claimed) = (self.worker.clone(), self.claimed.clone());
                self.worker.spawn(async move {
                    let end = End::GivenBack { wake_at: Timestamp(0) };
                    worker.settle(&claimed, Default::default(), (end, None));
                });
            }
            Settled::Refused(error) => self.worker.take_again(&self.claimed, error),
        }
    }
}
