//! Children: runs that a run starts and whose outcome it may wait for. Here how a workflow starts one, waits for it and
//! cancels it; what they say to each other is in `driver/children`.

use std::{
    future::Future,
    marker::PhantomData,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use serde_json::value::RawValue;

use crate::{
    Ctx, Op, Workflow,
    body::{Data, decodes_as},
    client::json_of,
    digest::{Digest, Incarnation},
    driver::{
        children::child_id,
        commands::{Call, Tells},
        run::{RunCore, Wants},
        stack::{self, Frame},
        table::Sort,
    },
    error::{Code, Error, Result},
    journal::{ChildStarted, Entry, Kind, Site, Start, StartedBy, decode, encode},
    name::{RUN_ID_BYTES_MAX, check_name, check_run_id},
    op::Wait,
    scope::Claim,
    store::{NewRun, Parent},
    stuck::StuckReason,
};

/// The start of a child; awaiting it is ready at once and gives its handle.
///
/// # Cancel safety
/// Dropped before its first poll nothing is started.
#[must_use = "a child is not started until this is awaited"]
pub struct StartChild<O>(Result<Starting, Option<Error>>, PhantomData<fn() -> O>);

/// A child that is to be started.
struct Starting {
    core: Arc<RunCore>,
    claim: Claim,
    site: &'static Location<'static>,
    id: Arc<str>,
    workflow: &'static str,
    input: Box<RawValue>,
    digest: Digest,
    closes: bool,
    delay: Duration,
}

impl<O> StartChild<O> {
    /// It goes on by itself when the run that started it is over. Else it is cancelled then.
    pub fn leave(mut self) -> Self {
        if let Ok(starting) = &mut self.0 {
            starting.closes = false;
        }
        self
    }

    /// It begins after this time.
    pub fn delay(mut self, wait: Duration) -> Self {
        if let Ok(starting) = &mut self.0 {
            starting.delay = wait;
        }
        self
    }
}

impl<O: Data> Future for StartChild<O> {
    type Output = Result<Child<O>>;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let starting = match &mut self.0 {
            Ok(starting) => starting,
            Err(error) => return Poll::Ready(Err(error.take().expect("not polled after it was ready"))),
        };
        if let Err(error) = starting.core.check_place("starting a child") {
            return Poll::Ready(Err(error));
        }
        match starting.begin() {
            true => Poll::Ready(Ok(Child {
                core: starting.core.clone(),
                key: starting.claim.key.clone(),
                id: starting.id.clone(),
                ends: PhantomData,
            })),
            // The run is stuck: the driver drops the function.
            false => Poll::Pending,
        }
    }
}

impl<O> std::fmt::Debug for StartChild<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartChild").field("id", &self.0.as_ref().map(|starting| &starting.id)).finish()
    }
}

impl Starting {
    /// Starts it, or finds its start in the journal; `false` if that is another one.
    fn begin(&self) -> bool {
        let (core, key) = (&self.core, &self.claim.key);
        let call = Call { kind: Kind::ChildStarted, key: key.clone(), site: self.site };
        let made = ChildStarted { id: self.id.to_string(), workflow: self.workflow.to_string() };
        let recorded = core.command(call, || (encode(&made), Tells::Child(Box::new(self.new_run()))));
        let Some(body) = recorded else { return true };
        let detail = match decode::<ChildStarted>(&body) {
            Ok(recorded) if recorded == made => return true,
            Ok(ChildStarted { id, workflow }) => format!(
                "child `{key}` was recorded as run `{id}` of `{workflow}`, and is now run `{}` of `{}` ({})",
                self.id, self.workflow, self.site
            ),
            Err(why) => format!("the start of child `{key}` cannot be read: {why}"),
        };
        core.be_stuck(StuckReason::Diverged, key, detail);
        false
    }

    fn new_run(&self) -> NewRun {
        let worker = &self.core.worker;
        let (run, generation) = (self.core.claimed.row.run, self.core.generation());
        let key = &self.claim.key;
        let (incarnation, at) = (self.core.incarnation, worker.clock.now());
        let start = Start {
            incarnation: Incarnation(worker.entropy.draw()),
            digest: self.digest,
            input: self.input.clone(),
            deadline: None,
            carried: Vec::new(),
            prefix: None,
            parent: Some(StartedBy { run: run.0, incarnation, generation, key: key.to_string() }),
        };
        let first = Entry {
            seq: 0,
            kind: Kind::Started.code(),
            key: None,
            attempt: 0,
            input: None,
            body: encode(&start),
            site: Some(Site::Here(self.site)),
            build: worker.build.clone(),
            fingerprint: 0,
            at,
        };
        let parent = Parent { run, generation, key: key.clone(), closes: self.closes, digest: self.digest };
        NewRun {
            due: at.after(self.delay),
            parent: Some(parent),
            ..NewRun::of(self.id.clone(), self.workflow.into(), first)
        }
    }
}

/// A child: a run that this run has started. Inside a workflow only; from outside it is a run like any other.
///
/// # Cancel safety
/// Dropped, the child goes on; see [`StartChild::leave`] for what becomes of it at the end.
pub struct Child<O> {
    core: Arc<RunCore>,
    key: Arc<str>,
    id: Arc<str>,
    ends: PhantomData<fn() -> O>,
}

impl<O> Child<O> {
    /// Its run id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks it to cancel, and with it its own children. Needs no await; its outcome tells whether it was. Once is enough.
    ///
    /// # What survives a crash
    /// That it was asked.
    ///
    /// # Panics
    /// As [`Ctx::publish`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, ErrorKind, Result, Workflow, days, store::Memory};
    /// # const SLOW: Workflow<u64, ()> = Workflow::new("slow");
    /// # async fn slow(ctx: Ctx, n: u64) -> Result<()> { Ok(ctx.sleep(days(n)).await) }
    /// async fn impatient(ctx: Ctx, n: u64) -> Result<bool> {
    ///     let child = ctx.child(SLOW, n).await?;
    ///     child.cancel("it is not needed any more");
    ///     Ok(child.result().await.is_err_and(|error| error.kind() == ErrorKind::Cancelled))
    /// }
    /// # const W: Workflow<u64, bool> = Workflow::new("impatient");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(SLOW, slow).register(W, impatient).start().await?;
    /// assert!(engine.run(W, "w-1", 7).await?);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn cancel(&self, why: &str) {
        if let Err(error) = self.core.check_command("`cancel`") {
            panic!("{error}");
        }
        self.core.cancel_child(&self.key, why, Location::caller());
    }
}

impl<O: Data> Child<O> {
    /// Waits for its outcome. Any number of waits get the same, whenever they come.
    ///
    /// # Errors
    /// What it failed with: message, code and typed payload are its own. [`ErrorKind::Cancelled`](crate::ErrorKind);
    /// [`ErrorKind::Conflict`](crate::ErrorKind) when its id is in use for something else. A value that does not decode as
    /// `O`. A child that is stuck is waited for until somebody has helped it.
    ///
    /// # What survives a crash
    /// An outcome, as soon as it is durable: parent and child hear of it together.
    ///
    /// # Cancel safety
    /// Dropped, it takes nothing: the next wait gets the outcome.
    #[track_caller]
    pub fn result(&self) -> Op<'_, Result<O>> {
        let wait = wait_for::<O>(&self.core, &self.key, Location::caller());
        Op::new(async move { wait?.value("child").await })
    }
}

fn wait_for<O: Data>(core: &Arc<RunCore>, key: &Arc<str>, site: &'static Location<'static>) -> Result<Wait> {
    core.check_place("waiting for a child")?;
    core.check_room()?;
    let op = core.open(key, Sort::Child, site);
    let wants = Wants { link: Some(decodes_as::<O>), ..Wants::default() };
    Ok(Wait::again(core.clone(), key.clone(), op, wants))
}

impl<O> Drop for Child<O> {
    fn drop(&mut self) {
        self.core.forget_child(&self.key);
    }
}

impl<O> std::fmt::Debug for Child<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ctx {
    /// Starts a child: another run, under an id of your choice, that any worker may take. Awaiting it is ready at once; the
    /// child exists when this run's journal says so.
    ///
    /// The child ends with this run: whatever ends it (or restarts it) cancels the children that are open, unless
    /// [`StartChild::leave`] says otherwise. The journal of this run holds the start and, if it waited for it, the outcome
    /// of the child and nothing between: work that is long, or that somebody looks at by itself, belongs into a child.
    ///
    /// # Errors
    /// A bad name or id, an input over its limit, or misuse as for steps. An id that is in use is an error of
    /// [`Child::result`].
    ///
    /// # What survives a crash
    /// The start: this run's entry and the child's are one transaction.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const SUM: Workflow<(u64, u64), u64> = Workflow::new("sum");
    /// async fn sum(ctx: Ctx, (from, to): (u64, u64)) -> Result<u64> {
    ///     if to - from < 3 {
    ///         return ctx.step("add", async || Ok((from..to).sum::<u64>())).await;
    ///     }
    ///     let middle = (from + to) / 2;
    ///     let left = ctx.start(SUM, format!("{}-left", ctx.id()), (from, middle)).await?;
    ///     let right = ctx.start(SUM, format!("{}-right", ctx.id()), (middle, to)).await?;
    ///     Ok(left.result().await? + right.result().await?)
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(SUM, sum).start().await?;
    /// assert_eq!(engine.run(SUM, "s-1", (0, 10)).await?, 45);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn start<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> StartChild<O> {
        let id = id.into();
        let checked = check_run_id(&id).map(|()| Some(id.into()));
        self.starting(workflow.name(), checked, &input, Location::caller())
    }

    /// Starts a child under an id that is made from this run's and the child's key: `order-7/ship`, `order-7/ship#2`. In
    /// all else like [`Ctx::start`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const SHIP: Workflow<String, String> = Workflow::new("ship");
    /// # async fn ship(_: Ctx, item: String) -> Result<String> { Ok(item) }
    /// async fn order(ctx: Ctx, items: Vec<String>) -> Result<String> {
    ///     let mut shipped = Vec::new();
    ///     for item in items {
    ///         shipped.push(ctx.child(SHIP, item).await?);
    ///     }
    ///     let ids: Vec<_> = shipped.iter().map(|child| child.id()).collect();
    ///     Ok(ids.join(", "))
    /// }
    /// # const ORDER: Workflow<Vec<String>, String> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(SHIP, ship).register(ORDER, order).start().await?;
    /// let items = ["desk", "lamp"].map(str::to_string).to_vec();
    /// assert_eq!(engine.run(ORDER, "order-7", items).await?, "order-7/ship, order-7/ship#2");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn child<I: Data, O: Data>(&self, workflow: Workflow<I, O>, input: I) -> StartChild<O> {
        self.starting(workflow.name(), Ok(None), &input, Location::caller())
    }

    /// Runs a child and waits for its value. Its id is that of [`Ctx::child`].
    ///
    /// # Errors
    /// Those of [`Ctx::start`] and of [`Child::result`].
    ///
    /// # Cancel safety
    /// Dropped before its first poll nothing is started. Dropped later the child goes on until this run is over.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// const FIB: Workflow<u64, u64> = Workflow::new("fib");
    /// async fn fib(ctx: Ctx, n: u64) -> Result<u64> {
    ///     if n < 2 {
    ///         return Ok(n);
    ///     }
    ///     let (a, b) = (ctx.run(FIB, n - 1), ctx.run(FIB, n - 2));
    ///     let (a, b) = everstep_core::try_join!(a, b)?;
    ///     Ok(a + b)
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(FIB, fib).start().await?;
    /// assert_eq!(engine.run(FIB, "fib-6", 6).await?, 8);
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn run<I: Data, O: Data>(&self, workflow: Workflow<I, O>, input: I) -> Op<'static, Result<O>> {
        let site = Location::caller();
        let mut start: StartChild<O> = self.starting(workflow.name(), Ok(None), &input, site);
        Op::new(async move {
            let core = match &mut start.0 {
                Ok(starting) => {
                    check_here(&starting.core)?;
                    // It is one operation to its end: another of its name beside it would depend on the order of polls.
                    starting.claim.polled();
                    starting.core.clone()
                }
                Err(error) => return Err(error.take().expect("polled once")),
            };
            let child = (&mut start).await?;
            let result = wait_for::<O>(&core, &child.key, site)?.value("child").await;
            drop(start);
            result
        })
    }

    fn starting<I: Data, O>(
        &self,
        workflow: &'static str,
        id: Result<Option<Arc<str>>>,
        input: &I,
        site: &'static Location<'static>,
    ) -> StartChild<O> {
        let starting = id.and_then(|id| self.try_starting(workflow, id, input, site));
        StartChild(starting.map_err(Some), PhantomData)
    }

    fn try_starting<I: Data>(
        &self,
        workflow: &'static str,
        id: Option<Arc<str>>,
        input: &I,
        site: &'static Location<'static>,
    ) -> Result<Starting> {
        self.core.check_place(&format!("child `{workflow}`"))?;
        self.core.check_room()?;
        check_name("workflow", workflow)?;
        let input = json_of("the input of a child", input, self.payload_bytes_max())
            .map_err(|error| Error::misuse(error.code(), error.to_string()))?;
        let digest = Digest::of_json(input.get().as_bytes()).map_err(|why| {
            Error::misuse(Code::NOT_RECORDABLE, format!("the input of a child has no digest: {why}"))
        })?;
        let claim = self.scope.claim("child", workflow)?;
        self.core.claim_child(&claim.key, site);
        let own = || child_id(self.core.id(), self.core.generation(), &claim.key, RUN_ID_BYTES_MAX);
        let id = id.unwrap_or_else(own);
        let (core, delay) = (self.core.clone(), Duration::ZERO);
        Ok(Starting { core, claim, site, id, workflow, input, digest, closes: true, delay })
    }
}

fn check_here(core: &RunCore) -> Result<()> {
    match stack::top() {
        Frame::Function(run) if run == core.address() => Ok(()),
        _ => core.check_place("running a child"),
    }
}
