//! The store trait, verb by verb: each takes its place in the writer's queue when it is called.

use std::sync::{Arc, atomic::Ordering};

use everstep_core::{
    Timestamp,
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, NewRun, Post,
        Posted, Receipt, RunId, Started, Store, StoreError, Transact, Transacted, Transfer, Turn, WorkerId,
        WorkerInfo, WorkerSeen,
    },
};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::{
    back::{self, Beats, Remembered},
    batch::Batch,
    fault::Fault,
    op::{After, Call, Op},
    open::{DURABILITY, Postgres},
    read::Work,
    write::{act, claim, cut, delete, post, start::Start, transact::Job, turn::Commit, worker},
};

/// Of a start of many runs, so many are one statement.
const START_RUNS_MAX: usize = 5_000;
/// And not more payloads than that, unless one alone is larger.
const START_BYTES_MAX: usize = 8 << 20;

impl Postgres {
    fn push<T: Send + 'static>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Op,
    ) -> Answer<T> {
        let (send, answer) = oneshot::channel();
        self.inner.queue.push(op(send));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StoreError::Closed("the writer has ended".into())))
        })
    }

    pub(crate) fn call<T: Send + 'static>(
        &self,
        work: impl AsyncFnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
        then: impl FnOnce(&mut T, &mut After<'_>) + Send + 'static,
    ) -> Answer<T> {
        self.call_with((None, 0), work, then)
    }

    /// The database is not the one that it was: nothing goes on in this opening.
    async fn went_back(&self) -> Result<(), StoreError> {
        let (closed, notices) = (self.inner.closed.clone(), self.inner.notices.clone());
        let lost = self.call(
            async move |batch| {
                let remembered = Remembered { runs: batch.lasts(), workers: notices.workers() };
                let lost = back::set_aside(batch.conn, &remembered, true).await?;
                Ok(back::went_back(lost.unwrap_or(0)))
            },
            move |why, _| drop(closed.set(why.to_string().into())),
        );
        Err(lost.await?)
    }

    /// With the id of the run whose row it locks, and payloads of so many bytes.
    pub(crate) fn call_with<T: Send + 'static>(
        &self,
        of: (Option<Arc<str>>, usize),
        work: impl AsyncFnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
        then: impl FnOnce(&mut T, &mut After<'_>) + Send + 'static,
    ) -> Answer<T> {
        self.push(|answer| Call::boxed(of, work, then, answer))
    }
}

/// Runs that start together, in as many parts as it takes for each to be a statement that does not keep others waiting.
fn parts(mut runs: Vec<NewRun>) -> Vec<Vec<NewRun>> {
    let mut parts = Vec::new();
    loop {
        let mut bytes = 0;
        let fits = |run: &&NewRun| {
            bytes += run.first.body.bytes.len();
            bytes <= START_BYTES_MAX
        };
        let fit = runs.iter().take(START_RUNS_MAX).take_while(fits).count();
        let rest = runs.split_off(fit.max(1).min(runs.len()));
        parts.push(std::mem::replace(&mut runs, rest));
        if runs.is_empty() {
            return parts;
        }
    }
}

impl Store for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn durability(&self) -> Durability {
        DURABILITY
    }

    fn bell(&self) -> &Arc<Bell> {
        &self.inner.bell
    }

    fn transfer(&self) -> Option<&dyn Transfer> {
        Some(self)
    }

    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        let notices = self.inner.notices.clone();
        let then = move |fence: &mut Fence, _: &mut After<'_>| notices.has_enrolled(fence.worker);
        self.call(async move |batch| worker::enroll(batch, &info).await, then)
    }

    fn beat(&self, fence: Fence) -> Answer<()> {
        if self.inner.comparable {
            // Nothing is counted within a transaction, which may not happen.
            let renew =
                async move |batch: &mut Batch<'_>| worker::beat(batch.conn, &Beats::default(), fence).await;
            return self.call(renew, |(), _| ());
        }
        // Beside the queue: a renewal must not wait for what the writer waits for.
        let counts = self.inner.counts.clone();
        let renew: Work<()> = Box::new(move |conn, _| {
            let counts = counts.clone();
            Box::pin(async move { worker::beat(conn, &counts, fence).await })
        });
        let (renewed, store) = (self.beside(&self.inner.beats, renew), self.clone());
        Box::pin(async move {
            match renewed.await {
                Err(StoreError::Closed(_)) if store.inner.closed.get().is_none() => store.went_back().await,
                renewed => renewed,
            }
        })
    }

    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.seen_workers()
    }

    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.call(async move |batch| worker::fence(batch, fence, other, beat).await, |_, _| ())
    }

    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.call(async move |batch| worker::free(batch, fence, other, limit).await, |_, _| ())
    }

    fn leave(&self, fence: Fence) -> Answer<()> {
        self.inner.notices.has_left(fence.worker);
        self.push(|answer| worker::Leave::op(fence, answer))
    }

    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        let one_by_one = self.inner.comparable;
        let parts = if one_by_one { vec![runs] } else { parts(runs) };
        // Each takes its place in the queue now.
        let answers: Vec<_> = parts
            .into_iter()
            .map(|runs| {
                let claim = claim.clone();
                self.push(|answer| {
                    let mut start = Start::new(runs, claim, answer);
                    start.one_by_one = one_by_one;
                    Op::Start(Box::new(start))
                })
            })
            .collect();
        // An error of one is told when all are over: nothing is on its way then.
        Box::pin(async move {
            let started = join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            Ok(started.into_iter().flatten().collect())
        })
    }

    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        self.inner.notices.looks_for(&claim.workflows);
        self.call(async move |batch| claim::claim(batch, fence, &claim, turn).await, |_, _| ())
    }

    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        self.call(async move |batch| claim::reload(batch, fence, run).await, |_, _| ())
    }

    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.first_due(workflows)
    }

    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        let mut known = Vec::new();
        self.call(async move |batch| claim::nudged(batch, fence, &mut known).await, |_, _| ())
    }

    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        self.inner.queue.push(Op::Turn(Box::new(Commit::new(fence, turn, receipt.clone()))));
    }

    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        self.push(|answer| Op::Job(Box::new(Job { fence, step, answer, gate: Ok(()), unsure: false })))
    }

    fn post(&self, post: Post) -> Answer<Posted> {
        let of = (post.to.run().cloned(), post.letter.body.bytes.len());
        self.call_with(of, async move |batch| post::post(batch, &post).await, |_, _| ())
    }

    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.call(async move |batch| cut::cut(batch, &cut).await, |_, _| ())
    }

    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        self.call_with(
            (act::addressed(&does), act::bytes(&does)),
            async move |batch| act::act(batch, &does, &act).await,
            |_, _| (),
        )
    }

    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.call(async move |batch| delete::delete(batch, &runs).await, |_, _| ())
    }
}
