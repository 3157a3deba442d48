//! What the engine needs of a store. The store never decides what happens next; the engine never writes SQL.
//!
//! One call is one transaction, plain structs go in and come out, payloads are opaque bytes. Every write that a
//! worker makes carries its [`Fence`], and the store checks in the very transaction that this worker was not fenced.
//!
//! **Order.** Calls that write take their place in the store's queue *when they are called*, not when their answer
//! is first polled, and are applied in that order. An answer that is dropped does not undo its call.
//!
//! **Refusals.** What breaks a rule is answered with [`StoreError::Refused`] and changes nothing; it is never a panic,
//! and hinders nobody else. A call with the fence of a worker that was fenced, that has left, or that never was is
//! answered with [`StoreError::Fenced`], whatever else is wrong with it.
//!
//! **Openings.** One content may be open several times: in several processes, or as several values of one store. Ids
//! are dense over all of them. Loads belong to the opening that gave them, and so does the bell: it tells an opening
//! of the commits of the others only that there were some ([`Bell::foreign`]).
//!
//! **Certainty.** A commit that certainly did not happen (full disk, busy) is repeated unchanged until it does: no
//! step runs twice for it. Meanwhile new starts and messages are refused with the reason.

mod bell;
mod error;
mod filter;
mod loads;
mod memory;

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub use bell::{Bell, Ended, Listener};
pub use error::StoreError;
pub use filter::{Condition, Field, Filter, FilterError, Operator};
pub use loads::{Admitted, LoadId, Loads};
pub use memory::{Memory, MemoryBody, MemoryJob, Rows};

use crate::{
    Error,
    journal::{Entry, Payload},
    status::{Change, Status, StatusSet},
    stuck::Stuck,
    time::Timestamp,
};

/// The answer of a store, boxed so that `dyn Store` works.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'static>>;

/// A run's number inside its store: dense, in the order of starts, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub i64);

/// A worker's number inside its store: fresh at each start of an engine, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub i64);

/// The right to write as a worker: given by [`Store::enroll`], void once the worker is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Whose writes these are. Also the fence number of `StepCtx`: a later worker has a higher one.
    pub worker: WorkerId,
}

/// What a worker tells people about itself.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Host and process id.
    pub name: String,
    /// The build of its code.
    pub build: Arc<str>,
    /// When it started.
    pub at: Timestamp,
}

/// Another worker, as seen in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Which one.
    pub worker: WorkerId,
    /// Counts its renewals. Unchanged for the lease time, by the watcher's own monotonic clock, means: not live.
    pub beat: u64,
    /// Whether it was fenced; it may still own runs that nobody has freed yet.
    pub fenced: bool,
    /// Whether its process is known to be dead (its lock is free). `false` proves nothing.
    pub gone: bool,
}

/// A run to be started.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The caller's id.
    pub id: Arc<str>,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Entry 0.
    pub first: Entry,
    /// When it may begin.
    pub due: Timestamp,
    /// The trace context of the caller (W3C `traceparent`), if any.
    pub trace: Option<Arc<str>>,
    /// Whether the starting worker takes it into memory at once.
    pub claim: bool,
}

impl NewRun {
    /// Whether it begins as every run does.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if its first entry is not number 0: then no start of the call happens.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.first.seq {
            0 => Ok(()),
            seq => {
                Err(StoreError::Refused(format!("run `{}` cannot begin with entry {seq}", self.id).into()))
            }
        }
    }
}

/// Takes over the runs that a start claimed, after its commit and before its answer: a start whose future was
/// dropped still has an owner that drives it.
pub trait Adopt: Send + Sync {
    /// `run` is this worker's now, with entry 0 as its whole journal.
    fn adopt(&self, run: Claimed, first: Entry);
}

/// What became of one start.
#[derive(Clone, Debug)]
pub enum Started {
    /// It is new.
    New(RunId),
    /// The id was used before: that run and its entry 0.
    Known(Box<RunRow>, Box<Entry>),
}

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
    /// [`Store::free`].
    pub takeovers: u32,
    /// When it was started.
    pub created_at: Timestamp,
    /// When a worker first took it into memory: the worker's [`Claim::due`] of the first claim, or the time of entry 0 if
    /// the start itself claimed it. Set once and kept for good, whatever becomes of the run, because what its function
    /// waits for first counts from then: a worker that comes later must not begin to count anew.
    pub began_at: Option<Timestamp>,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
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
    /// The number of this load: see [`Loads`].
    pub load: LoadId,
}

/// Everything about a run that a driver needs.
#[derive(Clone, Debug)]
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

/// The name of a message, made by its sender: sent twice, it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LetterId(pub u128);

/// The kinds of messages: numbered like entries, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum LetterKind {
    /// A signal.
    Signal = 1,
    /// A request that wants an answer.
    Request = 2,
    /// A child run ended.
    ChildEnded = 3,
    /// A promise was resolved or rejected.
    PromiseSettled = 4,
    /// A transactional step committed this record; nobody else may send one.
    Recorded = 5,
    /// A person asks to cancel.
    Cancel = 6,
    /// A person answers for a step.
    Answer = 7,
}

impl LetterKind {
    /// The kind of a stored number; `None` if this binary does not know it.
    pub fn from_code(code: u16) -> Option<LetterKind> {
        use LetterKind as K;
        [K::Signal, K::Request, K::ChildEnded, K::PromiseSettled, K::Recorded, K::Cancel, K::Answer]
            .into_iter()
            .find(|k| *k as u16 == code)
    }
}

/// Something that is to reach a run from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its sender's name for it.
    pub id: LetterId,
    /// [`LetterKind`] as its number.
    pub kind: u16,
    /// The signal's name, the step's key, ...
    pub name: Arc<str>,
    /// What it carries.
    pub body: Payload,
    /// When it was sent.
    pub at: Timestamp,
}

impl Letter {
    /// Whether anybody may send it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is the record of a transactional step, which only [`Store::transact`] writes.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.kind == LetterKind::Recorded as u16 {
            true => {
                Err(StoreError::Refused(format!("a record of step `{}` cannot be sent", self.name).into()))
            }
            false => Ok(()),
        }
    }
}

/// A letter that reached its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number in this run's inbox, from 1.
    pub n: u64,
    /// The letter.
    pub letter: Letter,
}

/// A letter and the run it is for.
#[derive(Clone, Debug)]
pub struct Post {
    /// The run's id, as its caller chose it.
    pub to: Arc<str>,
    /// The letter.
    pub letter: Letter,
    /// It is taken only in these statuses.
    pub only: StatusSet,
    /// Whether a stuck or paused run becomes `pending` by it ([`Change::Revived`]): a person has looked
    /// at it, so why it was stuck and its takeovers are forgotten. Else it keeps its status. A run that a worker has
    /// keeps it in any case: its worker decides.
    pub revive: bool,
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is in the inbox.
    Added,
    /// A letter of this id reached the run before, perhaps long ago: also if it was taken, and if the run's status
    /// would not take it any more.
    Known,
    /// No run has that id.
    NoSuchRun,
    /// The run's status does not take it.
    Refused(Status),
}

/// A person takes the end of a journal back: the run goes on before it, at once. A failed, stuck or paused one becomes
/// `pending` ([`Change::Revived`]), a pending or waiting one keeps its status, and of a completed or cancelled one it is
/// refused. Why it was stuck, when it was over and its takeovers are forgotten.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Which run.
    pub run: RunId,
    /// It must still have one of these statuses and this many messages.
    pub only: StatusSet,
    /// [`RunRow::inbox_n`] as it was when the cut was decided.
    pub inbox_n: u64,
    /// Entries from this number on go to the archive; at least 1, because every run has entry 0.
    pub from: u64,
    /// What is put into its inbox in the same transaction, unless it is known there.
    pub letters: Vec<Letter>,
    /// For people: the verb and the reason.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

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
}

/// What a turn does to started rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// This attempt begins after the commit (or has begun, and takes long). Replaces the step's row.
    Started(StartedRow),
    /// The step's row goes: its outcome is in this turn, or its attempt certainly did not happen.
    Cleared(Arc<str>),
}

/// What one load of a run adds to it, in one transaction. Entries and marks first, then what was taken, then the end.
///
/// A turn that breaks a rule (a number that is not the next, an end that may not follow the run's status) is refused
/// whole, even if the run has moved. Who sends a turn for a load that is not his is refused, and the load goes on.
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
    /// It waits, out of memory. Compares `inbox_n` like `Finished`.
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
    /// It is free for any worker from `wake_at` on.
    GivenBack {
        /// Now, or later if no worker of this build could do better.
        wake_at: Timestamp,
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
            End::GivenBack { .. } => Some(Change::GivenBack),
        }
    }

    /// How many messages the driver thinks the run has received; `None` if the end does not depend on it.
    pub fn inbox_n(&self) -> Option<u64> {
        match self {
            End::Finished { inbox_n, .. } | End::Parked { inbox_n, .. } | End::Stuck { inbox_n, .. } => {
                Some(*inbox_n)
            }
            End::GivenBack { .. } => None,
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
        /// [`RunRow::inbox_n`].
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

/// A transactional step: the store's own kind of job, and where its record goes.
pub struct Transact {
    /// Which run.
    pub run: RunId,
    /// Which load.
    pub load: LoadId,
    /// The step's key: its record is unique in its run and generation. While the record is in the inbox, the same step
    /// asked for again is answered with it, and its job does not run.
    pub key: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Nobody wants it any more. The store looks right before it runs the job, and answers a withdrawn one with
    /// [`Transact::withdrawn`] instead; one that it has begun goes on to its end.
    pub withdrawn: Arc<AtomicBool>,
    /// What the store's own extension trait made; another store answers [`StoreError::Unusable`].
    pub job: Box<dyn Any + Send>,
}

impl Transact {
    /// The answer to a job that was withdrawn; `None` while it is wanted.
    pub fn withdrawn(&self) -> Option<Transacted> {
        self.withdrawn.load(Ordering::Acquire).then(|| {
            let message = format!("transaction `{}` was withdrawn before it began", self.key);
            Transacted::RolledBack(Error::engine(crate::ErrorKind::Timeout, crate::Code::TIMEOUT, message))
        })
    }
}

impl std::fmt::Debug for Transact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transact").field("run", &self.run).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What became of a transactional step.
#[derive(Debug)]
pub enum Transacted {
    /// The user's rows and the record are committed; the record is letter `n` of the inbox
    /// ([`LetterKind::Recorded`], its body the step's value).
    Committed {
        /// Its number in the inbox.
        n: u64,
        /// The step's value.
        body: Payload,
    },
    /// Nothing is committed: the body returned this error, panicked, or its SQL could not be committed.
    RolledBack(Error),
}

/// How much a commit of this store survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// The process may die. Power loss may take the last commits.
    Process,
    /// Power may fail.
    Power,
}

/// Reads, for clients, the CLI and the dashboard. They see committed data only.
pub trait Inspect: Send + Sync {
    /// The run with this id.
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>>;
    /// Runs that match, newest first, from before `before` on.
    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>>;
    /// A run's journal, inbox and started rows, in one consistent read; nothing of a run that does not exist.
    fn load(&self, run: RunId) -> Answer<Loaded>;
    /// What has reached a run and is not in its journal yet, by number.
    fn inbox(&self, run: RunId) -> Answer<Vec<Received>>;
    /// The last entry of a run's journal.
    fn last(&self, run: RunId) -> Answer<Option<Entry>>;
    /// Why a run is stuck.
    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>>;
    /// How many runs there are, by workflow and status, in no order; only where there are some.
    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>>;
}

/// Everything an engine asks of a store. Object-safe; see the module for order and certainty.
pub trait Store: Inspect + Any {
    /// What people call it: `sqlite`, `memory`.
    fn name(&self) -> &'static str;
    /// What its commits survive.
    fn durability(&self) -> Durability;
    /// What rings when something happened that a worker or a waiting client may care about.
    fn bell(&self) -> &Arc<Bell>;

    /// Makes a fresh worker.
    fn enroll(&self, info: WorkerInfo) -> Answer<Fence>;
    /// Renews a worker. [`StoreError::Fenced`] if it was fenced.
    fn beat(&self, fence: Fence) -> Answer<()>;
    /// All workers that are not fenced, and fenced ones that still own runs.
    fn workers(&self) -> Answer<Vec<WorkerSeen>>;
    /// Fences `other` if its beat is still `beat`; `true` if it is fenced now.
    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool>;
    /// Makes at most `limit` runs of a fenced worker claimable; how many there were. [`StoreError::Refused`] if `other`
    /// is not fenced; a worker that never was has none.
    ///
    /// Counts `takeovers`, by [`takeovers_after`].
    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize>;
    /// Ends a worker: fences it and frees what it still owns, without counting takeovers.
    fn leave(&self, fence: Fence) -> Answer<()>;

    /// Starts runs, each by itself: a used id does not hinder the others. With a fence, those marked `claim` belong
    /// to that worker and go to `adopt`.
    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>>;
    /// Takes due runs, those that are due longest first. Each of the workflows gets its share of the limit (rounded
    /// up); what one does not need goes to the others, and each claim begins with another one, so that no workflow
    /// waits for ever behind another. A run whose row is damaged becomes stuck and keeps nobody from the rest.
    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>>;
    /// Opens a new load of a run that this worker owns, after a turn of the last one was refused for good; `None` if the
    /// run is not this worker's any more. Whatever load of it is still open ends here.
    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>>;
    /// When the next free run of these workflows becomes due.
    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>>;
    /// Runs of this worker that were posted to since they were last asked for. The record of a transactional step is no
    /// reason: the load that asked for it knows.
    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>>;

    /// Queues a turn; `receipt` hears what became of it. After the receipts of one transaction that are
    /// [`Settled::Durable`] the store calls [`Bell::ring_settled`].
    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>);
    /// Runs a transactional step, after the turns before it: the user's changes and the record commit together. A refused
    /// one does not end its load.
    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted>;

    /// Puts a letter into a run's inbox and wakes the run: a run that a worker has is nudged, a free one becomes
    /// claimable at once, unless it is over or paused.
    fn post(&self, post: Post) -> Answer<Posted>;
    /// Takes the end of a journal back; `false` if the run has moved meanwhile, a worker has it, or it does not exist.
    fn cut(&self, cut: Cut) -> Answer<bool>;
}

/// How many takeovers a run counts after one more, when it had `before`, `progressed` tells whether it made an entry
/// since the last, and `in_step` whether a started row shows that it was inside a step.
///
/// Without a started row the count stops at 2: a run that only waits while its workers die is not to blame. From 2
/// on the driver writes a started row before each body, so that a run that kills its workers is found out.
pub fn takeovers_after(before: u32, progressed: bool, in_step: bool) -> u32 {
    match (progressed, in_step) {
        (true, _) => 1,
        (false, true) => before.saturating_add(1),
        (false, false) => before.max((before + 1).min(2)),
    }
}
