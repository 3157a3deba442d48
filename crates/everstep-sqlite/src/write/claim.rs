//! Runs that a worker takes, and messages for those it has.

use everstep_core::{
    Change, Status, StuckReason, Timestamp,
    store::{Claim, Claimed, Fence, RunId, RunRow, StoreError},
};
use rusqlite::params;

use crate::{
    batch::{Batch, Held},
    fault::Fault,
    names::NameKind,
    row::{self, unsigned},
};

/// Takes due runs: one query per workflow, so that nobody steps over due runs of workflows that this worker does not
/// know; `turn` says with which to begin.
pub(crate) fn claim(
    batch: &mut Batch<'_>,
    fence: Fence,
    claim: &Claim,
    turn: usize,
) -> Result<Vec<Claimed>, Fault> {
    batch.check(fence)?;
    let mut workflows = Vec::new();
    for name in claim.workflows.iter() {
        // A name that is in no row has no runs, but its turn like the others: what a claim takes must not depend on
        // names that somebody once tried to start.
        workflows.push(batch.names.find(batch.conn, NameKind::Workflow, name)?);
    }
    if workflows.is_empty() {
        return Ok(Vec::new());
    }
    let first = turn % workflows.len();
    workflows.rotate_left(first);
    let mut taken = Vec::new();
    // First everybody's fair share, then what is left over.
    for share in [claim.limit.div_ceil(workflows.len()), claim.limit] {
        for workflow in workflows.iter().flatten().copied() {
            let limit = share.min(claim.limit - taken.len());
            if limit > 0 {
                claim_some(batch, fence, claim.due, (workflow, limit), &mut taken)?;
            }
        }
    }
    Ok(taken)
}

fn claim_some(
    batch: &mut Batch<'_>,
    fence: Fence,
    due: Timestamp,
    (workflow, limit): (i64, usize),
    taken: &mut Vec<Claimed>,
) -> Result<(), Fault> {
    let sql = format!(
        "SELECT {} FROM everstep_run WHERE owner = 0 AND workflow = ?1 AND wake_at <= ?2 ORDER BY wake_at LIMIT ?3",
        row::RUN
    );
    let (conn, texts) = (batch.conn, batch.texts);
    let rows = row::all(conn, &sql, params![workflow, due.0, Batch::limit(limit)], |row| {
        Ok((row.get(0)?, row::run(conn, texts, row)))
    })?;
    for (run, row) in rows {
        match row.and_then(|row| take(batch, fence, workflow, row, due)) {
            Ok(claimed) => taken.push(claimed),
            Err(fault) => set_aside(batch, run, fault, Some(due))?,
        }
    }
    Ok(())
}

/// A run as its claim at `now` finds it: it begins then, unless it has begun.
fn begun(row: RunRow, now: Timestamp) -> RunRow {
    RunRow { began_at: row.began_at.or(Some(now)), ..row }
}

/// Takes a run that is free; it begins at `now`, unless it has begun.
pub(crate) fn take(
    batch: &mut Batch<'_>,
    fence: Fence,
    workflow: i64,
    row: RunRow,
    now: Timestamp,
) -> Result<Claimed, Fault> {
    claim_one(batch, fence, workflow, begun(row, now))
}

fn claim_one(batch: &mut Batch<'_>, fence: Fence, workflow: i64, mut row: RunRow) -> Result<Claimed, Fault> {
    let status = row.status.after(Change::Claimed).map_err(|e| illegal(row.run, e))?;
    batch
        .conn
        .prepare_cached(
            "UPDATE everstep_run SET owner = ?2, status = ?3, wake_at = ?4, began_at = coalesce(began_at, ?5)
             WHERE id = ?1",
        )?
        .execute(params![row.run.0, fence.worker.0, status.code(), i64::MAX, row.began_at.map(|at| at.0)])?;
    batch.count(workflow, Some(row.status), status);
    let next = row::last_seq(batch.conn, row.run.0)?.map_or(0, |last| unsigned(last) + 1);
    let load = batch.open(row.run, next, Held { worker: fence.worker, status, workflow });
    row.owner = Some(fence.worker);
    row.wake_at = None;
    Ok(Claimed { row, load })
}

/// Takes a run again that this worker owns.
pub(crate) fn reload(batch: &mut Batch<'_>, fence: Fence, run: RunId) -> Result<Option<Claimed>, Fault> {
    batch.check(fence)?;
    let sql = format!("SELECT {} FROM everstep_run WHERE id = ?1 AND owner = ?2", row::RUN);
    let (conn, texts) = (batch.conn, batch.texts);
    let Some(found) = row::one(conn, &sql, [run.0, fence.worker.0], |row| row::run(conn, texts, row))? else {
        return Ok(None);
    };
    let workflow = batch.names.intern(conn, NameKind::Workflow, &found.workflow)?;
    batch.close_all(run);
    claim_one(batch, fence, workflow, found).map(Some)
}

/// Takes a run out of everybody's way whose row cannot be used: it needs a person, and the others must go on. Any other
/// fault is handed back.
pub(crate) fn set_aside(
    batch: &mut Batch<'_>,
    run: i64,
    fault: Fault,
    at: Option<Timestamp>,
) -> Result<(), Fault> {
    let why = match &fault {
        Fault::Refuse(error) => error.to_string(),
        // Not SQLite's: a value that is none of ours.
        Fault::Sql(error) if error.sqlite_error().is_none() => error.to_string(),
        _ => return Err(fault),
    };
    let detail = format!("its row is damaged: {why}");
    tracing::error!(run, %detail, "a run is stuck");
    let (workflow, status) = batch
        .conn
        .prepare_cached("SELECT workflow, status FROM everstep_run WHERE id = ?1")?
        .query_row([run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let status = u8::try_from(status).ok().and_then(Status::from_code);
    let to = status.filter(|status| status.is_over()).unwrap_or(Status::Stuck);
    batch
        .conn
        .prepare_cached("UPDATE everstep_run SET owner = 0, wake_at = NULL, status = ?2 WHERE id = ?1")?
        .execute(params![run, to.code()])?;
    if to == Status::Stuck {
        batch
            .conn
            .prepare_cached(
                "INSERT INTO everstep_stuck (run, reason, key, detail, at)
                 SELECT id, ?2, NULL, ?3, ifnull(?4, created_at) FROM everstep_run WHERE id = ?1
                 ON CONFLICT (run) DO UPDATE
                 SET reason = excluded.reason, key = excluded.key, detail = excluded.detail, at = excluded.at",
            )?
            .execute(params![run, StuckReason::JournalDamaged.code(), detail, at.map(|at| at.0)])?;
    }
    batch.count(workflow, status, to);
    // Who waits for its result would wait for ever: no worker has it, and none will take it.
    batch.rings.ended.push((RunId(run), to));
    Ok(())
}

/// A row that breaks the table of statuses.
pub(crate) fn illegal(run: RunId, error: everstep_core::IllegalChange) -> StoreError {
    StoreError::Refused(format!("run {}: {error}", run.0).into())
}

/// Runs of this worker that got messages. Looks first: mostly there is nothing, and nothing written costs no sync.
pub(crate) fn nudged(batch: &mut Batch<'_>, fence: Fence) -> Result<Vec<RunId>, Fault> {
    batch.check(fence)?;
    // Every workflow by name, because the index has the workflow between owner and time.
    let sql = "SELECT id FROM everstep_run WHERE owner = ?1
               AND workflow IN (SELECT id FROM everstep_name WHERE kind = 1) AND wake_at = 0";
    let runs = row::all(batch.conn, sql, [fence.worker.0], |row| Ok(RunId(row.get(0)?)))?;
    let mut update = batch.conn.prepare_cached("UPDATE everstep_run SET wake_at = ?2 WHERE id = ?1")?;
    for run in &runs {
        update.execute([run.0, i64::MAX])?;
    }
    Ok(runs)
}
