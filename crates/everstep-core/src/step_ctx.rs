//! What a step body sees of the engine: which attempt it is, its own free values, whether it is to end.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::SystemTime,
};

use tokio_util::sync::CancellationToken;

use crate::{
    digest::{Incarnation, attempt_seed, draw, idempotency_key},
    entropy::Counter,
    store::WorkerId,
    time::Timestamp,
};

/// What a step body may know. Nothing durable: a body runs once and is not replayed.
///
/// It may be cloned and given to tasks and threads that the body starts.
#[derive(Clone)]
pub struct StepCtx(Arc<Attempt>);

/// Which attempt of which step.
pub(crate) struct Which {
    pub(crate) incarnation: Incarnation,
    pub(crate) generation: u32,
    pub(crate) key: Arc<str>,
    pub(crate) number: u32,
    pub(crate) fence: WorkerId,
}

struct Attempt {
    which: Which,
    /// Made when it is asked for: most bodies ask for neither this nor the seed.
    idempotency_key: OnceLock<String>,
    seed: OnceLock<u128>,
    draws: Counter,
    told: Mutex<Told>,
}

/// What the driver tells the body.
struct Told {
    /// When its time is over.
    ends: Timestamp,
    is_cancelled: bool,
    /// Made when somebody waits for it.
    token: Option<CancellationToken>,
}

impl fmt::Debug for StepCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepCtx")
            .field("key", &self.key())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

impl StepCtx {
    pub(crate) fn new(which: Which, ends: Timestamp) -> Self {
        StepCtx(Arc::new(Attempt {
            which,
            idempotency_key: OnceLock::new(),
            seed: OnceLock::new(),
            draws: Counter::default(),
            told: Mutex::new(Told { ends, is_cancelled: false, token: None }),
        }))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.which.number
    }

    /// The step's key, as the journal shows it: `email#2`, `left/email`.
    pub fn key(&self) -> &str {
        &self.0.which.key
    }

    /// A key for the outside service: 32 hexadecimal digits, the same for every attempt of this step, across crashes,
    /// takeovers and `retry`; another for any other step or run. Pass it on, and a repeated effect is seen as one.
    pub fn idempotency_key(&self) -> &str {
        let Which { incarnation, generation, key, .. } = &self.0.which;
        self.0.idempotency_key.get_or_init(|| idempotency_key(*incarnation, *generation, key, 0))
    }

    /// Grows with every worker that drives the run: a service that remembers the highest it has seen can refuse a
    /// worker that was stopped, taken over and resumed in the middle of this body.
    pub fn fence_number(&self) -> i64 {
        self.0.which.fence.0
    }

    /// A random number: the same for the same attempt, another for another one.
    pub fn random(&self) -> u64 {
        self.bits() as u64
    }

    /// A random (version 4) UUID, drawn like [`StepCtx::random`].
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bits().to_le_bytes()).into_uuid()
    }

    fn bits(&self) -> u128 {
        let Which { incarnation, generation, key, number, .. } = &self.0.which;
        let seed = self.0.seed.get_or_init(|| attempt_seed(*incarnation, *generation, key, *number));
        draw(*seed, self.0.draws.next())
    }

    /// Whether the run is to end, because somebody cancelled it: the body has until [`StepCtx::deadline`] to return, and
    /// what it returns by then is recorded (and undone, if the step has an [undo](crate::Step::undo)). A body that does
    /// not look is dropped then.
    pub fn is_cancelled(&self) -> bool {
        self.told().is_cancelled
    }

    /// Resolves when [`StepCtx::is_cancelled`]. Cancel-safe.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, StepCtx, Workflow, store::Memory};
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # async fn next_page() { std::future::pending().await }
    /// async fn crawl(ctx: Ctx, _: u64) -> Result<u64> {
    ///     ctx.step("crawl", async |s: StepCtx| {
    ///         let mut pages = 0u64;
    ///         loop {
    ///             tokio::select! {
    ///                 () = next_page() => pages += 1,
    ///                 () = s.cancelled() => return Ok(pages), // recorded, and undone if it has an undo
    ///             }
    ///         }
    ///     })
    ///     .await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, crawl).start().await?;
    /// let run = engine.start(W, "run-1", 0).await?;
    /// # let mut events = engine.events();
    /// # while !matches!(events.next().await, Some(everstep_core::Event::StepStarted { .. })) {}
    /// engine.cancel("run-1", "enough").await?;
    /// assert!(run.result().await.is_err());
    /// assert_eq!(run.journal().await?[2].key.as_deref(), Some("crawl")); // behind the cancel
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.told();
        let token = told.token.get_or_insert_default().clone();
        if told.is_cancelled {
            token.cancel();
        }
        token.cancelled_owned()
    }

    /// When the time of this attempt is over: by its own timeout, by that of the whole step, or by the grace of a cancel.
    /// `None` if nothing bounds it.
    pub fn deadline(&self) -> Option<SystemTime> {
        let ends = self.told().ends;
        (ends != Timestamp::NEVER).then(|| ends.to_system())
    }

    /// It ends no later than this.
    pub(crate) fn ends_by(&self, at: Timestamp) {
        let mut told = self.told();
        told.ends = told.ends.min(at);
    }

    /// The run is to end. Wakes whoever waits for it: not under any lock of the driver.
    pub(crate) fn cancel(&self, until: Timestamp) {
        self.ends_by(until);
        let mut told = self.told();
        told.is_cancelled = true;
        let token = told.token.clone();
        drop(told);
        if let Some(token) = token {
            token.cancel();
        }
    }
}
