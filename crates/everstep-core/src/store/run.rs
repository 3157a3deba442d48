//! Runs: as a store tells them, as they are started, as a worker takes them.

use std::sync::Arc;

use super::{Act, Letter, LoadId, Parent, Received, Say, StartedRow, StoreError, WorkerId};
use crate::{
    attribute::AttributeValue,
    journal::Entry,
    status::{Status, StatusSet},
    time::Timestamp,
};

/// A run's number inside its store: in the order of starts of one opening (over several, nearly), never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub i64);

/// A run as its row tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its number inside the store.
    pub run: RunId,
    /// The caller's id.
    pub id: Arc<str>,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Where it stands.
    pub status: Status,
    /// Who has it in memory.
    pub owner: Option<WorkerId>,
    /// When it becomes claimable, `Timestamp(0)` for at once; `None` while a worker has it, and if only a message or a
    /// person can make it so.
    pub wake_at: Option<Timestamp>,
    /// How many messages it ever received; numbers them.
    pub inbox_n: u64,
    /// How often it was restarted.
    pub generation: u32,
    /// How often its worker died since it last made an entry, so 0 as soon as there is another entry; see
    /// [`Store::free`](super::Store::free).
    pub takeovers: u32,
    /// When it was started.
    pub created_at: Timestamp,
    /// When a worker first took it into memory: the worker's [`Claim::due`] of the first claim, or the time of entry 0
    /// if the start itself claimed it. Set once and kept for good, whatever becomes of the run, because what its
    /// function waits for first counts from then: a worker that comes later must not begin to count anew.
    pub began_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

/// A run to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// The caller's id.
    pub id: Arc<str>,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Entry 0.
    pub first: Entry,
    /// When it may begin. If that is the time of entry 0, it is now: a store with a clock of its own says when that is.
    pub due: Timestamp,
    /// The trace context of the caller (W3C `traceparent`), if any.
    pub trace: Option<Arc<str>>,
    /// Whether the starting worker takes it into memory at once; not one with letters or a fork, which are read first.
    pub claim: bool,
    /// What is in its inbox from the beginning, if it is new.
    pub letters: Vec<Letter>,
    /// Its attributes from the beginning, if it is new.
    pub attributes: Vec<(Arc<str>, AttributeValue)>,
    /// A run of this id that is over, in one of these statuses, gives its place to this one: see [`Started::New`].
    pub reuse: StatusSet,
    /// Whose child it is.
    pub parent: Option<Parent>,
    /// Of a fork: what it begins with besides.
    pub forked: Option<Box<Forked>>,
}

/// What a fork begins with besides its first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forked {
    /// The entries behind entry 0, without a gap.
    pub entries: Vec<Entry>,
    /// What they tell the readers of the new run.
    pub says: Vec<Say>,
    /// Who forked it.
    pub act: Act,
}

impl NewRun {
    /// A run that any worker may begin now, and that is nothing special.
    pub fn of(id: Arc<str>, workflow: Arc<str>, first: Entry) -> NewRun {
        NewRun {
            due: first.at,
            id,
            workflow,
            first,
            trace: None,
            claim: false,
            letters: Vec::new(),
            attributes: Vec::new(),
            reuse: StatusSet::default(),
            parent: None,
            forked: None,
        }
    }

    /// Whether a run of its id that has `status` gives its place to it.
    pub fn replaces(&self, status: Status) -> bool {
        status.is_over() && self.reuse.contains(status)
    }

    /// Whether it begins as every run does.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if its first entry is not number 0, or a letter or an attribute is none that anybody may
    /// send or set: then no start of the call happens.
    pub fn check(&self) -> Result<(), StoreError> {
        self.letters.iter().try_for_each(Letter::check)?;
        for (name, value) in &self.attributes {
            let refused =
                |error| StoreError::Refused(format!("run `{}`: attribute `{name}`: {error}", self.id).into());
            value.check().map_err(refused)?;
        }
        let gap = |(entry, seq): (&Entry, u64)| entry.seq != seq;
        if let Some(forked) = &self.forked {
            forked.says.iter().try_for_each(Say::check)?;
            if forked.entries.iter().zip(1..).any(gap) || !self.reuse.is_empty() {
                let why = format!("run `{}`: a fork is new, and its entries have no gap", self.id);
                return Err(StoreError::Refused(why.into()));
            }
        }
        match self.first.seq {
            0 => Ok(()),
            seq => {
                Err(StoreError::Refused(format!("run `{}` cannot begin with entry {seq}", self.id).into()))
            }
        }
    }
}

/// What became of one start.
#[derive(Clone, Debug)]
pub enum Started {
    /// It is new. If it took the place of one that was over, it has that one's number and the next generation; the journal
    /// of the other is in the archive, its inbox, attributes and published values are gone, and its streams go on.
    New(RunId),
    /// The id was used before: that run and its entry 0.
    Known(Box<RunRow>, Box<Entry>),
}

/// Takes over the runs that a start claimed, after its commit and before its answer: a start whose future was
/// dropped still has an owner that drives it.
pub trait Adopt: Send + Sync {
    /// `run` is this worker's now, with entry 0 as its whole journal.
    fn adopt(&self, run: Claimed, first: Entry);
}

/// Which runs a worker wants.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The workflows it knows. Runs of others are left for a worker that does.
    pub workflows: Arc<[Arc<str>]>,
    /// Runs that are due by then.
    pub due: Timestamp,
    /// At most so many.
    pub limit: usize,
}

/// A run that a worker has taken.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its row as the claim leaves it; but `status` is the one it had before.
    pub row: RunRow,
    /// The number of this load: see [`Loads`](super::Loads).
    pub load: LoadId,
}

/// Everything about a run that a driver needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The journal of its generation, by number.
    pub entries: Vec<Entry>,
    /// What has reached it and is not in the journal yet, by number.
    pub inbox: Vec<Received>,
    /// The attempts that were started and of which no outcome is known, by key.
    pub started: Vec<StartedRow>,
}

impl Loaded {
    /// Of a run that was not read.
    pub(crate) fn nothing() -> Loaded {
        Loaded { entries: Vec::new(), inbox: Vec::new(), started: Vec::new() }
    }
}
