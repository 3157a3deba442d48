//! The verbs from outside: start, look, wait, cancel, answer, retry. An engine has them all; a client alone has no
//! worker.

use std::{
    future::Future,
    marker::PhantomData,
    panic::Location,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use serde_json::value::RawValue;

use crate::{
    Op, Workflow,
    body::Data,
    clock::Clock,
    digest::{Digest, Incarnation},
    engine::{Adoption, Worker},
    entropy::Entropy,
    error::{Code, EngineError, Error, ErrorKind},
    journal::{Answer, Entry, Failure, Kind, Payload, Site, Start as First, decode, encode},
    name::{check_name, check_run_id, limit_error},
    run::{Run, RunInfo},
    settings::PAYLOAD_BYTES_MAX,
    status::{Status, StatusSet},
    store::{
        Cut, Filter, Letter, LetterId, LetterKind, NewRun, Post, Posted, RunRow, Started, Store, StoreError,
    },
    stuck::StuckReason,
};

/// Runs listed at once unless [`List::limit`] says otherwise.
pub const LIST_LIMIT: usize = 100;

/// Every verb, and no worker: what a web handler or a command-line tool needs.
///
/// ```
/// # use everstep_core::{Client, Ctx, Engine, EngineError, Result, Workflow, store::Memory};
/// # const GREET: Workflow<String, String> = Workflow::new("greet");
/// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
/// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), EngineError> {
/// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
/// let client: Client = (*engine).clone(); // or `Client::new(store)`, in a process without workers
/// let run = client.start(GREET, "ada", "Ada".to_string()).await?;
/// assert_eq!(run.result().await?, "hello Ada");
/// # engine.shutdown().await
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) store: Arc<dyn Store>,
    clock: Clock,
    entropy: Entropy,
    worker: Option<Arc<Worker>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("store", &self.store.name()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of `store`.
    pub fn new(store: impl Store) -> Self {
        Client::of(Arc::new(store), Clock::system(), Entropy::system(), None)
    }

    /// A client in a simulated world: see [`Simulation`](crate::Simulation).
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated(store: impl Store, world: &crate::Simulation) -> Self {
        Client::of(Arc::new(store), world.clock, world.entropy.clone(), None)
    }

    pub(crate) fn of(
        store: Arc<dyn Store>,
        clock: Clock,
        entropy: Entropy,
        worker: Option<Arc<Worker>>,
    ) -> Self {
        Client { store, clock, entropy, worker }
    }

    /// Starts a run of `workflow` under `id`. Awaiting it returns when the start is durable.
    ///
    /// The same start again is the same run, open or finished: `id` makes it idempotent.
    ///
    /// # Errors
    /// A conflict, with the difference, when `id` is in use with another workflow or input; a bad id; an input over
    /// its limit; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged start. If the process dies before, the run may be there or not: start it again, it is the same run.
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
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?; // durable when it returns
    /// let same = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert_eq!(run.result().await?, same.result().await?);
    ///
    /// let other = engine.start(GREET, "ada", "Grace".to_string()).await;
    /// assert!(other.is_err_and(|e| e.is_conflict()));
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn start<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> Start<O> {
        let run = self.new_run(workflow, id.into(), &input, Location::caller());
        let client = self.clone();
        Start(Op::new(async move {
            let run = run?;
            let (started, adoption) = client.submit(vec![run.clone()]).await?;
            let started = started.into_iter().next().expect("one answer for one start");
            client.accept(run, started, adoption.as_deref())
        }))
    }

    /// Starts many runs of one workflow with one wait. Each is decided by itself: a conflict hinders no other.
    ///
    /// # Errors
    /// The store's, for all of them; what is wrong with one is in its place.
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
    /// let names = ["Ada", "Grace"].map(|name| (name.to_lowercase(), name.to_string()));
    /// for run in engine.start_batch(GREET, names).await? {
    ///     assert!(run?.result().await?.starts_with("hello"));
    /// }
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn start_batch<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        inputs: impl IntoIterator<Item = (String, I)>,
    ) -> Op<'static, Result<Batch<O>, EngineError>> {
        let site = Location::caller();
        let made: Vec<_> =
            inputs.into_iter().map(|(id, input)| self.new_run(workflow, id, &input, site)).collect();
        let client = self.clone();
        Op::new(async move {
            let good: Vec<NewRun> = made.iter().filter_map(|run| run.as_ref().ok()).cloned().collect();
            let (started, adoption) = client.submit(good).await?;
            let mut started = started.into_iter();
            let each = |run: Result<NewRun, EngineError>| {
                client.accept(
                    run?,
                    started.next().expect("one answer for each good start"),
                    adoption.as_deref(),
                )
            };
            Ok(made.into_iter().map(each).collect())
        })
    }

    /// Starts a run and waits for its result.
    ///
    /// # Errors
    /// Those of [`Client::start`] and [`Run::result`].
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
    /// assert_eq!(engine.run(GREET, "ada", "Ada".to_string()).await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn run<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        input: I,
    ) -> Op<'static, Result<O, EngineError>> {
        let start = self.start(workflow, id, input);
        Op::new(async move { start.await?.result().await })
    }

    /// The run of `workflow` with this id.
    ///
    /// # Errors
    /// Not found; of another workflow; the store's.
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
    /// engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// // Later, or in another process:
    /// assert_eq!(engine.get(GREET, "ada").await?.result().await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn get<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        id: impl Into<String> + Send,
    ) -> Result<Run<O>, EngineError> {
        let row = self.row(&id.into()).await?;
        if &*row.workflow != workflow.name() {
            return Err(EngineError::new(
                ErrorKind::Misuse,
                Code::WRONG_WORKFLOW,
                format!("run `{}` belongs to workflow `{}`, not `{}`", row.id, row.workflow, workflow.name()),
            ));
        }
        Ok(Run::new(self.store.clone(), row.run, row.id))
    }

    /// Runs that match, newest first: `workflow = onboard and status in (failed, stuck) and created > -1d`; an empty
    /// filter matches all.
    ///
    /// # Errors
    /// A filter that cannot be read, with the place; the store's.
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
    /// engine.run(GREET, "grace", "Grace".to_string()).await?;
    /// let newest = engine.list("workflow = greet and status = completed").limit(1).await?;
    /// let before = engine.list("").after(&newest[0]).await?;
    /// assert_eq!([&*newest[0].id, &*before[0].id], ["grace", "ada"]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn list(&self, filter: &str) -> List {
        let filter = Filter::parse(filter, self.clock.now());
        List { store: self.store.clone(), filter, before: None, limit: LIST_LIMIT, answer: None }
    }

    /// How many runs there are, by workflow and status.
    ///
    /// # Errors
    /// The store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Status, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// assert_eq!(engine.counts().await?, [("greet".into(), Status::Completed, 1)]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn counts(&self) -> Result<Vec<(Arc<str>, Status, u64)>, EngineError> {
        Ok(self.store.counts().await?)
    }

    /// Asks to cancel a run: its function is dropped at the next thing that reaches it, and it ends `cancelled`. A stuck
    /// run is cancelled without calling its function. Cancelling a cancelled run is no error.
    ///
    /// # Errors
    /// Not found; over already; the store's.
    ///
    /// # What survives a crash
    /// An acknowledged cancel.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.sleep(days(1)).await;
    ///     Ok(format!("hello {name}"))
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// # tokio::task::yield_now().await;
    /// engine.cancel("ada", "she has greeted us first").await?;
    /// assert!(run.result().await.is_err_and(|e| e.to_string().contains("greeted us first")));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn cancel(&self, id: &str, why: &str) -> Result<(), EngineError> {
        let letter = self.letter(LetterKind::Cancel, "cancel", Payload::json(why.as_bytes()));
        self.check_size("a reason", why.len())?;
        match self.post(id, letter, StatusSet::OPEN, false).await? {
            Posted::Refused(Status::Cancelled) | Posted::Added | Posted::Known => Ok(()),
            Posted::Refused(status) => Err(not_allowed(id, "cancel", status)),
            Posted::NoSuchRun => Err(not_found(id)),
        }
    }

    /// Answers for the step that a stuck run waits for (in doubt, or its retries spent): the run goes on with the answer.
    ///
    /// # Errors
    /// Not found; a run that does not wait for an answer; a value that is no JSON; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, journal::Answer, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.step("greet", async || -> Result<String> { Err(format!("{name} is not in").into()) }).then_stuck().await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert!(run.result().await.is_err()); // stuck: somebody has to look
    /// engine.answer("ada", Answer::Done { value: r#""hello from a person""#.to_string() }).await?;
    /// assert_eq!(run.result().await?, "hello from a person");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn answer(&self, id: &str, answer: Answer) -> Result<(), EngineError> {
        self.check_size(
            "an answer",
            match &answer {
                Answer::Done { value: text } | Answer::Fail { message: text } => text.len(),
                Answer::Retry => 0,
            },
        )?;
        if let Answer::Done { value } = &answer
            && let Err(why) = serde_json::from_str::<&RawValue>(value)
        {
            let message = format!("the answer's value is no JSON: {why}");
            return Err(EngineError::new(ErrorKind::Misuse, Code::NOT_ALLOWED, message));
        }
        let key = self.asking_step(id, "answer").await?;
        self.post_answer(id, &key, &answer).await
    }

    /// Lets a failed or stuck run go on from where it stood, under the current code.
    ///
    /// A failed run goes on before the failure that ended it, whose step is made again with its retries anew; what is
    /// taken back goes to the archive. A stuck run is loaded again; one that waits for an answer about a step in doubt
    /// wants [`Client::answer`].
    ///
    /// # Errors
    /// Not found; neither failed nor stuck; in doubt; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # static SHE_IS_IN: AtomicBool = AtomicBool::new(false);
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.step("greet", async || match SHE_IS_IN.load(SeqCst) {
    ///         true => Ok(format!("hello {name}")),
    ///         false => Err("nobody is in".into()),
    ///     })
    ///     .await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert!(run.result().await.is_err());
    /// SHE_IS_IN.store(true, SeqCst);
    /// engine.retry("ada").await?;
    /// assert_eq!(run.result().await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn retry(&self, id: &str) -> Result<(), EngineError> {
        let row = self.row(id).await?;
        match row.status {
            Status::Failed => self.retry_failed(&row).await,
            Status::Stuck => self.retry_stuck(&row).await,
            status => Err(not_allowed(id, "retry", status)),
        }
    }

    async fn retry_failed(&self, row: &RunRow) -> Result<(), EngineError> {
        let loaded = self.store.load(row.run).await?;
        let damaged = || {
            EngineError::new(
                ErrorKind::Store,
                Code::DAMAGED,
                format!("the journal of run `{}` has no failure at its end", row.id),
            )
        };
        let last = loaded
            .entries
            .last()
            .filter(|last| last.known_kind() == Some(Kind::Failed))
            .ok_or_else(damaged)?;
        let failure: Failure = decode(&last.body).map_err(|_| damaged())?;
        let cause = failure.cause.and_then(|seq| loaded.entries.get(usize::try_from(seq).ok()?));
        let letters = cause
            .and_then(|entry| entry.key.as_deref())
            .map(|key| self.letter(LetterKind::Answer, key, encode(&Answer::Retry)));
        let cut = Cut {
            run: row.run,
            only: StatusSet::of(&[Status::Failed]),
            inbox_n: row.inbox_n,
            from: cause.map_or(last.seq, |entry| entry.seq),
            letters: letters.into_iter().collect(),
            why: "retry".to_string(),
            at: self.clock.now(),
        };
        self.cut(row, cut).await
    }

    async fn retry_stuck(&self, row: &RunRow) -> Result<(), EngineError> {
        let stuck = self.store.stuck(row.run).await?;
        match stuck.map(|stuck| (stuck.reason, stuck.key)) {
            Some((StuckReason::InDoubt, _)) => Err(EngineError::new(
                ErrorKind::NotAllowed,
                Code::NOT_ALLOWED,
                format!(
                    "run `{}` waits for an answer about a step in doubt: use `answer` with done, retry or fail",
                    row.id
                ),
            )),
            Some((StuckReason::RetriesSpent, Some(key))) => {
                self.post_answer(&row.id, &key, &Answer::Retry).await
            }
            _ => {
                let cut = Cut {
                    run: row.run,
                    only: StatusSet::of(&[Status::Stuck]),
                    inbox_n: row.inbox_n,
                    from: u64::MAX,
                    letters: Vec::new(),
                    why: "retry".to_string(),
                    at: self.clock.now(),
                };
                self.cut(row, cut).await
            }
        }
    }

    async fn cut(&self, row: &RunRow, cut: Cut) -> Result<(), EngineError> {
        match self.store.cut(cut).await? {
            true => Ok(()),
            false => Err(EngineError::new(
                ErrorKind::NotAllowed,
                Code::NOT_ALLOWED,
                format!("run `{}` has moved on meanwhile: look at it again", row.id),
            )),
        }
    }

    /// The step that a stuck run wants an answer about.
    async fn asking_step(&self, id: &str, verb: &str) -> Result<Arc<str>, EngineError> {
        let row = self.row(id).await?;
        if row.status != Status::Stuck {
            return Err(not_allowed(id, verb, row.status));
        }
        match self.store.stuck(row.run).await? {
            Some(stuck) if matches!(stuck.reason, StuckReason::InDoubt | StuckReason::RetriesSpent) => {
                stuck.key.ok_or_else(|| not_allowed(id, verb, row.status))
            }
            Some(stuck) => Err(EngineError::new(
                ErrorKind::NotAllowed,
                Code::NOT_ALLOWED,
                format!("run `{id}` is stuck, but not waiting for an answer: {stuck}"),
            )),
            None => Err(not_allowed(id, verb, row.status)),
        }
    }

    async fn post_answer(&self, id: &str, key: &str, answer: &Answer) -> Result<(), EngineError> {
        let letter = self.letter(LetterKind::Answer, key, encode(answer));
        match self.post(id, letter, StatusSet::of(&[Status::Stuck]), true).await? {
            Posted::Added | Posted::Known => Ok(()),
            Posted::Refused(status) => Err(not_allowed(id, "answer", status)),
            Posted::NoSuchRun => Err(not_found(id)),
        }
    }

    fn payload_bytes_max(&self) -> usize {
        self.worker.as_ref().map_or(PAYLOAD_BYTES_MAX, |worker| worker.settings.payload_bytes_max)
    }

    fn check_size(&self, what: &str, bytes: usize) -> Result<(), EngineError> {
        let limit = self.payload_bytes_max();
        if bytes <= limit {
            return Ok(());
        }
        let message = format!("{what} has at most {limit} bytes; this one has {bytes}");
        Err(limit_error(Code::TOO_LARGE, message).into())
    }

    async fn post(
        &self,
        id: &str,
        letter: Letter,
        only: StatusSet,
        revive: bool,
    ) -> Result<Posted, EngineError> {
        check_run_id(id)?;
        Ok(self.store.post(Post { to: id.into(), letter, only, revive }).await?)
    }

    fn letter(&self, kind: LetterKind, name: &str, body: Payload) -> Letter {
        let id = LetterId(self.entropy.draw());
        Letter { id, kind: kind as u16, name: name.into(), body, at: self.clock.now() }
    }

    async fn row(&self, id: &str) -> Result<RunRow, EngineError> {
        check_run_id(id)?;
        self.store.run(id.into()).await?.ok_or_else(|| not_found(id))
    }

    async fn submit(
        &self,
        mut runs: Vec<NewRun>,
    ) -> Result<(Vec<Started>, Option<Arc<Adoption>>), EngineError> {
        let Some(worker) = &self.worker else { return Ok((self.store.start(runs, None).await?, None)) };
        // Takes places in memory for as many as there is room; the rest is claimed when there is.
        let known = runs.iter().filter(|run| worker.knows(&run.workflow)).count();
        let places = if worker.may_start() { worker.reserve(known) } else { 0 };
        let mut left = places;
        for run in runs.iter_mut().filter(|run| worker.knows(&run.workflow)) {
            run.claim = left > 0;
            left = left.saturating_sub(1);
        }
        if places == 0 {
            return Ok((self.store.start(runs, None).await?, None));
        }
        let adoption = Arc::new(Adoption::new(worker.clone(), places));
        match self.store.start(runs.clone(), Some((worker.fence, adoption.clone()))).await {
            // Nothing was started. To start a run needs no worker: another one takes it up.
            Err(StoreError::Fenced(_)) => {
                worker.lost();
                Ok((self.store.start(runs, None).await?, None))
            }
            started => Ok((started?, Some(adoption))),
        }
    }

    fn accept<O>(
        &self,
        run: NewRun,
        started: Started,
        adoption: Option<&Adoption>,
    ) -> Result<Run<O>, EngineError> {
        match started {
            Started::New(number) => {
                let listener = adoption.and_then(|adoption| adoption.listener(number));
                Ok(Run::new(self.store.clone(), number, run.id).with(listener))
            }
            Started::Known(row, first) => match difference(&run, &row, &first) {
                None => Ok(Run::new(self.store.clone(), row.run, row.id)),
                Some(difference) => Err(EngineError::new(
                    ErrorKind::Conflict,
                    Code::CONFLICT,
                    format!("run id `{}` is in use: {difference}", row.id),
                )),
            },
        }
    }

    /// What a start writes; also the seam of the store crates' `start_in`.
    #[doc(hidden)]
    pub fn new_run<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        id: String,
        input: &I,
        site: &'static Location<'static>,
    ) -> Result<NewRun, EngineError> {
        check_name("workflow", workflow.name())?;
        check_run_id(&id)?;
        let unreadable = |why: String| {
            let advice = "the workflow must be able to read it again after a crash";
            Error::misuse(
                Code::NOT_RECORDABLE,
                format!("the input of run `{id}` does not come back from its own JSON: {why}; {advice}"),
            )
        };
        let input = serde_json::value::to_raw_value(input).map_err(|e| unreadable(e.to_string()))?;
        let limit = self.payload_bytes_max();
        if input.get().len() > limit {
            let message = format!(
                "an input has at most {limit} bytes; that of run `{id}` has {}. Keep large data elsewhere and pass where it is",
                input.get().len()
            );
            return Err(limit_error(Code::TOO_LARGE, message).into());
        }
        let digest = Digest::of_json(input.get().as_bytes()).map_err(unreadable)?;
        drop(serde_json::from_str::<I>(input.get()).map_err(|e| unreadable(e.to_string()))?);
        let at = self.clock.now();
        let first = Entry {
            seq: 0,
            kind: Kind::Started.code(),
            key: None,
            attempt: 0,
            input: None,
            body: encode(&First { incarnation: Incarnation(self.entropy.draw()), digest, input }),
            site: Some(Site::Here(site)),
            build: self.worker.as_ref().map_or_else(|| "client".into(), |worker| worker.build.clone()),
            fingerprint: 0,
            at,
        };
        Ok(NewRun {
            id: id.into(),
            workflow: workflow.name().into(),
            first,
            due: at,
            trace: None,
            claim: false,
        })
    }

    /// The handle of a run that a store crate's `start_in` has written.
    #[doc(hidden)]
    pub fn accept_start<O>(&self, run: NewRun, started: Started) -> Result<Run<O>, EngineError> {
        self.accept(run, started, None)
    }
}

/// How a start differs from the run that has its id; `None` if it is the same.
fn difference(run: &NewRun, row: &RunRow, first: &Entry) -> Option<String> {
    if run.workflow != row.workflow {
        return Some(format!(
            "it belongs to workflow `{}`, and this start is of `{}`",
            row.workflow, run.workflow
        ));
    }
    let (old, new) = (decode::<First>(&first.body), decode::<First>(&run.first.body).expect("made just now"));
    match old {
        Ok(old) if old.digest == new.digest => None,
        Ok(old) => Some(format!(
            "it was started with the input {}, and this start has {}",
            short(old.input.get()),
            short(new.input.get())
        )),
        Err(why) => Some(format!("its own input cannot be read ({why}), so it cannot be compared")),
    }
}

fn short(json: &str) -> String {
    const SHOWN: usize = 200;
    match json.char_indices().nth(SHOWN) {
        None => json.to_string(),
        Some((end, _)) => format!("{}… ({} bytes)", &json[..end], json.len()),
    }
}

fn not_found(id: &str) -> EngineError {
    EngineError::new(ErrorKind::NotFound, Code::NOT_FOUND, format!("there is no run `{id}`"))
}

fn not_allowed(id: &str, verb: &str, status: Status) -> EngineError {
    EngineError::new(
        ErrorKind::NotAllowed,
        Code::NOT_ALLOWED,
        format!("`{verb}` is not possible: run `{id}` is {status}"),
    )
}

/// The start of a run; awaiting it gives its handle once the start is durable.
///
/// # Cancel safety
/// Dropped before its first poll nothing is started. Dropped later the run may have been started; starting it again is
/// the same run.
#[must_use = "a run is not started until this is awaited"]
pub struct Start<O>(Op<'static, Result<Run<O>, EngineError>>);

impl<O> Future for Start<O> {
    type Output = Result<Run<O>, EngineError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<O> std::fmt::Debug for Start<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Start")
    }
}

/// A list of runs; awaiting it gives one page, newest first.
#[must_use = "nothing is listed until this is awaited"]
pub struct List {
    store: Arc<dyn Store>,
    filter: Result<Filter, crate::store::FilterError>,
    before: Option<crate::store::RunId>,
    limit: usize,
    answer: Option<Op<'static, Result<Vec<RunInfo>, EngineError>>>,
}

impl List {
    /// At most so many.
    pub fn limit(mut self, runs: usize) -> Self {
        self.limit = runs;
        self
    }

    /// The page after the one that ended with this run.
    pub fn after(mut self, last: &RunInfo) -> Self {
        self.before = Some(last.number);
        self
    }
}

impl Future for List {
    type Output = Result<Vec<RunInfo>, EngineError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = this.answer.get_or_insert_with(|| {
            let found = this.filter.clone().map(|filter| this.store.find(filter, this.before, this.limit));
            Op::new(async move {
                let found = found
                    .map_err(|e| EngineError::new(ErrorKind::Misuse, Code::BAD_FILTER, e.to_string()))?;
                Ok(found.await?.into_iter().map(RunInfo::of).collect())
            })
        });
        Pin::new(answer).poll(cx)
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("List").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// What became of each start of a batch, in its order.
pub type Batch<O> = Vec<Result<Run<O>, EngineError>>;

/// A type that only says which value a run ends with.
pub(crate) type Ends<O> = PhantomData<fn() -> O>;
