//! What a step body sees of the engine: which attempt it is, its own free values, whether it is to end.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    digest::{Incarnation, attempt_seed, draw, idempotency_key},
    engine::Worker,
    entropy::Counter,
    journal::{Payload, decode},
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
    /// How often a person has rewound this step.
    pub(crate) rewinds: u32,
    pub(crate) fence: WorkerId,
}

struct Attempt {
    which: Which,
    /// Made when it is asked for: most bodies ask for neither this nor the seed.
    idempotency_key: OnceLock<String>,
    seed: OnceLock<u128>,
    draws: Counter,
    clock: Clock,
    /// What the last attempt that said anything said last.
    last: Option<Payload>,
    /// Bytes of what a heartbeat may carry.
    bytes_max: usize,
    has_beaten: AtomicBool,
    told: Mutex<Told>,
}

/// What the driver tells the body.
struct Told {
    /// When its time is over.
    ends: Timestamp,
    is_cancelled: bool,
    /// Made when somebody waits for it.
    token: Option<CancellationToken>,
    /// When it last gave a heartbeat, or began.
    beat_at: Timestamp,
    /// How long it may be silent.
    silence: Option<Duration>,
    /// What it said last, and nobody has taken.
    details: Option<Payload>,
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
    pub(crate) fn new(which: Which, ends: Timestamp, last: Option<Payload>, worker: &Worker) -> Self {
        let clock = worker.clock.clone();
        let beat_at = clock.now();
        StepCtx(Arc::new(Attempt {
            which,
            idempotency_key: OnceLock::new(),
            seed: OnceLock::new(),
            draws: Counter::default(),
            clock,
            last,
            bytes_max: worker.settings.payload_bytes_max,
            has_beaten: AtomicBool::new(false),
            told: Mutex::new(Told {
                ends,
                is_cancelled: false,
                token: None,
                beat_at,
                silence: None,
                details: None,
            }),
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
    /// takeovers and `retry`; another for any other step or run, and for a step that was rewound. Pass it on, and a repeated effect is seen as one.
    pub fn idempotency_key(&self) -> &str {
        let Which { incarnation, generation, key, rewinds, .. } = &self.0.which;
        self.0.idempotency_key.get_or_init(|| idempotency_key(*incarnation, *generation, key, *rewinds))
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

    /// Says that the body is alive, and how far it has come. Cheap: call it as often as you like.
    ///
    /// # What survives a crash
    /// The `details` of about a second ago: they are written once a second at most. When the attempt fails, the last of
    /// them are kept with its failure. The next attempt finds them with [`StepCtx::last_details`].
    ///
    /// # Panics
    /// When `details` do not encode, or are over the limit of a payload: the attempt fails.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, StepCtx, Workflow, seconds, store::Memory};
    /// # use std::time::Duration;
    /// async fn import(ctx: Ctx, rows: u64) -> Result<u64> {
    ///     ctx.step("import", async |s: StepCtx| {
    ///         let from = s.last_details().unwrap_or(0);
    ///         for row in from..rows {
    ///             s.heartbeat(&row);
    ///             if row == 3 && s.attempt() == 1 {
    ///                 Err("the connection broke")?;
    ///             }
    ///         }
    ///         Ok(rows - from)
    ///     })
    ///     .heartbeat_timeout(seconds(30))
    ///     .retry(Retry::fixed(2, Duration::ZERO))
    ///     .await
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, import).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 10).await?, 7);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn heartbeat<T: Serialize + ?Sized>(&self, details: &T) {
        let bytes = serde_json::to_vec(details)
            .unwrap_or_else(|why| panic!("the details of a heartbeat do not encode: {why}"));
        let (bytes_max, got) = (self.0.bytes_max, bytes.len());
        assert!(
            got <= bytes_max,
            "the details of a heartbeat have at most {bytes_max} bytes; these have {got}. Say where you are, not what you have"
        );
        let now = self.0.clock.now();
        let mut told = self.told();
        told.beat_at = now.max(told.beat_at);
        told.details = Some(Payload::json(bytes));
        self.0.has_beaten.store(true, Ordering::Release);
    }

    /// The details of the last heartbeat that is known of an earlier attempt, as [`StepCtx::heartbeat`] says. `None` if there
    /// was none, or if it does not decode as `T`: then begin anew.
    pub fn last_details<T: DeserializeOwned>(&self) -> Option<T> {
        decode(self.0.last.as_ref()?).ok()
    }

    pub(crate) fn last(&self) -> Option<&Payload> {
        self.0.last.as_ref()
    }

    /// What it said since this was last asked.
    pub(crate) fn take_details(&self) -> Option<Payload> {
        if !self.0.has_beaten.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.told().details.take()
    }

    /// How long it may give no heartbeat.
    pub(crate) fn may_be_silent(&self, silence: Duration) {
        self.told().silence = Some(silence);
    }

    /// When it is out of time for giving no heartbeat; never, if it need not give any.
    pub(crate) fn silent_at(&self) -> Timestamp {
        let told = self.told();
        told.silence.map_or(Timestamp::NEVER, |silence| told.beat_at.after(silence))
    }

    /// When its own time is over.
    pub(crate) fn ends(&self) -> Timestamp {
        self.told().ends
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
