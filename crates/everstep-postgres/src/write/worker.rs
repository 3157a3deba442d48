//! Workers: made, renewed, fenced, their runs freed.

use everstep_core::{
    Change, Status,
    failpoint::{Guard, broken},
    store::{Fence, RunId, StoreError, WorkerId, WorkerInfo, takeovers_after},
};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use tokio_postgres::Row;

use super::claim::{illegal, set_aside};
use crate::{
    back::Beats,
    batch::Batch,
    conn::Conn,
    fault::Fault,
    names::NameKind,
    op::{After, Apply, Op},
    row::{self, signed},
    sql::{Sql, args, get, sql},
    text::kept,
};

/// Runs that one transaction frees when their worker leaves: others wait for it meanwhile.
const FREED_AT_ONCE: usize = 1000;
/// Fence rows of a worker: as many connections may write for it.
pub(crate) const SLOTS: i16 = 16;

/// Makes a fresh worker.
pub(crate) async fn enroll(batch: &mut Batch<'_>, info: &WorkerInfo) -> Result<Fence, Fault> {
    const NUMBER: Sql =
        sql("number a worker", "UPDATE @meta SET value = value + 1 WHERE key = 'worker' RETURNING value");
    const ENROLL: Sql =
        sql("enroll a worker", "INSERT INTO @worker (id, name, build, started_at) VALUES ($1, $2, $3, $4)");
    const SLOTS_OF: Sql = sql(
        "make the fence of a worker",
        "INSERT INTO @slot (worker, slot) SELECT $1, n FROM generate_series(0, $2 - 1) AS g(n)",
    );
    batch.check_mark().await?;
    let build = batch.intern(NameKind::Build, &info.build).await?;
    let row = batch.change(&NUMBER, &[]).await?.pop();
    let id: i64 = get(&row.ok_or_else(|| row::damaged("the highest number of a worker is not there"))?, 0)?;
    batch.execute(&ENROLL, args![id, kept(&info.name), build, info.at.0]).await?;
    batch.execute(&SLOTS_OF, args![id, i32::from(SLOTS)]).await?;
    Ok(Fence { worker: WorkerId(id) })
}

/// Renews a worker. Touches no fence: writers lock that, and a renewal must wait for nobody.
pub(crate) async fn beat(conn: &Conn, beats: &Beats, fence: Fence) -> Result<(), Fault> {
    const BEAT: Sql = sql(
        "renew a worker",
        "UPDATE @worker SET beat = beat + 1 WHERE id = $1 AND NOT fenced RETURNING beat",
    );
    match conn.one(&BEAT, args![fence.worker.0]).await? {
        None => Err(StoreError::Fenced(fence.worker).into()),
        Some(row) => Ok(beats.counted(fence.worker, get(&row, 0)?)?),
    }
}

/// Fences `other` if nobody has renewed it since, and nothing of it is under way: a transaction of a process that stands
/// still may be open for as long as the server allows, and whoever waited for it would be silent meanwhile himself.
pub(crate) async fn fence(
    batch: &mut Batch<'_>,
    by: Fence,
    other: WorkerId,
    beat: u64,
) -> Result<bool, Fault> {
    const FENCE: Sql =
        sql("fence a worker", "UPDATE @worker SET fenced = true WHERE id = $1 AND beat = $2 AND NOT fenced");
    /// Two that fence each other would wait for each other.
    const REST: Sql = sql(
        "look whether a worker rests",
        "SELECT slot::int8 FROM @slot WHERE worker = $1 AND NOT fenced FOR UPDATE SKIP LOCKED",
    );
    const ALL: Sql =
        sql("count the fence of a worker", "SELECT count(*) FROM @slot WHERE worker = $1 AND NOT fenced");
    batch.check(by).await?;
    let all = batch.conn.one(&ALL, args![other.0]).await?.map(|row| get::<i64>(&row, 0)).transpose()?;
    let all = usize::try_from(all.unwrap_or(0)).map_err(|_| row::damaged("a count is negative"))?;
    let locked = batch.conn.free_rows(&REST, args![other.0], all).await?.len();
    if all > locked && !broken(Guard::Fence) {
        return Ok(false);
    }
    if batch.execute(&FENCE, args![other.0, signed(beat)]).await? > 0 {
        fence_slots(batch, other).await?;
    }
    let fenced = is_fenced(batch, other).await?;
    if fenced {
        batch.fenced(other);
    }
    Ok(fenced)
}

async fn fence_slots(batch: &mut Batch<'_>, worker: WorkerId) -> Result<(), Fault> {
    const FENCE: Sql = sql(
        "fence the connections of a worker",
        "UPDATE @slot SET fenced = true WHERE worker = $1 AND NOT fenced",
    );
    batch.execute(&FENCE, args![worker.0]).await.map(drop)
}

/// A missing row counts as fenced: whoever removed it knew.
async fn is_fenced(batch: &Batch<'_>, worker: WorkerId) -> Result<bool, Fault> {
    const LOOK: Sql = sql("look at a worker", "SELECT fenced FROM @worker WHERE id = $1");
    let row = batch.conn.one(&LOOK, args![worker.0]).await?;
    Ok(row.map(|row| get(&row, 0)).transpose()?.unwrap_or(true))
}

/// Frees some runs of a fenced worker and counts its death against them.
pub(crate) async fn free(
    batch: &mut Batch<'_>,
    by: Fence,
    other: WorkerId,
    limit: usize,
) -> Result<usize, Fault> {
    const COUNT: Sql = sql(
        "count deaths",
        "UPDATE @run r SET takeovers = u.takeovers, crash_seq = u.crash_seq
         FROM unnest($1, $2, $3) AS u(id, takeovers, crash_seq) WHERE r.id = u.id",
    );
    batch.check(by).await?;
    if !is_fenced(batch, other).await? {
        let why = format!("worker {} is not fenced: its runs are its own", other.0);
        return Err(StoreError::Refused(why.into()).into());
    }
    let rows = owned(batch, other, limit).await?;
    let runs = usable(batch, &rows).await?;
    let takeovers =
        |run: &Owned| i64::from(takeovers_after(run.takeovers, run.last > run.crash_seq, run.in_step));
    give_back(batch, &runs).await?;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let counts: Vec<_> = runs.iter().map(takeovers).collect();
    let lasts: Vec<_> = runs.iter().map(|run| run.last).collect();
    if !ids.is_empty() {
        batch.execute(&COUNT, args![ids, counts, lasts]).await?;
    }
    Ok(rows.len())
}

/// A run as freeing needs it.
struct Owned {
    id: i64,
    status: Status,
    takeovers: u32,
    crash_seq: i64,
    last: i64,
    in_step: bool,
}

/// Runs of a worker, locked. Owner 0 is nobody: what is free is not freed.
async fn owned(batch: &Batch<'_>, worker: WorkerId, limit: usize) -> Result<Vec<Row>, Fault> {
    /// `wake_at IS NOT NULL` is what lets the partial index answer. Whoever else frees them is not waited for.
    const OWNED: Sql = sql(
        "find the runs of a worker",
        "SELECT r.id, r.status, r.takeovers, r.crash_seq,
           coalesce((SELECT max(seq) FROM @journal WHERE run = r.id), 0),
           EXISTS (SELECT 1 FROM @started WHERE run = r.id AND NOT abandoned)
         FROM @run r WHERE r.owner = $1 AND r.owner <> 0 AND r.wake_at IS NOT NULL
         LIMIT $2 FOR UPDATE OF r SKIP LOCKED",
    );
    batch.conn.free_rows(&OWNED, args![worker.0, signed(limit as u64)], limit).await
}

fn read_owned(row: &Row) -> Result<Owned, StoreError> {
    let id = get(row, 0)?;
    let status = row::status(get(row, 1)?)?;
    status.after(Change::GivenBack).map_err(|e| illegal(RunId(id), e))?;
    let takeovers: i64 = get(row, 2)?;
    let takeovers = u32::try_from(takeovers).map_err(|_| row::damaged("a count of takeovers is negative"))?;
    Ok(Owned { id, status, takeovers, crash_seq: get(row, 3)?, last: get(row, 4)?, in_step: get(row, 5)? })
}

/// Those whose rows can be used; the others are out of the way.
async fn usable(batch: &mut Batch<'_>, rows: &[Row]) -> Result<Vec<Owned>, Fault> {
    let mut usable = Vec::new();
    for row in rows {
        match read_owned(row) {
            Ok(run) => usable.push(run),
            Err(error) => set_aside(batch, get(row, 0)?, error, None).await?,
        }
    }
    Ok(usable)
}

async fn give_back(batch: &mut Batch<'_>, runs: &[Owned]) -> Result<(), Fault> {
    const GIVE: Sql = sql(
        "free runs",
        "UPDATE @run r SET owner = 0, wake_at = coalesce(:now - $3, 0), status = u.status
         FROM unnest($1, $2) AS u(id, status) WHERE r.id = u.id",
    );
    if runs.is_empty() {
        return Ok(());
    }
    let (mut ids, mut statuses) = (Vec::new(), Vec::new());
    for run in runs {
        let status = run.status.after(Change::GivenBack).map_err(|e| illegal(RunId(run.id), e))?;
        ids.push(run.id);
        statuses.push(i16::from(status.code()));
    }
    batch.execute(&GIVE, args![ids, statuses, batch.dates_from()]).await?;
    batch.rings().due(0);
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
    pub(crate) fn op(fence: Fence, answer: oneshot::Sender<Result<(), StoreError>>) -> Op {
        Op::Call(Box::new(Leave { fence, answer, begun: false, done: false }))
    }

    async fn write(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        const LEAVE: Sql =
            sql("let a worker leave", "UPDATE @worker SET fenced = true WHERE id = $1 AND NOT fenced");
        let worker = self.fence.worker;
        if !self.begun {
            // Whoever was fenced by another does not free its runs without blame.
            batch.check(self.fence).await?;
            batch.execute(&LEAVE, args![worker.0]).await?;
            fence_slots(batch, worker).await?;
        }
        batch.fenced(worker);
        let rows = owned(batch, worker, FREED_AT_ONCE).await?;
        self.done = rows.len() < FREED_AT_ONCE;
        let runs = usable(batch, &rows).await?;
        give_back(batch, &runs).await
    }
}

impl Apply for Leave {
    /// Who leaves says itself for how long it waits.
    fn is_patient(&self) -> bool {
        true
    }

    fn apply<'b>(&'b mut self, batch: &'b mut Batch<'_>) -> LocalBoxFuture<'b, Result<(), Fault>> {
        Box::pin(self.write(batch))
    }

    fn settle(mut self: Box<Self>, after: &mut After<'_>) {
        self.begun = true;
        if self.done {
            let _ = self.answer.send(Ok(()));
        } else {
            after.again.push(Op::Call(self));
        }
    }

    fn fail(self: Box<Self>, error: StoreError, _: &mut After<'_>) {
        let _ = self.answer.send(Err(error));
    }
}
