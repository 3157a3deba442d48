//! The raw limit: what the same disk, or the same server, takes of the same rows with nothing of Everstep.
//!
//! `single`: one row per commit on one connection, one after the other. `pipeline`: as many tasks as the workload has,
//! each awaiting the commit of its own row, which goes together with others'.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod postgres;
mod sqlite;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{database::Database, workload::Round};

/// Rows of one transaction at most.
const BATCH_MAX: usize = 4096;

/// A row whose writer waits for it: which run, which number.
type Waiting = (u64, u64, oneshot::Sender<()>);

/// Rows per second, one commit each.
pub fn single(round: &Round, rows: u64) -> f64 {
    match &round.database {
        Database::Sqlite(_) => sqlite::single(&round.folder, rows),
        Database::Postgres(url) => postgres::single(url, rows),
    }
}

/// Rows per second of `tasks` tasks that write `each` rows one after the other, again and again for `at_least`.
pub async fn pipeline(round: &Round, tasks: u64, each: u64, at_least: Duration) -> f64 {
    match &round.database {
        Database::Sqlite(_) => sqlite::pipeline(&round.folder, tasks, each, at_least).await,
        Database::Postgres(url) => postgres::pipeline(url, tasks, each, at_least).await,
    }
}

/// The tasks of a pipeline; `push` takes a row to whoever writes it.
async fn waves(
    tasks: u64,
    each: u64,
    at_least: Duration,
    push: impl Fn(Waiting) + Send + Sync + 'static,
) -> f64 {
    let push = Arc::new(push);
    let (began, mut rows, mut run) = (Instant::now(), 0, 0);
    while began.elapsed() < at_least || rows == 0 {
        let all: Vec<_> = (0..tasks)
            .map(|_| {
                run += 1;
                let (run, push) = (run, push.clone());
                tokio::spawn(async move {
                    for seq in 0..each {
                        let (send, done) = oneshot::channel();
                        push((run, seq, send));
                        done.await.expect("every row is answered");
                    }
                })
            })
            .collect();
        for task in all {
            task.await.expect("it does not panic");
        }
        rows += tasks * each;
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

/// `fdatasync` per second, of 4 KiB written over and over.
pub fn fdatasync(folder: &Path) -> f64 {
    let path = folder.join("raw-sync");
    let block = [7u8; 4096];
    let mut file: File =
        OpenOptions::new().create(true).truncate(true).write(true).open(&path).expect("a fresh file");
    file.write_all(&block).and_then(|()| file.sync_all()).expect("room");
    let (began, mut syncs) = (Instant::now(), 0u32);
    while began.elapsed() < Duration::from_millis(300) {
        std::os::unix::fs::FileExt::write_all_at(&file, &block, 0)
            .and_then(|()| file.sync_data())
            .expect("room");
        syncs += 1;
    }
    f64::from(syncs) / began.elapsed().as_secs_f64()
}
