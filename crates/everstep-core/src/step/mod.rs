//! A step: options first, then a future. `attempt` makes its attempts and decides what follows each; `record` is how a
//! value becomes an entry and comes back.

mod attempt;
mod record;

use std::{
    future::Future,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    task::{Context, Poll},
    time::Duration,
};

use serde::Serialize;

use self::{attempt::Open, record::record_input};
use crate::{
    BoxFuture,
    body::{Data, Doubt, Outcome, Repeat, Verdict},
    driver::{
        run::{RunCore, Wants},
        undos::Offer,
    },
    error::{Code, Error, Result, Typed},
    journal::{Failure, Payload, decode},
    retry::Retry,
    scope::Claim,
    step_ctx::StepCtx,
    time::Timestamp,
};
pub(crate) use record::{Made, record};

type Make<'a, T> = Box<dyn Fn(StepCtx) -> BoxFuture<'a, Result<Made<T>>> + Send + 'a>;
type Verify<'a, T> = Box<dyn Fn(StepCtx) -> BoxFuture<'a, Result<Verdict<T>>> + Send + 'a>;

/// What a step does that fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It fails.
    Fail,
    /// It asks a person, if that was its retries' end.
    Stuck,
    /// It undoes another: it asks a person, whatever the error.
    UndoFailed,
}

struct Options<'a, T> {
    retry: Option<Retry>,
    typed: Option<Typed>,
    doubt: Doubt,
    spent: Spent,
    undo: Option<Box<Offer>>,
    attempt_timeout: Option<Duration>,
    heartbeat_timeout: Option<Duration>,
    timeout: Option<Duration>,
    input: Option<Result<Box<Payload>, Failure>>,
    verify: Option<Verify<'a, T>>,
}

impl<T> Options<'_, T> {
    /// Whether a started row must be durable before each body.
    fn marks(&self) -> bool {
        self.doubt != Doubt::Retry || self.verify.is_some()
    }

    fn wants(&mut self, transacts: bool, claimed_at: Timestamp) -> Wants {
        Wants {
            marks: self.marks() && !transacts,
            transacts,
            deadline: self.timeout.map(|limit| claimed_at.after(limit)),
            input: self.input.take_if(|input| input.is_ok()).and_then(Result::ok),
            ..Wants::default()
        }
    }
}

/// A step: set its options, then await it (or give it to `join!`, `select!`, `FuturesUnordered`: it is a future).
///
/// # What survives a crash
/// A result that was returned is recorded; the step never runs again in this run. If the process dies while the body
/// runs, or after it and before its record is durable, the attempt is *in doubt*, and [`Step::on_doubt`] says what
/// happens: by default the body runs again with the same [`StepCtx::idempotency_key`].
///
/// # Cancel safety
/// Dropped before its first poll it has done nothing. Dropped while its body runs, the body is dropped with it, and
/// its effect may or may not have happened. Dropped after its body has returned, the outcome is still recorded.
///
/// ```
/// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, Workflow, minutes, seconds, store::Memory};
/// async fn fetch(ctx: Ctx, url: String) -> Result<usize> {
///     ctx.step("fetch", async || Ok(url.len()))
///         .retry(Retry::exponential(5))
///         .attempt_timeout(seconds(30))
///         .timeout(minutes(10))
///         .input(&url)
///         .await
/// }
/// # const W: Workflow<String, usize> = Workflow::new("w");
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), EngineError> {
/// # let engine = Engine::builder(Memory::default()).register(W, fetch).start().await?;
/// assert_eq!(engine.run(W, "run-1", "https://e.st".to_string()).await?, 12);
/// # engine.shutdown().await
/// # }
/// ```
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<'a, T>(Mutex<Inner<'a, T>>);

enum Inner<'a, T> {
    Refused(Option<Error>),
    Open(Box<Open<'a, T>>),
    Over,
}

impl<'a, T: Data> Step<'a, T> {
    pub(crate) fn refused(error: Error) -> Self {
        Step(Mutex::new(Inner::Refused(Some(error))))
    }

    pub(crate) fn new(
        core: Arc<RunCore>,
        claim: Claim,
        op: usize,
        claimed_at: Timestamp,
        make: Make<'a, T>,
    ) -> Self {
        let options = Options {
            retry: None,
            typed: None,
            doubt: Doubt::Retry,
            spent: Spent::Fail,
            undo: None,
            attempt_timeout: None,
            heartbeat_timeout: None,
            timeout: None,
            input: None,
            verify: None,
        };
        let open = Open::new(core, claim, op, claimed_at, (make, options));
        Step(Mutex::new(Inner::Open(Box::new(open))))
    }

    /// Its attempts are jobs of the store, which leaves those alone that are withdrawn.
    pub(crate) fn of_jobs(mut self, withdrawn: Arc<AtomicBool>) -> Self {
        if let Inner::Open(open) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            open.withdrawn = Some(withdrawn);
        }
        self
    }

    pub(crate) fn when_spent(self, spent: Spent) -> Self {
        self.with(|o| o.spent = spent)
    }

    fn with(mut self, set: impl FnOnce(&mut Options<'a, T>)) -> Self {
        if let Inner::Open(open) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            set(&mut open.options);
        }
        self
    }

    /// How failed attempts are repeated; without it, `Settings::retry`.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, StepCtx, Workflow, store::Memory};
    /// # use std::time::Duration;
    /// async fn flaky(ctx: Ctx, _: u64) -> Result<u32> {
    ///     let step = ctx.step("flaky", async |s: StepCtx| match s.attempt() {
    ///         3 => Ok(s.attempt()),
    ///         n => Err(format!("attempt {n} failed").into()),
    ///     });
    ///     step.retry(Retry::fixed(5, Duration::from_millis(1))).await
    /// }
    /// # const W: Workflow<u64, u32> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, flaky).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 0).await?, 3);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn retry(self, retry: Retry) -> Self {
        self.with(|o| o.retry = Some(retry))
    }

    /// Bounds one attempt. An attempt that is over it is dropped where it stands and is in doubt; by default it
    /// counts as failed.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, StepCtx, Workflow, store::Memory};
    /// # use std::time::Duration;
    /// async fn slow_once(ctx: Ctx, _: u64) -> Result<String> {
    ///     let step = ctx.step("slow", async |s: StepCtx| match s.attempt() {
    ///         1 => std::future::pending().await,
    ///         _ => Ok("in time".to_string()),
    ///     });
    ///     step.attempt_timeout(Duration::from_millis(20)).retry(Retry::fixed(2, Duration::ZERO)).await
    /// }
    /// # const W: Workflow<u64, String> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, slow_once).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 0).await?, "in time");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn attempt_timeout(self, limit: Duration) -> Self {
        self.with(|o| o.attempt_timeout = Some(limit))
    }

    /// Bounds the silence of an attempt: one that gives no [heartbeat](StepCtx::heartbeat) for so long is dropped where it
    /// stands, as by [`Step::attempt_timeout`]. The example is that of `heartbeat`.
    pub fn heartbeat_timeout(self, silence: Duration) -> Self {
        self.with(|o| o.heartbeat_timeout = Some(silence))
    }

    /// Bounds all attempts and their pauses together, from the call on, across crashes.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, Workflow, store::Memory};
    /// # use std::time::Duration;
    /// async fn hopeless(ctx: Ctx, _: u64) -> Result<bool> {
    ///     let step = ctx.step("hopeless", async || -> Result<u64> { Err("still not".into()) });
    ///     let failed = step.retry(Retry::fixed(1000, Duration::from_millis(1))).timeout(Duration::from_millis(20)).await;
    ///     Ok(failed.is_err_and(|e| e.is_timeout()))
    /// }
    /// # const W: Workflow<u64, bool> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, hopeless).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 0).await?, true);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|o| o.timeout = Some(limit))
    }

    /// What becomes of an attempt that was started and did not return.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Doubt, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn pay(ctx: Ctx, cents: u64) -> Result<u64> {
    ///     // A charge that must not be made twice, and a provider that cannot be asked.
    ///     ctx.step("charge", async || Ok(cents)).on_doubt(Doubt::Ask).await
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, pay).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 7).await?, 7);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn on_doubt(self, doubt: Doubt) -> Self {
        self.with(|o| o.doubt = doubt)
    }

    /// Records `value` for people to see; on replay another value than the recorded one is a divergence.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn pay(ctx: Ctx, cents: u64) -> Result<u64> {
    ///     ctx.step("charge", async || Ok(cents)).input(&cents).await
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, pay).start().await?;
    /// let run = engine.start(W, "run-1", 7).await?;
    /// run.result().await?;
    /// let charge = &run.journal().await?[1];
    /// assert_eq!(charge.input.as_ref().map(|input| &*input.bytes), Some(&b"7"[..]));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn input<V: Serialize + ?Sized>(mut self, value: &V) -> Self {
        if let Inner::Open(open) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            let bytes_max = open.core.worker.settings.payload_bytes_max;
            open.options.input = Some(record_input(value, bytes_max).map_err(|e| e.to_failure(None)));
        }
        self
    }

    /// Keeps errors of type `E` whole, so that [`Error::downcast`] gives them back, live and after replay.
    pub fn typed<E: std::error::Error + Serialize + 'static>(self) -> Self {
        self.with(|o| o.typed = Some(Typed::of::<E>(None)))
    }

    /// As [`Step::typed`], under a name that stays when the type is renamed or moved: [`Error::downcast_as`].
    pub fn typed_as<E: std::error::Error + Serialize + 'static>(self, tag: &'static str) -> Self {
        self.with(|o| o.typed = Some(Typed::of::<E>(Some(tag))))
    }

    /// When the retries are spent the run becomes stuck and waits for a person, instead of the step failing:
    /// [`Client::retry`](crate::Client::retry), [`Client::answer`](crate::Client::answer) and
    /// [`Client::cancel`](crate::Client::cancel) lead on.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, journal::Answer, store::Memory};
    /// async fn pay(ctx: Ctx, cents: u64) -> Result<u64> {
    ///     ctx.step("charge", async || -> Result<u64> { Err(format!("{cents} refused").into()) }).then_stuck().await
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, pay).start().await?;
    /// let run = engine.start(W, "run-1", 7).await?;
    /// assert!(run.result().await.is_err_and(|e| e.to_string().contains("retries spent")));
    /// engine.answer("run-1", Answer::Done { value: "7".to_string() }).await?;
    /// assert_eq!(run.result().await?, 7);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn then_stuck(self) -> Self {
        self.when_spent(Spent::Stuck)
    }

    /// What takes the step's effect back if the run fails or is cancelled later: given the recorded result, once for each
    /// result that was recorded, the last first.
    ///
    /// It runs as a durable step `undo/<key>`, after the function has returned its error or was dropped, and is repeated
    /// as [`Step::retry`] of this step says. One that fails for good makes the run stuck; [`Client::retry`](crate::Client::retry)
    /// goes on with it. A run that returns `Ok`, and one that is [killed](crate::Client::kill), undoes nothing.
    ///
    /// # What survives a crash
    /// What is registered follows from the journal: the outcome of a step that the function dropped is undone too. A crash
    /// in the middle of undoing goes on undoing; what is recorded as undone is not undone again. An undo runs at least once,
    /// like any step: let it be harmless when there is nothing to undo any more.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # use std::sync::{Arc, Mutex};
    /// async fn trip(ctx: Ctx, to: String, booked: Arc<Mutex<Vec<String>>>) -> Result<String> {
    ///     for what in ["hotel", "flight"] {
    ///         let (book, cancel) = (booked.clone(), booked.clone());
    ///         ctx.step(what, async || {
    ///             book.lock().unwrap().push(format!("{what} {to}"));
    ///             Ok(format!("{what} {to}"))
    ///         })
    ///         .undo(async move |booking| {
    ///             cancel.lock().unwrap().retain(|other| *other != booking);
    ///             Ok(())
    ///         })
    ///         .await?;
    ///     }
    ///     Err("the card was declined")?
    /// }
    /// # const W: Workflow<String, String> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// let booked = Arc::new(Mutex::new(Vec::new()));
    /// let engine = Engine::builder(Memory::default()).state(booked.clone()).register(W, trip).start().await?;
    /// let failed = engine.run(W, "trip-1", "Rome".to_string()).await;
    /// assert!(failed.is_err_and(|e| e.to_string() == "the card was declined"));
    /// assert!(booked.lock().unwrap().is_empty());
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn undo<F, Fut>(self, undo: F) -> Self
    where
        F: FnOnce(T) -> Fut + Repeat + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome<()>,
    {
        let site = Location::caller();
        let work = Box::new(move |_: StepCtx, output: &Payload| match decode::<T>(output) {
            Ok(value) => {
                let work = undo.again()(value);
                Box::pin(async move { work.await.into_result() }) as BoxFuture<'static, _>
            }
            Err(why) => {
                let message =
                    format!("its output does not decode as `{}`: {why}", std::any::type_name::<T>());
                Box::pin(std::future::ready(Err(Error::misuse(Code::UNDECODABLE, message))))
            }
        });
        self.with(|o| o.undo = Some(Box::new(Offer { work, retry: None, site })))
    }

    /// Looks whether an attempt in doubt has happened: your code answers [`Verdict::Done`] with the value or
    /// [`Verdict::NotDone`]. Costs one write before each attempt. If it fails itself, the run asks a person.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Verdict, Workflow, store::Memory};
    /// # use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    /// async fn pay(ctx: Ctx, cents: u64) -> Result<u64> {
    ///     let charged = AtomicU64::new(0); // stands for the provider
    ///     ctx.step("charge", async || -> Result<u64> {
    ///         charged.store(cents, SeqCst);
    ///         panic!("and the answer is lost")
    ///     })
    ///     .verify(async |_| match charged.load(SeqCst) {
    ///         0 => Ok(Verdict::NotDone),
    ///         done => Ok(Verdict::Done(done)),
    ///     })
    ///     .await
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, pay).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 7).await?, 7);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn verify<F, Fut>(self, look: F) -> Self
    where
        F: FnOnce(StepCtx) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<Verdict<T>>,
    {
        self.with(|o| {
            o.verify = Some(Box::new(move |s| {
                let future = look.again()(s);
                Box::pin(async move { future.await.into_result() })
            }));
        })
    }
}

impl<T: Data> Future for Step<'_, T> {
    type Output = Result<T>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let answer = match inner {
            Inner::Refused(error) => Err(error.take().expect("a step is not polled after it was ready")),
            Inner::Open(open) => match open.poll(cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => return Poll::Pending,
            },
            Inner::Over => panic!("a step is not polled after it was ready"),
        };
        *inner = Inner::Over;
        Poll::Ready(answer)
    }
}

// Only boxes and plain data: moving a `Step` is always fine, so `&mut step` works in `select!` loops.
impl<T> Unpin for Step<'_, T> {}

impl<T> std::fmt::Debug for Step<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}
