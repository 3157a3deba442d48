//! One thing to be written: applied, perhaps several times, until a commit has it; answered only then.

use std::sync::Arc;

use everstep_core::store::{Bell, End, Loads, RunId, StoreError};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use crate::{
    batch::{Batch, Held},
    fault::Fault,
    write::{start::Start, transact::Job, turn::Commit},
};

/// One thing to be written.
pub(crate) enum Op {
    /// A turn. Waits while nothing can be written.
    Turn(Box<Commit>),
    /// Starts of runs.
    Start(Box<Start>),
    /// Anything else.
    Call(Box<dyn Apply>),
    /// A transactional step, which goes its own way when its turn has come.
    Job(Box<Job>),
    /// A transactional step of this run is over.
    JobDone(RunId, Arc<str>),
}

/// What is not certain of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    pub(crate) run: RunId,
    /// The first entry that may not be there.
    pub(crate) from: u64,
    /// Whether it may have been let go of.
    pub(crate) ends: bool,
}

/// The row of a run, which others lock too.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Locked<'a> {
    Run(RunId),
    Id(&'a str),
}

/// What is written by statements of its own.
pub(crate) trait Apply: Send {
    /// The payloads that it carries.
    fn bytes(&self) -> usize {
        0
    }

    /// Whether it waits while nothing can be written; else it is refused at once.
    fn is_patient(&self) -> bool {
        false
    }

    /// The id of the run whose row it locks.
    fn locks(&self) -> Option<&str> {
        None
    }

    /// Writes it into the open transaction. Called again, unchanged, when that is rolled back.
    fn apply<'b>(&'b mut self, batch: &'b mut Batch<'_>) -> LocalBoxFuture<'b, Result<(), Fault>>;

    /// The last `apply` was committed.
    fn settle(self: Box<Self>, after: &mut After<'_>);

    /// It did not and will not happen.
    fn fail(self: Box<Self>, error: StoreError, after: &mut After<'_>);
}

/// What operations reach after the commit.
pub(crate) struct After<'a> {
    pub(crate) loads: &'a mut Loads<Held>,
    pub(crate) bell: &'a Bell,
    /// What goes to the end of the queue: the rest of something too long for one transaction.
    pub(crate) again: Vec<Op>,
}

impl Op {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Op::Turn(turn) => turn.bytes(),
            Op::Start(start) => start.bytes(),
            Op::Call(call) => call.bytes(),
            Op::Job(_) | Op::JobDone(..) => 0,
        }
    }

    pub(crate) fn is_patient(&self) -> bool {
        match self {
            Op::Turn(_) | Op::Job(_) | Op::JobDone(..) => true,
            Op::Start(_) => false,
            Op::Call(call) => call.is_patient(),
        }
    }

    /// Which row it locks until the commit.
    pub(crate) fn locks(&self) -> Option<Locked<'_>> {
        match self {
            Op::Turn(turn) => turn.turn.end.is_some().then_some(Locked::Run(turn.turn.run)),
            Op::Call(call) => call.locks().map(Locked::Id),
            Op::Start(_) | Op::Job(_) | Op::JobDone(..) => None,
        }
    }

    /// It was sent, and nobody knows whether it happened.
    pub(crate) fn is_unsure(&mut self) {
        match self {
            Op::Turn(turn) => (turn.unsure, turn.settled) = (true, None),
            Op::Start(start) => start.unsure = true,
            Op::Call(_) | Op::Job(_) | Op::JobDone(..) => {}
        }
    }

    /// What is not certain of its run while it is under way.
    pub(crate) fn doubt(&self) -> Option<Doubt> {
        let Op::Turn(turn) = self else { return None };
        let turn = &turn.turn;
        let from = match turn.end {
            // Its journal begins anew.
            Some(End::Restarted { .. }) => 0,
            _ => turn.entries.first().map_or(u64::MAX, |first| first.seq),
        };
        Some(Doubt { run: turn.run, from, ends: turn.end.is_some() })
    }

    /// Whether nobody knows.
    pub(crate) fn was_unsure(&self) -> bool {
        match self {
            Op::Turn(turn) => turn.unsure,
            Op::Start(start) => start.unsure,
            Op::Call(_) | Op::Job(_) | Op::JobDone(..) => false,
        }
    }

    pub(crate) async fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        match self {
            Op::Turn(turn) => turn.apply(batch).await,
            Op::Start(start) => start.apply(batch).await,
            Op::Call(call) => call.apply(batch).await,
            Op::Job(_) | Op::JobDone(..) => Ok(()),
        }
    }

    pub(crate) fn settle(self, after: &mut After<'_>) {
        match self {
            Op::Turn(turn) => turn.settle(after),
            Op::Start(start) => start.settle(),
            Op::Call(call) => call.settle(after),
            Op::Job(_) | Op::JobDone(..) => {}
        }
    }

    pub(crate) fn fail(self, error: StoreError, after: &mut After<'_>) {
        match self {
            Op::Turn(turn) => turn.fail(error, after),
            Op::Start(start) => start.fail(error),
            Op::Call(call) => call.fail(error, after),
            Op::Job(job) => job.fail(error),
            Op::JobDone(..) => {}
        }
    }
}

/// A client's call, as closures: `work` is applied, `then` follows the commit and precedes the answer.
pub(crate) struct Call<T, W, N> {
    of: Option<Arc<str>>,
    bytes: usize,
    work: W,
    then: N,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W, N> Call<T, W, N>
where
    T: Send + 'static,
    W: AsyncFnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    N: FnOnce(&mut T, &mut After<'_>) + Send + 'static,
{
    pub(crate) fn boxed(
        (of, bytes): (Option<Arc<str>>, usize),
        work: W,
        then: N,
        answer: oneshot::Sender<Result<T, StoreError>>,
    ) -> Op {
        Op::Call(Box::new(Call { of, bytes, work, then, value: None, answer }))
    }
}

impl<T, W, N> Apply for Call<T, W, N>
where
    T: Send + 'static,
    W: AsyncFnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    N: FnOnce(&mut T, &mut After<'_>) + Send + 'static,
{
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn locks(&self) -> Option<&str> {
        self.of.as_deref()
    }

    fn apply<'b>(&'b mut self, batch: &'b mut Batch<'_>) -> LocalBoxFuture<'b, Result<(), Fault>> {
        Box::pin(async move {
            self.value = Some((self.work)(batch).await?);
            Ok(())
        })
    }

    fn settle(self: Box<Self>, after: &mut After<'_>) {
        let Call { then, value, answer, .. } = *self;
        let mut value = value.expect("settled after it was applied");
        then(&mut value, after);
        let _ = answer.send(Ok(value));
    }

    fn fail(self: Box<Self>, error: StoreError, _: &mut After<'_>) {
        let _ = self.answer.send(Err(error));
    }
}
