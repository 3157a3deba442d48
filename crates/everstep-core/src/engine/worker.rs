//! A worker: what all runs of one engine share, and how runs come into its memory and leave it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::task::TaskTracker;

use super::{event::Event, residents::Residents, wakes::Wakes};
use crate::{
    BoxFuture, Ctx,
    clock::Clock,
    driver::{Drive, Exit, run::RunCore},
    entropy::Entropy,
    error::Error,
    failpoint::{Failpoint, fails, pass},
    journal::{Payload, Start, decode},
    process::Process,
    rehearsal::Rehearsal,
    settings::Settings,
    status::Status,
    store::{Claimed, Fence, Loaded, RunId, Store, StoreError},
    stuck::{Stuck, StuckReason},
};

/// After a refused turn, times the number of refusals.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// A run whose turns are refused so often in a row needs a person.
const REFUSALS_MAX: u32 = 3;

/// A registered workflow: decodes its input, runs, encodes its value.
pub(crate) type Runner = Box<
    dyn Fn(Ctx, &[u8]) -> Result<BoxFuture<'static, Result<Payload, Error>>, serde_json::Error> + Send + Sync,
>;

/// What all runs of one engine share.
pub(crate) struct Worker {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fence: Fence,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) process: Process,
    pub(crate) build: Arc<str>,
    pub(crate) workflows: Arc<[Arc<str>]>,
    pub(super) runners: Arc<HashMap<Arc<str>, Runner>>,
    /// It only replays, up to where a run would go on: nothing begins, and nothing is said of it.
    pub(crate) checks: bool,
    /// What a test does to its runs.
    pub(crate) rehearsal: Rehearsal,
    pub(crate) residents: Residents,
    events: broadcast::Sender<Event>,
    runtime: tokio::runtime::Handle,
    /// Of drivers whose turns were settled.
    pub(crate) wakes: Wakes,
    pub(crate) tasks: TaskTracker,
    /// Places for running steps.
    pub(crate) steps: Arc<Semaphore>,
    /// Room for runs in memory has become free.
    pub(crate) room: Notify,
    /// Runs are due, and there is no room for them.
    crowded: AtomicBool,
    /// The engine's loops end.
    pub(crate) stopped: tokio_util::sync::CancellationToken,
    /// The lease is not renewed any more: nothing runs.
    pub(crate) silent: tokio_util::sync::CancellationToken,
    /// The last renewal, in milliseconds of the monotonic clock since `origin`.
    renewed: AtomicU64,
    origin: tokio::time::Instant,
    fenced: AtomicBool,
}

impl Worker {
    #[allow(clippy::too_many_arguments, reason = "made in one place, from the builder's parts")]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        fence: Fence,
        settings: Settings,
        (clock, entropy, process): (Clock, Entropy, Process),
        build: Arc<str>,
        runners: Arc<HashMap<Arc<str>, Runner>>,
        events: broadcast::Sender<Event>,
    ) -> Worker {
        // In an order that chance has no part in: a simulation must go the same way again.
        let mut workflows: Vec<_> = runners.keys().cloned().collect();
        workflows.sort_unstable();
        let origin = clock.instant();
        Worker {
            store,
            fence,
            steps: Arc::new(Semaphore::new(settings.running_steps_max.min(Semaphore::MAX_PERMITS))),
            settings,
            clock,
            entropy,
            process,
            build,
            workflows: workflows.into(),
            runners,
            checks: false,
            rehearsal: Rehearsal::default(),
            residents: Residents::default(),
            events,
            runtime: tokio::runtime::Handle::current(),
            wakes: Wakes::default(),
            tasks: TaskTracker::new(),
            room: Notify::new(),
            crowded: AtomicBool::new(false),
            stopped: tokio_util::sync::CancellationToken::new(),
            silent: tokio_util::sync::CancellationToken::new(),
            renewed: AtomicU64::new(0),
            origin,
            fenced: AtomicBool::new(false),
        }
    }

    /// The worker of a test.
    pub(super) fn in_rehearsal(self, rehearsal: Rehearsal) -> Worker {
        Worker { rehearsal, ..self }
    }

    /// The worker of a check.
    pub(super) fn that_checks(self) -> Worker {
        Worker { checks: true, ..self }
    }

    pub(crate) fn has_audience(&self) -> bool {
        self.events.receiver_count() > 0
    }

    /// Tells an event, if anybody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.has_audience() {
            let _ = self.events.send(event());
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The lease was renewed by a call that began at `at`.
    pub(crate) fn renewed_at(&self, at: tokio::time::Instant) {
        self.renewed.fetch_max(at.duration_since(self.origin).as_millis() as u64, Ordering::AcqRel);
    }

    /// Whether bodies may start: not when the own renewal is so old that another may be taking over.
    pub(crate) fn may_start(&self) -> bool {
        let age = (self.clock.instant().duration_since(self.origin).as_millis() as u64)
            .saturating_sub(self.renewed.load(Ordering::Acquire));
        !self.fenced.load(Ordering::Acquire) && u128::from(age) < self.settings.lease.as_millis() * 3 / 4
    }

    /// Takes a place in memory for `wanted` runs; how many there were.
    pub(crate) fn reserve(&self, wanted: usize) -> usize {
        self.residents.reserve(wanted, self.settings.resident_runs_max)
    }

    /// Whether runs are due that find no room in memory: whoever only waits makes room.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Says whether runs are due that find no room; if so, `wanted` that only wait are asked to leave.
    pub(super) fn set_crowded(&self, wanted: Option<usize>) {
        self.crowded.store(wanted.is_some(), Ordering::Relaxed);
        if let Some(wanted) = wanted {
            self.residents.press(wanted);
        }
    }

    pub(crate) fn knows(&self, workflow: &str) -> bool {
        self.runners.contains_key(workflow)
    }

    /// Loads a claimed run and drives it. A place must have been reserved.
    pub(crate) fn load(self: &Arc<Self>, claimed: Claimed) {
        let (worker, claimed) = (self.clone(), Box::new(claimed));
        self.spawn(async move {
            match worker.read(&claimed).await {
                Ok(loaded) => worker.drive(Box::new((*claimed, loaded))).await,
                Err(error) => {
                    worker.residents.unreserve(1);
                    worker.settle_unread(&claimed, error);
                }
            }
        });
    }

    async fn read(&self, claimed: &Claimed) -> Result<Loaded, StoreError> {
        match fails(Failpoint::RunClaimed) {
            true => Err(StoreError::Failed("a failpoint failed".into())),
            false => self.store.load(claimed.row.run).await,
        }
    }

    /// Drives a run that was read. A place must have been reserved.
    pub(super) fn take_in(self: &Arc<Self>, taken: Box<(Claimed, Loaded)>) {
        self.spawn(self.clone().drive(taken));
    }

    /// Everything is boxed: a task keeps room for whatever it ever held, and most runs wait most of the time.
    pub(super) async fn drive(self: Arc<Self>, taken: Box<(Claimed, Loaded)>) {
        let Some((core, drive)) = self.prepare(unbox(taken)) else {
            self.residents.unreserve(1);
            return;
        };
        let stay = Stay { worker: &self, core: &core };
        let exit = std::panic::AssertUnwindSafe(drive).catch_unwind().await;
        drop(stay);
        match exit {
            Ok(Exit::Over) => self.residents.accepted(core.claimed.row.run),
            Ok(Exit::Restarted) => {
                self.residents.accepted(core.claimed.row.run);
                let (worker, run) = (self.clone(), core.claimed.row.run);
                // In a task of its own: this one would keep room for it all the time.
                self.spawn(async move { worker.go_on(run).await });
            }
            Ok(Exit::Dropped(error)) => self.take_again(&core.claimed, error),
            Err(panic) => {
                let (worker, stuck) = (self.clone(), panicked(&*panic));
                // In a task of its own: this one would keep room for it all the time.
                self.spawn(async move { worker.read_and_settle(&core.claimed, stuck).await });
            }
        }
    }

    /// This worker was fenced: nothing it holds is its own any more.
    pub(crate) fn lost(&self) {
        if !self.fenced.swap(true, Ordering::AcqRel) {
            tracing::error!(
                worker = self.fence.worker.0,
                "this worker was fenced: another has taken over its runs, and they are dropped here"
            );
            self.stop_all(true);
        }
    }

    /// The driver of a run, or `None` if it was settled without one.
    fn prepare(self: &Arc<Self>, (claimed, loaded): (Claimed, Loaded)) -> Option<(Arc<RunCore>, Box<Drive>)> {
        pass(Failpoint::RunRead);
        if self.settle_killed(&claimed, &loaded) {
            return None;
        }
        if claimed.row.status == Status::Stuck {
            self.wake_stuck(&claimed, &loaded);
            return None;
        }
        if let Some(stuck) = self.unfit(&claimed, &loaded) {
            self.settle_stuck(&claimed, &loaded, stuck);
            return None;
        }
        let first = &loaded.entries[0];
        if first.known_kind().is_none() {
            self.leave_to_another(&claimed, first.kind);
            return None;
        }
        let start: Start = match decode(&first.body) {
            Ok(start) => start,
            Err(why) => return self.undecodable(&claimed, &loaded, format!("entry 0 cannot be read: {why}")),
        };
        let core = RunCore::new(claimed.clone(), &start, first.at, self.clone());
        if !start.carried.is_empty() {
            core.state().table.aside().mail.bring(start.carried);
        }
        let runner = self.runners.get(&claimed.row.workflow).expect("only known workflows are claimed");
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runner(Ctx::root(core.clone()), start.input.get().as_bytes())
        }));
        let function = match called {
            Ok(Ok(function)) => function,
            Ok(Err(why)) => {
                let detail = format!("the input does not decode as the workflow's type: {why}");
                return self.undecodable(&claimed, &loaded, detail);
            }
            Err(panic) => {
                let detail =
                    format!("the workflow panicked at its call: {}", crate::error::panic_message(&*panic));
                let stuck = Stuck { reason: StuckReason::Panicked, key: None, detail };
                self.settle_stuck(&claimed, &loaded, stuck);
                return None;
            }
        };
        self.residents.enter(&core);
        // A message may have come between the read and now, and its nudge gone to nobody: look once more.
        core.nudge_if(loaded.entries.len() > 1 || claimed.row.inbox_n > 0);
        Some((core.clone(), Box::new(Drive::new(core, function, loaded))))
    }

    fn undecodable(
        self: &Arc<Self>,
        claimed: &Claimed,
        loaded: &Loaded,
        detail: String,
    ) -> Option<(Arc<RunCore>, Box<Drive>)> {
        let stuck = Stuck { reason: StuckReason::Undecodable, key: None, detail };
        self.settle_stuck(claimed, loaded, stuck);
        None
    }

    /// A turn of a run was refused for good, though this worker is live: nothing of its load is accepted any more. The
    /// run is read anew; if that does not help, it needs a person.
    pub(super) fn take_again(self: &Arc<Self>, claimed: &Claimed, error: StoreError) {
        match error {
            StoreError::Fenced(_) => return self.lost(),
            StoreError::Closed(_) => return self.stop_all(true),
            _ => {}
        }
        let run = claimed.row.run;
        let refusals = self.residents.refused(run);
        tracing::error!(run = %claimed.row.id, %error, refusals, "a turn was refused: the run is read anew");
        if refusals > REFUSALS_MAX {
            // Not even its being stuck is accepted. It stays this worker's, and is freed with it.
            return;
        }
        let worker = self.clone();
        self.spawn(async move {
            let Some(again) = worker.reload(run, REFUSED_PAUSE * refusals).await else { return };
            let last = worker.store.last(run).await.ok().flatten();
            let refusals = last.map_or(refusals, |last| worker.residents.refused_at(run, last.seq));
            if refusals == REFUSALS_MAX {
                let detail = format!("its turns are refused, {refusals} times in a row: {error}");
                let stuck = Stuck { reason: StuckReason::JournalDamaged, key: None, detail };
                return worker.read_and_settle(&again, stuck).await;
            }
            worker.residents.reserve_one();
            worker.load(again);
        });
    }

    /// The next generation of a run begins.
    async fn go_on(self: Arc<Self>, run: RunId) {
        if let Some(next) = self.reload(run, Duration::ZERO).await {
            self.residents.reserve_one();
            self.load(next);
        }
    }

    /// Takes a run again that is this worker's, after a pause; `None` if it is not, or the worker leaves. A store that
    /// can do nothing at the moment (a full disk) is asked until it can.
    async fn reload(&self, run: RunId, pause: Duration) -> Option<Claimed> {
        loop {
            let pause = self.clock.sleep(pause);
            tokio::select! { biased; () = self.stopped.cancelled() => return None, () = pause => {} }
            match self.store.reload(self.fence, run).await {
                Ok(again) => return again,
                Err(StoreError::Fenced(_) | StoreError::Closed(_)) => return None,
                Err(error) => tracing::warn!(run = run.0, %error, "a run cannot be taken again yet"),
            }
        }
    }

    /// For a run that is not in memory any more: a cancel may wait in its inbox.
    async fn read_and_settle(self: &Arc<Self>, claimed: &Claimed, stuck: Stuck) {
        let read = self.store.load(claimed.row.run).await;
        self.settle_stuck(claimed, &read.unwrap_or_else(|_| Loaded::nothing()), stuck);
    }

    /// Says that a run is stuck; a check says it in its report.
    pub(crate) fn warn_stuck(&self, run: &str, stuck: &Stuck) {
        if !self.checks {
            tracing::warn!(run, %stuck, "a run is stuck");
        }
    }

    /// Tells all residents that the engine leaves.
    pub(crate) fn stop_all(&self, at_once: bool) {
        self.residents.stop(at_once);
    }

    /// Spawns onto this worker's runtime, from any thread. Whoever leaves waits for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(self.process.host(work), &self.runtime);
    }
}

/// A run's stay in memory. It ends with its task, also when a runtime drops that in the middle.
struct Stay<'w> {
    worker: &'w Worker,
    core: &'w Arc<RunCore>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.worker.residents.leave(self.core);
        self.worker.room.notify_waiters();
    }
}

/// What a box holds. In a function of its own, because a box that is emptied in an async function keeps its memory to the
/// function's end.
#[allow(clippy::boxed_local, reason = "to free the box is what it is for")]
fn unbox<T>(full: Box<T>) -> T {
    *full
}

/// The driver itself panicked: a value of the user's did it, in a place where nobody expects one.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Stuck {
    let detail = format!("while it was driven: {}", crate::error::panic_message(panic));
    Stuck { reason: StuckReason::Panicked, key: None, detail }
}
