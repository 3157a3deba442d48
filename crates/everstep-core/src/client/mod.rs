//! The verbs from outside: start, look, wait, and what people do to runs, of which `verb` is the table. An engine has
//! them all; a client alone has no worker.

mod act;
mod back;
mod bulk;
mod delete;
mod fork;
mod list;
mod options;
mod pause;
mod people;
mod promise;
mod request;
mod said;
mod signal;
mod start;
mod verb;

use std::{any::Any, sync::Arc};

use serde_json::value::RawValue;

pub use act::ACTS_MAX;
pub use bulk::{BULK_TOLD_MAX, Bulk, BulkDone, BulkEvent};
pub use delete::PURGE_BATCH;
pub use fork::Fork;
pub(crate) use list::bad_filter;
pub use list::{COUNT_MAX, LIST_LIMIT, List};
pub use options::{OnOpen, Reuse, Start};
pub use request::SendRequest;
pub use said::{Item, Items};
pub use signal::SendSignal;
pub use start::Batch;
pub use verb::{Allowed, Touches, Verb};

use crate::{
    Workflow,
    body::Data,
    clock::Clock,
    engine::Worker,
    entropy::Entropy,
    error::{Code, EngineError, Error, ErrorKind},
    name::{check_run_id, limit_error},
    run::Run,
    settings::PAYLOAD_BYTES_MAX,
    status::Status,
    store::{RunRow, Store},
};

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
    /// Who acts by it.
    who: Arc<str>,
    /// Why, unless the verb says it.
    why: Arc<str>,
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

    /// A client of a store whose kind is known only at run time.
    ///
    /// ```
    /// # use everstep_core::{Client, EngineError, store::{Memory, Store}};
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// let store: Arc<dyn Store> = Arc::new(Memory::default()); // whatever the configuration says
    /// assert_eq!(Client::on(store).count("").await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on(store: Arc<dyn Store>) -> Self {
        Client::of(store, Clock::system(), Entropy::system(), None)
    }

    /// A client in a simulated world: see [`Simulation`](crate::Simulation).
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated(store: impl Store, world: &crate::Simulation) -> Self {
        Client::of(Arc::new(store), world.clock.clone(), world.entropy.clone(), None)
    }

    /// Its store, for what only that kind of store has: the seam of the store crates' `start_in` and `signal_in`.
    #[doc(hidden)]
    pub fn store_of<S: Store>(&self, what: &str, name: &str) -> Result<&S, EngineError> {
        let (store, runs_on): (&dyn Any, _) = (&*self.store, self.store.name());
        store.downcast_ref().ok_or_else(|| {
            let why = format!("`{what}` of `{name}` by a client of `{runs_on}`: use the trait of that store");
            Error::misuse(Code::WRONG_STORE, why).into()
        })
    }

    pub(crate) fn of(
        store: Arc<dyn Store>,
        clock: Clock,
        entropy: Entropy,
        worker: Option<Arc<Worker>>,
    ) -> Self {
        Client { store, clock, entropy, worker, who: act::this_process(), why: "".into() }
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

    pub(crate) async fn row(&self, id: &str) -> Result<RunRow, EngineError> {
        check_run_id(id)?;
        self.store.run(id.into()).await?.ok_or_else(|| not_found(id))
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
}

/// The JSON of a value that the run must be able to read again after a crash.
pub(crate) fn json_of<T: Data>(
    what: &str,
    value: &T,
    bytes_max: usize,
) -> Result<Box<RawValue>, EngineError> {
    let unreadable = |why: serde_json::Error| {
        let advice = "the workflow must be able to read it again after a crash";
        let message = format!("{what} does not come back from its own JSON: {why}; {advice}");
        EngineError::from(Error::misuse(Code::NOT_RECORDABLE, message))
    };
    let json = serde_json::value::to_raw_value(value).map_err(unreadable)?;
    if json.get().len() > bytes_max {
        let (bytes, advice) = (json.get().len(), "Keep large data elsewhere and pass where it is");
        let message = format!("{what} has {bytes} bytes, and at most {bytes_max} are allowed. {advice}");
        return Err(limit_error(Code::TOO_LARGE, message).into());
    }
    drop(serde_json::from_str::<T>(json.get()).map_err(unreadable)?);
    Ok(json)
}

fn not_found(id: &str) -> EngineError {
    EngineError::new(ErrorKind::NotFound, Code::NOT_FOUND, format!("there is no run `{id}`"))
}
