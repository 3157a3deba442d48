//! A store around SQLite's that tells a [`Recorder`] of every answer, at the moment it is given and not later, and counts
//! what was not answered yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use everstep::{
    AttributeValue, Status, Stuck, Timestamp,
    journal::{Entry, Payload},
    sqlite::Sqlite,
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, Filter,
        Inspect, Kept, LetterId, Loaded, Mark, NewRun, PatchRow, Post, Posted, PublishedRow, Receipt,
        Received, RunId, RunRow, Settled, Started, Store, StreamRow, Transact, Transacted, Turn, WorkerId,
        WorkerInfo, WorkerSeen,
    },
};

use tokio::sync::watch;

use crate::{promise::Promise, recording::Recorder};

/// The store that engines of this crate run on.
#[derive(Debug)]
pub struct Witness {
    /// The store itself.
    pub inner: Sqlite,
    /// Who hears of its answers.
    pub recorder: Arc<Recorder>,
    /// What it has not answered.
    pub owed: Owed,
}

/// Turns that the store has, and has not answered: what waits for a disk that is full.
#[derive(Clone, Debug, Default)]
pub struct Owed(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_run: Mutex<HashMap<i64, usize>>,
    all: watch::Sender<usize>,
    /// The most that one run has had.
    most: watch::Sender<usize>,
}

impl Owed {
    fn add(&self, run: RunId) {
        let mut by_run = self.0.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = by_run.entry(run.0).or_default();
        *owed += 1;
        self.0.all.send_modify(|all| *all += 1);
        self.0.most.send_if_modified(|most| {
            let is_more = *owed > *most;
            *most = (*most).max(*owed);
            is_more
        });
    }

    fn settle(&self, run: RunId) {
        let mut by_run = self.0.by_run.lock().unwrap_or_else(PoisonError::into_inner);
        *by_run.entry(run.0).or_default() -= 1;
        self.0.all.send_modify(|all| *all -= 1);
    }

    /// How many are not answered, of all runs.
    pub fn all(&self) -> watch::Receiver<usize> {
        self.0.all.subscribe()
    }

    /// The most that one run has had, now and whenever it becomes more.
    pub fn most(&self) -> watch::Receiver<usize> {
        self.0.most.subscribe()
    }
}

/// Hears of one turn and passes it on.
struct Slip {
    to: Arc<dyn Receipt>,
    run: RunId,
    promise: Promise,
    recorder: Arc<Recorder>,
    owed: Owed,
}

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        self.owed.settle(self.run);
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
        let (to, run, promise) = (receipt.clone(), turn.run, promise_of(&turn));
        let (recorder, owed) = (self.recorder.clone(), self.owed.clone());
        owed.add(run);
        let slip: Arc<dyn Receipt> = Arc::new(Slip { to, run, promise, recorder, owed });
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

    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.inner.delete(runs)
    }

    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        let promise = match &does {
            Does::Post(post) => Some(Promise::Posted(post.letter.id.0.to_string())),
            Does::Pause(_) | Does::Cut(_) | Does::Edit(_) => None,
        };
        let (acted, recorder) = (self.inner.act(does, act), self.recorder.clone());
        Box::pin(async move {
            let acted = acted.await?;
            if let (Acted::Done | Acted::Known, Some(promise)) = (&acted, promise) {
                recorder.promised(promise);
            }
            Ok(acted)
        })
    }
}

impl Inspect for Witness {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.inner.run(id)
    }

    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.inner.find(filter, before, limit)
    }

    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.inner.count(filter, at_most)
    }

    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.inner.load(run)
    }

    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        self.inner.inbox(run, after)
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

    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        self.inner.published(run, name)
    }

    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.inner.published_all(run, limit)
    }

    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        self.inner.stream(run, name, from, limit)
    }

    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.inner.reply(run, id)
    }

    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.inner.stream_names(run)
    }

    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.inner.acts(run, limit)
    }

    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.inner.kept(run)
    }

    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.inner.attributes(run)
    }

    fn patches(&self) -> Answer<Vec<PatchRow>> {
        self.inner.patches()
    }
}
