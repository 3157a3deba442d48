//! Transactional steps that are under way beside the writer, and what waits for them: what ends a load must not overtake
//! the record of a step that was asked for before it.

use std::{sync::Arc, time::Duration};

use everstep_core::store::{Bell, RunId, StoreError};
use foldhash::HashMap;

use crate::{
    batch::Held, bounds::Bounds, listen::Notices, op::Op, pool::Pool, queue::Queue, write::transact::Job,
};

/// Those that are under way.
#[derive(Debug)]
pub(crate) struct Jobs {
    pool: Arc<Pool>,
    bell: Arc<Bell>,
    bounds: Arc<Bounds>,
    limit: Duration,
    under_way: HashMap<RunId, UnderWay>,
}

/// Of one run.
#[derive(Default)]
struct UnderWay {
    keys: Vec<Arc<str>>,
    waiting: Vec<Op>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").field("keys", &self.keys).field("waiting", &self.waiting.len()).finish()
    }
}

impl Jobs {
    pub(crate) fn new(pool: Arc<Pool>, bell: Arc<Bell>, bounds: Arc<Bounds>, limit: Duration) -> Jobs {
        Jobs { pool, bell, bounds, limit, under_way: HashMap::default() }
    }

    /// Those that can go on, in their order; keeps back what must wait.
    pub(crate) fn sort(&mut self, ops: Vec<Op>) -> Vec<Op> {
        let mut ready = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::JobDone(run, key) => ready.extend(self.is_done(run, &key)),
                op => self.hold(op).into_iter().for_each(|op| ready.push(op)),
            }
        }
        ready
    }

    /// Gives it back unless it must wait.
    fn hold(&mut self, op: Op) -> Option<Op> {
        let (run, ends, key) = match &op {
            Op::Turn(turn) => (turn.turn.run, turn.turn.end.is_some(), None),
            Op::Job(job) => (job.step.run, false, Some(job.step.key.clone())),
            _ => return Some(op),
        };
        if let Some(under_way) = self.under_way.get_mut(&run) {
            // A step that is asked for again is answered with the record of the first.
            let is_again = key.as_ref().is_some_and(|key| under_way.keys.contains(key));
            if ends || is_again || !under_way.waiting.is_empty() {
                under_way.waiting.push(op);
                return None;
            }
        }
        if let Some(key) = key {
            self.under_way.entry(run).or_default().keys.push(key);
        }
        Some(op)
    }

    /// What may go on now that one is over; what has to wait for others of its run waits again, in its order.
    fn is_done(&mut self, run: RunId, key: &str) -> Vec<Op> {
        let Some(under_way) = self.under_way.get_mut(&run) else { return Vec::new() };
        under_way.keys.retain(|of| **of != *key);
        let waited = std::mem::take(&mut under_way.waiting);
        if under_way.keys.is_empty() {
            self.under_way.remove(&run);
        }
        waited.into_iter().filter_map(|op| self.hold(op)).collect()
    }

    /// Lets one go its way that was let through. `gate` is what is remembered of its load.
    pub(crate) fn begin(
        &mut self,
        mut job: Job,
        gate: Result<Held, StoreError>,
        notices: &Arc<Notices>,
        queue: &Arc<Queue>,
    ) {
        job.gate = gate_for(&job, gate);
        let run = job.step.run;
        let done = Done { run, key: job.step.key.clone(), queue: queue.clone() };
        let (pool, bell, limit) = (self.pool.clone(), self.bell.clone(), self.limit);
        let (bounds, notices) = (self.bounds.clone(), notices.clone());
        // On the store's own thread: a user's job need not be one that several threads may look at.
        tokio::task::spawn_local(async move {
            let _done = done;
            job.run(pool, &bell, &bounds, limit).await;
            notices.tell();
        });
    }

    /// Does one to its end, while everybody waits: the order of calls is that of their effects then.
    pub(crate) async fn run(&self, mut job: Job, gate: Result<Held, StoreError>) {
        job.gate = gate_for(&job, gate);
        job.run(self.pool.clone(), &self.bell, &self.bounds, self.limit).await;
    }
}

/// Whether its load is open and its sender's.
fn gate_for(job: &Job, held: Result<Held, StoreError>) -> Result<(), StoreError> {
    let held = held?;
    if held.worker == job.fence.worker {
        return Ok(());
    }
    let (load, run, of) = (job.step.load.0, job.step.run.0, held.worker.0);
    Err(StoreError::Refused(format!("load {load} of run {run} belongs to worker {of}").into()))
}

/// Tells the writer that one is over, also if it panicked.
struct Done {
    run: RunId,
    key: Arc<str>,
    queue: Arc<Queue>,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.queue.push(Op::JobDone(self.run, self.key.clone()));
    }
}
