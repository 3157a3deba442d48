//! One transaction of the writer while it is open, and everything in memory that must be undone with it.

use everstep_core::{
    Status,
    failpoint::{Guard, broken},
    store::{Admitted, CopyMark, CopyStage, Fence, LoadId, Loads, RunId, StoreError, WorkerId},
};
use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    fault::Fault,
    hot::Execute,
    names::{Names, Texts},
    row::signed,
    write::mark,
};

/// What the writer remembers of an open load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Who holds it.
    pub(crate) worker: WorkerId,
    /// The run's status while it is held: running, or stuck.
    pub(crate) status: Status,
    /// `everstep_name.id`.
    pub(crate) workflow: i64,
}

/// Whom to ring for after the commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rings {
    pub(crate) claimable: bool,
    pub(crate) inbox: bool,
    /// Runs that were set aside; those that ended by a turn are told of by the turn.
    pub(crate) ended: Vec<(RunId, Status)>,
}

/// The open transaction.
pub(crate) struct Batch<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) hot: &'a mut dyn Execute,
    pub(crate) names: &'a mut Names,
    pub(crate) texts: &'a Texts,
    pub(crate) rings: Rings,
    /// How long a user's transaction may take.
    pub(crate) job_limit: std::time::Duration,
    loads: &'a mut Loads<Held>,
    /// The gate's state before this transaction, newest last.
    admitted: Vec<(LoadId, u64)>,
    opened: Vec<LoadId>,
    closed: HashSet<LoadId>,
    fences: HashMap<WorkerId, bool>,
    /// Whom a copy keeps out, once it is known.
    mark: Option<Option<CopyMark>>,
    accept_moved: bool,
    counts: HashMap<(i64, Status), i64>,
    /// The highest run id given, once it is known.
    high: Option<i64>,
    high_moved: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        conn: &'a Connection,
        hot: &'a mut dyn Execute,
        names: &'a mut Names,
        texts: &'a Texts,
        loads: &'a mut Loads<Held>,
        job_limit: std::time::Duration,
        accept_moved: bool,
    ) -> Batch<'a> {
        Batch {
            conn,
            hot,
            names,
            texts,
            loads,
            job_limit,
            rings: Rings::default(),
            admitted: Vec::new(),
            opened: Vec::new(),
            closed: HashSet::new(),
            fences: HashMap::new(),
            mark: None,
            accept_moved,
            counts: HashMap::new(),
            high: None,
            high_moved: false,
        }
    }

    /// Whether this worker may write. Asked of the database once per worker and transaction: nobody else can change
    /// it meanwhile.
    pub(crate) fn check(&mut self, fence: Fence) -> Result<(), Fault> {
        let live = match self.fences.get(&fence.worker) {
            Some(live) => *live,
            None => {
                let mut statement =
                    self.conn.prepare_cached("SELECT 1 FROM everstep_worker WHERE id = ?1 AND fenced = 0")?;
                let live = statement.exists([fence.worker.0])?;
                drop(statement);
                self.fences.insert(fence.worker, live);
                if !live {
                    self.end_loads(fence.worker);
                }
                live
            }
        };
        if live || broken(Guard::Fence) { Ok(()) } else { Err(StoreError::Fenced(fence.worker).into()) }
    }

    /// Whether clients and new workers may write. Workers are not asked: while there is a mark, each of them is fenced.
    pub(crate) fn check_mark(&mut self) -> Result<(), Fault> {
        if self.mark.is_none() {
            self.mark = Some(mark::read(self.conn)?);
        }
        match self.mark.as_ref().and_then(Option::as_ref) {
            None => Ok(()),
            Some(mark) if mark.stage == CopyStage::Moved && self.accept_moved => Ok(()),
            Some(mark) => Err(mark.refusal().into()),
        }
    }

    /// The mark was changed in this very transaction.
    pub(crate) fn mark_changed(&mut self) {
        self.mark = None;
    }

    /// A worker was fenced in this very transaction.
    pub(crate) fn fenced(&mut self, worker: WorkerId) {
        self.fences.insert(worker, false);
        self.end_loads(worker);
    }

    /// Nothing of a fenced worker's loads is accepted any more, and nobody will end them one by one.
    fn end_loads(&mut self, worker: WorkerId) {
        if broken(Guard::Fence) {
            return;
        }
        self.closed.extend(self.loads.like(|held| held.worker == worker));
    }

    /// What is remembered of an open load of `run` that this worker holds.
    pub(crate) fn held(&self, load: LoadId, run: RunId, fence: Fence) -> Result<Held, StoreError> {
        if !self.closed.is_empty() && self.closed.contains(&load) {
            return Err(StoreError::Refused(format!("load {} of run {} has ended", load.0, run.0).into()));
        }
        let held = *self.loads.get(load, run)?;
        if held.worker != fence.worker {
            let why = format!("load {} of run {} belongs to worker {}", load.0, run.0, held.worker.0);
            return Err(StoreError::Refused(why.into()));
        }
        Ok(held)
    }

    /// Asks the gate; what it lets pass is taken back if this transaction is.
    pub(crate) fn admit(
        &mut self,
        load: LoadId,
        run: RunId,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Result<u64, StoreError> {
        let Admitted { before, next } = self.loads.admit(load, run, seqs)?;
        self.admitted.push((load, before));
        Ok(next)
    }

    /// Takes the last [`Batch::admit`] back.
    pub(crate) fn unadmit(&mut self) {
        if let Some((load, before)) = self.admitted.pop() {
            self.loads.rewind(load, before);
        }
    }

    /// How many loads are open, as the last commit left them.
    #[cfg(test)]
    pub(crate) fn open_loads(&self) -> usize {
        self.loads.like(|_| true).len()
    }

    /// Opens a load.
    pub(crate) fn open(&mut self, run: RunId, next: u64, held: Held) -> LoadId {
        let load = self.loads.open(run, next, held);
        self.opened.push(load);
        load
    }

    /// Ends a load.
    pub(crate) fn close(&mut self, load: LoadId) {
        self.closed.insert(load);
    }

    /// Ends whatever loads of a run are open.
    pub(crate) fn close_all(&mut self, run: RunId) {
        self.closed.extend(self.loads.of(run));
    }

    /// A run came to `to`, from `from` if it was there before.
    pub(crate) fn count(&mut self, workflow: i64, from: Option<Status>, to: Status) {
        if from == Some(to) {
            return;
        }
        if let Some(from) = from {
            *self.counts.entry((workflow, from)).or_default() -= 1;
        }
        *self.counts.entry((workflow, to)).or_default() += 1;
    }

    /// A run that was `from` is gone.
    pub(crate) fn uncount(&mut self, workflow: i64, from: Status) {
        *self.counts.entry((workflow, from)).or_default() -= 1;
    }

    /// A fresh run id. Read from the database in each transaction: other processes start runs too.
    pub(crate) fn next_run(&mut self) -> rusqlite::Result<i64> {
        let high = match self.high {
            Some(high) => high,
            None => self
                .conn
                .prepare_cached("SELECT value FROM everstep_meta WHERE key = 'run'")?
                .query_row([], |row| row.get(0))?,
        };
        self.high = Some(high + 1);
        self.high_moved = true;
        Ok(high + 1)
    }

    /// An id that was not used after all; only the last one can be given back.
    pub(crate) fn unused_run(&mut self) {
        self.high = self.high.map(|high| high - 1);
    }

    /// Writes what was folded: before the commit, and before a user's job, which may start runs itself.
    pub(crate) fn flush(&mut self) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.high_moved) {
            self.conn
                .prepare_cached("UPDATE everstep_meta SET value = ?1 WHERE key = 'run' AND value < ?1")?
                .execute([self.high])?;
        }
        self.high = None;
        for ((workflow, status), n) in self.counts.drain().filter(|(_, n)| *n != 0) {
            add_count(self.conn, workflow, status, n)?;
        }
        Ok(())
    }

    /// The transaction was committed. Whom to ring for.
    pub(crate) fn committed(self) -> Rings {
        self.names.keep();
        for load in self.closed {
            self.loads.close(load);
        }
        self.rings
    }

    /// The transaction was rolled back: nothing of it happened.
    pub(crate) fn rolled_back(self) {
        self.names.forget();
        self.texts.clear();
        for (load, before) in self.admitted.into_iter().rev() {
            self.loads.rewind(load, before);
        }
        for load in self.opened {
            self.loads.close(load);
        }
    }

    /// A run's inbox count, owner and workflow, for who must know why a comparison failed.
    pub(crate) fn owner_and_inbox(&self, run: RunId) -> rusqlite::Result<Option<(i64, i64)>> {
        self.conn
            .prepare_cached("SELECT owner, inbox_n FROM everstep_run WHERE id = ?1")?
            .query_row([run.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    /// Numbers as SQLite keeps them.
    pub(crate) fn limit(limit: usize) -> i64 {
        signed(limit as u64)
    }
}

/// Adds to the count of runs of one workflow and status.
pub(crate) fn add_count(conn: &Connection, workflow: i64, status: Status, n: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO everstep_run_count (workflow, status, n) VALUES (?1, ?2, ?3)
         ON CONFLICT (workflow, status) DO UPDATE SET n = n + excluded.n",
    )?
    .execute(params![workflow, status.code(), n])
    .map(drop)
}
