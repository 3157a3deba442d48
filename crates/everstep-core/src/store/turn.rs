//! Turns: what a load adds to its run, and how it ends.

use std::sync::Arc;

use super::{LoadId, RunId, Say, StoreError};
use crate::{
    journal::{Entry, Payload},
    status::{Change, Status},
    stuck::Stuck,
    time::Timestamp,
};

/// An attempt that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedRow {
    /// The step.
    pub key: Arc<str>,
    /// Which attempt.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// Whether it was dropped by the function before it ended.
    pub abandoned: bool,
    /// What it, or an attempt before it, said last by a heartbeat.
    pub details: Option<Payload>,
}

/// What a turn does to started rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// This attempt begins after the commit (or has begun, and takes long). Replaces the step's row.
    Started(StartedRow),
    /// The step's row goes: its outcome is in this turn, or its attempt certainly did not happen.
    Cleared(Arc<str>),
}

/// What one load of a run adds to it, in one transaction. Entries and marks first, then what was taken and what is said,
/// then the end.
///
/// A turn that breaks a rule (a number that is not the next, an item out of order, an end that may not follow the run's
/// status) is refused whole, even if the run has moved. Who sends a turn for a load that is not his is refused, and the load goes on.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Which run.
    pub run: RunId,
    /// Which load: a turn of a load that has ended is refused.
    pub load: LoadId,
    /// The next entries, without a gap.
    pub entries: Vec<Entry>,
    /// Started rows.
    pub marks: Vec<Mark>,
    /// Inbox numbers that these entries record; numbers that are not there are nothing.
    pub takes: Vec<u64>,
    /// What the run tells its readers, in this order.
    pub says: Vec<Say>,
    /// How this load ends, if it does.
    pub end: Option<End>,
}

/// How a load ends. Nothing of it is accepted afterwards.
#[derive(Clone, Debug)]
pub enum End {
    /// The run is over; the last entry is its outcome. Answers [`Settled::Moved`], and changes nothing, if a message
    /// came that `inbox_n` does not count.
    Finished {
        /// `Completed`, `Failed` or `Cancelled`.
        status: Status,
        /// Messages ever received, as the driver knows it.
        inbox_n: u64,
        /// When.
        at: Timestamp,
    },
    /// It waits, out of memory. Compares `inbox_n` like `Finished`. Whoever is answered [`Settled::Moved`] has the run loaded
    /// anew, or reads the inbox before it parks again: with the letter only counted, the run would wait for ever for what
    /// it has.
    Parked {
        /// When it wakes by itself.
        wake_at: Option<Timestamp>,
        /// Messages ever received, as the driver knows it.
        inbox_n: u64,
    },
    /// It needs a person, and is not claimable before a message or a person comes. Compares `inbox_n` like `Finished`.
    Stuck {
        /// Why.
        stuck: Stuck,
        /// Messages ever received, as the driver knows it.
        inbox_n: u64,
        /// When.
        at: Timestamp,
    },
    /// A person has set it aside: it is not claimable before one lets it go on. Compares `inbox_n` like `Finished`.
    Paused {
        /// Messages ever received, as the driver knows it.
        inbox_n: u64,
    },
    /// It is free for any worker from `wake_at` on.
    GivenBack {
        /// Now, or later if no worker of this build could do better: by a minute at most, or [`Timestamp::NEVER`]. A store
        /// with a clock of its own takes no more than that minute from a sender whose clock is ahead.
        wake_at: Timestamp,
    },
    /// The next generation begins, and stays this worker's: [`Store::reload`](super::Store::reload) loads it. The whole
    /// journal, with this turn's entries, goes to the archive; started rows go; the inbox, attributes, published values and
    /// streams stay. It begins now, without takeovers.
    Restarted {
        /// Entry 0 of the next generation.
        first: Box<Entry>,
    },
}

impl End {
    /// What it does to the run's status; `None` for [`End::Finished`] with a status that is no outcome.
    pub fn change(&self) -> Option<Change> {
        match self {
            End::Finished { status: Status::Completed, .. } => Some(Change::Completed),
            End::Finished { status: Status::Failed, .. } => Some(Change::Failed),
            End::Finished { status: Status::Cancelled, .. } => Some(Change::Cancelled),
            End::Finished { .. } => None,
            End::Parked { .. } => Some(Change::Parked),
            End::Stuck { .. } => Some(Change::Stuck),
            End::Paused { .. } => Some(Change::Paused),
            End::GivenBack { .. } => Some(Change::GivenBack),
            End::Restarted { .. } => Some(Change::Restarted),
        }
    }

    /// How many messages the driver thinks the run has received; `None` if the end does not depend on it.
    pub fn inbox_n(&self) -> Option<u64> {
        match self {
            End::Finished { inbox_n, .. }
            | End::Parked { inbox_n, .. }
            | End::Stuck { inbox_n, .. }
            | End::Paused { inbox_n } => Some(*inbox_n),
            End::GivenBack { .. } | End::Restarted { .. } => None,
        }
    }
}

/// What became of a turn. Each turn is answered once, in the order of the turns.
#[derive(Debug)]
pub enum Settled {
    /// It is durable; the next entry of this load has this number.
    Durable {
        /// Number of the next entry.
        next: u64,
    },
    /// Nothing was changed: the run has received this many messages by now. The load goes on.
    Moved {
        /// [`RunRow::inbox_n`](super::RunRow::inbox_n).
        inbox_n: u64,
    },
    /// It was refused for good, and so will be every later turn of this load.
    Refused(StoreError),
}

/// Where a store reports what became of the turns of one load. Called on the store's own thread: it must not block.
pub trait Receipt: Send + Sync {
    /// One turn was settled.
    fn settled(&self, settled: Settled);
}
