//! One thing to be written: applied, perhaps several times, until a commit has it; answered only then.

use everstep_core::store::{Bell, Loads, RunId, StoreError};
use tokio::sync::oneshot;

use crate::{
    batch::{Batch, Held},
    fault::Fault,
    lockfile::WorkerLocks,
};

/// How an operation may be ordered, and whether it waits for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A turn: waits for space; may change places with turns of other runs.
    Turn(RunId),
    /// A user's transaction: waits for space; may break the transaction it is in.
    Job,
    /// A client's call: is refused at once while there is no space.
    Client,
}

/// One thing to be written.
pub(crate) trait Op: Send {
    fn weight(&self) -> Weight {
        Weight::Client
    }

    /// The payloads that it carries; `None` if nobody knows what it will write.
    fn bytes(&self) -> Option<usize> {
        Some(0)
    }

    /// Writes it into the open transaction. Called again, unchanged, when that is rolled back.
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault>;

    /// The last `apply` was committed.
    fn settle(self: Box<Self>, after: &mut After<'_>);

    /// It did not and will not happen.
    fn fail(self: Box<Self>, error: StoreError, after: &mut After<'_>);

    /// It did not and will not happen, because the database refuses its content.
    fn unacceptable(self: Box<Self>, why: rusqlite::Error, after: &mut After<'_>) {
        self.fail(StoreError::Failed(why.to_string().into()), after);
    }
}

/// What operations reach after the commit.
pub(crate) struct After<'a> {
    pub(crate) loads: &'a mut Loads<Held>,
    pub(crate) bell: &'a Bell,
    pub(crate) locks: &'a WorkerLocks,
    /// What is done with, to be dropped by somebody who has more time than the writer.
    pub(crate) spent: Vec<Box<dyn Op>>,
    /// What goes to the end of the queue: the rest of something too long for one transaction.
    pub(crate) again: Vec<Box<dyn Op>>,
}

/// A client's call, as closures: `work` is applied, `then` follows the commit and precedes the answer.
pub(crate) struct Call<T, W, N> {
    bytes: usize,
    work: W,
    then: N,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W, N> Call<T, W, N>
where
    T: Send + 'static,
    W: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    N: FnOnce(&mut T, &mut After<'_>) + Send + 'static,
{
    pub(crate) fn boxed(
        bytes: usize,
        work: W,
        then: N,
        answer: oneshot::Sender<Result<T, StoreError>>,
    ) -> Box<dyn Op> {
        Box::new(Call { bytes, work, then, value: None, answer })
    }
}

impl<T, W, N> Op for Call<T, W, N>
where
    T: Send + 'static,
    W: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    N: FnOnce(&mut T, &mut After<'_>) + Send + 'static,
{
    fn bytes(&self) -> Option<usize> {
        Some(self.bytes)
    }

    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        self.value = Some((self.work)(batch)?);
        Ok(())
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
