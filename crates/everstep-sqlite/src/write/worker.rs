//! Workers: made, renewed, fenced, their runs freed.

use everstep_core::{
    Change, Status,
    store::{Fence, RunId, StoreError, WorkerId, WorkerInfo, takeovers_after},
};
use rusqlite::{OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::claim::{illegal, set_aside};
use crate::{
    batch::Batch,
    fault::Fault,
    names::NameKind,
    op::{After, Op},
    row::{self, signed},
};

/// Runs that one transaction frees when their worker leaves: others wait for it meanwhile.
const FREED_AT_ONCE: usize = 1000;

/// Makes a fresh worker.
pub(crate) fn enroll(batch: &mut Batch<'_>, info: &WorkerInfo) -> Result<Fence, Fault> {
    batch.check_mark()?;
    let build = batch.names.intern(batch.conn, NameKind::Build, &info.build)?;
    let id = batch
        .conn
        .prepare_cached(
            "INSERT INTO everstep_worker (name, build, started_at) VALUES (?1, ?2, ?3) RETURNING id",
        )?
        .query_row(params![info.name, build, info.at.0], |row| row.get(0))?;
    Ok(Fence { worker: WorkerId(id) })
}

/// Renews a worker.
pub(crate) fn beat(batch: &mut Batch<'_>, fence: Fence) -> Result<(), Fault> {
    batch.check(fence)?;
    batch
        .conn
        .prepare_cached("UPDATE everstep_worker SET beat = beat + 1 WHERE id = ?1")?
        .execute([fence.worker.0])?;
    Ok(())
}

/// Fences `other` if nobody has renewed it since.
pub(crate) fn fence(batch: &mut Batch<'_>, by: Fence, other: WorkerId, beat: u64) -> Result<bool, Fault> {
    batch.check(by)?;
    batch
        .conn
        .prepare_cached("UPDATE everstep_worker SET fenced = 1 WHERE id = ?1 AND beat = ?2 AND fenced = 0")?
        .execute([other.0, signed(beat)])?;
    let fenced = is_fenced(batch, other)?;
    if fenced {
        batch.fenced(other);
    }
    Ok(fenced)
}

/// A missing row counts as fenced: whoever removed it knew.
fn is_fenced(batch: &Batch<'_>, worker: WorkerId) -> rusqlite::Result<bool> {
    let fenced = batch
        .conn
        .prepare_cached("SELECT fenced FROM everstep_worker WHERE id = ?1")?
        .query_row([worker.0], |row| row.get(0))
        .optional()?;
    Ok(fenced.unwrap_or(true))
}

/// Frees some runs of a fenced worker and counts its death against them.
pub(crate) fn free(batch: &mut Batch<'_>, by: Fence, other: WorkerId, limit: usize) -> Result<usize, Fault> {
    batch.check(by)?;
    if !is_fenced(batch, other)? {
        let why = format!("worker {} is not fenced: its runs are its own", other.0);
        return Err(StoreError::Refused(why.into()).into());
    }
    let owned = owned(batch, other, limit)?;
    let n = owned.len();
    for run in usable(batch, owned)? {
        let last = row::last_seq(batch.conn, run.id)?.unwrap_or(0);
        let takeovers = takeovers_after(run.takeovers, last > run.crash_seq, in_step(batch, run.id)?);
        give_back(batch, &run)?;
        batch
            .conn
            .prepare_cached("UPDATE everstep_run SET takeovers = ?2, crash_seq = ?3 WHERE id = ?1")?
            .execute(params![run.id, takeovers, last])?;
    }
    Ok(n)
}

/// A run as freeing needs it.
struct Owned {
    id: i64,
    status: Status,
    workflow: i64,
    takeovers: u32,
    crash_seq: i64,
}

/// A run's id, and what is wrong with its row, if something is.
type Found = (i64, Result<Owned, Fault>);

/// Runs of a worker.
fn owned(batch: &Batch<'_>, worker: WorkerId, limit: usize) -> Result<Vec<Found>, Fault> {
    // `wake_at IS NOT NULL` is what lets the partial index answer. Owner 0 is nobody: what is free is not freed.
    let sql = "SELECT id, status, workflow, takeovers, crash_seq FROM everstep_run
               WHERE owner = ?1 AND owner <> 0 AND wake_at IS NOT NULL LIMIT ?2";
    row::all(batch.conn, sql, [worker.0, Batch::limit(limit)], |row| {
        let id = row.get(0)?;
        Ok((id, read_owned(id, row)))
    })
}

fn read_owned(id: i64, row: &Row<'_>) -> Result<Owned, Fault> {
    let status = row::status(row.get(1)?)?;
    status.after(Change::GivenBack).map_err(|e| illegal(RunId(id), e))?;
    Ok(Owned { id, status, workflow: row.get(2)?, takeovers: row.get(3)?, crash_seq: row.get(4)? })
}

/// Those whose rows can be used; the others are out of the way.
fn usable(batch: &mut Batch<'_>, owned: Vec<Found>) -> Result<Vec<Owned>, Fault> {
    let mut usable = Vec::new();
    for (id, run) in owned {
        match run {
            Ok(run) => usable.push(run),
            Err(fault) => set_aside(batch, id, fault, None)?,
        }
    }
    Ok(usable)
}

fn in_step(batch: &Batch<'_>, run: i64) -> rusqlite::Result<bool> {
    batch
        .conn
        .prepare_cached("SELECT 1 FROM everstep_started WHERE run = ?1 AND abandoned = 0")?
        .exists([run])
}

fn give_back(batch: &mut Batch<'_>, run: &Owned) -> Result<(), Fault> {
    let status = run.status.after(Change::GivenBack).map_err(|e| illegal(RunId(run.id), e))?;
    batch
        .conn
        .prepare_cached("UPDATE everstep_run SET owner = 0, wake_at = 0, status = ?2 WHERE id = ?1")?
        .execute(params![run.id, status.code()])?;
    batch.count(run.workflow, Some(run.status), status);
    batch.rings.claimable = true;
    Ok(())
}

/// A worker that ends: fenced with the first transaction, its runs freed in as many as it takes.
pub(crate) struct Leave {
    fence: Fence,
    answer: oneshot::Sender<Result<(), StoreError>>,
    /// The first transaction is committed.
    begun: bool,
    done: bool,
}

impl Leave {
    pub(crate) fn new(fence: Fence, answer: oneshot::Sender<Result<(), StoreError>>) -> Leave {
        Leave { fence, answer, begun: false, done: false }
    }
}

impl Op for Leave {
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        let worker = self.fence.worker;
        if !self.begun {
            // Whoever was fenced by another does not free its runs without blame.
            batch.check(self.fence)?;
        }
        batch
            .conn
            .prepare_cached("UPDATE everstep_worker SET fenced = 1 WHERE id = ?1 AND fenced = 0")?
            .execute([worker.0])?;
        batch.fenced(worker);
        let owned = owned(batch, worker, FREED_AT_ONCE)?;
        self.done = owned.len() < FREED_AT_ONCE;
        for run in usable(batch, owned)? {
            give_back(batch, &run)?;
        }
        Ok(())
    }

    fn settle(mut self: Box<Self>, after: &mut After<'_>) {
        after.locks.remove(self.fence.worker);
        self.begun = true;
        if self.done {
            let _ = self.answer.send(Ok(()));
        } else {
            after.again.push(self);
        }
    }

    fn fail(self: Box<Self>, error: StoreError, _: &mut After<'_>) {
        let _ = self.answer.send(Err(error));
    }
}
