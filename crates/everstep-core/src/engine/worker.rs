//! A worker: what all runs of one engine share, and how runs come into its memory and leave it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, broadcast};
use tokio_util::task::TaskTracker;

use super::event::Event;
use crate::{
    BoxFuture, Ctx,
    clock::Clock,
    driver::{Drive, Exit, run::RunCore},
    error::Error,
    journal::{Entry, Kind, Payload, Start, decode, encode},
    settings::Settings,
    status::Status,
    store::{
        Adopt, Claimed, End, Fence, LetterKind, Listener, Loaded, RunId, Settled, Store, StoreError, Turn,
    },
    stuck::{Stuck, StuckReason},
};

/// A run that could not be read is left alone for so long.
const READ_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

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
    pub(crate) build: Arc<str>,
    pub(crate) workflows: Arc<[Arc<str>]>,
    runners: HashMap<Arc<str>, Runner>,
    residents: Mutex<Residents>,
    events: broadcast::Sender<Event>,
    runtime: tokio::runtime::Handle,
    pub(crate) tasks: TaskTracker,
    /// Room for runs in memory has become free.
    pub(crate) room: Notify,
    /// The engine's loops end.
    pub(crate) stopped: tokio_util::sync::CancellationToken,
    /// The last renewal, in milliseconds of the monotonic clock since `origin`.
    renewed: AtomicU64,
    origin: tokio::time::Instant,
    fenced: AtomicBool,
}

#[derive(Default)]
struct Residents {
    runs: HashMap<RunId, Arc<RunCore>>,
    /// Runs that are being loaded.
    coming: usize,
    /// Set by shutdown: whoever comes now is given back.
    leaving: Option<bool>,
}

impl Worker {
    #[allow(clippy::too_many_arguments, reason = "made in one place, from the builder's parts")]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        fence: Fence,
        settings: Settings,
        clock: Clock,
        build: Arc<str>,
        runners: HashMap<Arc<str>, Runner>,
        events: broadcast::Sender<Event>,
    ) -> Worker {
        Worker {
            store,
            fence,
            settings,
            clock,
            build,
            workflows: runners.keys().cloned().collect(),
            runners,
            residents: Mutex::default(),
            events,
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            room: Notify::new(),
            stopped: tokio_util::sync::CancellationToken::new(),
            renewed: AtomicU64::new(0),
            origin: clock.instant(),
            fenced: AtomicBool::new(false),
        }
    }

    fn residents(&self) -> MutexGuard<'_, Residents> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Takes a place in memory for `wanted` runs that a start will claim; how many there were.
    pub(crate) fn reserve(&self, wanted: usize) -> usize {
        let mut residents = self.residents();
        if residents.leaving.is_some() {
            return 0;
        }
        let free = self.settings.resident_runs_max.saturating_sub(residents.runs.len() + residents.coming);
        let got = wanted.min(free);
        residents.coming += got;
        got
    }

    /// Gives places back that [`Worker::reserve`] took and nobody came for.
    pub(crate) fn unreserve(&self, count: usize) {
        self.residents().coming -= count;
    }

    pub(crate) fn knows(&self, workflow: &str) -> bool {
        self.runners.contains_key(workflow)
    }

    /// Loads a claimed run and drives it. A place must have been reserved.
    pub(crate) fn load(self: &Arc<Self>, claimed: Claimed) {
        let (worker, claimed) = (self.clone(), Box::new(claimed));
        self.tasks.spawn_on(
            async move {
                match worker.store.load(claimed.row.run).await {
                    Ok(loaded) => worker.drive(Box::new((*claimed, loaded))).await,
                    Err(error) => {
                        worker.unreserve(1);
                        tracing::error!(run = %claimed.row.id, %error, "a run could not be read; trying again");
                        // Else it would be this worker's for good, and nobody would drive it.
                        let wake_at = worker.clock.now().after(READ_AGAIN);
                        worker.settle(&claimed, Vec::new(), Vec::new(), End::GivenBack { wake_at });
                    }
                }
            },
            &self.runtime,
        );
    }

    /// Everything is boxed: a task keeps room for whatever it ever held, and most runs wait most of the time.
    async fn drive(self: Arc<Self>, taken: Box<(Claimed, Loaded)>) {
        let run = taken.0.row.run;
        let Some(drive) = self.prepare(*taken) else {
            self.unreserve(1);
            return;
        };
        let exit = drive.await;
        self.residents().runs.remove(&run);
        self.room.notify_waiters();
        match exit {
            Exit::Over => {}
            Exit::Dropped(StoreError::Fenced(_)) => self.lost(),
            Exit::Dropped(error) => tracing::error!(run = run.0, %error, "a run was dropped from memory"),
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
    fn prepare(self: &Arc<Self>, (claimed, loaded): (Claimed, Loaded)) -> Option<Box<Drive>> {
        if claimed.row.status == Status::Stuck {
            self.cancel_stuck(&claimed, &loaded);
            return None;
        }
        if let Some(stuck) = self.unfit(&claimed, &loaded) {
            self.settle(&claimed, Vec::new(), Vec::new(), self.end_stuck(stuck, &loaded, &claimed));
            return None;
        }
        let first = &loaded.entries[0];
        let start: Start = match decode(&first.body) {
            Ok(start) => start,
            Err(why) => return self.undecodable(&claimed, &loaded, format!("entry 0 cannot be read: {why}")),
        };
        let core = RunCore::new(claimed.clone(), start.incarnation, first.at, self.clone());
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
                self.settle(&claimed, Vec::new(), Vec::new(), self.end_stuck(stuck, &loaded, &claimed));
                return None;
            }
        };
        let mut residents = self.residents();
        residents.coming -= 1;
        residents.runs.insert(claimed.row.run, core.clone());
        if let Some(at_once) = residents.leaving {
            core.stop(at_once);
        }
        drop(residents);
        // A message may have come between the read and now, and its nudge gone to nobody: look once more.
        core.nudge_if(loaded.entries.len() > 1 || claimed.row.inbox_n > 0);
        Some(Box::new(Drive::new(core, function, loaded)))
    }

    fn undecodable(
        self: &Arc<Self>,
        claimed: &Claimed,
        loaded: &Loaded,
        detail: String,
    ) -> Option<Box<Drive>> {
        let stuck = Stuck { reason: StuckReason::Undecodable, key: None, detail };
        self.settle(claimed, Vec::new(), Vec::new(), self.end_stuck(stuck, loaded, claimed));
        None
    }

    /// Why a run cannot even be tried.
    fn unfit(&self, claimed: &Claimed, loaded: &Loaded) -> Option<Stuck> {
        let damaged = |detail| Some(Stuck { reason: StuckReason::JournalDamaged, key: None, detail });
        if loaded.entries.is_empty() {
            return damaged("the journal is empty".to_string());
        }
        let gap = loaded.entries.iter().zip(0u64..).find(|(entry, seq)| entry.seq != *seq);
        if let Some((entry, seq)) = gap {
            return damaged(format!("entry {} stands where entry {seq} should be", entry.seq));
        }
        if claimed.row.takeovers > self.settings.takeovers_max {
            let inside: Vec<_> = loaded.started.iter().map(|row| &*row.key).collect();
            let detail = format!(
                "its worker died {} times while it was inside `{}`, without getting further",
                claimed.row.takeovers,
                inside.join("`, `")
            );
            let key = loaded.started.first().map(|row| row.key.clone());
            return Some(Stuck { reason: StuckReason::CrashesWorker, key, detail });
        }
        None
    }

    fn end_stuck(&self, stuck: Stuck, loaded: &Loaded, claimed: &Claimed) -> End {
        tracing::warn!(run = %claimed.row.id, %stuck, "a run is stuck");
        End::Stuck { stuck, inbox_n: inbox_n(claimed, loaded), at: self.clock.now() }
    }

    /// A stuck run is woken only to be cancelled: its function is not called.
    fn cancel_stuck(self: &Arc<Self>, claimed: &Claimed, loaded: &Loaded) {
        let asked =
            loaded.inbox.iter().find(|r| LetterKind::from_code(r.letter.kind) == Some(LetterKind::Cancel));
        let Some(asked) = asked else {
            // Woken for nothing: left as it was, out of the way of claims.
            let wake_at = crate::time::Timestamp::NEVER;
            return self.settle(claimed, Vec::new(), Vec::new(), End::GivenBack { wake_at });
        };
        let at = self.clock.now();
        let next = loaded.entries.last().map_or(0, |entry| entry.seq + 1);
        let entry = |offset: u64, kind: Kind| Entry {
            seq: next + offset,
            kind: kind.code(),
            key: None,
            attempt: 0,
            input: None,
            body: encode(&String::from_utf8_lossy(&asked.letter.body.bytes)),
            site: None,
            build: self.build.clone(),
            fingerprint: 0,
            at,
        };
        let entries = vec![entry(0, Kind::CancelAsked), entry(1, Kind::Cancelled)];
        let end = End::Finished { status: Status::Cancelled, inbox_n: inbox_n(claimed, loaded), at };
        self.settle(claimed, entries, vec![asked.n], end);
    }

    /// Ends a load that has no driver. A message that comes at the same time gives the run back instead.
    fn settle(self: &Arc<Self>, claimed: &Claimed, entries: Vec<Entry>, takes: Vec<u64>, end: End) {
        let run = claimed.row.id.clone();
        let event = match &end {
            End::Stuck { stuck, .. } => {
                Some(Event::Stuck { run, reason: stuck.reason, detail: stuck.detail.clone() })
            }
            End::Finished { status: Status::Cancelled, .. } => Some(Event::Cancelled { run }),
            _ => None,
        };
        let turn = Turn {
            run: claimed.row.run,
            load: claimed.load,
            entries,
            marks: Vec::new(),
            takes,
            end: Some(end),
        };
        let receipt = Arc::new(SettleReceipt { worker: self.clone(), claimed: claimed.clone(), event });
        self.store.commit(self.fence, turn, &(receipt as Arc<dyn crate::store::Receipt>));
    }

    /// Tells all residents that the engine leaves.
    pub(crate) fn stop_all(&self, at_once: bool) {
        let mut residents = self.residents();
        residents.leaving = Some(residents.leaving.unwrap_or(false) | at_once);
        let cores: Vec<_> = residents.runs.values().cloned().collect();
        drop(residents);
        cores.iter().for_each(|core| core.stop(at_once));
    }

    /// Lets the drivers of these runs read their inbox.
    pub(crate) fn nudge(&self, runs: Vec<RunId>) {
        let residents = self.residents();
        runs.iter().filter_map(|run| residents.runs.get(run)).for_each(|core| core.nudge());
    }
}

fn inbox_n(claimed: &Claimed, loaded: &Loaded) -> u64 {
    loaded.inbox.last().map_or(claimed.row.inbox_n, |r| r.n.max(claimed.row.inbox_n))
}

/// Hears what became of a load that was ended without a driver.
struct SettleReceipt {
    worker: Arc<Worker>,
    claimed: Claimed,
    /// Told once the end is durable.
    event: Option<Event>,
}

impl crate::store::Receipt for SettleReceipt {
    fn settled(&self, settled: Settled) {
        match settled {
            Settled::Durable { .. } => {
                if let Some(event) = &self.event {
                    self.worker.tell(|| event.clone());
                }
            }
            // A message came: the run is given back and will be loaded with it.
            Settled::Moved { .. } => {
                let (worker, claimed) = (self.worker.clone(), self.claimed.clone());
                self.worker.runtime.spawn(async move {
                    let end = Some(End::GivenBack { wake_at: crate::time::Timestamp(0) });
                    let (run, load) = (claimed.row.run, claimed.load);
                    let turn =
                        Turn { run, load, entries: Vec::new(), marks: Vec::new(), takes: Vec::new(), end };
                    let receipt = Arc::new(SettleReceipt { worker: worker.clone(), claimed, event: None });
                    worker.store.commit(worker.fence, turn, &(receipt as Arc<dyn crate::store::Receipt>));
                });
            }
            Settled::Refused(error) => {
                tracing::error!(run = %self.claimed.row.id, %error, "the end of a run was refused");
            }
        }
    }
}

/// Hands the runs that a start claimed to the worker's runtime. Places that no run came for go back with it.
///
/// Also listens for the end of each, before it can come: whoever asks for the result need not read it.
pub(crate) struct Adoption {
    worker: Arc<Worker>,
    places: AtomicU64,
    listeners: Mutex<HashMap<RunId, Listener>>,
}

impl Adoption {
    pub(crate) fn new(worker: Arc<Worker>, places: usize) -> Adoption {
        Adoption { worker, places: AtomicU64::new(places as u64), listeners: Mutex::default() }
    }

    /// The listener of a run that was adopted.
    pub(crate) fn listener(&self, run: RunId) -> Option<Listener> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}

impl Adopt for Adoption {
    fn adopt(&self, run: Claimed, first: Entry) {
        self.places.fetch_sub(1, Ordering::AcqRel);
        let listener = self.worker.store.bell().listen(run.row.run);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).insert(run.row.run, listener);
        let taken = Box::new((run, Loaded { entries: vec![first], inbox: Vec::new(), started: Vec::new() }));
        self.worker.tasks.spawn_on(self.worker.clone().drive(taken), &self.worker.runtime);
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        self.worker.unreserve(self.places.load(Ordering::Acquire) as usize);
    }
}
