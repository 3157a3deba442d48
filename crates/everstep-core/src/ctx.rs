//! What a workflow sees of the engine.

use std::{
    future::Future,
    panic::Location,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    BoxFuture,
    body::{Body, Data, Outcome, Repeat},
    digest::retry_chance,
    driver::{
        run::{RunCore, Wants},
        table::Sort,
        undos::{Offer, UNDO},
    },
    error::{Code, Error, Result},
    journal::Payload,
    op::{Op, Wait},
    scope::{Claim, Scope},
    step::{Made, Step, record},
    step_ctx::StepCtx,
    time::Timestamp,
};

/// A run as its workflow function sees it: everything durable goes through it.
///
/// Owned, `Clone`, `Send` and `Sync`; helpers take `&Ctx`. It works only inside its own workflow function: in a step
/// body, on another task or after the end its calls are refused with advice.
#[derive(Clone)]
pub struct Ctx {
    pub(crate) core: Arc<RunCore>,
    pub(crate) scope: Arc<Scope>,
}

impl std::fmt::Debug for Ctx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx").field("run", self.core.id()).field("scope", &self.scope.path()).finish()
    }
}

impl Ctx {
    pub(crate) fn root(core: Arc<RunCore>) -> Ctx {
        Ctx { core, scope: Scope::root() }
    }

    /// Runs `body` once and remembers its result for the rest of this run.
    ///
    /// A body that takes a context needs its type: `async |s: StepCtx| ..`. It returns `everstep::Result`; let `?`
    /// convert other errors: `async || Ok(call().await?)`. What it returns is owned: a `String`, not a `&str`.
    ///
    /// Steps may run side by side (`join!`, `select!`, `FuturesUnordered`); all of them run on the run's own task, so
    /// they may borrow, and one that computes for long belongs into [`Ctx::step_blocking`]. For a list there is
    /// [`Ctx::map`]; of steps in a stream collect the steps first: `stream::iter(..).map(|x| ctx.step(..))` held across
    /// an await is beyond rustc.
    ///
    /// # What survives a crash
    /// A result that was returned is durable. If the process dies after `body` took effect but before that, `body`
    /// runs again: pass [`StepCtx::idempotency_key`] to whatever it calls.
    ///
    /// # Errors
    /// What the body's last attempt failed with, as it is recorded. [`ErrorKind::Misuse`](crate::ErrorKind) for a bad
    /// name, a second operation of that name side by side, or a call from where it cannot be.
    ///
    ///
    /// # Cancel safety
    /// As [`Step`]: dropped in the middle, its attempt is in doubt; dropped after its body returned, the outcome is recorded.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, StepCtx, Workflow, store::Memory};
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     let greeting = ctx.step("compose", async || Ok(format!("hello {name}"))).retry(Retry::exponential(3)).await?;
    ///     ctx.step("send", async |s: StepCtx| Ok(format!("{greeting}, attempt {}", s.attempt()))).await
    /// }
    /// # const W: Workflow<String, String> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, greet).start().await?;
    /// assert_eq!(engine.run(W, "run-1", "Ada".to_string()).await?, "hello Ada, attempt 1");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn step<'a, T, A, F>(&self, name: &str, body: F) -> Step<'a, T>
    where
        F: Body<A> + Repeat + Send + 'a,
        F::Future: Send + 'a,
        <F::Future as Future>::Output: Outcome<T>,
        T: Data,
    {
        let bytes_max = self.core.worker.settings.payload_bytes_max;
        self.make_step(
            name,
            Box::new(move |s| {
                let work = body.again().call(s);
                Box::pin(async move { record(work.await.into_result()?, bytes_max) })
            }),
        )
    }

    /// A step whose body computes or blocks: it runs on the blocking pool, on a thread of its own, and two of them use
    /// two cores. In all else like [`Ctx::step`].
    ///
    /// # Cancel safety
    /// Dropped or out of time, its thread runs on to its end, and nobody hears what it returns: the attempt is in doubt.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn sum(ctx: Ctx, n: u64) -> Result<u64> {
    ///     let (low, high) = everstep_core::try_join!(
    ///         ctx.step_blocking("low", move || Ok((0..n).sum::<u64>())),
    ///         ctx.step_blocking("high", move || Ok((n..2 * n).sum::<u64>())),
    ///     )?;
    ///     Ok(low + high)
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, sum).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 10).await?, 190);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn step_blocking<T, F>(&self, name: &str, body: F) -> Step<'static, T>
    where
        F: FnOnce() -> Result<T> + Repeat + Send + 'static,
        T: Data,
    {
        let bytes_max = self.core.worker.settings.payload_bytes_max;
        self.make_step(
            name,
            Box::new(move |_| {
                let body = body.again();
                // Aborted when the step is over: a closure that still waits for its thread never begins.
                let work =
                    AbortOnDropHandle::new(tokio::task::spawn_blocking(move || record(body()?, bytes_max)));
                Box::pin(async move {
                    match work.await {
                        Ok(made) => made,
                        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
                        // The runtime is shutting down: the attempt has not failed, it has no end.
                        Err(_) => std::future::pending().await,
                    }
                })
            }),
        )
    }

    #[track_caller]
    fn make_step<'a, T: Data>(
        &self,
        name: &str,
        make: Box<dyn Fn(StepCtx) -> BoxFuture<'a, Result<Made<T>>> + Send + 'a>,
    ) -> Step<'a, T> {
        let site = Location::caller();
        match self.claim(Sort::Step, name, site) {
            Ok((claim, op, now)) => Step::new(self.core.clone(), claim, op, now, make),
            Err(error) => Step::refused(error),
        }
    }

    /// A name space for a branch that runs beside others: its steps and free values are its own. Takes no entry of its own: what is recorded are the steps in it, as `left/double`.
    ///
    /// # Errors
    /// What `body` returns; misuse as in [`Ctx::step`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn both(ctx: Ctx, n: u64) -> Result<u64> {
    ///     let (a, b) = everstep_core::try_join!(
    ///         ctx.scope("left", async |ctx| ctx.step("double", async || Ok(n * 2)).await),
    ///         ctx.scope("right", async |ctx| ctx.step("double", async || Ok(n * 20)).await),
    ///     )?;
    ///     Ok(a + b)
    /// }
    /// # const W: Workflow<u64, u64> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, both).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 7).await?, 154);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn scope<'a, T, F, Fut>(&self, name: &str, body: F) -> Op<'a, Result<T>>
    where
        F: FnOnce(Ctx) -> Fut + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<T>,
        T: 'a,
    {
        let open = self.open_scope("scope", name, Location::caller());
        Op::new(async move {
            let mut scope = open?;
            scope.polled();
            body(scope.inner()).await.into_result()
        })
    }

    /// Opens a scope for `what`, which has a name.
    pub(crate) fn open_scope(
        &self,
        what: &'static str,
        name: &str,
        site: &'static Location<'static>,
    ) -> Result<OpenScope> {
        let (claim, op, _) = self.claim_for(what, Sort::Scope, name, site)?;
        Ok(OpenScope { core: self.core.clone(), claim, op })
    }

    /// One of many alike in this scope: `fetch/1`, `fetch/2`. The scope must be one in which users name nothing.
    pub(crate) fn numbered(&self, number: u64) -> Ctx {
        Ctx { core: self.core.clone(), scope: Scope::under(&format!("{}{number}", self.scope.path())) }
    }

    /// Waits for `wait`, from [`Ctx::now`] at this call on.
    ///
    /// # What survives a crash
    /// The deadline: it follows from what is recorded before the call. Only that the time came is an entry. A clock
    /// that is wrong makes it early or late by its error, and nothing else.
    ///
    /// # Cancel safety
    /// Dropped, it leaves nothing.
    ///
    /// # Panics
    /// In a step body, on another task, after the end, or when the journal is full, with advice.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # use std::time::Duration;
    /// async fn patient(ctx: Ctx, ms: u64) -> Result<bool> {
    ///     let before = ctx.now();
    ///     ctx.sleep(Duration::from_millis(ms)).await;
    ///     Ok(ctx.now() >= before + Duration::from_millis(ms))
    /// }
    /// # const W: Workflow<u64, bool> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, patient).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 20).await?, true);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn sleep(&self, wait: Duration) -> Op<'static, ()> {
        Op::new(self.timer("$sleep", wait, Location::caller()))
    }

    /// `work`, or `None` when the time ran out first; `work` is dropped then. What is ready at once needs no time.
    ///
    /// # What survives a crash
    /// Which of the two came first, and the deadline, as of [`Ctx::sleep`].
    ///
    /// # Errors
    /// Those of `work`.
    ///
    /// # Panics
    /// As [`Ctx::sleep`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # use std::time::Duration;
    /// async fn ask(ctx: Ctx, _: u64) -> Result<String> {
    ///     let answer = ctx.step("ask", || std::future::pending::<Result<String>>());
    ///     Ok(ctx.timeout(Duration::from_millis(20), answer).await?.unwrap_or("nobody answered".to_string()))
    /// }
    /// # const W: Workflow<u64, String> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, ask).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 0).await?, "nobody answered");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn timeout<'a, T, F>(&self, limit: Duration, work: F) -> Op<'a, Result<Option<T>>>
    where
        F: Future + Send + 'a,
        F::Output: Outcome<T>,
    {
        let timer = self.timer("$timeout", limit, Location::caller());
        Op::new(async move {
            let (mut work, mut timer) = (pin!(work), pin!(timer));
            std::future::poll_fn(|cx| {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done.into_result().map(Some));
                }
                timer.as_mut().poll(cx).map(|()| Ok(None))
            })
            .await
        })
    }

    /// What is to be done when the run is cancelled: the place for what a `Drop` cannot do, because that also runs when a
    /// run only leaves memory. Costs nothing until then.
    ///
    /// After the function was dropped, and before the undos, `cleanup` runs as a durable step `undo/$on_cancel`, the last
    /// registered first; it is repeated by [`Settings::retry`](crate::Settings), and if it fails for good the run is
    /// stuck. It does not run when the function returns, and not when the run is [killed](crate::Client::kill).
    ///
    /// # What survives a crash
    /// The call is made again at the same place on every replay.
    ///
    /// # Panics
    /// As [`Ctx::sleep`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, StepCtx, Workflow, days, store::Memory};
    /// # use std::sync::{Arc, atomic::{AtomicBool, Ordering::SeqCst}};
    /// async fn auction(ctx: Ctx, lot: String, told: Arc<AtomicBool>) -> Result<()> {
    ///     ctx.on_cancel(async move |_: StepCtx| {
    ///         told.store(true, SeqCst); // tells the bidders that there will be no lot
    ///         Ok(())
    ///     });
    ///     ctx.sleep(days(7)).await;
    ///     ctx.step("sell", async || Ok(drop(lot))).await
    /// }
    /// # const W: Workflow<String, ()> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// let told = Arc::new(AtomicBool::new(false));
    /// let engine = Engine::builder(Memory::default()).state(told.clone()).register(W, auction).start().await?;
    /// let run = engine.start(W, "lot-49", "a horn".to_string()).await?;
    /// # while run.status().await? != everstep_core::Status::Running { tokio::task::yield_now().await; }
    /// # for _ in 0..10 { tokio::task::yield_now().await; }
    /// engine.cancel("lot-49", "it was a fake").await?;
    /// assert!(run.result().await.is_err());
    /// assert!(told.load(SeqCst));
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn on_cancel<F, Fut>(&self, cleanup: F)
    where
        F: FnOnce(StepCtx) -> Fut + Repeat + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Outcome<()>,
    {
        self.assert_here("`on_cancel`");
        let site = Location::caller();
        let key = self.scope.claim_unnamed("$on_cancel").key.clone();
        let work = Box::new(move |s: StepCtx, _: &Payload| {
            let work = cleanup.again()(s);
            Box::pin(async move { work.await.into_result() }) as BoxFuture<'static, _>
        });
        self.core.on_cancel(key, Offer { work, retry: None, site });
    }

    /// What was registered so far is not undone if the run fails or is cancelled: for the point of no return.
    ///
    /// # What survives a crash
    /// The call is made again at the same place on every replay.
    ///
    /// # Panics
    /// As [`Ctx::sleep`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn order(ctx: Ctx, _: u64) -> Result<()> {
    ///     ctx.step("reserve", async || Ok(7u64)).undo(async |_| -> Result<()> { panic!("the goods are on their way") }).await?;
    ///     ctx.step("ship", async || Ok(())).await?;
    ///     ctx.forget_undos();
    ///     Err("the letter of thanks has no stamp")?
    /// }
    /// # const W: Workflow<u64, ()> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, order).start().await?;
    /// assert!(engine.run(W, "run-1", 0).await.is_err_and(|e| e.to_string().contains("no stamp")));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn forget_undos(&self) {
        self.assert_here("`forget_undos`");
        self.core.forget_undos();
    }

    fn timer(
        &self,
        name: &'static str,
        wait: Duration,
        site: &'static Location<'static>,
    ) -> impl Future<Output = ()> + Send + use<> {
        self.try_timer(name, wait, site).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A timer for what answers with an error.
    pub(crate) fn try_timer(
        &self,
        name: &'static str,
        wait: Duration,
        site: &'static Location<'static>,
    ) -> Result<impl Future<Output = ()> + Send + use<>> {
        self.core.check_place(&format!("`{}`", &name[1..]))?;
        self.core.check_room()?;
        let claim = self.scope.claim_unnamed(name);
        let op = self.core.open(&claim.key, Sort::Timer, site);
        let deadline = Some(self.core.state().now.after(wait));
        let timer = Wait::new(self.core.clone(), claim, op, Wants { deadline, ..Wants::default() });
        Ok(timer.map(drop))
    }

    pub(crate) fn claim(
        &self,
        sort: Sort,
        name: &str,
        site: &'static Location<'static>,
    ) -> Result<(Claim, usize, Timestamp)> {
        self.claim_for(sort.word(), sort, name, site)
    }

    fn claim_for(
        &self,
        what: &'static str,
        sort: Sort,
        name: &str,
        site: &'static Location<'static>,
    ) -> Result<(Claim, usize, Timestamp)> {
        self.core.check_place(&format!("{what} `{name}`"))?;
        self.core.check_room()?;
        if sort == Sort::Scope && name == UNDO && self.scope.path().is_empty() {
            let message = format!("a {what} cannot be called `undo`: the keys of undos begin so");
            return Err(Error::misuse(Code::BAD_NAME, message));
        }
        let claim = self.scope.claim(what, name)?;
        let op = self.core.open(&claim.key, sort, site);
        let now = self.core.state().now;
        Ok((claim, op, now))
    }

    /// The run's time: of the last thing that reached it. The same on every replay, never running backwards, and at
    /// least the deadline of a timer that has fired. Costs nothing.
    ///
    /// # Panics
    /// As [`Ctx::sleep`].
    pub fn now(&self) -> SystemTime {
        self.assert_here("`now`");
        self.core.state().now.to_system()
    }

    /// A random number that is the same on every replay. Costs nothing.
    ///
    /// # Panics
    /// As [`Ctx::sleep`].
    pub fn random(&self) -> u64 {
        self.draw("`random`") as u64
    }

    /// A random (version 4) UUID that is the same on every replay. Costs nothing.
    ///
    /// # Panics
    /// As [`Ctx::sleep`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn draw(ctx: Ctx, _: u64) -> Result<bool> {
    ///     let (a, b) = (ctx.random(), ctx.random());
    ///     let inner = ctx.scope("inner", async |ctx| Ok(ctx.uuid())).await?;
    ///     Ok(a != b && ctx.uuid() != inner)
    /// }
    /// # const W: Workflow<u64, bool> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, draw).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 0).await?, true);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.draw("`uuid`").to_le_bytes()).into_uuid()
    }

    fn draw(&self, what: &str) -> u128 {
        self.assert_here(what);
        self.core.state().fingerprint.add_draw(self.scope.path());
        let (incarnation, generation) = self.core.state().seed;
        self.scope.draw(incarnation, generation)
    }

    fn assert_here(&self, what: &str) {
        if let Err(error) = self.core.check_place(what) {
            panic!("{error}");
        }
    }

    /// The run's id, as its caller chose it.
    pub fn id(&self) -> &str {
        self.core.id()
    }
}

/// A claimed scope. Closed when it is dropped, polled or not.
pub(crate) struct OpenScope {
    core: Arc<RunCore>,
    claim: Claim,
    op: usize,
}

impl OpenScope {
    pub(crate) fn polled(&mut self) {
        self.claim.polled();
    }

    pub(crate) fn key(&self) -> &str {
        &self.claim.key
    }

    pub(crate) fn inner(&self) -> Ctx {
        Ctx { core: self.core.clone(), scope: Scope::under(&self.claim.key) }
    }

    /// The chance that spreads the pause after attempt `attempt`.
    pub(crate) fn chance(&self, attempt: u32) -> u64 {
        retry_chance(self.core.incarnation, self.core.generation(), &self.claim.key, attempt)
    }
}

impl Drop for OpenScope {
    fn drop(&mut self) {
        self.core.close(self.op);
    }
}
