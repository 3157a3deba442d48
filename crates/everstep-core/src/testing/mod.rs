//! A kit for tests of workflows: virtual time that skips ahead while everything waits, steps that are answered by fakes,
//! waits for what a run does, crashes at every place of a run, replays of runs from production. Behind the feature
//! `testing`, which belongs into `[dev-dependencies]`.
//!
//! Time is tokio's paused clock: call everything in [`run`], or in `#[tokio::test(start_paused = true)]`. A sleep of
//! thirty days then takes as long as it takes to find that nothing else is to do.
//!
//! ```
//! use everstep_core::{Ctx, Engine, Result, Signal, Workflow, days, testing::{self, TestEngine}};
//!
//! const ORDER: Workflow<u64, String> = Workflow::new("order");
//! const APPROVED: Signal<bool> = Signal::new("approved");
//!
//! async fn order(ctx: Ctx, cents: u64) -> Result<String> {
//!     ctx.step("charge", async || Ok(reach_the_bank(cents))).await?;
//!     let approved = ctx.timeout(days(30), ctx.signal(APPROVED)).await?;
//!     Ok(format!("{cents} cents, approved: {approved:?}"))
//! }
//! # fn reach_the_bank(_: u64) -> String { panic!("not in a test") }
//!
//! testing::run(async {
//!     let engine = TestEngine::start(|store| {
//!         Engine::builder(store).register(ORDER, order).fake("charge", |_| Ok("charged".to_string()))
//!     })
//!     .await;
//!     // One order is approved, once it waits for that.
//!     let run = engine.start(ORDER, "o-1", 500).await.unwrap();
//!     engine.wait_for_step("charge").await;
//!     engine.wait_for_signal("approved").await;
//!     engine.signal("o-1", APPROVED, true).await.unwrap();
//!     assert_eq!(run.result().await.unwrap(), "500 cents, approved: Some(true)");
//!     // Another is not: thirty days go by.
//!     let run = engine.start(ORDER, "o-2", 700).await.unwrap();
//!     assert_eq!(run.result().await.unwrap(), "700 cents, approved: None");
//! });
//! ```
//!
//! Crashes are tried with [`crash_everywhere`], runs from production with [`replay`].

mod crash;

use std::{
    future::Future,
    ops::Deref,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use crash::{CrashReport, crash_everywhere, crash_everywhere_by};
use tokio::sync::Notify;

use crate::{
    Builder, Engine, Event, Export, Replayed, Simulation,
    driver::table::{Sort, Stage},
    scope::name_in,
    store::Memory,
};

/// How much virtual time a wait lets go by before it gives up.
const PATIENCE: Duration = Duration::from_secs(86_400 * 600);
/// tokio's timers reach about two years.
const STEP_MAX: Duration = Duration::from_secs(86_400 * 300);

/// Runs a test on one thread and on a clock that skips ahead while everything waits.
///
/// # Panics
/// As `test` does.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime with a clock needs nothing of the system").block_on(test)
}

/// An engine on a store in memory, for tests; it has all verbs of [`Engine`] and [`Client`](crate::Client).
///
/// Its runs stay in memory while they wait, it is alone on its store, and an await on something that is not durable makes
/// a run stuck. Time begins at 2026-01-01T00:00:00Z, and chance is seeded: each test goes the same way each time.
pub struct TestEngine {
    engine: Engine,
    store: Memory,
    world: Simulation,
    seen: Arc<Seen>,
    listener: tokio::task::JoinHandle<()>,
}

/// What was told, and who waits for more.
struct Seen {
    events: Mutex<Vec<Event>>,
    more: Arc<Notify>,
}

impl Seen {
    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for TestEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestEngine").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Deref for TestEngine {
    type Target = Engine;
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl TestEngine {
    /// Starts an engine on a fresh store: `build` registers workflows, gives state, fakes steps.
    ///
    /// # Panics
    /// Outside of [`run`] and of a paused clock; where [`Builder::start`] fails.
    pub async fn start<S>(build: impl FnOnce(Memory) -> Builder<S>) -> TestEngine {
        TestEngine::start_on(Memory::default(), build).await
    }

    /// The same on a store that is there: with runs of another engine of the test, or imported ones.
    ///
    /// # Panics
    /// As [`TestEngine::start`].
    pub async fn start_on<S>(store: Memory, build: impl FnOnce(Memory) -> Builder<S>) -> TestEngine {
        expect_paused_clock();
        let world = Simulation::new(1);
        let more = Arc::new(Notify::new());
        let rests = more.clone();
        let builder = build(store.clone()).rehearsed(&world, |rehearsal| rehearsal.rests = rests);
        let engine =
            builder.start().await.unwrap_or_else(|error| panic!("the engine does not start: {error}"));
        let seen = Arc::new(Seen { events: Mutex::default(), more });
        let (mut events, sees) = (engine.events(), seen.clone());
        let listener = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                sees.events().push(event);
                sees.more.notify_waiters();
            }
        });
        TestEngine { engine, store, world, seen, listener }
    }

    /// The store that it runs on.
    pub fn store(&self) -> &Memory {
        &self.store
    }

    /// Lets so much time go by: what becomes due on the way happens at its time.
    pub async fn advance(&self, time: Duration) {
        let mut left = time;
        while left > Duration::ZERO {
            let step = left.min(STEP_MAX);
            self.world.clock.sleep(step).await;
            left -= step;
        }
    }

    /// Waits until a step of this name (or with this key) is done and durable, in whichever run; at once, if one was.
    ///
    /// # Panics
    /// When nothing more happens that could bring it: with what has happened.
    pub async fn wait_for_step(&self, step: &str) {
        let is_it = |event: &Event| match event {
            Event::StepDone { key, .. } => **key == *step || name_in(key) == step,
            _ => false,
        };
        let seen = self.seen.clone();
        self.wait_for(&format!("step `{step}` is done"), || seen.events().iter().any(is_it)).await;
    }

    /// Waits until a run waits for a signal of this name.
    ///
    /// # Panics
    /// As [`TestEngine::wait_for_step`].
    pub async fn wait_for_signal(&self, signal: &str) {
        let worker = self.engine.worker().clone();
        let waits = || {
            worker.residents.those(|_| true).iter().any(|core| {
                let state = core.state();
                let mut slots = state.table.iter();
                slots.any(|(_, slot)| {
                    let is_open = matches!(slot.stage, Stage::Registered | Stage::Idle);
                    slot.sort == Sort::Signal && is_open && name_in(&slot.key) == signal
                })
            })
        };
        self.wait_for(&format!("a run waits for signal `{signal}`"), waits).await;
    }

    /// Waits until the run is over, or stuck.
    ///
    /// # Panics
    /// As [`TestEngine::wait_for_step`].
    pub async fn wait_for_outcome(&self, id: &str) {
        let is_it = |event: &Event| match event {
            Event::Completed { run } | Event::Cancelled { run } => **run == *id,
            Event::Failed { run, .. } | Event::Stuck { run, .. } => **run == *id,
            _ => false,
        };
        let seen = self.seen.clone();
        self.wait_for(&format!("run `{id}` has an outcome"), || seen.events().iter().any(is_it)).await;
    }

    async fn wait_for(&self, what: &str, so: impl Fn() -> bool) {
        let waiting = async {
            loop {
                // Listen, then look, then wait.
                let mut more = pin!(self.seen.more.notified());
                more.as_mut().enable();
                if so() {
                    return;
                }
                more.await;
            }
        };
        if self.world.clock.limit(PATIENCE, waiting).await.is_none() {
            let events = self.seen.events();
            let told: Vec<_> = events.iter().rev().take(20).rev().map(|event| format!("{event:?}")).collect();
            panic!("{what}: it never comes to that. The last that happened:\n{}", told.join("\n"));
        }
    }
}

/// Replays a run that was exported in production against this code: `build` registers the workflows. No body runs.
///
/// ```
/// # use everstep_core::{Ctx, Engine, Result, Workflow, testing::{self, TestEngine}};
/// # const GREET: Workflow<String, String> = Workflow::new("greet");
/// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
/// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
/// # }
/// # testing::run(async {
/// # let engine = TestEngine::start(|store| Engine::builder(store).register(GREET, greet)).await;
/// # engine.run(GREET, "ada", "Ada".to_string()).await.unwrap();
/// # let export = engine.export("ada").await.unwrap();
/// let replayed = testing::replay(&export, |store| Engine::builder(store).register(GREET, greet)).await;
/// assert!(replayed.is_fine(), "{replayed}");
/// # });
/// ```
///
/// # Panics
/// Where [`Builder::replay`] fails.
pub async fn replay<S>(export: &Export, build: impl FnOnce(Memory) -> Builder<S>) -> Replayed {
    let replayed = build(Memory::default()).replay(export).await;
    replayed.unwrap_or_else(|error| panic!("run `{}` cannot be replayed: {error}", export.id()))
}

/// The same with the file of an export.
///
/// # Panics
/// Where the file cannot be read; as [`replay`].
pub async fn replay_file<S>(file: impl AsRef<Path>, build: impl FnOnce(Memory) -> Builder<S>) -> Replayed {
    let file = file.as_ref();
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let export = Export::from_json(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    replay(&export, build).await
}

/// A clock that runs would let a test wait for days: told at once.
#[allow(clippy::disallowed_methods, reason = "real time is compared with virtual time")]
fn expect_paused_clock() {
    let (real, virtual_) = (std::time::Instant::now(), tokio::time::Instant::now());
    while real.elapsed() < Duration::from_micros(50) {
        std::hint::spin_loop();
    }
    assert!(
        virtual_.elapsed() == Duration::ZERO,
        "a test engine needs a clock that skips ahead: call it in `everstep::testing::run`, or in `#[tokio::test(start_paused = true)]`"
    );
}
