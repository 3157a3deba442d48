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
    store::{Filter, Store},
};

/// Runs listed at once unless [`List::limit`] says otherwise.
pub const LIST_LIMIT: usize = 100;

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

impl Client {
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
}
