//! Lists of runs, a page at a time.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::Client;
use crate::{
    Op,
    error::{Code, EngineError, ErrorKind},
    run::RunInfo,
    store::{Filter, FilterError, RunId, Store},
};

/// Runs listed at once unless [`List::limit`] says otherwise.
pub const LIST_LIMIT: usize = 100;

/// Runs that [`Client::count`] counts at most: so many are "10,000 and more".
pub const COUNT_MAX: u64 = 10_001;

/// A list of runs; awaiting it gives one page, newest first.
#[must_use = "nothing is listed until this is awaited"]
pub struct List {
    store: Arc<dyn Store>,
    filter: Result<Filter, FilterError>,
    /// An error is the cursor that is none.
    before: Result<Option<RunId>, String>,
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
        self.before = Ok(Some(last.number));
        self
    }

    /// The page after the one that ended with the run of this [`RunInfo::cursor`], which may have been far away in
    /// between. What is no cursor is an error when the list is awaited.
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
    /// let cursor: String = engine.list("").limit(1).await?[0].cursor(); // into a link, a cookie, ...
    /// let next = engine.list("").after_cursor(&cursor).limit(1).await?;
    /// assert_eq!(&*next[0].id, "ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn after_cursor(mut self, cursor: &str) -> Self {
        self.before = RunInfo::number_of(cursor).map(Some).ok_or_else(|| cursor.to_string());
        self
    }
}

/// A cursor, or what was taken for one.
fn run_before(before: &Result<Option<RunId>, String>) -> Result<Option<RunId>, EngineError> {
    before.as_ref().copied().map_err(|cursor| {
        let message =
            format!("`{}` is no cursor: pass on what `RunInfo::cursor` gave", cursor.escape_debug());
        EngineError::new(ErrorKind::Misuse, Code::BAD_CURSOR, message)
    })
}

pub(crate) fn bad_filter(why: FilterError) -> EngineError {
    EngineError::new(ErrorKind::Misuse, Code::BAD_FILTER, why.to_string())
}

impl Future for List {
    type Output = Result<Vec<RunInfo>, EngineError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = this.answer.get_or_insert_with(|| {
            let filter = this.filter.clone().map_err(bad_filter);
            let asked = filter.and_then(|filter| Ok((filter, run_before(&this.before)?)));
            let found = asked.map(|(filter, before)| this.store.find(filter, before, this.limit));
            Op::new(async move { Ok(found?.await?.into_iter().map(RunInfo::of).collect()) })
        });
        Pin::new(answer).poll(cx)
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("List").field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl Client {
    /// Runs that match, newest first: `workflow = onboard and status in (failed, stuck) and created > -1d and team =
    /// "platform"`; an empty filter matches all. [`Filter`] tells the whole language.
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
        List { store: self.store.clone(), filter, before: Ok(None), limit: LIST_LIMIT, answer: None }
    }

    /// How many runs match a filter, as for [`Client::list`]; [`COUNT_MAX`] if there are so many or more.
    ///
    /// # Errors
    /// A filter that cannot be read, with the place; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.set_attribute("letters", name.len() as i64);
    ///     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// engine.run(GREET, "grace", "Grace".to_string()).await?;
    /// assert_eq!(engine.count("workflow = greet and letters < 4").await?, 1);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn count(&self, filter: &str) -> Result<u64, EngineError> {
        let filter = Filter::parse(filter, self.clock.now()).map_err(bad_filter)?;
        Ok(self.store.count(filter, COUNT_MAX).await?)
    }
}
