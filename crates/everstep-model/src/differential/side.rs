//! One store with its openings and the numbers of its loads: makes calls, and takes pictures.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use everstep_conformance::Bench;
use everstep_core::{
    Status,
    journal::Entry,
    store::{
        Adopt, Claimed, Fence, Hearer, Listener, LoadId, NewRun, Reading, Receipt, RunId, RunRow, Settled,
        Started, Store, StoreError, Transact, Turn, WorkerId, WorkerInfo,
    },
};
use tokio::sync::oneshot;

use super::{
    call::{Call, Job, LoadAt, Verb},
    picture::{Look, Picture},
    reply::{Reply, Start, Whole},
    sample::at,
};
use crate::differential::operation::When;

/// An answer on its way.
pub(super) type Coming = Pin<Box<dyn Future<Output = Answer>>>;

/// An answer, and the loads that it gave.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) loads: Vec<LoadId>,
}

/// One store.
pub(super) struct Side {
    bench: Arc<dyn Bench>,
    /// Another store's, whose jobs this one cannot run.
    foreign: Arc<dyn Bench>,
    openings: Vec<Option<Arc<dyn Store>>>,
    pub(super) loads: Vec<LoadId>,
    ears: Option<Ears>,
}

/// What was rung on one opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rung {
    claimable: bool,
    inbox: bool,
    said: Vec<RunId>,
    ended: Vec<(RunId, Status)>,
}

struct Ears {
    claimable: Hearer<u64>,
    inbox: Hearer<u64>,
    said: Vec<(RunId, Reading)>,
    ended: Vec<(RunId, Listener)>,
}

impl Side {
    pub(super) async fn new(bench: Arc<dyn Bench>, foreign: Arc<dyn Bench>) -> Side {
        let first = bench.open().await;
        Side { bench, foreign, openings: vec![Some(first)], loads: Vec::new(), ears: None }
    }

    pub(super) async fn open(&mut self) {
        self.openings.push(Some(self.bench.open().await));
    }

    pub(super) fn crash(&mut self, opening: usize) {
        self.openings[opening] = None;
    }

    fn store(&self, opening: usize) -> &Arc<dyn Store> {
        self.openings[opening].as_ref().expect("calls are made on openings that are there")
    }

    /// Looks at the content, through one opening.
    pub(super) async fn picture(
        &self,
        opening: usize,
        look: &Look,
        before: Option<&Picture>,
    ) -> Result<Picture, StoreError> {
        Picture::of(self.store(opening), self.bench.rows().await, look, before).await
    }

    /// Listens on one opening, for the end of these runs too.
    pub(super) fn listen(&mut self, opening: usize, runs: impl Iterator<Item = RunId>) {
        let bell = self.store(opening).bell().clone();
        let (mut claimable, mut inbox) = (bell.claimable(), bell.inbox());
        claimable.mark_unchanged();
        inbox.mark_unchanged();
        let (said, ended) = runs.map(|run| ((run, bell.read(run)), (run, bell.listen(run)))).unzip();
        self.ears = Some(Ears { claimable, inbox, said, ended });
    }

    /// What was heard since.
    pub(super) fn heard(&mut self) -> Option<Rung> {
        let ears = self.ears.take()?;
        let changed = |bell: &Hearer<u64>| bell.has_changed().unwrap_or(false);
        let mut ended = Vec::new();
        for (run, mut listener) in ears.ended {
            let told = pin!(listener.ended()).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(Some(told)) = told {
                ended.push((run, told.status));
            }
        }
        let said = ears.said.iter().filter(|(_, reading)| reading.has_said()).map(|(run, _)| *run).collect();
        Some(Rung { claimable: changed(&ears.claimable), inbox: changed(&ears.inbox), said, ended })
    }

    fn load(&self, at: LoadAt) -> LoadId {
        at.map_or(LoadId(u64::MAX / 2), |at| self.loads[at])
    }

    /// Makes a call, now; its answer comes with the future.
    pub(super) fn call(&self, call: &Call) -> Coming {
        let store = self.store(call.on).clone();
        match call.verb.clone() {
            Verb::Open | Verb::Crash => unreachable!("they are no calls of a store"),
            Verb::Enroll => {
                let info = WorkerInfo { name: "here".into(), build: "b1".into(), at: at(When::At(0)) };
                answer(store.enroll(info), |fence| Reply::Enrolled(fence.worker))
            }
            Verb::Beat(fence) => answer(store.beat(fence), |()| Reply::Done),
            Verb::Workers => answer(store.workers(), Reply::workers),
            Verb::Fence(by, other, beat) => answer(store.fence(by, other, beat), Reply::Is),
            Verb::Free(by, other, limit) => Box::pin(free(store, by, other, limit)),
            Verb::Leave(fence) => answer(store.leave(fence), |()| Reply::Done),
            Verb::Start(by, runs) => start(&store, by, runs),
            Verb::Claim(by, what) => claimed(store.claim(by, what), Reply::Claimed),
            Verb::Reload(by, run) => {
                let again = store.reload(by, run);
                let all = async { again.await.map(Vec::from_iter) };
                claimed(all, |rows| Reply::Reloaded(rows.into_iter().next()))
            }
            Verb::NextDue(workflows) => answer(store.next_due(workflows), Reply::Due),
            Verb::Nudged(by) => answer(store.nudged(by), Reply::nudged),
            Verb::Commit(by, load, turn) => commit(&store, by, Turn { load: self.load(load), ..turn }),
            Verb::Transact(by, load, job) => self.transact(&store, by, self.load(load), job),
            Verb::Post(post) => answer(store.post(post), Reply::Posted),
            Verb::Cut(cut) => answer(store.cut(cut), Reply::Is),
            Verb::Run(id) => answer(store.run(id), Reply::Row),
            Verb::Find(filter, before, limit) => answer(store.find(filter, before, limit), Reply::Rows),
            Verb::Load(run) => answer(store.load(run), |loaded| Reply::Loaded(Whole::of(loaded))),
            Verb::Inbox(run, after) => answer(store.inbox(run, after), Reply::letters),
            Verb::Last(run) => answer(store.last(run), Reply::Entry),
            Verb::Stuck(run) => answer(store.stuck(run), Reply::Stuck),
            Verb::Counts => answer(store.counts(), Reply::counts),
            Verb::Count(filter, at_most) => answer(store.count(filter, at_most), Reply::Counted),
            Verb::Published(run, name) => answer(store.published(run, name), Reply::Published),
            Verb::PublishedAll(run, limit) => answer(store.published_all(run, limit), Reply::PublishedAll),
            Verb::Stream(run, name, from, limit) => {
                answer(store.stream(run, name, from, limit), Reply::Items)
            }
            Verb::Attributes(run) => answer(store.attributes(run), Reply::Attributes),
            Verb::Act(does, act) => answer(store.act(does, act), Reply::Acted),
            Verb::Delete(runs) => answer(store.delete(runs), Reply::Each),
            Verb::Reply(run, id) => answer(store.reply(run, id), Reply::Answer),
            Verb::StreamNames(run) => answer(store.stream_names(run), Reply::Names),
            Verb::Acts(run, limit) => answer(store.acts(run, limit), Reply::Acts),
            Verb::Patches => answer(store.patches(), Reply::Patches),
        }
    }

    fn transact(&self, store: &Arc<dyn Store>, by: Fence, load: LoadId, job: Job) -> Coming {
        let Job { run, key, deeds, withdrawn, foreign } = job;
        let maker = if foreign { &self.foreign } else { &self.bench };
        let step = Transact {
            run,
            load,
            key,
            at: at(When::At(5)),
            withdrawn: Arc::new(AtomicBool::new(withdrawn)),
            job: maker.job(deeds),
        };
        debug_assert_eq!(step.withdrawn.load(Ordering::Relaxed), withdrawn);
        answer(store.transact(by, step), Reply::transacted)
    }
}

fn answer<T: 'static>(
    coming: impl Future<Output = Result<T, StoreError>> + 'static,
    well: impl FnOnce(T) -> Reply + 'static,
) -> Coming {
    Box::pin(async { Answer { reply: Reply::of(coming.await, well), loads: Vec::new() } })
}

/// An answer that gives loads.
fn claimed(
    coming: impl Future<Output = Result<Vec<Claimed>, StoreError>> + 'static,
    well: impl FnOnce(Vec<RunRow>) -> Reply + 'static,
) -> Coming {
    Box::pin(async {
        let mut loads = Vec::new();
        let rows = |taken: Vec<Claimed>| {
            loads = taken.iter().map(|claimed| claimed.load).collect();
            well(taken.into_iter().map(|claimed| claimed.row).collect())
        };
        Answer { reply: Reply::of(coming.await, rows), loads }
    })
}

async fn free(store: Arc<dyn Store>, by: Fence, other: WorkerId, limit: usize) -> Answer {
    let mut freed = Vec::new();
    let reply = loop {
        match store.free(by, other, limit).await {
            Ok(0) => break Reply::Freed(freed),
            Ok(n) => freed.push(n),
            Err(error) => break Reply::of(Err(error), |()| Reply::Done),
        }
    };
    Answer { reply, loads: Vec::new() }
}

/// Keeps what was adopted.
#[derive(Default)]
struct Taker(Mutex<Vec<(Claimed, Entry)>>);

impl Adopt for Taker {
    fn adopt(&self, run: Claimed, first: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((run, first));
    }
}

fn start(store: &Arc<dyn Store>, by: Option<Fence>, runs: Vec<NewRun>) -> Coming {
    let taker = Arc::new(Taker::default());
    let claim = by.map(|fence| (fence, taker.clone() as Arc<dyn Adopt>));
    let coming = store.start(runs, claim);
    Box::pin(async move {
        let answers: Result<Vec<Started>, _> = coming.await;
        let taken = std::mem::take(&mut *taker.0.lock().unwrap_or_else(PoisonError::into_inner));
        let loads = taken.iter().map(|(claimed, _)| claimed.load).collect();
        let adopted = taken.into_iter().map(|(claimed, first)| (claimed.row, first)).collect();
        let well = |all: Vec<Started>| Reply::Started(all.into_iter().map(Start::of).collect(), adopted);
        Answer { reply: Reply::of(answers, well), loads }
    })
}

/// Hears of one turn.
struct Slip(Mutex<Option<oneshot::Sender<Settled>>>);

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        let send = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = send.expect("each turn is answered once").send(settled);
    }
}

fn commit(store: &Arc<dyn Store>, by: Fence, turn: Turn) -> Coming {
    let (send, settled) = oneshot::channel();
    let receipt: Arc<dyn Receipt> = Arc::new(Slip(Mutex::new(Some(send))));
    store.commit(by, turn, &receipt);
    Box::pin(async move {
        // Else the store alone could drop it.
        let _receipt = receipt;
        let reply = Reply::settled(settled.await.expect("each turn is answered"));
        Answer { reply, loads: Vec::new() }
    })
}
