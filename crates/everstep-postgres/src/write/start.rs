//! Starts: each by itself, decided by the unique id.

use std::{borrow::Cow, sync::Arc};

use everstep_core::{
    Change, Status,
    journal::Entry,
    store::{Adopt, Claimed, Fence, Forked, NewRun, RunId, RunRow, Started, StoreError},
};
use foldhash::HashSet;
use tokio::sync::oneshot;

use super::{act, claim, entry, renew, say};
use crate::{
    batch::{Batch, Held},
    conn::Speaks,
    fault::Fault,
    fold,
    guest::{Guest, Numbers, Writes as _},
    names::{NameKind, Texts},
    row::{self, codec, damaged, signed},
    sql::{Sql, args, sql},
    text::kept,
};

/// What a run takes besides its payload, a bit more or less.
const ROW_BYTES: usize = 200;

/// Starts on their way.
pub(crate) struct Start {
    runs: Vec<NewRun>,
    /// Whose they become, if they are marked so.
    pub(crate) fence: Option<Fence>,
    adopt: Option<Arc<dyn Adopt>>,
    answer: oneshot::Sender<Result<Vec<Started>, StoreError>>,
    /// Their numbers, once and for all: after a lost reply they tell that a run there is this start's.
    ids: Vec<RunId>,
    /// It was sent to the database, and no reply came: it may have happened.
    pub(crate) unsure: bool,
    workflows: Vec<i64>,
    /// Each run by statements of its own.
    pub(crate) one_by_one: bool,
    refused: Option<StoreError>,
    answers: Vec<Started>,
    claimed: Vec<(Claimed, Entry)>,
}

/// Rows of new runs as columns, for one statement.
#[derive(Default)]
pub(crate) struct Rows<'r> {
    pub(crate) id: Vec<i64>,
    pub(crate) text_id: Vec<Cow<'r, str>>,
    pub(crate) workflow: Vec<i64>,
    pub(crate) status: Vec<i16>,
    pub(crate) owner: Vec<i64>,
    pub(crate) wake_at: Vec<i64>,
    pub(crate) created_at: Vec<i64>,
    pub(crate) began_at: Vec<Option<i64>>,
    /// Whether a worker's right to write decides.
    pub(crate) fenced: Vec<bool>,
}

impl Start {
    pub(crate) fn new(
        runs: Vec<NewRun>,
        claim: Option<(Fence, Arc<dyn Adopt>)>,
        answer: oneshot::Sender<Result<Vec<Started>, StoreError>>,
    ) -> Start {
        let (fence, adopt) = claim.unzip();
        Start {
            runs,
            fence,
            adopt,
            answer,
            ids: Vec::new(),
            unsure: false,
            workflows: Vec::new(),
            one_by_one: false,
            refused: None,
            answers: Vec::new(),
            claimed: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| entry::bytes(&run.first) + ROW_BYTES).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    pub(crate) fn refuse(&mut self, fence: Fence) {
        self.refused = Some(StoreError::Fenced(fence.worker));
    }

    /// Whether one statement can write it together with others.
    pub(crate) fn is_plain(&self) -> bool {
        !self.one_by_one
            && self.runs.iter().all(|run| {
                run.letters.is_empty()
                    && run.attributes.is_empty()
                    && run.trace.is_none()
                    && run.parent.is_none()
                    && run.forked.is_none()
                    && run.reuse.is_empty()
            })
    }

    /// Checks it, and gives its runs their numbers. To be called before the statement that writes them.
    pub(crate) async fn prepare(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        self.refused = None;
        self.answers.clear();
        self.claimed.clear();
        if let Err(error) = self.runs.iter().try_for_each(NewRun::check) {
            self.refused = Some(error);
            return Ok(());
        }
        while self.ids.len() < self.runs.len() && !self.one_by_one {
            self.ids.push(batch.next_run().await?);
        }
        self.workflows.clear();
        for run in &self.runs {
            self.workflows.push(batch.intern(NameKind::Workflow, &run.workflow).await?);
        }
        Ok(())
    }

    /// Adds its rows; the first entries that come with them.
    pub(crate) fn push<'r>(&'r self, rows: &mut Rows<'r>) -> impl Iterator<Item = (RunId, &'r Entry)> {
        let is_written = self.refused.is_none();
        let each = self.runs.iter().zip(&self.ids).zip(&self.workflows).filter(move |_| is_written);
        for ((run, id), workflow) in each.clone() {
            rows.push(*id, run, *workflow, self.owner(run));
            rows.fenced.push(self.fence.is_some());
        }
        each.map(|((run, id), _)| (*id, &run.first))
    }

    fn owner(&self, run: &NewRun) -> Option<Fence> {
        self.fence.filter(|_| run.claim)
    }

    /// Its statement has started these runs.
    pub(crate) async fn wrote(&mut self, batch: &mut Batch<'_>, started: &HashSet<i64>) -> Result<(), Fault> {
        if self.refused.is_some() {
            return Ok(());
        }
        for (at, id) in self.ids.iter().enumerate() {
            let run = &self.runs[at];
            if !started.contains(&id.0) {
                let known = known(batch.conn, batch.texts, &run.id).await?;
                // After a lost reply it is there already, under the number that is this start's alone.
                let is_own = matches!(&known, Started::Known(row, _) if row.run == *id);
                if !is_own {
                    self.answers.push(known);
                    continue;
                }
            }
            match self.fence.filter(|_| run.claim) {
                Some(fence) => self.claimed.push(claimed(batch, *id, run, fence, 0)),
                None => batch.rings().due(run.due.0),
            }
            self.answers.push(Started::New(*id));
        }
        Ok(())
    }

    /// Writes its runs one by one, with all that they have.
    pub(crate) async fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        match self.fence {
            Some(fence) => batch.check(fence).await?,
            None => batch.check_mark().await?,
        }
        self.prepare(batch).await?;
        if let Some(error) = self.refused.take() {
            return Err(error.into());
        }
        if self.is_plain() {
            fold::write(batch, &mut [], &mut [self]).await?;
            return self.refused.take().map_or(Ok(()), |error| Err(error.into()));
        }
        for at in 0..self.runs.len() {
            let run = &self.runs[at];
            let fence = self.fence.filter(|_| run.claim);
            let started = start_one(batch, run, self.ids.get(at).copied(), fence, &mut self.claimed).await?;
            self.answers.push(started);
        }
        Ok(())
    }

    /// After the commit: hands over the runs that the starting worker owns.
    pub(crate) fn settle(mut self) {
        if let Some(error) = self.refused.take() {
            return self.fail(error);
        }
        if let Some(by) = &self.adopt {
            for (run, first) in self.claimed.drain(..) {
                by.adopt(run, first);
            }
        }
        let _ = self.answer.send(Ok(self.answers));
    }

    pub(crate) fn fail(self, error: StoreError) {
        let _ = self.answer.send(Err(error));
    }
}

impl<'r> Rows<'r> {
    fn push(&mut self, id: RunId, run: &'r NewRun, workflow: i64, fence: Option<Fence>) {
        let status = if fence.is_some() { running() } else { Status::Pending };
        self.id.push(id.0);
        self.text_id.push(kept(&run.id));
        self.workflow.push(workflow);
        self.status.push(status.code().into());
        self.owner.push(fence.map_or(0, |fence| fence.worker.0));
        self.wake_at.push(if fence.is_some() { i64::MAX } else { run.due.0 });
        self.created_at.push(run.first.at.0);
        self.began_at.push(fence.map(|_| run.first.at.0));
    }
}

fn claimed(batch: &mut Batch<'_>, id: RunId, run: &NewRun, fence: Fence, inbox_n: u64) -> (Claimed, Entry) {
    let load = batch.open(id, run.first.seq + 1, Held { worker: fence.worker, status: running() });
    (Claimed { row: RunRow { inbox_n, ..row_of(id, run, fence) }, load }, run.first.clone())
}

/// Starts one run, with all that it has.
pub(crate) async fn start_one(
    batch: &mut Batch<'_>,
    run: &NewRun,
    id: Option<RunId>,
    fence: Option<Fence>,
    claims: &mut Vec<(Claimed, Entry)>,
) -> Result<Started, Fault> {
    /// Begins without a delay when the database's clock says so: the starter's may be ahead.
    const INSERT: Sql = sql(
        "start a run",
        "INSERT INTO @run (id, text_id, workflow, status, owner, wake_at, created_at, began_at)
         SELECT u.id, u.text_id, u.workflow, u.status, u.owner, CASE WHEN u.wake_at = u.created_at
             THEN least(u.wake_at, :now) ELSE u.wake_at END,
           u.created_at, u.began_at
         FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
           AS u(id, text_id, workflow, status, owner, wake_at, created_at, began_at)
         ON CONFLICT (text_id) DO NOTHING",
    );
    let workflow = batch.intern(NameKind::Workflow, &run.workflow).await?;
    if batch.is_comparable() && row::run_by_id(batch.conn, batch.texts, &run.id).await?.is_some() {
        // It takes no number.
        return replace(batch, run, workflow, fence, claims).await;
    }
    let id = match id {
        Some(id) => id,
        None => batch.next_run().await?,
    };
    let mut rows = Rows::default();
    rows.push(id, run, workflow, fence);
    let Rows { id: ids, text_id, workflow: workflows, status, owner, wake_at, created_at, began_at, .. } =
        rows;
    let args = args![ids, text_id, workflows, status, owner, wake_at, created_at, began_at];
    if batch.execute(&INSERT, args).await? == 0 {
        return replace(batch, run, workflow, fence, claims).await;
    }
    entry::insert(batch, id, std::slice::from_ref(&run.first)).await?;
    let inbox_n = renew::furnish(batch, id, run).await?;
    if let Some(forked) = &run.forked {
        add_fork(batch, id, forked).await?;
    }
    match fence {
        Some(fence) => {
            let claim = claimed(batch, id, run, fence, inbox_n);
            claims.push(claim);
        }
        None => batch.rings().due(run.due.0),
    }
    Ok(Started::New(id))
}

/// What a fork begins with besides its first entry.
async fn add_fork(batch: &mut Batch<'_>, run: RunId, forked: &Forked) -> Result<(), Fault> {
    entry::insert(batch, run, &forked.entries).await?;
    let items = say::item_numbers(batch, run, &forked.says).await?;
    say::add(batch, run, &forked.says, items).await?;
    act::record(batch, run, &forked.act).await
}

/// A start whose id is in use: it may take that run's place.
async fn replace(
    batch: &mut Batch<'_>,
    run: &NewRun,
    workflow: i64,
    fence: Option<Fence>,
    claims: &mut Vec<(Claimed, Entry)>,
) -> Result<Started, Fault> {
    const LOCK: Sql = sql("lock a run", "SELECT 1 FROM @run WHERE text_id = $1 FOR UPDATE");
    batch.conn.rows(&LOCK, args![kept(&run.id)]).await?;
    let old = row::run_by_id(batch.conn, batch.texts, &run.id).await?;
    let Some(old) = old.filter(|old| run.replaces(old.status)) else {
        return known(batch.conn, batch.texts, &run.id).await;
    };
    renew::give_place(batch, &old, run, workflow).await?;
    entry::insert(batch, old.run, std::slice::from_ref(&run.first)).await?;
    renew::furnish(batch, old.run, run).await?;
    match fence {
        Some(fence) => {
            let damaged = || damaged(&format!("run `{}` has no row", run.id));
            let row = row::run_by_id(batch.conn, batch.texts, &run.id).await?.ok_or_else(damaged)?;
            let claim = claim::take(batch, fence, row, run.first.at).await?;
            claims.push((claim, run.first.clone()));
        }
        None => batch.rings().due(run.due.0),
    }
    Ok(Started::New(old.run))
}

/// Starts one run in a user's transaction, with the numbers that were taken for it outside.
pub(crate) async fn insert(
    guest: &mut Guest<'_>,
    texts: &Texts,
    run: &NewRun,
    numbers: Numbers,
) -> Result<Started, Fault> {
    guest.check_mark().await?;
    // One statement: whoever goes away in the middle leaves no run without its beginning. Without a delay it begins when
    // the database's clock says so.
    const INSERT: Sql = sql(
        "start a run in a user's transaction",
        "WITH s AS (
           INSERT INTO @run (id, text_id, workflow, status, wake_at, created_at)
           VALUES ($1, $2, $3, $4,
             CASE WHEN $5 = $6 THEN least($5, :now) ELSE $5 END, $6)
           ON CONFLICT (text_id) DO NOTHING RETURNING id)
         INSERT INTO @journal (run, seq, at, site, build, fingerprint, attempt, kind, codec, body)
         SELECT id, $7, $6, $8, $9, $10, $11, $12, $13, $14 FROM s RETURNING run",
    );
    let Entry { seq, fingerprint, attempt, kind, body, .. } = &run.first;
    let args = args![
        numbers.run.0,
        kept(&run.id),
        numbers.workflow,
        i16::from(Status::Pending.code()),
        run.due.0,
        run.first.at.0,
        signed(*seq),
        numbers.site,
        numbers.build,
        fingerprint.cast_signed(),
        attempt.cast_signed(),
        i32::from(*kind),
        codec(body),
        &*body.bytes,
    ];
    match guest.one(&INSERT, args).await? {
        Some(_) => Ok(Started::New(numbers.run)),
        None => known(&*guest, texts, &run.id).await,
    }
}

async fn known(conn: &impl Speaks, texts: &Texts, id: &str) -> Result<Started, Fault> {
    // Nothing holds it: between the start that it refused and this look somebody may have deleted it.
    let gone = || StoreError::Full(format!("run `{id}` was deleted at this moment: start it again").into());
    let run = row::run_by_id(conn, texts, id).await?.ok_or_else(gone)?;
    let first = row::entry_at(conn, texts, run.run, 0).await?;
    let first = first.ok_or_else(|| damaged(&format!("run `{id}` has no first entry")))?;
    Ok(Started::Known(Box::new(run), Box::new(first)))
}

/// The row after the claim that is part of the start, with the status before it.
fn row_of(id: RunId, run: &NewRun, fence: Fence) -> RunRow {
    RunRow {
        run: id,
        id: run.id.clone(),
        workflow: run.workflow.clone(),
        status: Status::Pending,
        owner: Some(fence.worker),
        wake_at: None,
        inbox_n: 0,
        generation: 0,
        takeovers: 0,
        created_at: run.first.at,
        began_at: Some(run.first.at),
        finished_at: None,
    }
}

fn running() -> Status {
    Status::Pending.after(Change::Claimed).expect("a pending run can be claimed")
}
