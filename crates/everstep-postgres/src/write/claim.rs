//! Runs that a worker takes, and messages for those it has.

use std::{sync::Arc, time::Duration};

use everstep_core::{
    Change, Status, Stuck, StuckReason, Timestamp,
    store::{Claim, Claimed, Fence, RunId, RunRow, StoreError},
};
use foldhash::HashMap;
use tokio_postgres::Row;

use super::turn::set_stuck;
use crate::{
    batch::{Batch, Held},
    bounds::{DATED_END, Look, is_dated},
    fault::Fault,
    names::NameKind,
    row::{self, run_columns, signed, unsigned},
    sql::{Sql, args, get, sql},
    stopwatch::Stopwatch,
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
        let id = batch.find_name(NameKind::Workflow, name).await?;
        workflows.push(id.map(|id| Of { name, id, is_empty: false }));
    }
    if workflows.is_empty() {
        return Ok(Vec::new());
    }
    let first = turn % workflows.len();
    workflows.rotate_left(first);
    let mut taken = Vec::new();
    // First everybody's fair share, then what is left over.
    for share in [claim.limit.div_ceil(workflows.len()), claim.limit] {
        for of in workflows.iter_mut().flatten().filter(|of| !of.is_empty) {
            let limit = share.min(claim.limit - taken.len());
            if limit == 0 {
                break;
            }
            of.claim(batch, fence, claim.due, limit, &mut taken).await?;
        }
    }
    Ok(taken)
}

/// The runs of one workflow, for a claim.
struct Of<'c> {
    name: &'c Arc<str>,
    id: i64,
    /// Nothing more is due.
    is_empty: bool,
}

impl Of<'_> {
    /// Takes so many if they are due, in the order of their times from where the bound is.
    async fn claim(
        &mut self,
        batch: &mut Batch<'_>,
        fence: Fence,
        due: Timestamp,
        limit: usize,
        taken: &mut Vec<Claimed>,
    ) -> Result<(), Fault> {
        let bounds = batch.bounds().clone();
        let mut left = limit;
        if let Look::From { at_once, from } = bounds.look(self.name) {
            if let Some(first) = at_once {
                let now = Timestamp(due.0.min(0));
                let found = self.take(batch, fence, (first, now), left, taken).await?;
                bounds.took_at_once(self.name, found.at_once, found.n < left && now.0 == 0);
                left -= found.n.min(left);
            }
            let found = self.take(batch, fence, (from, due), left, taken).await?;
            if let Some(last) = found.last {
                bounds.took(self.name, last);
            }
            left -= found.n.min(left);
            if left == 0 || !bounds.may_look_again(self.name) {
                self.is_empty = left > 0;
                return Ok(());
            }
        }
        let some = left.min(AT_ONCE);
        let found = self.take_some(batch, fence, (i64::MIN, due), some, taken).await?;
        bounds.took_whole(self.name, found.last, found.n < some, found.looked);
        if due.0 < 0 {
            // A clock from before 1970 has seen nothing of what is due at once.
            bounds.heard();
        }
        left -= found.n.min(left);
        if let Some(from) = found.last
            && found.n == some
        {
            let found = self.take(batch, fence, (from, due), left, taken).await?;
            found.last.into_iter().for_each(|last| bounds.took(self.name, last));
            left -= found.n.min(left);
        }
        self.is_empty = left > 0;
        Ok(())
    }

    /// Takes runs that became due between these times.
    async fn take(
        &self,
        batch: &mut Batch<'_>,
        fence: Fence,
        (mut from, due): (i64, Timestamp),
        limit: usize,
        taken: &mut Vec<Claimed>,
    ) -> Result<Found, Fault> {
        let mut all = Found::default();
        while all.n < limit {
            let some = (limit - all.n).min(AT_ONCE);
            let found = self.take_some(batch, fence, (from, due), some, taken).await?;
            all.n += found.n;
            all.last = found.last.or(all.last);
            all.at_once = found.at_once.or(all.at_once);
            from = all.last.unwrap_or(from);
            if found.n < some {
                break;
            }
        }
        Ok(all)
    }

    async fn take_some(
        &self,
        batch: &mut Batch<'_>,
        fence: Fence,
        (from, due): (i64, Timestamp),
        limit: usize,
        taken: &mut Vec<Claimed>,
    ) -> Result<Found, Fault> {
        /// What is due is judged by the database's clock: a worker whose own is ahead takes nothing too early. It is read
        /// once, by a query of its own: a clock that is read for each row cannot end a look in the index, which then
        /// goes over all that is due later.
        const DUE: Sql = sql(
            "claim due runs",
            concat!(
                "SELECT ",
                run_columns!(),
                " FROM @run r
                 WHERE r.owner = 0 AND r.workflow = $1 AND r.wake_at IS NOT NULL AND r.wake_at >= $5
                   AND r.wake_at <= (SELECT CASE
                     WHEN $4 THEN $2 ELSE least($2, :now) END)
                 ORDER BY r.wake_at LIMIT $3 FOR UPDATE OF r SKIP LOCKED"
            ),
        );
        let mut due_runs = DUE;
        if batch.is_comparable() {
            // Among those that are due since the same time any order is right; this one would sort all of them.
            due_runs.1 = due_runs.1.replace("ORDER BY r.wake_at", "ORDER BY r.wake_at, r.id").into();
        }
        let args = args![self.id, due.0, signed(limit as u64), batch.is_comparable(), seen_from(due, from)];
        let watch = Stopwatch::start();
        let rows = batch.conn.free_rows(&due_runs, args, limit).await?;
        let looked = watch.elapsed();
        take_all(batch, fence, &rows, due, taken).await?;
        let since: Vec<i64> = rows.iter().map(|row| get(row, 5)).collect::<Result<_, StoreError>>()?;
        let at_once = since.iter().copied().filter(|at| is_dated(*at)).max();
        Ok(Found { n: rows.len(), last: since.last().copied(), at_once, looked })
    }
}

/// What is due at once is due since 1970, whatever it says: a clock from before that does not see it.
fn seen_from(due: Timestamp, from: i64) -> i64 {
    if (DATED_END..0).contains(&due.0) { from.max(DATED_END) } else { from }
}

/// What a look has found.
#[derive(Default)]
struct Found {
    /// How many, whether they could be taken or not.
    n: usize,
    /// Since when the last of them was due.
    last: Option<i64>,
    /// The last of those that are due at once and say since when.
    at_once: Option<i64>,
    /// How long the look took, without what was done with the runs.
    looked: Duration,
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
        let claimable = found.and_then(|run| {
            let status = run.status.after(Change::Claimed).map_err(|e| illegal(run.run, e))?;
            Ok((begun(run, due), status))
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
    runs: Vec<(RunRow, Status)>,
    taken: &mut Vec<Claimed>,
) -> Result<(), Fault> {
    /// How its journal goes on is asked for when the row is locked: the statement that locks it sees the newest row, and
    /// the journal as it was before somebody else had the run.
    const OWN: Sql = sql(
        "take runs",
        "UPDATE @run r SET owner = $1, status = u.status, wake_at = $2, began_at = coalesce(r.began_at, u.began_at)
         FROM unnest($3, $4, $5) AS u(id, status, began_at) WHERE r.id = u.id
         RETURNING r.id, (SELECT max(seq) FROM @journal WHERE run = r.id)",
    );
    if runs.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = runs.iter().map(|(run, _)| run.run.0).collect();
    let statuses: Vec<_> = runs.iter().map(|(_, status)| i16::from(status.code())).collect();
    let begans: Vec<_> = runs.iter().map(|(run, _)| run.began_at.map(|at| at.0)).collect();
    let rows = batch.change(&OWN, args![fence.worker.0, i64::MAX, ids, statuses, begans]).await?;
    let last = |row: &Row| Ok::<_, StoreError>((get(row, 0)?, get(row, 1)?));
    let lasts: HashMap<i64, Option<i64>> = rows.iter().map(last).collect::<Result<_, _>>()?;
    for (mut row, status) in runs {
        let next = lasts.get(&row.run.0).copied().flatten().map_or(0, |last| unsigned(last) + 1);
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
    let mut taken = Vec::new();
    own(batch, fence, vec![(begun(row, now), status)], &mut taken).await?;
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
            " FROM @run r
             WHERE r.id = $1 AND r.owner = $2 FOR UPDATE OF r"
        ),
    );
    batch.check(fence).await?;
    let rows = batch.conn.rows(&OWNED, args![run.0, fence.worker.0]).await?;
    let Some(found) = row::runs(batch.conn, batch.texts, &rows).await?.into_iter().next().transpose()? else {
        return Ok(None);
    };
    let status = found.status.after(Change::Claimed).map_err(|e| illegal(run, e))?;
    batch.close_all(run);
    let mut taken = Vec::new();
    own(batch, fence, vec![(found, status)], &mut taken).await?;
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
    batch.rings().said = true;
    Ok(())
}

/// A row that breaks the table of statuses.
pub(crate) fn illegal(run: RunId, error: everstep_core::IllegalChange) -> StoreError {
    StoreError::Refused(format!("run {}: {error}", run.0).into())
}

/// Runs of this worker that got messages, besides those in `known`, of which a lost reply may have told. Looks first:
/// mostly there is nothing, and nothing written costs no sync. A run that somebody has locked is told of by a later look.
pub(crate) async fn nudged(
    batch: &mut Batch<'_>,
    fence: Fence,
    known: &mut Vec<RunId>,
) -> Result<Vec<RunId>, Fault> {
    /// Every workflow by name, because the index has the workflow between owner and time.
    const NUDGED: Sql = sql(
        "look for messages",
        "SELECT r.id, r.wake_at FROM @name n JOIN @run r ON r.workflow = n.id
         WHERE n.kind = 1 AND r.owner = $1 AND r.wake_at IS NOT NULL AND r.wake_at >= $2 AND r.wake_at <= 0
         ORDER BY r.id FOR UPDATE OF r SKIP LOCKED",
    );
    const HEARD: Sql = sql("hear of messages", "UPDATE @run SET wake_at = $2 WHERE id = ANY($1)");
    batch.check(fence).await?;
    let (bounds, watch) = (batch.bounds().clone(), Stopwatch::start());
    let from = bounds.letters(fence.worker.0);
    let rows = batch.conn.free_rows(&NUDGED, args![fence.worker.0, from], usize::MAX).await?;
    let looked = watch.elapsed();
    let runs: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let came: Vec<i64> = rows.iter().map(|row| get(row, 1)).collect::<Result<_, _>>()?;
    bounds.found_letters(fence.worker.0, from, came.into_iter().max(), looked);
    if !runs.is_empty() {
        batch.execute(&HEARD, args![&runs, i64::MAX]).await?;
    }
    known.extend(runs.into_iter().map(RunId));
    known.sort_unstable();
    known.dedup();
    Ok(known.clone())
}
