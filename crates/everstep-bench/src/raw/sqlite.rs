//! Rows into one SQLite file with FULL commits.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{BATCH_MAX, Waiting, waves};

/// How long a drain waits for those who were just answered to come back.
const LINGER_MAX: Duration = Duration::from_micros(120);

const INSERT: &str = "INSERT INTO raw VALUES (?1, ?2, 10, ?3, 1, NULL, ?4, 0, 1, 1, 12345, ?5)";

/// A fresh file of the same age as the store's: its log has been written through once.
fn open(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a fresh file");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 100000;
         PRAGMA cache_size = -16000;
         CREATE TABLE raw (run INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL, key TEXT, attempt INTEGER,
           input, body, codec INTEGER, site INTEGER, build INTEGER, fingerprint INTEGER, at INTEGER NOT NULL,
           CONSTRAINT raw_key PRIMARY KEY (run, seq)) STRICT;
         CREATE TABLE warm (n INTEGER);"
            .replace("input, body, codec", "input ANY, body ANY, codec")
            .as_str(),
    )
    .expect("plain statements");
    for n in 0..1100 {
        db.execute("INSERT INTO warm VALUES (?1)", [n]).expect("room");
    }
    db.execute_batch("DROP TABLE warm").expect("there");
    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).expect("nobody reads");
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000")
        .expect("plain statements");
    db.set_prepared_statement_cache_capacity(16);
    db
}

fn insert(db: &Connection, run: u64, seq: u64) {
    let at = 1_767_225_600_000_000 + seq as i64;
    db.prepare_cached(INSERT)
        .and_then(|mut insert| insert.execute(params![run as i64, seq as i64, "step", "1", at]))
        .expect("a fresh key");
}

/// Rows per second, one commit each.
pub fn single(folder: &Path, rows: u64) -> f64 {
    let db = open(&folder.join("raw-single.db"));
    let began = Instant::now();
    for seq in 0..rows {
        db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute([])).expect("alone");
        insert(&db, 1, seq);
        db.prepare_cached("COMMIT").and_then(|mut s| s.execute([])).expect("room");
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

#[derive(Default)]
struct Queue {
    rows: Mutex<Rows>,
    came: Condvar,
}

#[derive(Default)]
struct Rows {
    rows: Vec<Waiting>,
    closed: bool,
}

/// Group commit by one thread.
pub async fn pipeline(folder: &Path, tasks: u64, each: u64, at_least: Duration) -> f64 {
    let queue = Arc::new(Queue::default());
    let writer = {
        let (queue, path) = (queue.clone(), folder.join("raw-pipeline.db"));
        thread::spawn(move || write(&open(&path), &queue))
    };
    let to = queue.clone();
    let push = move |row| {
        to.rows.lock().unwrap_or_else(PoisonError::into_inner).rows.push(row);
        to.came.notify_one();
    };
    let rate = waves(tasks, each, at_least, push).await;
    queue.rows.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    queue.came.notify_one();
    writer.join().expect("it does not panic");
    rate
}

fn write(db: &Connection, queue: &Queue) {
    let (mut batch, mut last, mut commit_time) = (Vec::new(), 0, Duration::ZERO);
    loop {
        {
            let mut waiting = queue.rows.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.rows.is_empty() {
                if waiting.closed {
                    return;
                }
                waiting = queue.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if last > 1 {
                let until = Instant::now() + LINGER_MAX.min(commit_time);
                while waiting.rows.len() < last
                    && let Some(left) = until.checked_duration_since(Instant::now())
                {
                    waiting =
                        queue.came.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
            let some = waiting.rows.len().min(BATCH_MAX);
            batch.extend(waiting.rows.drain(..some));
        }
        last = batch.len();
        batch.sort_by_key(|(run, ..)| *run);
        let began = Instant::now();
        db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute([])).expect("alone");
        batch.iter().for_each(|(run, seq, _)| insert(db, *run, *seq));
        db.prepare_cached("COMMIT").and_then(|mut s| s.execute([])).expect("room");
        commit_time = (commit_time * 7 + began.elapsed()) / 8;
        for (.., done) in batch.drain(..) {
            let _ = done.send(());
        }
    }
}
