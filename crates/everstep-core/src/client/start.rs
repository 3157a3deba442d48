//! Starts: one, many, and what they write. What one start can be told besides is in `options`.

use std::{panic::Location, sync::Arc};

use super::{Client, Start, json_of};
use crate::{
    Op, Workflow,
    body::Data,
    digest::{Digest, Incarnation},
    engine::Adoption,
    error::{Code, EngineError, Error, ErrorKind},
    failpoint::{Failpoint, fails, pass},
    journal::{Entry, Kind, Site, Start as First, decode, encode},
    name::{check_name, check_run_id},
    run::Run,
    store::{NewRun, RunId, RunRow, Started, StoreError},
};

/// What became of each start of a batch, in its order.
pub type Batch<O> = Vec<Result<Run<O>, EngineError>>;

impl Client {
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
        Start::new(self.clone(), run)
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
        let input = json_of(&format!("the input of run `{id}`"), input, self.payload_bytes_max())?;
        let digest = Digest::of_json(input.get().as_bytes()).map_err(|why| {
            Error::misuse(Code::NOT_RECORDABLE, format!("the input of run `{id}` has no digest: {why}"))
        })?;
        let at = self.clock.now();
        let first = Entry {
            seq: 0,
            kind: Kind::Started.code(),
            key: None,
            attempt: 0,
            input: None,
            body: encode(&First {
                incarnation: Incarnation(self.entropy.draw()),
                digest,
                input,
                deadline: None,
                carried: Vec::new(),
                parent: None,
                prefix: None,
            }),
            site: Some(Site::Here(site)),
            build: self.worker.as_ref().map_or_else(|| "client".into(), |worker| worker.build.clone()),
            fingerprint: 0,
            at,
        };
        Ok(NewRun::of(id.into(), workflow.name().into(), first))
    }

    /// The handle of a run that a store crate's `start_in` has written.
    #[doc(hidden)]
    pub fn accept_start<O>(&self, run: NewRun, started: Started) -> Result<Run<O>, EngineError> {
        self.accept(run, started, None)
    }

    pub(super) async fn submit(
        &self,
        mut runs: Vec<NewRun>,
    ) -> Result<(Vec<Started>, Option<Arc<Adoption>>), EngineError> {
        if fails(Failpoint::StartSent) {
            return Err(StoreError::Full("a failpoint failed".into()).into());
        }
        let Some(worker) = &self.worker else { return Ok((self.store.start(runs, None).await?, None)) };
        // Takes places in memory for as many as there is room; the rest is claimed when there is.
        let now = self.clock.now();
        // One with letters is claimed like others, which reads them.
        let begins = |run: &NewRun| worker.knows(&run.workflow) && run.due <= now && run.letters.is_empty();
        let known = runs.iter().filter(|run| begins(run)).count();
        let places = if worker.may_start() { worker.reserve(known) } else { 0 };
        let mut left = places;
        for run in runs.iter_mut().filter(|run| begins(run)) {
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
        pass(Failpoint::StartDurable);
        match started {
            Started::New(number) => Ok(self.new_handle(number, run.id, adoption)),
            Started::Known(row, first) => match difference(&run, &row, &first) {
                None => Ok(Run::new(self.store.clone(), row.run, row.id)),
                Some(difference) => Err(in_use(&row.id, &difference)),
            },
        }
    }

    pub(super) fn new_handle<O>(&self, number: RunId, id: Arc<str>, adoption: Option<&Adoption>) -> Run<O> {
        let listener = adoption.and_then(|adoption| adoption.listener(number));
        Run::new(self.store.clone(), number, id).with(listener)
    }
}

/// The id belongs to another run.
pub(super) fn in_use(id: &str, why: &str) -> EngineError {
    EngineError::new(ErrorKind::Conflict, Code::CONFLICT, format!("run id `{id}` is in use: {why}"))
}

/// How a start differs from the run that has its id; `None` if it is the same.
pub(super) fn difference(run: &NewRun, row: &RunRow, first: &Entry) -> Option<String> {
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
