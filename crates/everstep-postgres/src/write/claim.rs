//! Runs that a worker takes, and messages for those it has.

use everstep_core::{
    Change, Status, Stuck, StuckReason, Timestamp,
    store::{Claim, Claimed, Fence, RunId, RunRow, StoreError},
};
use tokio_postgres::Row;

use super::turn::set_stuck;
use crate::{
    batch::{Batch, Held},
    conn::{Sql, args, get, sql},
    fault::Fault,
    names::NameKind,
    row::{self, run_columns, signed, unsigned},
};

/// Runs of one statement: beyond it the slowest claims of a full table grow out of proportion (storage.md: batches of 100
/// take twice as long a run).
const AT_ONCE: usize = 50;

/// Takes due runs: one query per workflow, so that nobody steps over due runs of workflows that this worker does not
/// know; `turn` says with which to begin.
pub(crate) async fn claim(
    batch: &mut Batch<'_>,
    fence: Fence,
    claim: &Claim,
    turn: usize,
) -> Result<Vec<Claimed>, Fault> {
    batch.check(fence).await?;
    let mut workflows = Vec::new();
    for name in claim.workflows.iter() {
        // A name that is in no row has no runs, but its turn like the others: what a claim takes must not depend on
        // names that somebody once tried to start.
        workflows.push(batch.find_name(NameKind::Workflow, name).await?);
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
            let mut left = share.min(claim.limit - taken.len());
            while left > 0 {
                let limit = left.min(AT_ONCE);
                let n = claim_some(batch, fence, claim.due, (workflow, limit), &mut taken).await?;
                left -= n.min(left);
                if n < limit {
                    break;
                }
            }
        }
    }
    Ok(taken)
}

/// How many were due, whether they could be taken or not.
async fn claim_some(
    batch: &mut Batch<'_>,
    fence: Fence,
    due: Timestamp,
    (workflow, limit): (i64, usize),
    taken: &mut Vec<Claimed>,
) -> Result<usize, Fault> {
    /// What is due is judged by the database's clock: a worker whose own is ahead takes nothing too early.
    const DUE: Sql = sql(
        "claim due runs",
        concat!(
            "SELECT ",
            run_columns!(),
            ", (SELECT max(seq) FROM @journal WHERE run = r.id) FROM @run r
             WHERE r.owner = 0 AND r.workflow = $1 AND r.wake_at IS NOT NULL
               AND r.wake_at <= CASE WHEN $4 THEN $2
                                     ELSE least($2, (extract(epoch FROM clock_timestamp()) * 1000000)::int8) END
             ORDER BY r.wake_at LIMIT $3 FOR UPDATE OF r SKIP LOCKED"
        ),
    );
    let mut due_runs = DUE;
    if batch.is_comparable() {
        // Among those that are due since the same time any order is right; this one would sort all of them.
        due_runs.1 = due_runs.1.replace("ORDER BY r.wake_at", "ORDER BY r.wake_at, r.id").into();
    }
    let rows = batch
        .conn
        .rows(&due_runs, args![workflow, due.0, signed(limit as u64), batch.is_comparable()])
        .await?;
    take_all(batch, fence, &rows, due, taken).await?;
    Ok(rows.len())
}

async fn take_all(
    batch: &mut Batch<'_>,
    fence: Fence,
    rows: &[Row],
    due: Timestamp,
    taken: &mut Vec<Claimed>,
) -> Result<(), Fault> {
    let found = row::runs(batch.conn, batch.texts, rows).await?;
    let mut fit = Vec::new();
    for (found, row) in found.into_iter().zip(rows) {
        let last: Option<i64> = get(row, 12)?;
        let claimable = found.and_then(|run| {
            let status = run.status.after(Change::Claimed).map_err(|e| illegal(run.run, e))?;
            Ok((begun(run, due), status, last.map_or(0, |last| unsigned(last) + 1)))
        });
        match claimable {
            Ok(claimable) => fit.push(claimable),
            Err(error) => set_aside(batch, get(row, 0)?, error, Some(due)).await?,
        }
    }
    own(batch, fence, fit, taken).await
}

/// Makes runs this worker's that are locked.
async fn own(
    batch: &mut Batch<'_>,
    fence: Fence,
    runs: Vec<(RunRow, Status, u64)>,
    taken: &mut Vec<Claimed>,
) -> Result<(), Fault> {
    const OWN: Sql = sql(
        "take runs",
        "UPDATE @run r SET owner = $1, status = u.status, wake_at = $2, began_at = coalesce(r.began_at, u.began_at)
         FROM unnest($3, $4, $5) AS u(id, status, began_at) WHERE r.id = u.id",
    );
    if runs.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = runs.iter().map(|(run, ..)| run.run.0).collect();
    let statuses: Vec<_> = runs.iter().map(|(_, status, _)| i16::from(status.code())).collect();
    let begans: Vec<_> = runs.iter().map(|(run, ..)| run.began_at.map(|at| at.0)).collect();
    batch.execute(&OWN, args![fence.worker.0, i64::MAX, ids, statuses, begans]).await?;
    for (mut row, status, next) in runs {
        let load = batch.open(row.run, next, Held { worker: fence.worker, status });
        row.owner = Some(fence.worker);
        row.wake_at = None;
        taken.push(Claimed { row, load });
    }
    Ok(())
}

/// A run as its claim at `now` finds it: it begins then, unless it has begun.
fn begun(row: RunRow, now: Timestamp) -> RunRow {
    RunRow { began_at: row.began_at.or(Some(now)), ..row }
}

/// Takes a run that is free and locked; it begins at `now`, unless it has begun.
pub(crate) async fn take(
    batch: &mut Batch<'_>,
    fence: Fence,
    row: RunRow,
    now: Timestamp,
) -> Result<Claimed, Fault> {
    let status = row.status.after(Change::Claimed).map_err(|e| illegal(row.run, e))?;
    let next = row::last_seq(batch.conn, row.run).await?.map_or(0, |last| unsigned(last) + 1);
    let mut taken = Vec::new();
    own(batch, fence, vec![(begun(row, now), status, next)], &mut taken).await?;
    Ok(taken.pop().expect("one went in"))
}

/// Takes a run again that this worker owns.
pub(crate) async fn reload(
    batch: &mut Batch<'_>,
    fence: Fence,
    run: RunId,
) -> Result<Option<Claimed>, Fault> {
    const OWNED: Sql = sql(
        "take a run again",
        concat!(
            "SELECT ",
            run_columns!(),
            ", (SELECT max(seq) FROM @journal WHERE run = r.id) FROM @run r
             WHERE r.id = $1 AND r.owner = $2 FOR UPDATE OF r"
        ),
    );
    batch.check(fence).await?;
    let rows = batch.conn.rows(&OWNED, args![run.0, fence.worker.0]).await?;
    let Some(found) = row::runs(batch.conn, batch.texts, &rows).await?.into_iter().next().transpose()? else {
        return Ok(None);
    };
    let status = found.status.after(Change::Claimed).map_err(|e| illegal(run, e))?;
    let last: Option<i64> = get(&rows[0], 12)?;
    batch.close_all(run);
    let mut taken = Vec::new();
    own(batch, fence, vec![(found, status, last.map_or(0, |last| unsigned(last) + 1))], &mut taken).await?;
    Ok(taken.pop())
}

/// Takes a run out of everybody's way whose row cannot be used: it needs a person, and the others must go on.
pub(crate) async fn set_aside(
    batch: &mut Batch<'_>,
    run: i64,
    why: StoreError,
    at: Option<Timestamp>,
) -> Result<(), Fault> {
    const LOOK: Sql = sql("look at a damaged row", "SELECT status, created_at FROM @run WHERE id = $1");
    const SET: Sql = sql(
        "set a damaged run aside",
        "UPDATE @run SET owner = 0, wake_at = NULL, status = $2 WHERE id = $1",
    );
    let detail = format!("its row is damaged: {why}");
    tracing::error!(run, %detail, "a run is stuck");
    let Some(found) = batch.conn.one(&LOOK, args![run]).await? else { return Ok(()) };
    let status = row::status(get(&found, 0)?).ok();
    let to = status.filter(|status| status.is_over()).unwrap_or(Status::Stuck);
    batch.execute(&SET, args![run, i16::from(to.code())]).await?;
    if to == Status::Stuck {
        let at = at.unwrap_or(Timestamp(get(&found, 1)?));
        let stuck = Stuck { reason: StuckReason::JournalDamaged, key: None, detail };
        set_stuck(batch, RunId(run), &stuck, at).await?;
    }
    // Who waits for its result would wait for ever: no worker has it, and none will take it.
    batch.rings().ended.push((RunId(run), to));
    batch.rings().others = true;
    Ok(())
}

/// A row that breaks the table of statuses.
pub(crate) fn illegal(run: RunId, error: everstep_core::IllegalChange) -> StoreError {
    StoreError::Refused(format!("run {}: {error}", run.0).into())
}

/// Runs of this worker that got messages, besides those in `known`, of which a lost reply may have told. Looks first:
/// mostly there is nothing, and nothing written costs no sync.
pub(crate) async fn nudged(
    batch: &mut Batch<'_>,
    fence: Fence,
    known: &mut Vec<RunId>,
) -> Result<Vec<RunId>, Fault> {
    /// Every workflow by name, because the index has the workflow between owner and time.
    const NUDGED: Sql = sql(
        "look for messages",
        "SELECT r.id FROM @name n JOIN @run r ON r.workflow = n.id
         WHERE n.kind = 1 AND r.owner = $1 AND r.wake_at IS NOT NULL AND r.wake_at = 0 ORDER BY r.id FOR UPDATE OF r",
    );
    const HEARD: Sql = sql("hear of messages", "UPDATE @run SET wake_at = $2 WHERE id = ANY($1)");
    batch.check(fence).await?;
    let rows = batch.conn.rows(&NUDGED, args![fence.worker.0]).await?;
    let runs: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    if !runs.is_empty() {
        batch.execute(&HEARD, args![&runs, i64::MAX]).await?;
    }
    known.extend(runs.into_iter().map(RunId));
    known.sort_unstable();
    known.dedup();
    Ok(known.clone())
}
