//! Deleting runs: one, or all that have been over for long.

use std::time::Duration;

use super::{Allowed, Client, Verb, act::not_possible, act::refused, list::bad_filter};
use crate::{
    error::EngineError,
    status::{Status, StatusSet},
    store::{Condition, Doomed, Field, Filter, Operator, RunRow},
};

/// Runs that [`Client::purge`] deletes in one transaction: more cost their neighbours in the queue more than they save.
pub const PURGE_BATCH: usize = 100;

/// The pause of a purge after each batch is as long as the batch took, and at least this: half of the writer's time is
/// left to others.
const PURGE_PAUSE_MIN: Duration = Duration::from_millis(1);

impl Client {
    /// Deletes a run that is over, stuck, paused, or has not begun, with everything of it: journal, letters, attributes,
    /// published values, streams, archive, and the record of what people did to it. Its id is free again.
    ///
    /// Whoever waits for its result hears that there is no such run.
    ///
    /// # Errors
    /// Not found; running or waiting, or pending after it began; the run has moved meanwhile; the store's.
    ///
    /// # What survives a crash
    /// It is one transaction: all of the run, or nothing.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> { Ok(format!("hello {name}")) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// engine.delete("ada").await?;
    /// assert!(engine.get(GREET, "ada").await.is_err());
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn delete(&self, id: &str) -> Result<(), EngineError> {
        self.delete_row(&self.row(id).await?, false).await
    }

    /// As [`Client::delete`], but also a run that waits, or that has begun and is pending: what it has done stays done, and
    /// nothing more of it will be. A run that a worker has is not deleted by force either.
    ///
    /// # Errors
    /// Not found; running; the run has moved meanwhile; the store's.
    ///
    /// # What survives a crash
    /// It is one transaction: all of the run, or nothing.
    pub async fn delete_by_force(&self, id: &str) -> Result<(), EngineError> {
        self.delete_row(&self.row(id).await?, true).await
    }

    pub(super) async fn delete_row(&self, row: &RunRow, force: bool) -> Result<(), EngineError> {
        let status = row.status;
        let allowed = Verb::Delete.on(status) == Allowed::Directly;
        if status == Status::Running || !(allowed || force) {
            return Err(refused(Verb::Delete, &row.id, status));
        }
        if status == Status::Pending && row.began_at.is_some() && !force {
            let why =
                format!("run `{}` has begun: `cancel` or `pause` it first, or delete it by force", row.id);
            return Err(not_possible(Verb::Delete, &why));
        }
        tracing::info!(run = %row.id, %status, who = %self.who, why = %self.why, "a run is deleted");
        match self.store.delete(vec![Doomed::of(row)]).await?[..] {
            [true] => Ok(()),
            _ => self.heard(Verb::Delete, &row.id, crate::store::Acted::Moved),
        }
    }

    /// Deletes the runs that match a filter ([`Client::list`]) and have been over for so long; how many. An empty filter is
    /// all of them: name workflows and statuses to keep some longer than others.
    ///
    /// It goes in batches of [`PURGE_BATCH`] with pauses between them, so that others can write. The files of a database do
    /// not shrink by it; their pages are used again.
    ///
    /// # Errors
    /// A filter that cannot be read; the store's.
    ///
    /// # What survives a crash
    /// What was deleted until then. Called again, it goes on.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, days, seconds, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> { Ok(format!("hello {name}")) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// assert_eq!(engine.purge("workflow = greet and status = completed", days(30)).await?, 0);
    /// assert_eq!(engine.purge("", seconds(0)).await?, 1);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn purge(&self, filter: &str, over_for: Duration) -> Result<u64, EngineError> {
        let now = self.clock.now();
        let mut filter = Filter::parse(filter, now).map_err(bad_filter)?;
        let over = StatusSet::of(&[Status::Completed, Status::Failed, Status::Cancelled]);
        filter.conditions.push(Condition::Status(over));
        let long = i64::try_from(over_for.as_micros()).unwrap_or(i64::MAX);
        let at = crate::time::Timestamp(now.0.saturating_sub(long));
        filter.conditions.push(Condition::Time { field: Field::Finished, operator: Operator::UpTo, at });
        let (mut before, mut deleted) = (None, 0);
        loop {
            let began = self.clock.instant();
            let rows = self.store.find(filter.clone(), before, PURGE_BATCH).await?;
            let Some(last) = rows.last() else { return Ok(deleted) };
            before = Some(last.run);
            let gone = self.store.delete(rows.iter().map(Doomed::of).collect()).await?;
            deleted += gone.into_iter().filter(|gone| *gone).count() as u64;
            tracing::info!(deleted, who = %self.who, why = %self.why, "runs that were over are purged");
            if rows.len() < PURGE_BATCH {
                return Ok(deleted);
            }
            self.clock.sleep(began.elapsed().max(PURGE_PAUSE_MIN)).await;
        }
    }
}
