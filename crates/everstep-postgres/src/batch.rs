//! One transaction of the writer while it is open, and everything in memory that must be undone with it.

use std::sync::Arc;

use everstep_core::{
    Status,
    failpoint::{Guard, broken},
    store::{Admitted, CopyMark, Fence, LoadId, Loads, RunId, StoreError, WorkerId},
};
use foldhash::{HashMap, HashMapExt as _, HashSet};

use crate::{
    back::Lasts,
    bounds::{AT_ONCE, Bounds},
    conn::Conn,
    fault::Fault,
    guest::Writes,
    ids::Ids,
    names::{NameKind, Names, Texts},
    op::{Doubt, Op},
    rings::Rings,
    slots::Slots,
    sql::{Arg, Sql, args, get, sql},
    write::mark,
};

/// What the writer remembers of an open load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Who holds it.
    pub(crate) worker: WorkerId,
    /// The run's status while it is held: running, or stuck.
    pub(crate) status: Status,
}

/// What the writer remembers between transactions, for statements.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) loads: Loads<Held>,
    pub(crate) names: Names,
    pub(crate) ids: Ids,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) slots: Slots,
    /// The opening goes on although its runs have moved.
    pub(crate) accept_moved: bool,
}

impl Memory {
    /// What is remembered of the runs in memory, while these operations are under way.
    pub(crate) fn lasts(&self, ops: &[Op]) -> Vec<Lasts> {
        let mut doubts = HashMap::new();
        for doubt in ops.iter().filter_map(Op::doubt) {
            let of_run: &mut Doubt = doubts.entry(doubt.run).or_insert(doubt);
            *of_run = Doubt { from: of_run.from.min(doubt.from), ends: of_run.ends || doubt.ends, ..doubt };
        }
        let each = self.loads.each();
        each.map(|(run, next, held)| {
            let doubt = doubts.get(&run).copied().unwrap_or(Doubt { run, from: next, ends: false });
            Lasts { run, worker: held.worker, next: next.min(doubt.from), ends: doubt.ends }
        })
        .collect()
    }
}

/// What a transaction has changed in memory: to be kept or undone with it.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) rings: Rings,
    /// Claims were made.
    claimed: bool,
    /// The gate's state before this transaction, newest last.
    admitted: Vec<(LoadId, u64)>,
    opened: Vec<LoadId>,
    closed: HashSet<LoadId>,
}

impl Effects {
    /// The transaction was committed. Whom to ring for.
    pub(crate) fn keep(self, memory: &mut Memory) -> Rings {
        for load in self.closed {
            memory.loads.close(load);
        }
        self.rings
    }

    /// The transaction was rolled back: nothing of it happened.
    pub(crate) fn undo(self, memory: &mut Memory) {
        if self.claimed {
            memory.bounds.forget();
        }
        for (load, before) in self.admitted.into_iter().rev() {
            memory.loads.rewind(load, before);
        }
        for load in self.opened {
            memory.loads.close(load);
        }
    }
}

/// The open transaction, or the one statement that is all of it.
pub(crate) struct Batch<'a> {
    pub(crate) conn: &'a Conn,
    /// For what is not undone with it: names, and blocks of numbers.
    side: &'a Conn,
    pub(crate) texts: &'a Texts,
    memory: &'a mut Memory,
    effects: Effects,
    fences: HashMap<WorkerId, bool>,
    /// Whom a copy keeps out, once it is known.
    mark: Option<Option<CopyMark>>,
    changes: u64,
    /// No transaction is open: each statement that changes something is one, of about so many bytes.
    alone: Option<usize>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        (conn, side): (&'a Conn, &'a Conn),
        texts: &'a Texts,
        memory: &'a mut Memory,
    ) -> Batch<'a> {
        Batch {
            conn,
            side,
            texts,
            memory,
            effects: Effects::default(),
            fences: HashMap::new(),
            mark: None,
            changes: 0,
            alone: None,
        }
    }

    /// While no transaction is open, for a statement of about so many bytes.
    pub(crate) fn of_one_statement(
        bytes: usize,
        conns: (&'a Conn, &'a Conn),
        texts: &'a Texts,
        memory: &'a mut Memory,
    ) -> Batch<'a> {
        Batch { alone: Some(bytes), ..Batch::new(conns, texts, memory) }
    }

    /// Whether this worker may write. Asked of the database once per worker and transaction: nobody else can change
    /// it meanwhile, because the row stays locked.
    pub(crate) async fn check(&mut self, fence: Fence) -> Result<(), Fault> {
        const LIVE: Sql = sql(
            "check the fence",
            "SELECT 1 FROM @slot WHERE worker = $1 AND slot = $2 AND NOT fenced FOR SHARE",
        );
        let live = match self.fences.get(&fence.worker) {
            Some(live) => *live,
            None => {
                let args = args![fence.worker.0, self.slot_of(fence.worker)];
                let live = self.conn.one(&LIVE, args).await?.is_some();
                self.fences.insert(fence.worker, live);
                if !live {
                    self.end_loads(fence.worker);
                }
                live
            }
        };
        if live || broken(Guard::Fence) { Ok(()) } else { Err(StoreError::Fenced(fence.worker).into()) }
    }

    /// Which of a worker's fence rows is this connection's.
    pub(crate) fn slot_of(&self, worker: WorkerId) -> i16 {
        self.memory.slots.of(worker)
    }

    /// Nothing that was sent for this worker before comes into effect any more; `false` if it is fenced. Not in a
    /// transaction: it is not undone.
    pub(crate) async fn change_slot(&mut self, worker: WorkerId) -> Result<bool, Fault> {
        self.memory.slots.change(self.conn, worker).await
    }

    /// Whether clients and new workers may write. Workers are not asked: while there is a mark, each of them is fenced.
    pub(crate) async fn check_mark(&mut self) -> Result<(), Fault> {
        if self.mark.is_none() {
            self.mark = Some(mark::read(self.conn).await?);
        }
        mark::allows(self.mark.as_ref().and_then(Option::as_ref), self.memory.accept_moved)
    }

    /// Whether the opening goes on although its runs have moved.
    pub(crate) fn accepts_moved(&self) -> bool {
        self.memory.accept_moved
    }

    /// The mark was changed in this very transaction.
    pub(crate) fn mark_changed(&mut self) {
        self.mark = None;
    }

    /// A worker was fenced in this very transaction, or turned out to be.
    pub(crate) fn fenced(&mut self, worker: WorkerId) {
        self.fences.insert(worker, false);
        self.end_loads(worker);
    }

    /// Nothing of a fenced worker's loads is accepted any more, and nobody will end them one by one.
    fn end_loads(&mut self, worker: WorkerId) {
        if broken(Guard::Fence) {
            return;
        }
        self.effects.closed.extend(self.memory.loads.like(|held| held.worker == worker));
    }

    /// What is remembered of an open load of `run` that this worker holds.
    pub(crate) fn held(&self, load: LoadId, run: RunId, fence: Fence) -> Result<Held, StoreError> {
        if !self.effects.closed.is_empty() && self.effects.closed.contains(&load) {
            return Err(StoreError::Refused(format!("load {} of run {} has ended", load.0, run.0).into()));
        }
        let held = *self.memory.loads.get(load, run)?;
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
        let Admitted { before, next } = self.memory.loads.admit(load, run, seqs)?;
        self.effects.admitted.push((load, before));
        Ok(next)
    }

    /// Takes back what the gate let pass of a load in this transaction.
    pub(crate) fn unadmit(&mut self, load: LoadId) {
        if let Some(at) = self.effects.admitted.iter().rposition(|(of, _)| *of == load) {
            let (load, before) = self.effects.admitted.remove(at);
            self.memory.loads.rewind(load, before);
        }
    }

    /// Opens a load.
    pub(crate) fn open(&mut self, run: RunId, next: u64, held: Held) -> LoadId {
        let load = self.memory.loads.open(run, next, held);
        self.effects.opened.push(load);
        load
    }

    /// Ends a load.
    pub(crate) fn close(&mut self, load: LoadId) {
        self.effects.closed.insert(load);
    }

    /// Ends whatever loads of a run are open.
    pub(crate) fn close_all(&mut self, run: RunId) {
        self.effects.closed.extend(self.memory.loads.of(run));
    }

    /// From where on claims look; whoever asks is one.
    pub(crate) fn bounds(&mut self) -> &Arc<Bounds> {
        self.effects.claimed = true;
        &self.memory.bounds
    }

    /// Whether numbers of runs have no gap.
    pub(crate) fn is_comparable(&self) -> bool {
        self.memory.ids.comparable
    }

    /// What is taken from the time now to say since when a run is due at once; `None`: nothing says so.
    pub(crate) fn dates_from(&self) -> Option<i64> {
        (!self.is_comparable()).then_some(AT_ONCE)
    }

    /// Numbers that were taken from the database are used no more: the highest one is about to be another.
    pub(crate) fn forget_numbers(&mut self) {
        self.memory.ids.forget();
    }

    /// A fresh run id.
    pub(crate) async fn next_run(&mut self) -> Result<RunId, Fault> {
        const NEXT: Sql =
            sql("take a number", "UPDATE @meta SET value = value + 1 WHERE key = 'run' RETURNING value");
        if self.is_comparable() {
            let row = self.change(&NEXT, &[]).await?.pop();
            let row = row.ok_or_else(|| crate::row::damaged("the highest number of a run is not there"))?;
            return Ok(RunId(get(&row, 0)?));
        }
        self.memory.ids.next(self.side).await.map(RunId)
    }

    /// The id of a text, made if there is none.
    pub(crate) async fn intern(&mut self, kind: NameKind, text: &Arc<str>) -> Result<i64, Fault> {
        self.memory.names.intern(self.side, kind, text).await
    }

    /// The id of a text, if it has one.
    pub(crate) async fn find_name(&mut self, kind: NameKind, text: &Arc<str>) -> Result<Option<i64>, Fault> {
        self.memory.names.find(self.side, kind, text).await
    }

    /// The ids of an entry's call site and build.
    pub(crate) async fn names_of(
        &mut self,
        entry: &everstep_core::journal::Entry,
    ) -> Result<(Option<i64>, i64), Fault> {
        let site = match &entry.site {
            Some(site) => Some(self.memory.names.site(self.side, site).await?),
            None => None,
        };
        Ok((site, self.memory.names.build(self.side, &entry.build).await?))
    }

    /// Changes something; how many rows.
    pub(crate) async fn execute(&mut self, sql: &Sql, args: &[Arg<'_>]) -> Result<u64, Fault> {
        let changed = self.within_limits(self.conn.execute(sql, args)).await?;
        self.changes += changed;
        Ok(changed)
    }

    /// Changes something, and reads what the statement returns.
    pub(crate) async fn change(
        &mut self,
        sql: &Sql,
        args: &[Arg<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, Fault> {
        let rows = self.within_limits(self.conn.rows(sql, args)).await?;
        self.changes += rows.len() as u64;
        Ok(rows)
    }

    async fn within_limits<T>(&self, statement: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match self.alone {
            Some(bytes) => self.conn.within_limits(bytes, statement).await,
            None => statement.await,
        }
    }

    /// What is remembered of the runs in memory.
    pub(crate) fn lasts(&self) -> Vec<Lasts> {
        self.memory.lasts(&[])
    }

    /// How many rows were changed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whom to ring for after the commit.
    pub(crate) fn rings(&mut self) -> &mut Rings {
        &mut self.effects.rings
    }

    /// What is to be kept or undone in memory, when it is known whether it was committed.
    pub(crate) fn effects(self) -> Effects {
        self.effects
    }

    /// A run's owner and inbox count, for who must know why a comparison failed.
    pub(crate) async fn owners(&self, runs: Vec<i64>) -> Result<HashMap<i64, (i64, i64)>, Fault> {
        const OWNERS: Sql =
            sql("look at runs that moved", "SELECT id, owner, inbox_n FROM @run WHERE id = ANY($1)");
        let rows = self.conn.rows(&OWNERS, args![runs]).await?;
        let owner = |row: &tokio_postgres::Row| Ok((get(row, 0)?, (get(row, 1)?, get(row, 2)?)));
        rows.iter().map(owner).collect::<Result<_, StoreError>>().map_err(Fault::from)
    }
}

impl Writes for Batch<'_> {
    type Reads = Conn;

    fn reads(&self) -> &Conn {
        self.conn
    }

    async fn check_mark(&mut self) -> Result<(), Fault> {
        Batch::check_mark(self).await
    }

    async fn execute(&mut self, sql: &Sql, args: &[Arg<'_>]) -> Result<u64, Fault> {
        Batch::execute(self, sql, args).await
    }

    fn rings(&mut self) -> &mut Rings {
        Batch::rings(self)
    }

    fn dates_from(&self) -> Option<i64> {
        Batch::dates_from(self)
    }
}
