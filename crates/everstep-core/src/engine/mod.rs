//! Engine and builder. Workflows registered before `.state(..)` take (ctx, input); after it (ctx, input, state).

mod event;

mod adopt;
mod check;
mod left;
mod load;
mod residents;
mod settle;
mod worker;

mod loops;
mod wakes;

use std::{collections::HashMap, future::Future, ops::Deref, sync::Arc, time::Duration};

use tokio::sync::broadcast;

pub(crate) use adopt::Adoption;
pub use check::{CHECKED_AT_ONCE, Check, CheckReport, Finding, PROBLEMS_KEPT, Problem, Replayed};
pub use event::{Event, Events};
pub(crate) use wakes::Wakes;
pub(crate) use worker::Worker;

use crate::{
    BoxFuture, Client, Ctx, Export, Workflow,
    body::{Data, Outcome},
    clock::Clock,
    entropy::Entropy,
    error::{Code, EngineError, Error, ErrorKind},
    failpoint::{Failpoint, pass},
    name::check_name,
    process::Process,
    rehearsal::Rehearsal,
    settings::{NotDurable, Settings},
    step::record,
    store::{Store, StoreError, WorkerInfo},
};
use check::Program;
use worker::Runner;

/// How long the store may take, beyond the grace, to write what is left of a worker that leaves.
const LEAVE_WAIT: Duration = Duration::from_secs(10);
/// Events that are kept for a slow listener.
const EVENTS_KEPT: usize = 4096;

/// No state yet: workflows take `(Ctx, I)`.
#[derive(Debug)]
pub struct NoState(());
/// Workflows take `(Ctx, I, S)`.
#[derive(Debug)]
pub struct With<S>(S);

/// Puts an engine together.
///
/// ```
/// # use everstep_core::{Ctx, Engine, EngineError, Result, Settings, Workflow, seconds, store::Memory};
/// # const GREET: Workflow<String, String> = Workflow::new("greet");
/// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
/// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), EngineError> {
/// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
/// let engine = Engine::builder(Memory::default())
///     .register(GREET, greet)
///     .settings(Settings { lease: seconds(30), ..Settings::default() })
///     .start()
///     .await?;
/// # engine.shutdown().await
/// # }
/// ```
#[must_use = "nothing runs until `.start()`"]
pub struct Builder<S = NoState> {
    store: Arc<dyn Store>,
    runners: Vec<(&'static str, Runner)>,
    settings: Settings,
    world: (Clock, Entropy, Process),
    simulated: bool,
    rehearsal: Rehearsal,
    state: S,
}

impl<S> std::fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A worker and a client on one store: drives the runs of the workflows it knows.
///
/// Dropped, it stops at once: bodies are dropped where they stand, runs are given back. [`Engine::shutdown`] waits for
/// what is running.
pub struct Engine {
    client: Client,
    worker: Arc<Worker>,
    beat: Option<std::thread::JoinHandle<()>>,
    /// The worker has signed off: nothing is left to do.
    left: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("worker", &self.worker.fence.worker).finish_non_exhaustive()
    }
}

/// One list of verbs: the engine's are the client's.
impl Deref for Engine {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Engine {
    /// Begins to put an engine together on `store`.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// assert_eq!(engine.run(GREET, "ada", "Ada".to_string()).await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn builder(store: impl Store) -> Builder {
        Engine::on(Arc::new(store))
    }

    /// As [`Engine::builder`], on a store that is chosen while the program runs.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::{Memory, Store}};
    /// # use std::sync::Arc;
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// let store: Arc<dyn Store> = Arc::new(Memory::default()); // whatever the configuration says
    /// let engine = Engine::on(store).register(GREET, greet).start().await?;
    /// assert_eq!(engine.run(GREET, "ada", "Ada".to_string()).await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn on(store: Arc<dyn Store>) -> Builder {
        Builder {
            store,
            runners: Vec::new(),
            settings: Settings::default(),
            world: (Clock::system(), Entropy::system(), Process::default()),
            simulated: false,
            rehearsal: Rehearsal::default(),
            state: NoState(()),
        }
    }

    /// What happens to the runs of this engine from now on, each event after it is durable.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Event, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let mut events = engine.events();
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// let mut done = Vec::new();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::StepDone { key, .. } => done.push(key),
    ///         Event::Completed { .. } => break,
    ///         _ => {}
    ///     }
    /// }
    /// assert_eq!(done, ["greet".into()]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        Events(self.worker.subscribe())
    }

    /// Resolves when this engine drives nothing any more though nobody has shut it down, and says why: its worker was silent for
    /// longer than its lease, and another has taken over its runs; or the store is over. Then build a new engine, on a new
    /// opening of the store if that is over, or end the process and have it started again. It never resolves otherwise.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # async fn asked_to_stop() {}
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// tokio::select! {
    ///     why = engine.over() => return Err(why), // whoever supervises this process starts it again
    ///     () = asked_to_stop() => {}
    /// }
    /// engine.shutdown().await
    /// # }
    /// ```
    pub async fn over(&self) -> EngineError {
        self.worker.is_over.cancelled().await;
        self.worker.ended().expect("it is said before").into()
    }

    /// Stops claiming at once, lets running steps finish for at most [`Settings::grace`], commits what they returned,
    /// gives every run back so that the next process need not wait, and returns. A store that cannot write (a full
    /// disk) is waited for 10 s at most.
    ///
    /// # Errors
    /// What the store failed with while the worker signed off; the runs are then freed by the lease.
    ///
    /// # What survives a crash
    /// Everything that was durable before; what the grace did not let end is in doubt, as after a crash.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the engine is dropped: it stops at once.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// engine.shutdown().await?;
    /// # Ok::<(), EngineError>(())
    /// # }
    /// ```
    pub async fn shutdown(mut self) -> Result<(), EngineError> {
        let worker = self.worker.clone();
        pass(Failpoint::ShutdownBegins);
        worker.stopped.cancel();
        worker.stop_all(false);
        worker.tasks.close();
        if worker.clock.limit(worker.settings.grace, worker.tasks.wait()).await.is_none() {
            worker.stop_all(true);
            if worker.clock.limit(LEAVE_WAIT, worker.tasks.wait()).await.is_none() {
                return Err(cannot_leave());
            }
        }
        // Not earlier: what still runs is ours only as long as the lease is renewed.
        worker.silent.cancel();
        self.join_beat();
        pass(Failpoint::ShutdownQuiet);
        let left = worker.clock.limit(LEAVE_WAIT, worker.store.leave(worker.fence)).await;
        pass(Failpoint::ShutdownDone);
        self.left = left.is_some();
        match left {
            None => Err(cannot_leave()),
            // Another worker has its runs already.
            Some(Err(StoreError::Fenced(_))) => Ok(()),
            Some(left) => Ok(left?),
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    fn join_beat(&mut self) {
        if let Some(beat) = self.beat.take() {
            // It hears the token within one commit.
            let _ = beat.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.left {
            self.worker.stopped.cancel();
            self.worker.silent.cancel();
            self.worker.stop_all(true);
            self.worker.tasks.close();
            // Takes its place in the queue now; nobody waits for it.
            drop(self.worker.store.leave(self.worker.fence));
        }
    }
}

fn runner<I: Data, O: Data, F, Fut>(call: F) -> Runner
where
    F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome<O>,
{
    Box::new(move |ctx, json| {
        let bytes_max = ctx.payload_bytes_max();
        let run = call(ctx, serde_json::from_slice(json)?);
        Ok(Box::pin(async move { Ok(record(run.await.into_result()?, bytes_max)?.payload) })
            as BoxFuture<'static, Result<_, Error>>)
    })
}

impl Builder<NoState> {
    /// `workflow` is an `async fn(Ctx, I) -> everstep::Result<O>`.
    pub fn register<I: Data, O: Data, F, Fut>(mut self, name: Workflow<I, O>, workflow: F) -> Self
    where
        F: Fn(Ctx, I) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome<O>,
    {
        self.runners.push((name.name(), runner(workflow)));
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Builder<With<S>> {
    /// `workflow` is an `async fn(Ctx, I, S) -> everstep::Result<O>`.
    pub fn register<I: Data, O: Data, F, Fut>(mut self, name: Workflow<I, O>, workflow: F) -> Self
    where
        F: Fn(Ctx, I, S) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome<O>,
    {
        let state = self.state.0.clone();
        self.runners.push((name.name(), runner(move |ctx, input| workflow(ctx, input, state.clone()))));
        self
    }
}

impl<S> Builder<S> {
    /// What the workflows registered from here on get as third argument: pools, clients, configuration.
    ///
    /// ```
    /// use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    ///
    /// #[derive(Clone)]
    /// struct App { greeting: &'static str }
    ///
    /// async fn greet(ctx: Ctx, name: String, app: App) -> Result<String> {
    ///     ctx.step("greet", async || Ok(format!("{} {name}", app.greeting))).await
    /// }
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// let app = App { greeting: "hello" };
    /// let engine = Engine::builder(Memory::default()).state(app).register(GREET, greet).start().await?;
    /// assert_eq!(engine.run(GREET, "ada", "Ada".to_string()).await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn state<T: Clone + Send + Sync + 'static>(self, state: T) -> Builder<With<T>> {
        let Builder { store, runners, settings, world, simulated, rehearsal, .. } = self;
        Builder { store, runners, settings, world, simulated, rehearsal, state: With(state) }
    }

    /// Limits and times other than the defaults.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Lives in a simulated world: see [`Simulation`](crate::Simulation).
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated(mut self, world: &crate::Simulation) -> Self {
        self.world = (world.clock.clone(), world.entropy.clone(), world.process.clone());
        self.simulated = true;
        self
    }

    /// In the place of the bodies of the steps of this name, in whatever scope, this answers, and what it answers is
    /// recorded: for tests that must not reach the world outside. A key (`left/charge`, `charge#2`) names one step alone.
    ///
    /// A value that is none of the step's type fails the attempt. Everything else of the step is as always: its retries,
    /// its time, its undo; of a transactional step no transaction is made.
    #[cfg(any(test, feature = "testing"))]
    pub fn fake<T: Data>(
        mut self,
        step: &str,
        answer: impl Fn(crate::StepCtx) -> crate::Result<T> + Send + Sync + 'static,
    ) -> Self {
        let answer = move |ctx| Ok(record(answer(ctx)?, usize::MAX)?.payload);
        self.rehearsal.fake(step, Arc::new(answer));
        self
    }

    /// In a test kit's world.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn rehearsed(
        mut self,
        world: &crate::Simulation,
        change: impl FnOnce(&mut Rehearsal),
    ) -> Self {
        // So long that skipping months takes no time: there is nobody to take over.
        let is_default = self.settings.lease == crate::LEASE;
        self.settings.lease = if is_default { crate::days(400) } else { self.settings.lease };
        self.settings.park_after = Duration::MAX;
        self.settings.build.get_or_insert_with(|| "test".to_string());
        self.rehearsal.alone();
        change(&mut self.rehearsal);
        self.simulated(world)
    }

    /// Starts the engine: enrolls a fresh worker and takes up due runs.
    ///
    /// # Errors
    /// A setting that cannot work, a workflow registered twice, a store that fails.
    pub async fn start(self) -> Result<Engine, EngineError> {
        let ((_, entropy, process), simulated) = (self.world.clone(), self.simulated);
        let rehearsal = self.rehearsal.clone();
        let Program { store, runners, settings, clock, build } = self.program()?;
        let info = WorkerInfo { name: worker_name(), build: build.clone(), at: clock.now() };
        let began = clock.instant();
        let fence = store.enroll(info).await?;
        let events = broadcast::Sender::new(EVENTS_KEPT);
        let world = (clock.clone(), entropy.clone(), process);
        let worker = Worker::new(store.clone(), fence, settings, world, build, runners, events);
        let worker = Arc::new(worker.in_rehearsal(rehearsal));
        worker.renewed_at(began);
        loops::spawn(&worker);
        let beat = match simulated {
            false => Some(beat_thread(worker.clone())?),
            true => {
                tokio::spawn(worker.process.host(loops::beat(worker.clone())));
                None
            }
        };
        let client = Client::of(store, clock, entropy, Some(worker.clone()));
        Ok(Engine { client, worker, beat, left: false })
    }

    /// Checks whether the open runs of the store can go on with this code, before it is deployed: replays each, many at
    /// the same time, to where it would go on, and tells which could not and why. No worker is enrolled and no run is
    /// claimed: other processes may work on the same store meanwhile, and a run that one of them ends is no finding.
    ///
    /// Of your code only the workflow functions run, as far as their journals go: no step body, no transaction, no
    /// `verify`. Nothing is written. Runs that are `stuck` or `paused` are replayed as if a person had let them go on.
    ///
    /// A journal says what was *asked for*, by keys and kinds; where the build is the one that wrote it, inputs of steps
    /// and the order of all calls are compared besides. Two steps of one name that changed their places are not seen.
    ///
    /// # Errors
    /// As [`Builder::start`]; a filter that cannot be read. A run that cannot go on is no error but a [`Finding`].
    ///
    /// # What survives a crash
    /// Nothing was changed.
    ///
    /// # Cancel safety
    /// Dropped in the middle, it stops.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Signal, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # const WAVED: Signal<()> = Signal::new("waved");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.signal(WAVED).await?;
    /// #     Ok(format!("hello {name}"))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let store = Memory::default();
    /// # let engine = Engine::builder(store.clone()).register(GREET, greet).start().await?;
    /// # engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// # engine.shutdown().await?;
    /// let report = Engine::builder(store).register(GREET, greet).check().await?;
    /// print!("{report}"); // 1 open runs checked: 1 can go on, 0 cannot
    /// assert_eq!(report.exit_code(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn check(self) -> Check {
        Check::of(self.program())
    }

    /// Replays a run that was exported (see [`Client::export`]) against this code, and says whether the code does what its
    /// journal holds. As with [`Builder::check`] no body runs, nothing is written, and the store is not even read.
    ///
    /// # Errors
    /// As [`Builder::start`]; an export that this version cannot read. A run that does not replay is no error but a
    /// [`Replayed`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Export, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// # engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// # let text = engine.export("ada").await?.to_json();
    /// # engine.shutdown().await?;
    /// let export = Export::from_json(&text)?; // of a file that production wrote
    /// let replayed = Engine::builder(Memory::default()).register(GREET, greet).replay(&export).await?;
    /// assert!(replayed.is_fine(), "{replayed}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn replay(self, export: &Export) -> Result<Replayed, EngineError> {
        check::replay(self.program()?, export).await
    }

    /// The code, if it can run.
    fn program(mut self) -> Result<Program, EngineError> {
        // Tests are there to find such code.
        let not_durable = if self.simulated { NotDurable::Fail } else { NotDurable::Warn };
        self.settings.not_durable.get_or_insert(not_durable);
        check(&self.settings)?;
        let mut runners = HashMap::new();
        for (name, runner) in self.runners {
            check_name("workflow", name)?;
            if runners.insert(Arc::from(name), runner).is_some() {
                return Err(bad_setting(format!("workflow `{name}` is registered twice")));
            }
        }
        let build = self.settings.build.clone().unwrap_or_else(build_of_executable).into();
        let (store, settings, clock) = (self.store, self.settings, self.world.0);
        Ok(Program { store, runners: Arc::new(runners), settings, clock, build })
    }
}

/// Renews the lease on a thread of its own, which user code that blocks the runtime cannot delay.
fn beat_thread(worker: Arc<Worker>) -> Result<std::thread::JoinHandle<()>, EngineError> {
    let failed = |e: std::io::Error| {
        EngineError::new(ErrorKind::Store, Code::STORE, format!("no thread for the lease: {e}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    std::thread::Builder::new()
        .name("everstep-beat".to_string())
        .spawn(move || runtime.block_on(loops::beat(worker)))
        .map_err(failed)
}

fn check(settings: &Settings) -> Result<(), EngineError> {
    if settings.lease < Duration::from_millis(200) {
        return Err(bad_setting(format!(
            "a lease of {:?} is too short: 200 ms is the least",
            settings.lease
        )));
    }
    let limits = [settings.resident_runs_max, settings.running_steps_max, settings.payload_bytes_max];
    if limits.contains(&0) || settings.entries_max == 0 {
        return Err(bad_setting("a limit of 0 lets nothing run".to_string()));
    }
    Ok(())
}

fn cannot_leave() -> EngineError {
    let message = "the store could not write in time what this worker was to give back; its runs are taken over when its lease is over";
    EngineError::new(ErrorKind::Store, Code::STORE, message.to_string())
}

fn bad_setting(message: String) -> EngineError {
    EngineError::new(ErrorKind::Misuse, Code::BAD_SETTING, message)
}

fn worker_name() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// A library cannot see its user's crate version: the executable's length and time of change name the code.
fn build_of_executable() -> String {
    let seen = std::env::current_exe()
        .and_then(std::fs::metadata)
        .and_then(|meta| Ok((meta.len(), meta.modified()?)));
    match seen {
        Ok((length, changed)) => format!("{length:x}-{:x}", crate::time::Timestamp::from_system(changed).0),
        Err(_) => "unknown".to_string(),
    }
}
