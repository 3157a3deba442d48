//! One verb for many runs: those that a filter matches, a page at a time, so that a million of them take no memory.

use std::{fmt, panic::Location, sync::Arc};

use super::{Allowed, Client, Verb, act::refused, list::bad_filter};
use crate::{
    Op, Workflow,
    body::Data,
    error::{EngineError, ErrorKind},
    journal::Answer,
    run::RunInfo,
    store::{Filter, FilterError, RunRow},
};

/// Runs that a bulk reads at once.
const PAGE: usize = 100;
/// Runs that [`BulkDone`] names with their errors: the first ones; the rest is counted.
pub const BULK_TOLD_MAX: usize = 100;

/// What became of a run in a bulk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BulkEvent {
    /// It is done; or would be, in a dry run.
    Done(RunInfo),
    /// The verb does not fit it, with the reason; nothing was done to it.
    Skipped(RunInfo, String),
    /// It failed, with the error.
    Failed(RunInfo, String),
}

/// What became of the runs of a bulk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkDone {
    /// Of how many it is done; or would be, in a dry run.
    pub done: u64,
    /// How many the verb does not fit.
    pub skipped: u64,
    /// Of how many it failed.
    pub failed: u64,
    /// The ids and reasons of the first that were skipped or failed; at most [`BULK_TOLD_MAX`].
    pub told: Vec<(Arc<str>, String)>,
}

impl fmt::Display for BulkDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} done, {} skipped, {} failed", self.done, self.skipped, self.failed)
    }
}

type Hears = Box<dyn FnMut(&BulkEvent) + Send>;

/// A verb for all runs that match a filter: set the options, then call the verb. Each run is done by itself, newest first,
/// as if the client's method had been called for it. A run that is started after the verb was called is not met.
///
/// # Errors
/// Of the verbs: a filter that cannot be read; a list that cannot be read. What goes wrong with one run is told in
/// [`BulkDone`] and hinders no other.
///
/// # What survives a crash
/// What was done until then. Called again it goes on, because the runs that are done match no more, or are skipped.
///
/// # Cancel safety
/// Dropped, it stops between two runs, or in the middle of one.
#[must_use = "nothing is done until a verb is called"]
pub struct Bulk {
    client: Client,
    filter: Result<Filter, FilterError>,
    limit: u64,
    dry_run: bool,
    hears: Option<Hears>,
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk")
            .field("filter", &self.filter)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// What is to be done to all runs that match a filter, as for [`Client::list`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> { Ok(format!("hello {name}")) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// for name in ["ada", "grace", "joan"] {
    ///     engine.start(GREET, name, name.to_string()).delay(days(1)).await?;
    /// }
    /// let pending = "workflow = greet and status = pending";
    /// assert_eq!(engine.on_all(pending).dry_run().cancel("").await?.done, 3);
    /// assert_eq!(engine.on_all(pending).limit(2).pause("closed today").await?.done, 2);
    /// assert_eq!(engine.on_all("").resume().await?.to_string(), "3 done, 0 skipped, 0 failed");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn on_all(&self, filter: &str) -> Bulk {
        let filter = Filter::parse(filter, self.clock.now());
        Bulk { client: self.clone(), filter, limit: u64::MAX, dry_run: false, hears: None }
    }
}

impl Bulk {
    /// It is done to so many runs at most; skipped ones do not count.
    pub fn limit(mut self, runs: u64) -> Self {
        self.limit = runs;
        self
    }

    /// Only says what would be done, as far as the status tells.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Hears what became of each run, as it happens.
    pub fn progress(mut self, hears: impl FnMut(&BulkEvent) + Send + 'static) -> Self {
        self.hears = Some(Box::new(hears));
        self
    }

    /// [`Client::cancel`] for each.
    pub async fn cancel(self, why: &str) -> Result<BulkDone, EngineError> {
        self.each(Verb::Cancel, async |client, row| client.cancel(&row.id, why).await).await
    }

    /// [`Client::kill`] for each.
    pub async fn kill(self, why: &str) -> Result<BulkDone, EngineError> {
        self.each(Verb::Kill, async |client, row| client.kill(&row.id, why).await).await
    }

    /// [`Client::answer`] for each, the same.
    pub async fn answer(self, answer: Answer) -> Result<BulkDone, EngineError> {
        self.each(Verb::Answer, async |client, row| client.answer(&row.id, answer.clone()).await).await
    }

    /// [`Client::retry`] for each.
    pub async fn retry(self) -> Result<BulkDone, EngineError> {
        self.each(Verb::Retry, async |client, row| client.retry(&row.id).await).await
    }

    /// [`Client::pause`] for each.
    pub async fn pause(self, why: &str) -> Result<BulkDone, EngineError> {
        self.each(Verb::Pause, async |client, row| client.pause(&row.id, why).await).await
    }

    /// [`Client::resume`] for each.
    pub async fn resume(self) -> Result<BulkDone, EngineError> {
        self.each(Verb::Resume, async |client, row| client.resume(&row.id).await).await
    }

    /// [`Client::rewind`] to this key for each.
    pub async fn rewind(self, key: &str) -> Result<BulkDone, EngineError> {
        self.each(Verb::Rewind, async |client, row| client.rewind(&row.id, key).await).await
    }

    /// [`Client::edit`] for each: the same value for the step of this key.
    pub async fn edit<T: Data + Clone>(self, key: &str, value: T) -> Result<BulkDone, EngineError> {
        self.each(Verb::Edit, async |client, row| client.edit(&row.id, key, value.clone()).await).await
    }

    /// [`Client::fork`] for each, from the step of this key or from the beginning; `new_id` makes the id of the new run of
    /// the run's. Runs of other workflows fail: name the workflow in the filter.
    ///
    /// Called again it fails for those that are forked already, whose new ids are used.
    #[track_caller]
    pub fn fork<I: Data, O: Data>(
        self,
        workflow: Workflow<I, O>,
        from: Option<&str>,
        new_id: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Op<'static, Result<BulkDone, EngineError>> {
        let (site, from) = (Location::caller(), from.map(str::to_string));
        let forks = async move |client: &Client, row: &RunRow| {
            let fork = client.fork_at(workflow, row.id.to_string(), new_id(&row.id), site);
            let fork = if let Some(key) = &from { fork.from(key) } else { fork };
            fork.await.map(drop)
        };
        Op::new(self.each(Verb::Fork, forks))
    }

    /// [`Client::skip_wait`] for each.
    pub async fn skip_wait(self, key: Option<&str>) -> Result<BulkDone, EngineError> {
        self.each(Verb::SkipWait, async |client, row| client.skip_wait(&row.id, key).await).await
    }

    /// [`Client::delete`] for each.
    pub async fn delete(self) -> Result<BulkDone, EngineError> {
        self.each(Verb::Delete, async |client, row| client.delete_row(row, false).await).await
    }

    async fn each<F>(mut self, verb: Verb, mut does: F) -> Result<BulkDone, EngineError>
    where
        F: AsyncFnMut(&Client, &RunRow) -> Result<(), EngineError>,
    {
        let filter = self.filter.clone().map_err(bad_filter)?;
        let (mut told, mut before) = (BulkDone::default(), None);
        loop {
            let rows = self.client.store.find(filter.clone(), before, PAGE).await?;
            for row in &rows {
                if told.done >= self.limit {
                    return Ok(told);
                }
                before = Some(row.run);
                let done = match (self.dry_run, verb.on(row.status)) {
                    (true, Allowed::Refused(_)) => Err(refused(verb, &row.id, row.status)),
                    (true, _) => Ok(()),
                    (false, _) => does(&self.client, row).await,
                };
                self.hear(&mut told, row, done);
            }
            if rows.len() < PAGE {
                return Ok(told);
            }
        }
    }

    fn hear(&mut self, told: &mut BulkDone, row: &RunRow, done: Result<(), EngineError>) {
        let info = RunInfo::of(row.clone());
        let event = match done {
            Ok(()) => BulkEvent::Done(info),
            // It has moved, or is gone, since the list was read: as if it had not matched.
            Err(e) if matches!(e.kind(), ErrorKind::NotAllowed | ErrorKind::NotFound) => {
                BulkEvent::Skipped(info, e.to_string())
            }
            Err(e) => BulkEvent::Failed(info, e.to_string()),
        };
        match &event {
            BulkEvent::Done(_) => told.done += 1,
            BulkEvent::Skipped(..) => told.skipped += 1,
            BulkEvent::Failed(..) => told.failed += 1,
        }
        if let BulkEvent::Skipped(info, why) | BulkEvent::Failed(info, why) = &event
            && told.told.len() < BULK_TOLD_MAX
        {
            told.told.push((info.id.clone(), why.clone()));
        }
        if let Some(hears) = &mut self.hears {
            hears(&event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_may_be_done_on_another_thread() {
        let client = Client::new(crate::store::Memory::default());
        let resumes: crate::BoxFuture<'static, Result<BulkDone, EngineError>> =
            Box::pin(client.on_all("status = paused").resume());
        drop(resumes);
    }
}
