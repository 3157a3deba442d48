//! Transactional steps that are under way beside the writer, and what waits for them: what ends a load must not overtake
//! the record of a step that was asked for before it.

use std::{sync::Arc, time::Duration};

use everstep_core::store::{Bell, RunId, StoreError};
use foldhash::HashMap;

use crate::{
    batch::Held,
    fault::{Fault, told},
    listen::Notices,
    op::Op,
    pool::Pool,
    queue::Queue,
    sql::{Sql, args, sql},
    stopwatch::{Stopwatch, pause},
    write::transact::Job,
};

/// Before a run is asked for again that was locked for longer than a statement may wait.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);
/// A turn that was put aside is not tried again before that: each try may cost the writer its wait for a lock.
const LOCKED_ELSEWHERE: Duration = Duration::from_secs(4);

/// Those that are under way.
#[derive(Debug)]
pub(crate) struct Jobs {
    pool: Arc<Pool>,
    bell: Arc<Bell>,
    notices: Arc<Notices>,
    limit: Duration,
    under_way: HashMap<RunId, UnderWay>,
}

/// Of one run.
#[derive(Default)]
struct UnderWay {
    keys: Vec<Arc<str>>,
    /// Turns that came to the database before the others, and found the run locked.
    aside: Vec<Op>,
    waiting: Vec<Op>,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay")
            .field("keys", &self.keys)
            .field("aside", &self.aside.len())
            .field("waiting", &self.waiting.len())
            .finish()
    }
}

impl Jobs {
    pub(crate) fn new(pool: Arc<Pool>, bell: Arc<Bell>, notices: Arc<Notices>, limit: Duration) -> Jobs {
        Jobs { pool, bell, notices, limit, under_way: HashMap::default() }
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
            if ends || is_again || !under_way.aside.is_empty() || !under_way.waiting.is_empty() {
                under_way.waiting.push(op);
                return None;
            }
        }
        if let Some(key) = key {
            self.under_way.entry(run).or_default().keys.push(key);
        }
        Some(op)
    }

    /// Gives it back unless it is a turn of a run of which one before it was put aside.
    pub(crate) fn behind_aside(&mut self, op: Op) -> Option<Op> {
        let Op::Turn(turn) = &op else { return Some(op) };
        let under_way = self.under_way.get_mut(&turn.turn.run).filter(|of| !of.aside.is_empty());
        let Some(under_way) = under_way else { return Some(op) };
        under_way.aside.push(op);
        None
    }

    /// A turn whose run somebody else has locked, and what comes after it for that run, waits until it is not.
    pub(crate) fn put_aside(&mut self, op: Op, queue: &Arc<Queue>) {
        let Op::Turn(turn) = &op else { unreachable!("only turns wait for their runs") };
        // No step has this key.
        let (run, key) = (turn.turn.run, Arc::<str>::from(""));
        let under_way = self.under_way.entry(run).or_default();
        under_way.keys.push(key.clone());
        under_way.aside.push(op);
        let (pool, done) = (self.pool.clone(), Done { run, key, queue: queue.clone() });
        tokio::task::spawn_local(async move {
            let _done = done;
            let watch = Stopwatch::start();
            while let Err(fault) = is_free(&pool, run).await {
                tracing::warn!(run = run.0, error = %told(fault), "a run is still locked by somebody else");
                pause(LOCKED_PAUSE).await;
            }
            // Nobody had it: the turn has met a lock on something else, a parent perhaps.
            pause(LOCKED_ELSEWHERE.saturating_sub(watch.elapsed())).await;
        });
    }

    /// What may go on now that one is over; what has to wait for others of its run waits again, in its order.
    fn is_done(&mut self, run: RunId, key: &str) -> Vec<Op> {
        let Some(under_way) = self.under_way.get_mut(&run) else { return Vec::new() };
        under_way.keys.retain(|of| **of != *key);
        let still_locked = under_way.keys.iter().any(|key| key.is_empty());
        let mut ready = if still_locked { Vec::new() } else { std::mem::take(&mut under_way.aside) };
        let waited = std::mem::take(&mut under_way.waiting);
        if under_way.keys.is_empty() {
            self.under_way.remove(&run);
        }
        waited.into_iter().filter_map(|op| self.hold(op)).for_each(|op| ready.push(op));
        ready
    }

    /// Lets one go its way that was let through. `gate` is what is remembered of its load.
    pub(crate) fn begin(&mut self, mut job: Job, gate: Result<Held, StoreError>, queue: &Arc<Queue>) {
        job.gate = gate_for(&job, gate);
        let run = job.step.run;
        let done = Done { run, key: job.step.key.clone(), queue: queue.clone() };
        let (pool, bell, limit) = (self.pool.clone(), self.bell.clone(), self.limit);
        let notices = self.notices.clone();
        // On the store's own thread: a user's job need not be one that several threads may look at.
        tokio::task::spawn_local(async move {
            let _done = done;
            job.run(pool, &bell, &notices, limit).await;
        });
    }

    /// Does one to its end, while everybody waits: the order of calls is that of their effects then.
    pub(crate) async fn run(&self, mut job: Job, gate: Result<Held, StoreError>) {
        job.gate = gate_for(&job, gate);
        job.run(self.pool.clone(), &self.bell, &self.notices, self.limit).await;
    }
}

/// Waits until nobody has the row of a run locked.
async fn is_free(pool: &Arc<Pool>, run: RunId) -> Result<(), Fault> {
    const FREE: Sql = sql("wait for a run that is locked", "SELECT 1 FROM @run WHERE id = $1 FOR UPDATE");
    let mut lent = pool.lend().await?;
    lent.renew().await?;
    lent.within_limits(0, lent.rows(&FREE, args![run.0])).await?;
    lent.is_clean();
    Ok(())
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
