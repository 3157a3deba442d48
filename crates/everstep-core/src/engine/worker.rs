//! A worker: what all runs of one engine share.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::task::TaskTracker;

use super::{event::Event, residents::Residents, wakes::Wakes};
use crate::{
    BoxFuture, Ctx,
    clock::Clock,
    entropy::Entropy,
    error::Error,
    journal::Payload,
    process::Process,
    rehearsal::Rehearsal,
    settings::Settings,
    store::{Fence, Store, StoreError},
    stuck::Stuck,
};

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
    /// Until when others go first, in milliseconds since `origin`.
    pub(super) others_first: AtomicU64,
    fenced: AtomicBool,
    /// Why it drives nothing any more.
    over: OnceLock<StoreError>,
    /// Cancelled when it says why.
    pub(crate) is_over: tokio_util::sync::CancellationToken,
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
            others_first: AtomicU64::new(0),
            origin,
            fenced: AtomicBool::new(false),
            over: OnceLock::new(),
            is_over: tokio_util::sync::CancellationToken::new(),
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

    /// Milliseconds of the monotonic clock since this worker began.
    pub(super) fn age(&self) -> u64 {
        self.clock.instant().duration_since(self.origin).as_millis() as u64
    }

    /// Whether bodies may start: not when the own renewal is so old that another may be taking over.
    pub(crate) fn may_start(&self) -> bool {
        let age = self.age().saturating_sub(self.renewed.load(Ordering::Acquire));
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

    /// This worker was fenced: nothing it holds is its own any more.
    pub(crate) fn lost(&self) {
        if !self.fenced.swap(true, Ordering::AcqRel) {
            tracing::error!(
                worker = self.fence.worker.0,
                "this worker was fenced: another has taken over its runs, and they are dropped here"
            );
            self.end(StoreError::Fenced(self.fence.worker));
        }
    }

    /// Nothing is driven any more.
    pub(crate) fn end(&self, why: StoreError) {
        if self.over.set(why).is_ok() {
            self.is_over.cancel();
        }
        self.stop_all(true);
    }

    /// Why nothing is driven any more, if so.
    pub(crate) fn ended(&self) -> Option<StoreError> {
        self.over.get().cloned()
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
