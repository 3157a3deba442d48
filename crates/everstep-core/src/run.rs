//! The handle of a run, from outside.

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Undelivered,
    body::Data,
    error::{Code, EngineError, ErrorKind},
    journal::{Entry, Outcome, decode},
    status::Status,
    store::{Ended, Heard, Listener, RunId, RunRow, Store},
    stuck::Stuck,
    time::Timestamp,
};

/// A run, from outside: wait for it, look at it. `Clone`, and good in any process that can open the store.
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
/// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
/// assert_eq!(run.result().await?, "hello Ada");
/// assert_eq!((run.id(), run.status().await?), ("ada", Status::Completed));
/// let keys: Vec<_> = run.journal().await?.into_iter().filter_map(|entry| entry.key).collect();
/// assert_eq!((keys, run.journal_len().await?), (vec!["greet".into()], 3));
/// assert_eq!(run.stuck().await?, None);
/// # engine.shutdown().await
/// # }
/// ```
pub struct Run<O> {
    store: Arc<dyn Store>,
    number: RunId,
    id: Arc<str>,
    /// Listens since the start, if this process drives the run: the first to ask for the result takes it.
    listener: Arc<Mutex<Option<Listener>>>,
    ends: Ends<O>,
}

impl<O> Clone for Run<O> {
    fn clone(&self) -> Self {
        Run {
            store: self.store.clone(),
            number: self.number,
            id: self.id.clone(),
            listener: self.listener.clone(),
            ends: PhantomData,
        }
    }
}

impl<O> std::fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a list tells of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInfo {
    /// The id that its caller chose.
    pub id: Arc<str>,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Where it stands.
    pub status: Status,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    pub(crate) number: RunId,
}

impl RunInfo {
    pub(crate) fn of(row: RunRow) -> RunInfo {
        let RunRow { run, id, workflow, status, created_at, finished_at, .. } = row;
        RunInfo { id, workflow, status, created_at, finished_at, number: run }
    }

    /// Where a list goes on after this run, as text for a link or a cookie: see
    /// [`List::after_cursor`](crate::List::after_cursor). Good for as long as the store, whatever becomes of the run.
    pub fn cursor(&self) -> String {
        format!("r{}", self.number.0)
    }

    /// The number of the run that gave this cursor; `None` if it is none.
    pub(crate) fn number_of(cursor: &str) -> Option<RunId> {
        let digits = cursor.strip_prefix('r').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok().map(RunId)
    }
}

impl<O> Run<O> {
    pub(crate) fn new(store: Arc<dyn Store>, number: RunId, id: Arc<str>) -> Self {
        Run { store, number, id, listener: Arc::default(), ends: PhantomData }
    }

    pub(crate) fn with(self, listener: Option<Listener>) -> Self {
        Run { listener: Arc::new(Mutex::new(listener)), ..self }
    }

    /// The id that its caller chose.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands, as committed.
    ///
    /// # Errors
    /// Not found, if it was deleted; the store's.
    pub async fn status(&self) -> Result<Status, EngineError> {
        Ok(self.row().await?.status)
    }

    /// Its journal, as committed.
    ///
    /// # Errors
    /// The store's.
    pub async fn journal(&self) -> Result<Vec<Entry>, EngineError> {
        Ok(self.store.load(self.number).await?.entries)
    }

    /// How many entries its journal has, as committed; cheaper than reading them.
    ///
    /// # Errors
    /// The store's.
    pub async fn journal_len(&self) -> Result<u64, EngineError> {
        Ok(self.store.last(self.number).await?.map_or(0, |last| last.seq + 1))
    }

    /// Why it is stuck, if it is.
    ///
    /// # Errors
    /// The store's.
    pub async fn stuck(&self) -> Result<Option<Stuck>, EngineError> {
        Ok(self.store.stuck(self.number).await?)
    }

    /// Signals that were acknowledged and that no wait of the run has returned so far, in the order in which they would
    /// be. Once the run is over these are for nobody any more: the report of what its senders were promised.
    ///
    /// # Errors
    /// The store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Signal, Workflow, store::Memory};
    /// # const PAID: Signal<u64> = Signal::new("paid");
    /// # async fn order(ctx: Ctx, _: ()) -> Result<u64> { ctx.signal(PAID).await }
    /// # const ORDER: Workflow<(), u64> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(ORDER, order).start().await?;
    /// # let run = engine.start(ORDER, "o-1", ()).await?;
    /// engine.signal("o-1", "paying", 20u64).await?; // a name that nobody waits for
    /// engine.signal("o-1", PAID, 20).await?;
    /// run.result().await?;
    /// let left = run.undelivered().await?;
    /// assert_eq!((&*left[0].name, left[0].value::<u64>()?), ("paying", 20));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn undelivered(&self) -> Result<Vec<Undelivered>, EngineError> {
        Ok(Undelivered::of(&self.store.load(self.number).await?))
    }

    /// Waits until it has an outcome, however long it is stuck before.
    pub(crate) async fn over(&self) -> Result<(), EngineError> {
        // Listen, then look, then wait.
        let mut listener = self.store.bell().listen(self.number);
        while !self.status().await?.is_over() {
            listener.next().await;
        }
        Ok(())
    }

    async fn row(&self) -> Result<RunRow, EngineError> {
        self.store.run(self.id.clone()).await?.ok_or_else(|| {
            EngineError::new(ErrorKind::NotFound, Code::NOT_FOUND, format!("run `{}` was deleted", self.id))
        })
    }
}

impl<O: Data> Run<O> {
    /// Its outcome, as soon as it is durable, whichever process drives it. Cancel-safe: dropped, it takes nothing.
    ///
    /// # Errors
    /// What the run failed with; `Cancelled`; `Stuck` with the reason and the verbs that help, it never hangs on a run
    /// that needs a person; the store's.
    pub async fn result(&self) -> Result<O, EngineError> {
        let mut looked_again = false;
        loop {
            // Listen, then look, then wait: nothing rings unheard in between.
            let (mut listener, listening) = self.listen();
            if !listening {
                match self.look().await? {
                    Looked::Ended(ended) => return ended,
                    // Between its two reads a person may have taken the end back; twice in a row it is damage.
                    Looked::Unreadable if looked_again => return Err(self.no_outcome()),
                    Looked::Unreadable => {
                        looked_again = true;
                        continue;
                    }
                    Looked::Open => {}
                }
            }
            loop {
                match listener.next().await {
                    // A failure that was heard long ago may have been taken back by `retry` since.
                    Heard::Ended(Ended { outcome: Some(outcome), .. })
                        if !matches!(outcome, Outcome::Failed(_)) =>
                    {
                        return self.read(outcome);
                    }
                    Heard::Ended(_) => break,
                    Heard::Foreign => {
                        if self.look_status().await? {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// A listener, and whether it has listened since the start: then there is nothing to look for.
    fn listen(&self) -> (Listener, bool) {
        let since_start = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listening = since_start.is_some();
        (since_start.unwrap_or_else(|| self.store.bell().listen(self.number)), listening)
    }

    async fn look_status(&self) -> Result<bool, EngineError> {
        let status = self.row().await?.status;
        Ok(status.is_over() || status == Status::Stuck)
    }

    async fn look(&self) -> Result<Looked<O>, EngineError> {
        let row = self.row().await?;
        let ended = match row.status {
            Status::Stuck => {
                let stuck = self.store.stuck(self.number).await?;
                stuck.map(|stuck| Err(EngineError::stuck(&self.id, &stuck)))
            }
            status if status.is_over() => {
                let last = self.store.last(self.number).await?;
                last.and_then(|last| Outcome::told_by(&last)).map(|outcome| self.read(outcome))
            }
            _ => return Ok(Looked::Open),
        };
        Ok(ended.map_or(Looked::Unreadable, Looked::Ended))
    }

    fn no_outcome(&self) -> EngineError {
        EngineError::new(
            ErrorKind::Store,
            Code::DAMAGED,
            format!(
                "run `{}` is over, and its last entry cannot be read as an outcome: restore the database from a backup",
                self.id
            ),
        )
    }

    fn read(&self, outcome: Outcome) -> Result<O, EngineError> {
        match outcome {
            Outcome::Completed(payload) => decode(&payload).map_err(|why| {
                EngineError::new(
                    ErrorKind::Decode,
                    Code::UNDECODABLE,
                    format!(
                        "the result of run `{}` does not decode as `{}`: {why}",
                        self.id,
                        std::any::type_name::<O>()
                    ),
                )
            }),
            Outcome::Failed(failure) => Err(EngineError::from_failure(failure)),
            Outcome::Cancelled(why) => Err(EngineError::new(
                ErrorKind::Cancelled,
                Code::CANCELLED,
                if why.is_empty() {
                    format!("run `{}` was cancelled", self.id)
                } else {
                    format!("run `{}` was cancelled: {why}", self.id)
                },
            )),
        }
    }
}

/// A type that only says which value a run ends with.
type Ends<O> = PhantomData<fn() -> O>;

/// What a look at a run found.
enum Looked<O> {
    Ended(Result<O, EngineError>),
    /// It is over or stuck, and what says how is not there or cannot be read.
    Unreadable,
    Open,
}
