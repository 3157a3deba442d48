//! A store around SQLite's that tells a [`Recorder`] of every answer, at the moment it is given and not later.

use std::sync::Arc;

use everstep::{
    Status, Stuck, Timestamp,
    journal::Entry,
    sqlite::Sqlite,
    store::{
        Adopt, Answer, Bell, Claim, Claimed, Cut, Durability, Fence, Filter, Inspect, Loaded, Mark, NewRun,
        Post, Posted, Receipt, Received, RunId, RunRow, Settled, Started, Store, Transact, Transacted, Turn,
        WorkerId, WorkerInfo, WorkerSeen,
    },
};

use crate::{promise::Promise, recording::Recorder};

/// The store that engines of this crate run on.
pub(crate) struct Witness {
    pub(crate) inner: Sqlite,
    pub(crate) recorder: Arc<Recorder>,
}

/// Hears of one turn and passes it on.
struct Slip {
    to: Arc<dyn Receipt>,
    promise: Promise,
    recorder: Arc<Recorder>,
}

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        if let Settled::Durable { .. } = settled {
            self.recorder.promised(self.promise.clone());
        }
        self.to.settled(settled);
    }
}

/// What a turn promises when it is durable.
fn promise_of(turn: &Turn) -> Promise {
    let entry =
        |entry: &Entry| (entry.seq, entry.kind, String::from_utf8_lossy(&entry.body.bytes).into_owned());
    let started = |mark: &Mark| match mark {
        Mark::Started(row) => Some(row.key.to_string()),
        Mark::Cleared(_) => None,
    };
    Promise::Turn {
        run: turn.run.0,
        entries: turn.entries.iter().map(entry).collect(),
        started: turn.marks.iter().filter_map(started).collect(),
    }
}

impl Store for Witness {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn bell(&self) -> &Arc<Bell> {
        self.inner.bell()
    }

    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        let ids: Vec<_> = runs.iter().map(|run| run.id.to_string()).collect();
        let (started, recorder) = (self.inner.start(runs, claim), self.recorder.clone());
        Box::pin(async move {
            let started = started.await?;
            ids.into_iter().for_each(|id| recorder.promised(Promise::Started(id)));
            Ok(started)
        })
    }

    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        let (to, recorder) = (receipt.clone(), self.recorder.clone());
        let slip: Arc<dyn Receipt> = Arc::new(Slip { to, promise: promise_of(&turn), recorder });
        self.inner.commit(fence, turn, &slip);
    }

    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        let promise = Promise::Committed { run: step.run.0, key: step.key.to_string() };
        let (done, recorder) = (self.inner.transact(fence, step), self.recorder.clone());
        Box::pin(async move {
            let done = done.await?;
            if let Transacted::Committed { .. } = done {
                recorder.promised(promise);
            }
            Ok(done)
        })
    }

    fn post(&self, post: Post) -> Answer<Posted> {
        let promise = Promise::Posted(post.letter.id.0.to_string());
        let (posted, recorder) = (self.inner.post(post), self.recorder.clone());
        Box::pin(async move {
            let posted = posted.await?;
            if let Posted::Added | Posted::Known = posted {
                recorder.promised(promise);
            }
            Ok(posted)
        })
    }

    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        self.inner.enroll(info)
    }

    fn beat(&self, fence: Fence) -> Answer<()> {
        self.inner.beat(fence)
    }

    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.inner.workers()
    }

    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.inner.fence(fence, other, beat)
    }

    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.inner.free(fence, other, limit)
    }

    fn leave(&self, fence: Fence) -> Answer<()> {
        self.inner.leave(fence)
    }

    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        self.inner.claim(fence, claim)
    }

    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        self.inner.reload(fence, run)
    }

    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.inner.next_due(workflows)
    }

    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.inner.nudged(fence)
    }

    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.inner.cut(cut)
    }
}

impl Inspect for Witness {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.inner.run(id)
    }

    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.inner.find(filter, before, limit)
    }

    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.inner.load(run)
    }

    fn inbox(&self, run: RunId) -> Answer<Vec<Received>> {
        self.inner.inbox(run)
    }

    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.inner.last(run)
    }

    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.inner.stuck(run)
    }

    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.inner.counts()
    }
}
