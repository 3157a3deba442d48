//! What the same server gives to a bare statement in the same moment: one row, one commit, now and then. When that gets
//! slower, it is the disk or the machine that got slower, and every run with it.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep_postgres::tokio_postgres::Client;
use tokio::task::JoinHandle;

use crate::actor::AnyResult;

/// A table of its own, which only grows: nothing dies in it.
const TABLE: &str = "CREATE TABLE raw_commit (at timestamptz NOT NULL)";
const COMMIT: &str = "INSERT INTO raw_commit VALUES (clock_timestamp())";
/// So few that they are no load.
const EACH: Duration = Duration::from_millis(50);

/// Commits until it is dropped.
pub(super) struct Raw {
    took: Arc<Mutex<Vec<f64>>>,
    task: JoinHandle<()>,
}

impl Raw {
    /// Begins, on a connection of its own.
    pub(super) async fn begin(client: Client) -> AnyResult<Raw> {
        client.batch_execute(TABLE).await?;
        let commit = client.prepare(COMMIT).await?;
        let took = Arc::new(Mutex::new(Vec::new()));
        let into = took.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EACH);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let began = Instant::now();
                if client.execute(&commit, &[]).await.is_ok() {
                    let took = began.elapsed().as_secs_f64() * 1e3;
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                }
            }
        });
        Ok(Raw { took, task })
    }

    /// How many milliseconds each has taken since the last call.
    pub(super) fn took(&self) -> Vec<f64> {
        mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}
