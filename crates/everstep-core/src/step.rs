//! A step: options first, then a future. Makes its attempts, decides what follows each, and hands the driver what
//! happened; the driver makes it an entry and grants the outcome.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use serde::Serialize;

use crate::{
    BoxFuture,
    body::{Data, Doubt, Outcome, Repeat, StepCtx, Verdict},
    digest::{attempt_seed, draw},
    driver::{
        run::{RunCore, Told, Wants},
        stack::{self, Frame},
        table::{Arrived, Candidate, Happened},
        wake::BodyWaker,
    },
    error::{Code, Error, ErrorKind, Result, Typed, panic_message},
    journal::{Failure, Payload},
    name::limit_error,
    retry::{Decision, Retry},
    scope::Claim,
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// A value, as it decodes from its record, and the record.
pub(crate) struct Made<T> {
    pub(crate) value: T,
    pub(crate) payload: Payload,
    /// The inbox number of a record that a transaction has committed.
    pub(crate) letter: Option<u64>,
}

type Make<'a, T> = Box<dyn Fn(StepCtx) -> BoxFuture<'a, Result<Made<T>>> + Send + 'a>;
type Verify<'a, T> = Box<dyn Fn(StepCtx) -> BoxFuture<'a, Result<Verdict<T>>> + Send + 'a>;

struct Options<'a, T> {
    retry: Option<Retry>,
    typed: Option<Typed>,
    doubt: Doubt,
    then_stuck: bool,
    attempt_timeout: Option<Duration>,
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

struct Open<'a, T> {
    core: Arc<RunCore>,
    claim: Claim,
    op: usize,
    claimed_at: Timestamp,
    make: Make<'a, T>,
    options: Options<'a, T>,
    body: Option<Attempting<'a, T>>,
    /// Of a transactional step: tells the store that nobody wants the job any more, if it has not begun it.
    withdrawn: Option<Arc<AtomicBool>>,
    /// The time of the job ran out; the store says whether it was withdrawn or came first.
    too_late: Option<Error>,
    value: Option<T>,
    /// What put the attempt in doubt that `verify` looks at, if it was no crash.
    in_doubt_by: Option<Error>,
}

enum Attempting<'a, T> {
    Body { attempt: u32, future: BoxFuture<'a, Result<Made<T>>> },
    Verify { attempt: u32, doubt: u32, future: BoxFuture<'a, Result<Verdict<T>>> },
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
            then_stuck: false,
            attempt_timeout: None,
            timeout: None,
            input: None,
            verify: None,
        };
        let open = Open {
            core,
            claim,
            op,
            claimed_at,
            make,
            options,
            body: None,
            withdrawn: None,
            too_late: None,
            value: None,
            in_doubt_by: None,
        };
        Step(Mutex::new(Inner::Open(Box::new(open))))
    }

    /// Its attempts are jobs of the store, which leaves those alone that are withdrawn.
    pub(crate) fn of_jobs(mut self, withdrawn: Arc<AtomicBool>) -> Self {
        if let Inner::Open(open) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            open.withdrawn = Some(withdrawn);
        }
        self
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
        self.with(|o| o.then_stuck = true)
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

impl<T> Drop for Open<'_, T> {
    fn drop(&mut self) {
        self.drop_body();
        self.core.close(self.op);
    }
}

impl<T> Open<'_, T> {
    /// Whether there was a body. What it drops is still inside it.
    fn drop_body(&mut self) -> bool {
        let _body = stack::enter(Frame::Body(self.core.address()));
        self.body.take().is_some()
    }
}

impl<T: Data> Open<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if stack::top() != Frame::Function(self.core.address()) {
            self.core.check_place("awaiting a step")?;
        }
        self.claim.polled();
        let (options, claimed_at) = (&mut self.options, self.claimed_at);
        let transacts = self.withdrawn.is_some();
        match self.core.poll(self.op, cx.waker(), || options.wants(transacts, claimed_at)) {
            Told::Wait => Poll::Pending,
            Told::Start { attempt, doubt, waker } => {
                self.begin(attempt, doubt);
                self.poll_body(cx, &waker)
            }
            Told::Poll(waker) => self.poll_body(cx, &waker),
            Told::Expire { attempt, total, doubt } => {
                self.expired(attempt, total, doubt);
                Poll::Pending
            }
            Told::Take(arrived) => self.take(arrived),
        }
    }

    fn step_ctx(&self, attempt: u32) -> StepCtx {
        StepCtx::new(
            self.core.incarnation,
            self.core.generation(),
            &self.claim.key,
            attempt,
            self.core.worker.fence.worker,
        )
    }

    /// Makes the body of an attempt, unless there is something to say before it.
    fn begin(&mut self, attempt: u32, doubt: Option<u32>) {
        match (self.refusal(), doubt) {
            (Some(error), _) => self.failed(attempt, error),
            (None, None) => self.make(attempt),
            (None, Some(doubt)) if self.options.verify.is_some() => self.look(attempt, doubt),
            (None, Some(doubt)) => {
                if self.decide_doubt(doubt, "its worker stopped before it returned") {
                    self.core.start_again(self.op, None);
                }
            }
        }
    }

    /// What is wrong with the options; told before the body runs.
    fn refusal(&self) -> Option<Error> {
        if let Some(Err(why)) = &self.options.input {
            return Some(Error::from_failure(why.clone(), None));
        }
        let marks = self.options.marks() && self.withdrawn.is_none();
        if marks && self.core.worker.store.durability() < crate::store::Durability::Power {
            return Some(Error::misuse(
                Code::TOO_WEAK,
                "`Fail`, `Ask` and `verify` need a store at power-safe durability: a lost record would break their promise. Open the store at its default level, or use `Doubt::Retry`",
            ));
        }
        None
    }

    /// Lets `verify` begin to look whether attempt `doubt` has happened.
    fn look(&mut self, attempt: u32, doubt: u32) {
        let Some(verify) = &self.options.verify else { return };
        let ctx = self.step_ctx(attempt);
        let called = {
            let _body = stack::enter(Frame::Body(self.core.address()));
            std::panic::catch_unwind(AssertUnwindSafe(|| verify(ctx)))
        };
        match called {
            Ok(future) => self.body = Some(Attempting::Verify { attempt, doubt, future }),
            Err(panic) => self.cannot_tell(doubt, &format!("panicked: {}", panic_message(&*panic))),
        }
    }

    fn cannot_tell(&mut self, doubt: u32, why: &str) {
        self.ask(doubt, &format!("and `verify` could not tell: {why}"));
    }

    fn make(&mut self, attempt: u32) {
        if let Some(limit) = self.options.attempt_timeout {
            self.core.attempt_ends(self.op, self.core.worker.clock.now().after(limit));
        }
        if let Some(withdrawn) = &self.withdrawn {
            withdrawn.store(false, Ordering::Release);
        }
        let ctx = self.step_ctx(attempt);
        let made = {
            let _body = stack::enter(Frame::Body(self.core.address()));
            std::panic::catch_unwind(AssertUnwindSafe(|| (self.make)(ctx)))
        };
        match made {
            Ok(future) => self.body = Some(Attempting::Body { attempt, future }),
            Err(panic) => self.panicked(attempt, panic_message(&*panic)),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, waker: &Arc<BodyWaker>) -> Poll<Result<T>> {
        let Some(body) = &mut self.body else { return Poll::Pending };
        waker.polled_for(cx.waker());
        let as_waker = Waker::from(waker.clone());
        let mut body_cx = Context::from_waker(&as_waker);
        let entered = stack::enter(Frame::Body(self.core.address()));
        match body {
            Attempting::Body { attempt, future } => {
                let attempt = *attempt;
                let polled =
                    std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut body_cx)));
                drop(entered);
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(result)) => self.returned(attempt, result),
                    Err(panic) => self.panicked(attempt, panic_message(&*panic)),
                }
            }
            Attempting::Verify { attempt, doubt, future } => {
                let (attempt, doubt) = (*attempt, *doubt);
                let polled =
                    std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut body_cx)));
                drop(entered);
                match polled {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(verdict))) => self.verified(attempt, verdict),
                    Ok(Poll::Ready(Err(why))) => self.cannot_tell(doubt, &why.to_string()),
                    Err(panic) => {
                        self.cannot_tell(doubt, &format!("panicked: {}", panic_message(&*panic)));
                    }
                }
            }
        }
        Poll::Pending
    }

    fn verified(&mut self, attempt: u32, verdict: Verdict<T>) {
        self.drop_body();
        match (verdict, self.in_doubt_by.take()) {
            (Verdict::Done(value), _) => {
                let result = record(value, self.core.worker.settings.payload_bytes_max);
                self.returned(attempt, result);
            }
            (Verdict::NotDone, Some(error)) => self.failed(attempt, error),
            (Verdict::NotDone, None) => {
                self.core.did_not_happen(self.op);
                self.core.start_again(self.op, None);
            }
        }
    }

    fn happened(&mut self, what: Happened, letter: Option<u64>) {
        self.drop_body();
        self.core.happened(Candidate { op: self.op, what, takes: letter });
    }

    fn returned(&mut self, attempt: u32, result: Result<Made<T>>) {
        match (result, self.too_late.take()) {
            (Ok(Made { value, payload, letter }), _) => {
                self.value = Some(value);
                self.happened(Happened::Done(payload), letter);
            }
            (Err(_), Some(timeout)) => self.failed(attempt, timeout),
            (Err(error), None) => self.failed(attempt, error),
        }
    }

    fn failed(&mut self, attempt: u32, error: Error) {
        let retry = self.options.retry.unwrap_or(self.core.worker.settings.retry);
        let seed = attempt_seed(self.core.incarnation, self.core.generation(), &self.claim.key, attempt);
        // Number 0 of the attempt's stream is the body's own; jitter draws far from it.
        let chance = draw(seed, u64::MAX) as u64;
        let bytes_max = self.core.worker.settings.payload_bytes_max;
        let failure = error.to_failure(self.options.typed.as_ref()).within(bytes_max);
        match retry.decide(attempt, &error, chance) {
            Decision::RetryAfter(pause) => self.happened(Happened::Again { error: failure, pause }, None),
            Decision::Spent if self.options.then_stuck => {
                let detail = format!("step `{}` failed {attempt} times, last: {error}", self.claim.key);
                self.stuck(StuckReason::RetriesSpent, detail);
            }
            Decision::Spent | Decision::GiveUp => self.happened(Happened::Failed(failure), None),
        }
    }

    fn panicked(&mut self, attempt: u32, said: &str) {
        self.drop_body();
        let error = Error::engine(ErrorKind::Panic, Code::PANIC, format!("panicked: {said}"));
        self.failed_in_doubt(attempt, attempt, error, &format!("it panicked: {said}"));
    }

    fn expired(&mut self, attempt: u32, total: bool, doubt: Option<u32>) {
        let what = if total { "the step" } else { "the attempt" };
        let mut error = Error::engine(
            ErrorKind::Timeout,
            Code::TIMEOUT,
            format!("{what} `{}` ran out of time", self.claim.key),
        );
        if total {
            error = error.and_stop();
        }
        if let (Some(withdrawn), Some(_)) = (&self.withdrawn, &self.body) {
            withdrawn.store(true, Ordering::Release);
            self.too_late = Some(error);
            return;
        }
        let running = self.drop_body().then_some(attempt);
        match running.or(doubt) {
            Some(doubt) => self.failed_in_doubt(attempt, doubt, error, &format!("{what} ran out of time")),
            None => self.failed(attempt, error),
        }
    }

    /// `error` ends the attempt without saying whether attempt `doubt` has happened: that is decided first.
    fn failed_in_doubt(&mut self, attempt: u32, doubt: u32, error: Error, why: &str) {
        let transacts = self.withdrawn.is_some();
        if self.options.verify.is_some() && !transacts {
            self.in_doubt_by = Some(Error::from_failure(error.to_failure(None), None));
            self.core.start_again(self.op, Some(doubt));
        } else if transacts || self.decide_doubt(doubt, why) {
            self.failed(attempt, error);
        }
    }

    /// What becomes of an attempt in doubt; `true` if the policy leaves it to the retries.
    fn decide_doubt(&mut self, attempt: u32, why: &str) -> bool {
        match self.options.doubt {
            Doubt::Retry => true,
            Doubt::Fail => {
                let message = format!("attempt {attempt} of step `{}` is in doubt: {why}", self.claim.key);
                let mut failure = Failure::of(ErrorKind::InDoubt, Code::IN_DOUBT, message);
                failure.terminal = true;
                self.happened(Happened::Failed(failure), None);
                false
            }
            Doubt::Ask => {
                self.ask(attempt, why);
                false
            }
        }
    }

    fn ask(&mut self, attempt: u32, why: &str) {
        let detail =
            format!("attempt {attempt} of step `{}` was started, {why}: did it happen?", self.claim.key);
        self.stuck(StuckReason::InDoubt, detail);
    }

    fn stuck(&mut self, reason: StuckReason, detail: String) {
        self.drop_body();
        self.core.asks(self.op, Stuck { reason, key: Some(self.claim.key.clone()), detail });
    }

    /// The outcome was granted: the function gets what decodes from the record.
    fn take(&mut self, arrived: Arrived) -> Poll<Result<T>> {
        let answer = match arrived.what {
            Err(failure) => Err(Error::from_failure(failure, Some(arrived.seq))),
            Ok(None) => Ok(self.value.take().expect("a live value stays with its step")),
            Ok(Some(payload)) => match serde_json::from_slice(&payload.bytes) {
                Ok(value) => Ok(value),
                Err(why) => {
                    let detail = format!(
                        "entry {} of step `{}` does not decode as `{}`: {why}",
                        arrived.seq,
                        self.claim.key,
                        std::any::type_name::<T>()
                    );
                    self.core.be_stuck(StuckReason::Undecodable, &self.claim.key, detail);
                    return Poll::Pending;
                }
            },
        };
        Poll::Ready(answer)
    }
}

/// The record of a value, and the value as it comes back from it.
pub(crate) fn record<T: Data>(value: T, bytes_max: usize) -> Result<Made<T>> {
    let unrecordable = |why: serde_json::Error| {
        Error::misuse(
            Code::NOT_RECORDABLE,
            format!(
                "a `{}` does not come back from its own JSON: {why}. What a step returns must be readable again after a crash",
                std::any::type_name::<T>()
            ),
        )
    };
    let bytes = serde_json::to_vec(&value).map_err(unrecordable)?;
    if bytes.len() > bytes_max {
        return Err(limit_error(
            Code::TOO_LARGE,
            format!(
                "a step's result has at most {bytes_max} bytes; this one has {}. Keep large data elsewhere and return where it is",
                bytes.len()
            ),
        ));
    }
    let value = serde_json::from_slice(&bytes).map_err(unrecordable)?;
    Ok(Made { value, payload: Payload::json(bytes), letter: None })
}

/// The record of a step's input.
fn record_input<V: Serialize + ?Sized>(value: &V, bytes_max: usize) -> Result<Box<Payload>> {
    let bytes = serde_json::to_vec(value)
        .map_err(|why| Error::misuse(Code::NOT_RECORDABLE, format!("the step's input: {why}")))?;
    if bytes.len() > bytes_max {
        let got = bytes.len();
        let message =
            format!("a step's input has at most {bytes_max} bytes; this one has {got}. Give what names it");
        return Err(limit_error(Code::TOO_LARGE, message));
    }
    Ok(Box::new(Payload::json(bytes)))
}
