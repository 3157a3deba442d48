//! The one thread that writes: it drains the queue into one transaction, commits, and answers everybody after it.
//! It decides nothing about runs; that is in `write`.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use everstep_core::store::{Bell, Loads, StoreError};
use rusqlite::Connection;

use crate::{
    batch::{Batch, Held},
    fault::{Class, Fault, class, is_busy},
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
/// How long the end of the store waits for somebody else's transaction.
const STOP_WAIT: Duration = Duration::from_secs(5);
const SPACE_WAIT_MIN: Duration = Duration::from_millis(50);
const SPACE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The writer's thread.
pub(crate) struct Writer {
    pub(crate) conn: Connection,
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
}

impl State {
    /// Made before anybody has the handle: what others commit after he has looked is rung for.
    pub(crate) fn of(conn: &Connection) -> State {
        State { data_version: data_version(conn).unwrap_or(0), ..State::default() }
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

impl Writer {
    /// Runs until the last handle is gone.
    pub(crate) fn run(mut self) -> Connection {
        loop {
            match self.queue.take(LOOK_EVERY, self.linger()) {
                Taken::Ops(ops) => self.write(ops),
                Taken::Idle => {}
                Taken::Stop => break,
            }
            self.look_for_others();
        }
        self.queue.end();
        self.conn
    }

    fn linger(&self) -> Linger {
        // A single caller never waits: there was nobody to wait for the last time either.
        match self.state.company {
            0 | 1 => Linger::default(),
            until => Linger { until, at_most: self.state.commit_takes.min(LINGER_MAX) },
        }
    }

    fn write(&mut self, mut ops: Vec<Box<dyn Op>>) {
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
                    // Whoever waits for the end of a run looks, and hears that nobody will bring it about here.
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
        let State { loads, names, texts, .. } = &mut self.state;
        let mut batch = Batch::new(&self.conn, names, texts, loads, self.job_limit);
        let mut refused = Vec::new();
        for (i, op) in ops.iter_mut().enumerate() {
            match op.apply(&mut batch) {
                Ok(()) => {}
                Err(Fault::Refuse(error)) => refused.push((i, error)),
                Err(fault) => {
                    batch.rolled_back();
                    return self.give_up(ops, i, fault);
                }
            }
        }
        let watch = Stopwatch::start();
        let committed = batch.flush().and_then(|()| commit(&self.conn));
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
        self.remember(watch.elapsed(), ops.len());
        if rings.claimable {
            self.bell.ring_claimable();
        }
        if rings.inbox {
            self.bell.ring_inbox();
        }
        self.answer(std::mem::take(ops), refused);
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
        let mut after = self.after();
        for (i, op) in ops.into_iter().enumerate() {
            match refused.next_if(|(at, _)| *at == i) {
                Some((_, error)) => op.fail(error, &mut after),
                None => op.settle(&mut after),
            }
        }
        for op in after.again {
            self.queue.push(op);
        }
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
        After { loads: &mut self.state.loads, bell: &self.bell, locks: &self.locks, again: Vec::new() }
    }

    /// Takes the write lock, however long somebody else holds it: he delays us and fails nothing.
    fn begin(&self) -> rusqlite::Result<()> {
        let mut wait = Duration::from_micros(100);
        let mut stopping: Option<Stopwatch> = None;
        loop {
            match self.conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])) {
                Err(error) if is_busy(&error) => {
                    if self.queue.is_stopping()
                        && stopping.get_or_insert_with(Stopwatch::start).elapsed() > STOP_WAIT
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

    fn look_for_others(&mut self) {
        let Ok(version) = data_version(&self.conn) else { return };
        if version != self.state.data_version {
            self.state.data_version = version;
            self.state.foreign = Some(Stopwatch::start());
            self.bell.ring_foreign();
        }
    }
}

/// Changes with commits of others, and only with those, as long as it is read on the one writing connection.
fn data_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
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

fn commit(conn: &Connection) -> rusqlite::Result<()> {
    conn.prepare_cached("COMMIT")?.execute([]).map(drop)
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
