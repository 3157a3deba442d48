//! All runs of one store into another: marked on both sides, copied by number, verified by digests, and then moved. What
//! stores do for it is [`Transfer`]; `plan` says how it goes on when it was broken off, `quiet` looks for workers, and
//! `verify` compares.

mod plan;
mod quiet;
mod verify;

use std::{sync::Arc, time::Duration};

use futures_util::future::join;

use self::plan::{InTheWay, Plan, plan};
use crate::{
    clock::Clock,
    entropy::Entropy,
    error::{Code, EngineError, ErrorKind},
    settings::LEASE,
    store::{
        CopyId, CopyMark, CopyStage, Filter, RunId, RunRow, Store, StoreError, Transfer, WholeDigest,
        WorkerId,
    },
};

/// Runs that are read and written together, at most.
const PAGE: usize = 250;

/// Copies all runs of a store into an empty one, open ones included, and leaves the first one marked as moved: a run has
/// the same id and number there, and whatever worker finds it goes on with it. What is not Everstep's (the user's own
/// tables) stays where it is.
///
/// Nobody works on either store meanwhile: a live worker is an error, a dead one's runs are freed, and whoever comes later
/// is refused ([`StoreError::Moved`]), clients included, until the copy is complete, for the source for good.
///
/// # What survives a crash
/// Every page of runs that was written, and on both sides the mark: the same copy begun again goes on behind them.
/// [`Copying::abandon`] opens the source again.
///
/// ```
/// # use everstep_core::{Copying, Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
/// # use std::sync::Arc;
/// # const GREET: Workflow<String, String> = Workflow::new("greet");
/// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
/// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), EngineError> {
/// let (small, large) = (Memory::default(), Memory::default());
/// # let engine = Engine::builder(small.clone()).register(GREET, greet).start().await?;
/// engine.run(GREET, "ada", "Ada".to_string()).await?;
/// engine.shutdown().await?;
/// let copying = Copying::new(Arc::new(small), Arc::new(large.clone())).names("small", "large");
/// assert_eq!(copying.run(|progress| println!("{progress}")).await?.runs, 1);
/// let engine = Engine::builder(large).register(GREET, greet).start().await?;
/// assert_eq!(engine.get(GREET, "ada").await?.result().await?, "hello Ada");
/// # engine.shutdown().await
/// # }
/// ```
#[must_use = "nothing is copied until `.run(..)`"]
pub struct Copying {
    from: Side,
    to: Side,
    lease: Duration,
    clock: Clock,
    entropy: Entropy,
}

/// One of its two stores.
struct Side {
    store: Arc<dyn Store>,
    name: Arc<str>,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyProgress {
    /// A worker is there, and perhaps dead: it is watched for at most so long.
    Watching {
        /// Which one.
        worker: WorkerId,
        /// The lease.
        lease: Duration,
    },
    /// Runs are written.
    Copied {
        /// So many.
        runs: u64,
        /// Of so many.
        of: u64,
    },
    /// Runs are compared.
    Verified {
        /// So many.
        runs: u64,
        /// Of so many.
        of: u64,
    },
}

impl std::fmt::Display for CopyProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CopyProgress::Watching { worker, lease } => {
                write!(f, "looks whether worker {} is alive, for {lease:?} at most", worker.0)
            }
            CopyProgress::Copied { runs, of } => write!(f, "copied {runs} of {of} runs"),
            CopyProgress::Verified { runs, of } => write!(f, "verified {runs} of {of} runs"),
        }
    }
}

/// A copy that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Runs at the destination.
    pub runs: u64,
    /// Those that were there when this call began: an earlier one had been broken off.
    pub before: u64,
    /// Of the digests of all runs, by number, which were equal on both sides; `None` if the copy had been complete before:
    /// the destination may have gone on since.
    pub digest: Option<WholeDigest>,
}

impl std::fmt::Debug for Copying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copying")
            .field("from", &self.from.name)
            .field("to", &self.to.name)
            .finish_non_exhaustive()
    }
}

impl Side {
    fn transfer(&self) -> Result<&dyn Transfer, EngineError> {
        let none = || {
            cannot(format!("runs cannot be copied from or into `{}`: its store does not do that", self.name))
        };
        self.store.transfer().ok_or_else(none)
    }

    async fn count(&self) -> Result<u64, EngineError> {
        Ok(self.store.counts().await?.iter().map(|(_, _, n)| n).sum())
    }

    /// The run with the highest number.
    async fn last(&self) -> Result<Option<RunRow>, EngineError> {
        Ok(self.store.find(Filter::default(), None, 1).await?.pop())
    }
}

impl Copying {
    /// All runs of `from` into `to`.
    pub fn new(from: Arc<dyn Store>, to: Arc<dyn Store>) -> Copying {
        let side = |store: Arc<dyn Store>| Side { name: store.name().into(), store };
        Copying {
            from: side(from),
            to: side(to),
            lease: LEASE,
            clock: Clock::system(),
            entropy: Entropy::system(),
        }
    }

    /// What people call the two stores: their marks say it, so no secrets.
    pub fn names(mut self, from: &str, to: &str) -> Copying {
        (self.from.name, self.to.name) = (from.into(), to.into());
        self
    }

    /// How long a worker is silent that counts as dead: the longest lease that the engines on these stores have.
    pub fn lease(mut self, lease: Duration) -> Copying {
        self.lease = lease;
        self
    }

    /// Lives in a simulated world: see [`Simulation`](crate::Simulation).
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated(mut self, world: &crate::Simulation) -> Copying {
        (self.clock, self.entropy) = (world.clock.clone(), world.entropy.clone());
        self
    }

    /// Copies, or goes on with a copy that was broken off, or finds that it is complete.
    ///
    /// # Errors
    /// [`Code::CANNOT_COPY`]: a live worker, a destination with other runs, a run that differs. [`Code::MOVED`]: another
    /// copy is under way, or the runs have moved elsewhere. The stores'. Unless a run was written, by this call or one
    /// before it, both stores are as they were.
    ///
    /// # Cancel safety
    /// Dropped, it is broken off as by a crash.
    pub async fn run(self, mut told: impl FnMut(CopyProgress)) -> Result<Copied, EngineError> {
        let (from, to) = (self.from.transfer()?, self.to.transfer()?);
        let (left, arrived) = (from.copy_mark().await?, to.copy_mark().await?);
        let copy = match plan(left, arrived, &self.to.name).map_err(|found| self.refused(&found))? {
            Plan::Begin => self.begin(&mut told).await?,
            Plan::Enter(copy) => self.enter(copy, &mut told).await?,
            Plan::GoOn(copy) => copy,
            Plan::Complete => return self.was_complete().await,
        };
        let before = self.to.count().await?;
        self.copy(copy, before, &mut told).await?;
        let (runs, digest) = self.verify(&mut told).await?;
        self.complete(copy).await?;
        Ok(Copied { runs, before, digest: Some(digest) })
    }

    /// Gives a copy up that was broken off: its source can be used again as before, with every run that it had. What has
    /// arrived at the destination stays closed, and is to be removed. `false` if no copy of `from` is under way.
    ///
    /// # Errors
    /// [`Code::MOVED`]: it is complete, or `from` is the destination of one. The store's.
    pub async fn abandon(from: &dyn Store) -> Result<bool, EngineError> {
        let Some(transfer) = from.transfer() else { return Ok(false) };
        match transfer.copy_mark().await? {
            None => Ok(false),
            Some(mark) if mark.stage == CopyStage::Leaving => {
                transfer.set_copy_mark(Some(mark), None).await?;
                Ok(true)
            }
            Some(mark) => Err(mark.refusal().into()),
        }
    }

    /// What a call finds that comes after the last one.
    async fn was_complete(&self) -> Result<Copied, EngineError> {
        let given = self.from.transfer()?.numbers().await?;
        let there = self.to.transfer()?.numbers().await?;
        if there.run < given.run || there.worker < given.worker {
            // It has the name of the store that the runs moved to, and never had them.
            let message = format!(
                "the runs of `{}` have moved to `{}`, and are not there: that store was removed or replaced since",
                self.from.name, self.to.name
            );
            return Err(EngineError::new(ErrorKind::Store, Code::MOVED, message));
        }
        let runs = self.to.count().await?;
        Ok(Copied { runs, before: runs, digest: None })
    }

    /// Closes both stores for a new copy.
    async fn begin(&self, told: &mut impl FnMut(CopyProgress)) -> Result<CopyId, EngineError> {
        // Looked at before anybody is waited for; the mark looks again.
        if let Some(run) = self.to.last().await? {
            let message = format!(
                "`{}` has runs of its own, like `{}`: a copy goes into an empty store",
                self.to.name, run.id
            );
            return Err(cannot(message));
        }
        self.quiet(&self.from, told).await?;
        let copy = CopyId(self.entropy.draw());
        let leaving = self.mark(copy, CopyStage::Leaving, &self.to);
        self.from.transfer()?.set_copy_mark(None, Some(leaving.clone())).await.map_err(in_the_way)?;
        let entered = self.enter(copy, told).await;
        if entered.is_err() {
            self.from.transfer()?.set_copy_mark(Some(leaving), None).await?;
        }
        entered
    }

    /// Closes the destination.
    async fn enter(&self, copy: CopyId, told: &mut impl FnMut(CopyProgress)) -> Result<CopyId, EngineError> {
        self.quiet(&self.to, told).await?;
        let arriving = self.mark(copy, CopyStage::Arriving, &self.from);
        self.to.transfer()?.set_copy_mark(None, Some(arriving)).await.map_err(in_the_way)?;
        Ok(copy)
    }

    /// Writes the runs behind the last one that is there: they come by number, so those before it are there too.
    async fn copy(
        &self,
        copy: CopyId,
        before: u64,
        told: &mut impl FnMut(CopyProgress),
    ) -> Result<(), EngineError> {
        let (from, to, of) = (self.from.transfer()?, self.to.transfer()?, self.from.count().await?);
        let numbers = from.numbers().await?;
        to.place(copy, numbers, Vec::new()).await.map_err(in_the_way)?;
        let mut runs = before;
        let mut after = self.to.last().await?.map_or(RunId(i64::MIN), |row| row.run);
        let mut page = from.wholes(after, PAGE).await?;
        while let Some(last) = page.last() {
            told(CopyProgress::Copied { runs, of });
            after = last.row.run;
            runs += page.len() as u64;
            let (placed, next) = join(to.place(copy, numbers, page), from.wholes(after, PAGE)).await;
            placed.map_err(in_the_way)?;
            page = next?;
        }
        told(CopyProgress::Copied { runs, of });
        Ok(())
    }

    /// Opens the destination, after the source is closed for good: never are both open.
    async fn complete(&self, copy: CopyId) -> Result<(), EngineError> {
        let (from, to) = (self.from.transfer()?, self.to.transfer()?);
        let left = ours(from, copy).await?;
        if left.stage != CopyStage::Moved {
            let moved = self.mark(copy, CopyStage::Moved, &self.to);
            from.set_copy_mark(Some(left), Some(moved)).await.map_err(in_the_way)?;
        }
        let arrived = ours(to, copy).await?;
        to.set_copy_mark(Some(arrived), None).await.map_err(in_the_way)
    }

    /// A mark is in the way: of which store, and what it says.
    fn refused(&self, found: &InTheWay) -> EngineError {
        let (side, mark) = match found {
            InTheWay::Left(mark) => (&self.from, mark),
            InTheWay::Arrived(mark) => (&self.to, mark),
        };
        EngineError::new(ErrorKind::Store, Code::MOVED, format!("`{}`: {mark}", side.name))
    }

    fn mark(&self, copy: CopyId, stage: CopyStage, other: &Side) -> CopyMark {
        CopyMark { copy, stage, other: other.name.clone(), at: self.clock.now() }
    }
}

/// The mark of this copy.
async fn ours(store: &dyn Transfer, copy: CopyId) -> Result<CopyMark, EngineError> {
    match store.copy_mark().await? {
        Some(mark) if mark.copy == copy => Ok(mark),
        found => Err(in_the_way(CopyMark::changed(found.as_ref()))),
    }
}

/// A store's refusal of what a copy asks for is about the copy.
fn in_the_way(error: StoreError) -> EngineError {
    match error {
        StoreError::Unusable(why) | StoreError::Refused(why) => cannot(why.to_string()),
        other => other.into(),
    }
}

fn cannot(message: String) -> EngineError {
    EngineError::new(ErrorKind::Store, Code::CANNOT_COPY, message)
}
