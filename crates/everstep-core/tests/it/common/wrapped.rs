//! A store around the in-memory one that answers as a busy database does: reads late and with an old snapshot, jobs of
//! transactional steps when it comes to them.

use std::{
    any::Any,
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use everstep_core::{
    AttributeValue, Ctx, Result, Status, Step, Stuck, Timestamp,
    journal::{Entry, Payload},
    store::{
        Act, Acted, Adopt, Answer, Bell, Claim, Claimed, Cut, Does, Doomed, Durability, Fence, Filter,
        Inspect, Kept, LetterId, Loaded, Memory, MemoryJob, NewRun, PatchRow, Post, Posted, PublishedRow,
        Receipt, Received, RunId, RunRow, Started, Store, StoreError, StreamRow, Transact, Transacted, Turn,
        WorkerId, WorkerInfo, WorkerSeen,
    },
};
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

/// The in-memory store behind a queue.
#[derive(Clone, Default)]
pub struct Wrapped {
    pub memory: Memory,
    behind: Arc<Behind>,
}

/// Nobody asks so often unless he asks without a pause, which lets no virtual time pass: a test would hang.
const AGAIN_AND_AGAIN: u64 = 10_000;

type Answering = oneshot::Sender<Result<Transacted, StoreError>>;
type Queued = (Fence, Transact, Answering);
type Answered = (Answering, Result<Transacted, StoreError>);

#[derive(Default)]
struct Behind {
    /// How long after its snapshot an inbox read is answered, in milliseconds.
    late: AtomicU64,
    /// What else happens just before an inbox read is answered.
    bell: tokio::sync::Notify,
    holding: AtomicBool,
    jobs: Mutex<VecDeque<Queued>>,
    /// Answers to jobs go out together with the so-manieth inbox read from now on; 0: at once.
    silent: AtomicU64,
    answers: Mutex<Vec<Answered>>,
    ends: AtomicU64,
    /// The next inbox read waits for this.
    gate: Mutex<Option<oneshot::Receiver<()>>>,
    /// How many reads of an inbox fail from now on.
    unread: AtomicU64,
    /// How many loads of a run fail from now on.
    unloaded: AtomicU64,
    /// Nothing can be written: beats, letters and reloads fail.
    full: AtomicBool,
    /// Reloads that failed.
    reloads: AtomicU64,
    weak: AtomicBool,
    /// Replies of beats that are lost, after the lease was renewed.
    beats_lost: AtomicU64,
}

/// A transactional step.
pub fn transaction(
    ctx: &Ctx,
    name: &str,
    body: impl Fn() -> Result<u64> + Clone + Send + 'static,
) -> Step<'static, u64> {
    ctx.transaction_on("memory", name, move |recorder| {
        let body = body.clone();
        let job = MemoryJob(Box::new(move |_| recorder.record(body()?)));
        Box::new(job) as Box<dyn Any + Send>
    })
}

impl Wrapped {
    /// From now on inbox reads are answered so late, with what was there when they were asked.
    pub fn answer_late(&self, after: Duration) {
        self.behind.late.store(after.as_millis() as u64, Ordering::SeqCst);
    }

    /// Resolves just before the next inbox read is answered.
    pub async fn inbox_answered(&self) {
        self.behind.bell.notified().await;
    }

    /// Jobs queue up until [`Wrapped::release_jobs`].
    pub fn hold_jobs(&self) {
        self.behind.holding.store(true, Ordering::SeqCst);
    }

    /// Runs what has queued up.
    pub fn release_jobs(&self) {
        self.behind.holding.store(false, Ordering::SeqCst);
        loop {
            let Some((fence, step, answer)) = self.behind.jobs.lock().expect("unpoisoned").pop_front() else {
                return;
            };
            let done = self.memory.transact(fence, step).now_or_never();
            let done = done.expect("the in-memory store answers at once");
            match self.behind.silent.load(Ordering::SeqCst) {
                0 => drop(answer.send(done)),
                _ => self.behind.answers.lock().expect("unpoisoned").push((answer, done)),
            }
        }
    }

    /// Jobs are done, but their answers go out only with the so-manieth inbox read.
    pub fn answer_with_inbox_read(&self, number: u64) {
        self.behind.silent.store(number, Ordering::SeqCst);
    }

    /// The next inbox read is answered when this is sent, or dropped.
    pub fn hold_inbox(&self) -> oneshot::Sender<()> {
        let (open, gate) = oneshot::channel();
        *self.behind.gate.lock().expect("unpoisoned") = Some(gate);
        open
    }

    /// Sends the answers to the jobs that are done.
    pub fn send_answers(&self) {
        for (answer, done) in self.behind.answers.lock().expect("unpoisoned").drain(..) {
            let _ = answer.send(done);
        }
    }

    /// So many reads of an inbox fail.
    pub fn fail_inbox(&self, times: u64) {
        self.behind.unread.store(times, Ordering::SeqCst);
    }

    /// So many loads of a run fail, as while the database cannot be reached.
    pub fn fail_loads(&self, times: u64) {
        self.behind.unloaded.store(times, Ordering::SeqCst);
    }

    /// How often a run was to be taken again and was not, because the store was full.
    pub fn reloads(&self) -> u64 {
        self.behind.reloads.load(Ordering::SeqCst)
    }

    /// Whether beats, letters and reloads fail.
    pub fn be_full(&self, full: bool) {
        self.behind.full.store(full, Ordering::SeqCst);
    }

    /// Power loss may take the last commits.
    pub fn be_weak(&self) {
        self.behind.weak.store(true, Ordering::SeqCst);
    }

    /// The next so many beats renew the lease, and their worker hears of an error.
    pub fn lose_replies_of_beats(&self, count: u64) {
        self.behind.beats_lost.store(count, Ordering::SeqCst);
    }

    /// Whether all of those came.
    pub fn all_replies_were_lost(&self) -> bool {
        self.behind.beats_lost.load(Ordering::SeqCst) == 0
    }

    /// How many turns came that end a load.
    pub fn ends(&self) -> u64 {
        self.behind.ends.load(Ordering::SeqCst)
    }
}

impl Inspect for Wrapped {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.memory.run(id)
    }
    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.memory.find(filter, before, limit)
    }
    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.memory.count(filter, at_most)
    }
    fn load(&self, run: RunId) -> Answer<Loaded> {
        let less = |left: u64| left.checked_sub(1);
        match self.behind.unloaded.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Box::pin(async { Err(StoreError::Full("the database cannot be reached".into())) }),
            Err(_) => self.memory.load(run),
        }
    }
    #[allow(clippy::disallowed_methods, reason = "a test takes virtual time")]
    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        let (answer, behind, store) = (self.memory.inbox(run, after), self.behind.clone(), self.clone());
        let gate = behind.gate.lock().expect("unpoisoned").take();
        let late = Duration::from_millis(behind.late.load(Ordering::SeqCst));
        Box::pin(async move {
            if !late.is_zero() {
                tokio::time::sleep(late).await;
            }
            if let Some(gate) = gate {
                let _ = gate.await;
            }
            behind.bell.notify_waiters();
            let less = |left: u64| left.checked_sub(1);
            if behind.silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1) {
                store.send_answers();
            }
            match behind.unread.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                Ok(_) => Err(StoreError::Failed("the inbox could not be read".into())),
                Err(_) => answer.await,
            }
        })
    }
    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.memory.last(run)
    }
    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.memory.stuck(run)
    }
    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.memory.counts()
    }
    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        self.memory.published(run, name)
    }
    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.memory.published_all(run, limit)
    }
    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        self.memory.stream(run, name, from, limit)
    }
    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.memory.reply(run, id)
    }
    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.memory.stream_names(run)
    }
    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.memory.acts(run, limit)
    }
    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.memory.kept(run)
    }
    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.memory.attributes(run)
    }
    fn patches(&self) -> Answer<Vec<PatchRow>> {
        self.memory.patches()
    }
}

impl Store for Wrapped {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn durability(&self) -> Durability {
        match self.behind.weak.load(Ordering::SeqCst) {
            true => Durability::Process,
            false => self.memory.durability(),
        }
    }
    fn bell(&self) -> &Arc<Bell> {
        self.memory.bell()
    }
    fn enroll(&self, info: WorkerInfo) -> Answer<Fence> {
        self.memory.enroll(info)
    }
    fn beat(&self, fence: Fence) -> Answer<()> {
        if self.behind.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Full("no space left".into())) });
        }
        let (renewed, behind) = (self.memory.beat(fence), self.behind.clone());
        Box::pin(async move {
            renewed.await?;
            let one_less = |left: u64| left.checked_sub(1);
            match behind.beats_lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
                Ok(_) => Err(StoreError::Failed("the reply was lost".into())),
                Err(_) => Ok(()),
            }
        })
    }
    fn workers(&self) -> Answer<Vec<WorkerSeen>> {
        self.memory.workers()
    }
    fn fence(&self, fence: Fence, other: WorkerId, beat: u64) -> Answer<bool> {
        self.memory.fence(fence, other, beat)
    }
    fn free(&self, fence: Fence, other: WorkerId, limit: usize) -> Answer<usize> {
        self.memory.free(fence, other, limit)
    }
    fn leave(&self, fence: Fence) -> Answer<()> {
        self.memory.leave(fence)
    }
    fn start(&self, runs: Vec<NewRun>, claim: Option<(Fence, Arc<dyn Adopt>)>) -> Answer<Vec<Started>> {
        self.memory.start(runs, claim)
    }
    fn claim(&self, fence: Fence, claim: Claim) -> Answer<Vec<Claimed>> {
        self.memory.claim(fence, claim)
    }

    fn reload(&self, fence: Fence, run: RunId) -> Answer<Option<Claimed>> {
        if self.behind.full.load(Ordering::SeqCst) {
            let before = self.behind.reloads.fetch_add(1, Ordering::SeqCst);
            assert!(before < AGAIN_AND_AGAIN, "a run is taken again and again, and time stands still");
            return Box::pin(std::future::ready(Err(StoreError::Full("no space".into()))));
        }
        self.memory.reload(fence, run)
    }
    fn next_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.memory.next_due(workflows)
    }
    fn nudged(&self, fence: Fence) -> Answer<Vec<RunId>> {
        self.memory.nudged(fence)
    }
    fn commit(&self, fence: Fence, turn: Turn, receipt: &Arc<dyn Receipt>) {
        self.behind.ends.fetch_add(u64::from(turn.end.is_some()), Ordering::SeqCst);
        self.memory.commit(fence, turn, receipt);
    }
    fn transact(&self, fence: Fence, step: Transact) -> Answer<Transacted> {
        let (send, answer) = oneshot::channel();
        self.behind.jobs.lock().expect("unpoisoned").push_back((fence, step, send));
        if !self.behind.holding.load(Ordering::SeqCst) {
            self.release_jobs();
        }
        let (mut answer, mut asked) = (Box::pin(answer), 0);
        Box::pin(std::future::poll_fn(move |cx| {
            asked += 1;
            assert!(asked < AGAIN_AND_AGAIN, "a job is asked again and again, and time stands still");
            let lost = |_| Err(StoreError::Failed("the job was lost".into()));
            answer.as_mut().poll(cx).map(|answer| answer.unwrap_or_else(lost))
        }))
    }
    fn post(&self, post: Post) -> Answer<Posted> {
        if self.behind.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Full("no space left".into())) });
        }
        self.memory.post(post)
    }
    fn cut(&self, cut: Cut) -> Answer<bool> {
        self.memory.cut(cut)
    }
    fn act(&self, does: Does, act: Act) -> Answer<Acted> {
        self.memory.act(does, act)
    }
    fn delete(&self, runs: Vec<Doomed>) -> Answer<Vec<bool>> {
        self.memory.delete(runs)
    }
}
