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
//! **Copies.** A store whose runs are being copied, or have moved, takes no workers and no calls of clients that write:
//! see [`Transfer`].
//!
//! **Openings.** One content may be open several times: in several processes, or as several values of one store.
//! No number is given twice over all of them. Loads belong to the opening that gave them, and so does the bell: of the
//! commits of the others it tells an opening only that there was something to look at ([`Bell::foreign`]).
//!
//! **Certainty.** A commit that certainly did not happen (full disk, busy) is repeated unchanged until it does: no
//! step runs twice for it. Meanwhile new starts and messages are refused with the reason.

mod run;
mod say;
mod turn;

mod act;
mod child;
mod cut;
mod delete;
mod durability;
mod kept;
mod letter;
mod transact;
mod transfer;
mod worker;

mod bell;
mod error;
mod filter;
mod loads;
mod memory;

use std::{any::Any, future::Future, pin::Pin, sync::Arc};

pub use act::{Act, Acted, Does, Edit};
pub(crate) use bell::Heard;
pub use bell::{Bell, Ended, Listener, Reading};
pub use child::{Parent, Used};
pub(crate) use child::{reply_letter, tells_of_a_conflict};
pub use cut::Cut;
pub(crate) use cut::taken_by;
pub use delete::Doomed;
pub use durability::Durability;
pub use error::StoreError;
pub use filter::{Condition, Field, Filter, FilterError, Operator};
pub use kept::{Archived, Kept, PromiseRow, ReplyRow};
pub use letter::{Letter, LetterId, LetterKind, Post, Posted, Received, To};
pub use loads::{Admitted, LoadId, Loads};
pub use memory::{Memory, MemoryBody, MemoryJob, Rows};
pub use run::{Adopt, Claim, Claimed, Forked, Loaded, NewRun, RunId, RunRow, Started};
pub use say::{PATCHED, PatchRow, PublishedRow, Say, StreamRow, item_number};
pub use transact::{Transact, Transacted};
pub use transfer::{CopyId, CopyMark, CopyStage, Needs, Numbers, PAGE_BYTES, Transfer, Whole, WholeDigest};
pub use turn::{End, Mark, Receipt, Settled, StartedRow, Turn};
pub use worker::{Fence, WorkerId, WorkerInfo, WorkerSeen, takeovers_after};

pub use crate::watch::{Gone as BellGone, Receiver as Hearer};
use crate::{
    attribute::AttributeValue,
    journal::{Entry, Payload},
    status::Status,
    stuck::Stuck,
    time::Timestamp,
};

/// The answer of a store, boxed so that `dyn Store` works.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'static>>;

/// Reads, for clients, the CLI and the dashboard. They see committed data only.
pub trait Inspect: Send + Sync {
    /// The run with this id.
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>>;
    /// Runs that match, newest first, from before `before` on.
    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>>;
    /// How many runs match; no more than `at_most` are counted.
    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64>;
    /// A run's journal, inbox and started rows, in one consistent read; nothing of a run that does not exist.
    fn load(&self, run: RunId) -> Answer<Loaded>;
    /// [`Inspect::load`] of several runs, each by itself: of the first of them, of one at least. A store that can read
    /// them together at less cost does; how many it reads at once is its own to say, for journals are long and short.
    fn load_some(&self, runs: Vec<RunId>) -> Answer<Vec<Result<Loaded, StoreError>>> {
        let reads: Vec<_> = runs.into_iter().map(|run| self.load(run)).collect();
        Box::pin(async { Ok(futures_util::future::join_all(reads).await) })
    }
    /// What has reached a run and is not in its journal yet, by number; only numbers above `after`.
    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>>;
    /// The last entry of a run's journal.
    fn last(&self, run: RunId) -> Answer<Option<Entry>>;
    /// Why a run is stuck.
    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>>;
    /// How many runs there are, by workflow and status, in no order; only where there are some.
    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>>;
    /// What a run has published last under this name.
    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>>;
    /// What a run has published last under each name, by name; at most `limit` of them.
    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>>;
    /// At most `limit` items of a run's stream, from number `from` on, by number.
    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>>;
    /// What a run has answered to a request.
    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>>;
    /// The names of a run's streams that have items, by name.
    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>>;
    /// A run's attributes, by name.
    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>>;
    /// Every patch of every workflow, by patch and workflow. Looks at all runs: for people, and not often.
    fn patches(&self) -> Answer<Vec<PatchRow>>;
    /// What people did to a run, in this order; of more than `limit` the last ones.
    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>>;
    /// What is kept of a run besides; nothing of one that does not exist. For exports: it reads all of it.
    ///
    /// A store that does not tell it has no exports: it answers [`StoreError::Unusable`], as it does by default.
    fn kept(&self, run: RunId) -> Answer<Kept> {
        let why =
            format!("this store does not tell what it keeps of run {}, so it cannot be exported", run.0);
        Box::pin(std::future::ready(Err(StoreError::Unusable(why.into()))))
    }
}

/// Everything an engine asks of a store. Object-safe; see the module for order and certainty.
pub trait Store: Inspect + Any {
    /// What people call it: `sqlite`, `memory`.
    fn name(&self) -> &'static str;
    /// What its commits survive.
    fn durability(&self) -> Durability;
    /// What rings when something happened that a worker or a waiting client may care about.
    fn bell(&self) -> &Arc<Bell>;
    /// How its runs move to another store, or come from one; `None` if this store cannot do that.
    fn transfer(&self) -> Option<&dyn Transfer> {
        None
    }

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
    /// claimable at once if [`Letter::wakes`] says so.
    fn post(&self, post: Post) -> Answer<Posted>;
    /// Takes the end of a journal back; `false` if the run has moved meanwhile, a worker has it, or it does not exist.
    fn cut(&self, cut: Cut) -> Answer<bool>;
    /// What a person does to one run, and the record of it.
    fn act(&self, does: Does, act: Act) -> Answer<Acted>;
    /// Takes runs away with everything of them; each by itself: whether it is not there any more. Their numbers are not
    /// given again.
    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>>;
}
