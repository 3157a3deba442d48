//! The store trait, verb by verb: each takes its place in the writer's queue when it is called.

use std::sync::{Arc, atomic::Ordering};

use everstep_core::{
    Timestamp,
    store::{
        Adopt, Answer, Bell, Claim, Claimed, Cut, Durability, Fence, NewRun, Post, Posted, Receipt, RunId,
        Started, Store, StoreError, Transact, Transacted, Turn, WorkerId, WorkerInfo, WorkerSeen,
    },
};
use tokio::sync::oneshot;

use crate::{
    batch::Batch,
    fault::Fault,
    op::{After, Call, Op},
    open::Sqlite,
    write::{claim, cut, post, start, transact::Job, turn::Commit, worker},
};

impl Sqlite {
    fn push<T: Send + 'static>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Box<dyn Op>,
    ) -> Answer<T> {
        let (send, answer) = oneshot::channel();
        self.inner.queue.push(op(send));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StoreError::Closed("the writer has ended".into())))
        })
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
        then: impl FnOnce(&mut T, &mut After<'_>) + Send + 'static,
    ) -> Answer<T> {
        self.push(|answer| Call::boxed(work, then, answer))
    }
}

impl Store for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn durability(&self) -> Durability {
        self.inner.durability
    }

    fn bell(&self) -> &Arc<Bell> {
        &self.inner.bell
    }

    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        let hold = |fence: &mut Fence, after: &mut After<'_>| {
            if let Err(error) = after.locks.hold(fence.worker) {
                tracing::warn!(%error, "no lock file for this worker: its death will be seen by its lease only");
            }
        };
        self.call(move |batch| worker::enroll(batch, &info), hold)
    }

    fn beat(&self, fence: Fence) -> Answer<()> {
        self.call(move |batch| worker::beat(batch, fence), |(), _| ())
    }

    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.seen_workers()
    }

    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        let tidy = move |fenced: &mut bool, after: &mut After<'_>| {
            if *fenced {
                after.locks.remove(other);
            }
        };
        self.call(move |batch| worker::fence(batch, fence, other, beat), tidy)
    }

    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.call(move |batch| worker::free(batch, fence, other, limit), |_, _| ())
    }

    fn leave(&self, fence: Fence) -> Answer<()> {
        self.push(|answer| Box::new(worker::Leave { fence, answer, done: false }))
    }

    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        let (fence, adopt) = claim.unzip();
        let started = self.call(
            move |batch| start::start(batch, &runs, fence),
            move |starts: &mut start::Starts, _| starts.adopt(adopt.as_ref()),
        );
        Box::pin(async move { Ok(started.await?.answers) })
    }

    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        self.call(move |batch| claim::claim(batch, fence, &claim, turn), |_, _| ())
    }

    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.first_due(workflows)
    }

    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.call(move |batch| claim::nudged(batch, fence.worker), |_, _| ())
    }

    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        self.inner.queue.push(Box::new(Commit::new(fence, turn, receipt.clone())));
    }

    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        self.push(|answer| Box::new(Job { fence, step, answer, outcome: None }))
    }

    fn post(&self, post: Post) -> Answer<Posted> {
        self.call(move |batch| post::post(batch, &post), |_, _| ())
    }

    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.call(move |batch| cut::cut(batch, &cut), |_, _| ())
    }
}
