//! The one thread that writes: it drains the queue into one transaction, commits, and answers everybody after it.
//! It decides nothing about runs; that is in `write`.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use everstep_core::{
    failpoint::{Failpoint, fails, pass},
    store::{Bell, Ended, Loads, StoreError},
};
use rusqlite::{Connection, ffi};

use crate::{
    batch::{Batch, Held},
    checkpoint::Checkpoints,
    fault::{Class, Fault, class, is_busy},
    hot::{Execute, Hot},
    lockfile::WorkerLocks,
    names::{Names, Texts},
    op::{After, Op, Weight},
    queue::{Linger, Queue, Taken},
    stopwatch::{Stopwatch, pause},
};

/// How often an idle writer looks for commits of other processes.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Company that has not come by then costs more than it saves: a commit takes about as long (performance.md A3).
const LINGER_MAX: Duration = Duration::from_micros(120);
/// While another process writes too, it gets this long after each of our commits to take the lock; SQLite has no queue.
const YIELD: Duration = Duration::from_micros(150);
/// For how long after its last commit another process counts as writing.
const YIELD_FOR: Duration = Duration::from_secs(1);
/// How long the end of the store waits for somebody else's transaction, all in all.
const STOP_WAIT: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };
/// Payloads of one transaction, a bit more or less: they are in memory twice, and everybody waits for them.
const BYTES_MAX: usize = 16 << 20;
/// What a user's transaction counts as.
const BYTES_UNKNOWN: usize = 64 << 10;
/// SQLite's pages, unless somebody made the database with others.
const PAGE: usize = 4096;
const SPACE_WAIT_MIN: Duration = Duration::from_millis(50);
const SPACE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The writer's thread.
pub(crate) struct Writer<'c> {
    pub(crate) conn: &'c Connection,
    pub(crate) hot: Box<dyn Execute + 'c>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) locks: Arc<WorkerLocks>,
    /// Why this opening is over, once it is.
    pub(crate) closed: Arc<OnceLock<Arc<str>>>,
    pub(crate) job_limit: Duration,
    pub(crate) state: State,
}

/// What the writer remembers between transactions.
#[derive(Default)]
pub(crate) struct State {
    loads: Loads<Held>,
    names: Names,
    texts: Texts,
    data_version: i64,
    /// Since the last commit of somebody else.
    foreign: Option<Stopwatch>,
    /// Operations of the last transaction, and how long commits take.
    company: usize,
    commit_takes: Duration,
    checkpoints: Checkpoints,
    /// Since the end of the store first had to wait.
    stopping: Option<Stopwatch>,
    /// What the payloads of the batch fill.
    pages: u64,
    /// Whether it goes on although its runs have moved.
    accept_moved: bool,
}

impl State {
    /// Hears of every commit of others from here on: before the opening is handed out, or its first might be missed.
    pub(crate) fn listening(conn: &Connection, wal_pages: u64, accept_moved: bool) -> State {
        let checkpoints = Checkpoints::every(wal_pages);
        State { data_version: data_version(conn).unwrap_or(0), checkpoints, accept_moved, ..State::default() }
    }

    /// Nobody waits to be let in, whoever has written.
    #[cfg(feature = "testing")]
    pub(crate) fn is_alone(&mut self) {
        self.foreign = None;
    }
}

/// What became of one transaction.
enum Tried {
    Committed,
    /// Rolled back; what was to blame is out of the batch.
    WithoutOne,
    /// The commit failed over a constraint: somebody's rows, deferred to the end.
    Unacceptable(rusqlite::Error),
    Later(Arc<str>),
    Fatal(Arc<str>),
}

impl Writer<'_> {
    /// Runs until the last handle is gone.
    pub(crate) fn run(mut self) {
        loop {
            match self.queue.take(LOOK_EVERY, self.linger()) {
                Taken::Ops(ops) => self.write(ops),
                Taken::Idle => {}
                Taken::Stop => break,
            }
            self.look_for_others();
        }
        self.queue.end();
    }

    fn linger(&self) -> Linger {
        // A single caller never waits: there was nobody to wait for the last time either.
        match self.state.company {
            0 | 1 => Linger::default(),
            until => Linger { until, at_most: self.state.commit_takes.min(LINGER_MAX) },
        }
    }

    pub(crate) fn write(&mut self, mut ops: Vec<Box<dyn Op>>) {
        while !ops.is_empty() {
            let (n, pages) = fitting(&ops);
            let rest = ops.split_off(n);
            self.state.pages = pages;
            self.write_together(std::mem::replace(&mut ops, rest));
        }
    }

    fn write_together(&mut self, mut ops: Vec<Box<dyn Op>>) {
        if let Some(cause) = self.closed.get().cloned() {
            return self.fail_all(&mut ops, &StoreError::Closed(cause));
        }
        sort(&mut ops);
        let mut wait = SPACE_WAIT_MIN;
        while !ops.is_empty() {
            match self.attempt(&mut ops) {
                Tried::Committed | Tried::WithoutOne => {}
                Tried::Unacceptable(why) => return self.write_apart(ops, why),
                Tried::Later(why) => {
                    self.wait_for_space(&mut ops, &why, wait);
                    wait = (wait * 2).min(SPACE_WAIT_MAX);
                }
                Tried::Fatal(cause) => {
                    tracing::error!(%cause, "the store is closed: nobody knows what is on the disk. Open it anew");
                    let _ = self.closed.set(cause.clone());
                    // Who waits for something looks again, and hears it.
                    self.bell.ring_foreign();
                    self.fail_all(&mut ops, &StoreError::Closed(cause));
                }
            }
        }
    }

    /// Each user's transaction in one of its own, in the order of the queue, so that only the guilty one fails.
    fn write_apart(&mut self, mut ops: Vec<Box<dyn Op>>, why: rusqlite::Error) {
        if ops.len() == 1 || !ops.iter().any(|op| op.weight() == Weight::Job) {
            for op in ops {
                op.unacceptable(rusqlite_copy(&why), &mut self.after());
            }
            return;
        }
        while !ops.is_empty() {
            let job = ops.iter().position(|op| op.weight() == Weight::Job).unwrap_or(ops.len());
            let rest = ops.split_off(job.max(1));
            self.write(std::mem::replace(&mut ops, rest));
        }
    }

    /// One transaction with all of `ops`; they stay there unless they were committed or are to blame.
    fn attempt(&mut self, ops: &mut Vec<Box<dyn Op>>) -> Tried {
        if let Err(error) = self.begin() {
            return fatal_or_later(&error);
        }
        let State { loads, names, texts, accept_moved, .. } = &mut self.state;
        let (hot, limit) = (&mut *self.hot, self.job_limit);
        let mut batch = Batch::new(self.conn, hot, names, texts, loads, limit, *accept_moved);
        let mut refused = Vec::new();
        let before = self.conn.total_changes();
        for (i, op) in ops.iter_mut().enumerate() {
            let written = self.conn.total_changes();
            match op.apply(&mut batch) {
                Ok(()) => {}
                // Before it has written anything: concerns nobody else.
                Err(Fault::Refuse(error)) if self.conn.total_changes() == written => refused.push((i, error)),
                Err(fault) => {
                    batch.rolled_back();
                    return self.give_up(ops, i, fault);
                }
            }
        }
        let watch = Stopwatch::start();
        let committed = batch.flush().and_then(|()| commit(batch.hot));
        if let Err(error) = committed {
            batch.rolled_back();
            self.rollback();
            return match class(&error) {
                Class::Refused if is_constraint(&error) => Tried::Unacceptable(error),
                // A commit that failed in a way we do not know may have happened: only a new opening can tell.
                Class::Refused => Tried::Fatal(error.to_string().into()),
                _ => fatal_or_later(&error),
            };
        }
        let rings = batch.committed();
        let changes = self.state.pages.saturating_add(self.conn.total_changes() - before);
        self.remember(watch.elapsed(), ops.len());
        if rings.claimable {
            self.bell.ring_claimable();
        }
        if rings.inbox {
            self.bell.ring_inbox();
        }
        for (run, status) in rings.ended {
            self.bell.ring_ended(run, || Ended { status, outcome: None });
        }
        self.answer(std::mem::take(ops), refused);
        pass(Failpoint::TransactionAnswered);
        match self.state.checkpoints.after_commit(self.conn, changes) {
            Err(error) if class(&error) == Class::Fatal => return fatal_or_later(&error),
            // The WAL has it all; it only grows.
            Err(error) => tracing::warn!(%error, "the WAL cannot be brought into the database"),
            Ok(()) => {}
        }
        Tried::Committed
    }

    fn give_up(&mut self, ops: &mut Vec<Box<dyn Op>>, guilty: usize, fault: Fault) -> Tried {
        self.rollback();
        match fault {
            Fault::Sql(error) if class(&error) != Class::Refused => return fatal_or_later(&error),
            Fault::Sql(error) => ops.remove(guilty).unacceptable(error, &mut self.after()),
            Fault::TransactionGone => ops.remove(guilty).settle(&mut self.after()),
            Fault::Refuse(error) => ops.remove(guilty).fail(error, &mut self.after()),
        }
        Tried::WithoutOne
    }

    fn answer(&mut self, ops: Vec<Box<dyn Op>>, refused: Vec<(usize, StoreError)>) {
        let mut refused = refused.into_iter().peekable();
        let bell = self.bell.clone();
        let settled = RingSettled(&bell);
        let mut after = self.after();
        for (i, op) in ops.into_iter().enumerate() {
            match refused.next_if(|(at, _)| *at == i) {
                Some((_, error)) => op.fail(error, &mut after),
                None => op.settle(&mut after),
            }
        }
        let After { spent, again, .. } = after;
        drop(settled);
        self.queue.leave(spent);
        again.into_iter().for_each(|op| self.queue.push(op));
    }

    /// Nothing can be written now. Turns are repeated unchanged; clients hear why, those that come meanwhile too.
    fn wait_for_space(&mut self, ops: &mut Vec<Box<dyn Op>>, why: &Arc<str>, wait: Duration) {
        tracing::warn!(%why, "nothing can be written to the database; trying again");
        let full = StoreError::Full(why.clone());
        self.fail_all(&mut ops.extract_if(.., |op| op.weight() == Weight::Client).collect(), &full);
        if ops.is_empty() {
            return;
        }
        if self.queue.is_stopping() {
            return self.fail_all(ops, &StoreError::Closed(why.clone()));
        }
        let watch = Stopwatch::start();
        while let Some(left) = wait.checked_sub(watch.elapsed()) {
            self.fail_all(&mut self.queue.take_impatient(left), &full);
            if self.queue.is_stopping() {
                break;
            }
        }
    }

    fn fail_all(&mut self, ops: &mut Vec<Box<dyn Op>>, error: &StoreError) {
        for op in ops.drain(..) {
            op.fail(error.clone(), &mut self.after());
        }
    }

    fn after(&mut self) -> After<'_> {
        After {
            loads: &mut self.state.loads,
            bell: &self.bell,
            locks: &self.locks,
            spent: Vec::new(),
            again: Vec::new(),
        }
    }

    /// Takes the write lock, however long somebody else holds it: he delays us and fails nothing.
    fn begin(&mut self) -> rusqlite::Result<()> {
        let mut wait = Duration::from_micros(100);
        loop {
            match begin(&mut *self.hot) {
                Err(error) if is_busy(&error) => {
                    if self.queue.is_stopping()
                        && self.state.stopping.get_or_insert_with(Stopwatch::start).elapsed() > STOP_WAIT
                    {
                        return Err(error);
                    }
                    pause(wait);
                    wait = (wait * 2).min(Duration::from_millis(5));
                }
                other => return other.map(drop),
            }
        }
    }

    fn rollback(&self) {
        // SQLite has done it itself after some errors.
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "cannot roll back");
        }
    }

    fn remember(&mut self, took: Duration, company: usize) {
        let state = &mut self.state;
        state.company = company;
        state.commit_takes = (state.commit_takes * 7 + took) / 8;
        if state.foreign.is_some_and(|watch| watch.elapsed() < YIELD_FOR) {
            pause(YIELD);
        }
    }

    pub(crate) fn look_for_others(&mut self) {
        let Ok(version) = data_version(self.conn) else { return };
        if version != self.state.data_version {
            self.state.data_version = version;
            self.state.foreign = Some(Stopwatch::start());
            self.bell.ring_foreign();
        }
    }
}

fn begin(hot: &mut dyn Execute) -> rusqlite::Result<usize> {
    if fails(Failpoint::TransactionBegins) {
        return failed(ffi::SQLITE_BUSY);
    }
    hot.execute(Hot::Begin, &[])
}

fn commit(hot: &mut dyn Execute) -> rusqlite::Result<usize> {
    if fails(Failpoint::TransactionWritten) {
        return failed(ffi::SQLITE_FULL);
    }
    let committed = hot.execute(Hot::Commit, &[])?;
    if fails(Failpoint::TransactionCommitted) {
        return failed(ffi::SQLITE_IOERR_FSYNC);
    }
    Ok(committed)
}

/// What a failpoint fails with.
fn failed(code: i32) -> rusqlite::Result<usize> {
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("a failpoint failed".to_string())))
}

/// Rings when it goes, also when a receipt panics and takes the writer with it: those that were told before wait to be
/// woken, and no later commit would do it.
struct RingSettled<'a>(&'a Bell);

impl Drop for RingSettled<'_> {
    fn drop(&mut self) {
        self.0.ring_settled();
    }
}

/// Changes with commits of others, and only with those, as long as it is read on the one writing connection.
fn data_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// How many go into one transaction, and the pages that their payloads fill, as far as is known.
fn fitting(ops: &[Box<dyn Op>]) -> (usize, u64) {
    let (mut bytes, mut known) = (0, true);
    let within = |of_op: &Option<usize>| {
        let before = bytes;
        known &= of_op.is_some();
        bytes += of_op.unwrap_or(BYTES_UNKNOWN);
        before < BYTES_MAX
    };
    let n = ops.iter().map(|op| op.bytes()).take_while(within).count();
    (n, if known { (bytes / PAGE) as u64 } else { u64::MAX })
}

/// Neighbours in time write neighbouring pages (14 % at a thousand runs). Only turns may change places.
fn sort(ops: &mut [Box<dyn Op>]) {
    let is_turn = |op: &dyn Op| matches!(op.weight(), Weight::Turn(_));
    for turns in ops.chunk_by_mut(|a, b| is_turn(&**a) && is_turn(&**b)) {
        turns.sort_by_key(|op| match op.weight() {
            Weight::Turn(run) => run.0,
            _ => 0,
        });
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

fn fatal_or_later(error: &rusqlite::Error) -> Tried {
    match class(error) {
        Class::Later => Tried::Later(error.to_string().into()),
        _ => Tried::Fatal(error.to_string().into()),
    }
}

/// `rusqlite::Error` is not `Clone`.
fn rusqlite_copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized(Option<usize>);

    impl Op for Sized {
        fn bytes(&self) -> Option<usize> {
            self.0
        }

        fn apply(&mut self, _: &mut Batch<'_>) -> Result<(), Fault> {
            Ok(())
        }

        fn settle(self: Box<Self>, _: &mut After<'_>) {}

        fn fail(self: Box<Self>, _: StoreError, _: &mut After<'_>) {}
    }

    fn of(sizes: &[Option<usize>]) -> Vec<Box<dyn Op>> {
        sizes.iter().map(|bytes| Box::new(Sized(*bytes)) as Box<dyn Op>).collect()
    }

    #[test]
    fn large_payloads_are_not_all_written_in_one_transaction() {
        let (small, large) = (Some(PAGE), Some(2 << 20));
        assert_eq!(fitting(&of(&[small; 100])), (100, 100));
        assert_eq!(fitting(&of(&[large; 100])).0, 8);
        assert_eq!(fitting(&of(&[Some(BYTES_MAX * 2), small])).0, 1, "never none");
        assert_eq!(fitting(&of(&[small, None])), (2, u64::MAX), "nobody knows");
    }
}
