//! A store that is only read: what keeps a check from writing, whatever the driver does.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::{
    attribute::AttributeValue,
    journal::{Entry, Payload},
    status::Status,
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, End, Fence, Filter,
        Inspect, Kept, LetterId, LoadId, Loaded, NewRun, PatchRow, Post, Posted, PublishedRow, Receipt,
        Received, RunId, RunRow, Settled, Started, Store, StoreError, StreamRow, Transact, Transacted, Turn,
        WorkerId, WorkerInfo, WorkerSeen,
    },
    stuck::Stuck,
    sync::{Mutex, PoisonError},
    time::Timestamp,
};

/// How a load ends, and the last entry of its last turn.
pub(super) type LastTurn = (End, Option<Entry>);

/// Reads from `inner`. A turn is answered as if it were durable, and is nowhere; its end is told to whoever asked.
pub(super) struct ReadOnly {
    inner: Arc<dyn Store>,
    loads: AtomicU64,
    ends: Mutex<HashMap<LoadId, oneshot::Sender<LastTurn>>>,
}

impl ReadOnly {
    pub(super) fn new(inner: Arc<dyn Store>) -> ReadOnly {
        ReadOnly { inner, loads: AtomicU64::new(0), ends: Mutex::default() }
    }

    /// A load, and how it ends.
    pub(super) fn load(&self) -> (LoadId, oneshot::Receiver<LastTurn>) {
        let load = LoadId(self.loads.fetch_add(1, Ordering::Relaxed));
        let (tell, ends) = oneshot::channel();
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(load, tell);
        (load, ends)
    }
}

fn refused<T: Send + 'static>() -> Answer<T> {
    Box::pin(std::future::ready(Err(StoreError::Refused("a check writes nothing".into()))))
}

impl Inspect for ReadOnly {
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
    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.inner.reply(run, id)
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
    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.inner.stream_names(run)
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
    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.inner.acts(run, limit)
    }
}

impl Store for ReadOnly {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    fn bell(&self) -> &Arc<Bell> {
        self.inner.bell()
    }
    fn enroll(&self, _: WorkerInfo) -> Answer<Fence> {
        refused()
    }
    fn beat(&self, _: Fence) -> Answer<()> {
        refused()
    }
    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.inner.workers()
    }
    fn fence(&self, _: Fence, _: WorkerId, _: u64) -> Answer<bool> {
        refused()
    }
    fn free(&self, _: Fence, _: WorkerId, _: usize) -> Answer<usize> {
        refused()
    }
    fn leave(&self, _: Fence) -> Answer<()> {
        refused()
    }
    fn start(&self, _: Vec<NewRun>, _: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        refused()
    }
    fn claim(&self, _: Fence, _: Claim) -> Answer<Vec<Claimed>> {
        refused()
    }
    /// Nothing goes on here: a run that would begin anew is one that can go on.
    fn reload(&self, _: Fence, _: RunId) -> Answer<Option<Claimed>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.inner.next_due(workflows)
    }
    fn nudged(&self, _: Fence) -> Answer<Vec<RunId>> {
        refused()
    }
    fn commit(&self, _: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        if let Some(end) = turn.end {
            let tell = self.ends.lock().unwrap_or_else(PoisonError::into_inner).remove(&turn.load);
            if let Some(tell) = tell {
                // Whoever asked may have gone.
                drop(tell.send((end, turn.entries.last().cloned())));
            }
        }
        let next = turn.entries.last().map_or(0, |last| last.seq + 1);
        receipt.settled(Settled::Durable { next });
    }
    fn transact(&self, _: Fence, _: Transact) -> Answer<Transacted> {
        refused()
    }
    fn post(&self, _: Post) -> Answer<Posted> {
        refused()
    }
    fn cut(&self, _: Cut) -> Answer<bool> {
        refused()
    }
    fn act(&self, _: Does, _: Act) -> Answer<Acted> {
        refused()
    }
    fn delete(&self, _: Vec<Doomed>) -> Answer<Vec<bool>> {
        refused()
    }
}
