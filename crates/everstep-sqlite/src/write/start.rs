//! Starts: each by itself, decided by the unique id.

use std::sync::Arc;

use everstep_core::{
    Change, Status,
    journal::Entry,
    store::{Adopt, Claimed, Fence, Forked, NewRun, RunId, RunRow, Started, StoreError},
};
use rusqlite::{Connection, ToSql, params};

use super::{
    act, claim, entry,
    inside::{self, inside},
    renew, say,
};
use crate::{
    batch::{Batch, Held, add_count},
    fault::Fault,
    hot::Hot,
    names::{self, NameKind, Texts},
    row, tx,
};

/// Writes a run's row, if its id is not in use. No look before: the index decides.
pub(crate) const INSERT_RUN: &str =
    "INSERT INTO everstep_run (id, text_id, workflow, status, owner, wake_at, created_at, began_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (text_id) DO NOTHING";

/// What starts have led to, before their commit.
#[derive(Default)]
pub(crate) struct Starts {
    pub(crate) answers: Vec<Started>,
    claimed: Vec<(Claimed, Entry)>,
}

impl Starts {
    /// After the commit: hands over the runs that the starting worker owns.
    pub(crate) fn adopt(&mut self, by: Option<&Arc<dyn Adopt>>) {
        if let Some(by) = by {
            for (run, first) in self.claimed.drain(..) {
                by.adopt(run, first);
            }
        }
    }
}

/// Starts `runs`.
pub(crate) fn start(batch: &mut Batch<'_>, runs: &[NewRun], fence: Option<Fence>) -> Result<Starts, Fault> {
    match fence {
        Some(fence) => batch.check(fence)?,
        None => batch.check_mark()?,
    }
    runs.iter().try_for_each(NewRun::check)?;
    let mut starts = Starts::default();
    for run in runs {
        let fence = fence.filter(|_| run.claim);
        let started = start_one(batch, run, fence, &mut starts.claimed)?;
        starts.answers.push(started);
    }
    Ok(starts)
}

pub(crate) fn start_one(
    batch: &mut Batch<'_>,
    run: &NewRun,
    fence: Option<Fence>,
    claimed: &mut Vec<(Claimed, Entry)>,
) -> Result<Started, Fault> {
    let workflow = batch.names.intern(batch.conn, NameKind::Workflow, &run.workflow)?;
    let id = RunId(batch.next_run()?);
    let status = if fence.is_some() { running() } else { Status::Pending };
    if !insert_run(id, run, workflow, status, fence, |row| batch.hot.execute(Hot::InsertRun, row))? {
        // No gap for a used id: numbers are dense in the order of starts.
        batch.unused_run();
        return replace(batch, run, workflow, fence, claimed);
    }
    entry::insert(batch, id, &run.first)?;
    let inbox_n = renew::furnish(batch.conn, id, run)?;
    if let Some(forked) = &run.forked {
        add_fork(batch, id, forked)?;
    }
    batch.count(workflow, None, status);
    match fence {
        Some(fence) => {
            let held = Held { worker: fence.worker, status, workflow };
            let load = batch.open(id, run.first.seq + 1, held);
            claimed.push((
                Claimed { row: RunRow { inbox_n, ..row_of(id, run, fence) }, load },
                run.first.clone(),
            ));
        }
        None => batch.rings.claimable = true,
    }
    Ok(Started::New(id))
}

/// What a fork begins with besides its first entry.
fn add_fork(batch: &mut Batch<'_>, run: RunId, forked: &Forked) -> Result<(), Fault> {
    for entry in &forked.entries {
        entry::insert(batch, run, entry)?;
    }
    let items = say::item_numbers(batch.conn, run, &forked.says)?;
    say::add(batch, run, &forked.says, items)?;
    Ok(act::record(batch.conn, run, &forked.act)?)
}

/// A start whose id is in use: it may take that run's place.
fn replace(
    batch: &mut Batch<'_>,
    run: &NewRun,
    workflow: i64,
    fence: Option<Fence>,
    claimed: &mut Vec<(Claimed, Entry)>,
) -> Result<Started, Fault> {
    let Some(old) = row::run_by_id(batch.conn, batch.texts, &run.id)?.filter(|old| run.replaces(old.status))
    else {
        return known(batch.conn, batch.texts, &run.id);
    };
    let status = renew::give_place(batch.conn, &old, run, workflow)?;
    entry::insert(batch, old.run, &run.first)?;
    renew::furnish(batch.conn, old.run, run)?;
    batch.count(workflow, None, status);
    match fence {
        Some(fence) => {
            let damaged = || row::damaged(&format!("run `{}` has no row", run.id));
            let row = row::run_by_id(batch.conn, batch.texts, &run.id)?.ok_or_else(damaged)?;
            claimed.push((claim::take(batch, fence, workflow, row, run.first.at)?, run.first.clone()));
        }
        None => batch.rings.claimable = true,
    }
    Ok(Started::New(old.run))
}

/// `false` if the id is in use.
fn insert_run(
    id: RunId,
    run: &NewRun,
    workflow: i64,
    status: Status,
    fence: Option<Fence>,
    execute: impl FnOnce(&[&dyn ToSql]) -> rusqlite::Result<usize>,
) -> rusqlite::Result<bool> {
    let (owner, wake_at) = fence.map_or((0, run.due.0), |fence| (fence.worker.0, i64::MAX));
    let created_at = run.first.at.0;
    let began_at = fence.map(|_| created_at);
    let changed =
        execute(params![id.0, &*run.id, workflow, status.code(), owner, wake_at, created_at, began_at])?;
    Ok(changed == 1)
}

fn known(conn: &Connection, texts: &Texts, id: &str) -> Result<Started, Fault> {
    let damaged = |what: &str| row::damaged(&format!("run `{id}` has no {what}"));
    let run = row::run_by_id(conn, texts, id)?.ok_or_else(|| damaged("row"))?;
    let first = row::entry_at(conn, texts, run.run, 0)?.ok_or_else(|| damaged("first entry"))?;
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

/// Starts a pending run on a connection of the user's, to the same file, inside the user's own transaction: it exists
/// exactly if that commits. [`NewRun::claim`] is not looked at; a worker takes it when it is due.
///
/// # Errors
/// The database is not (or no longer) one that this version of Everstep writes to; or SQLite's own error, after which
/// nothing of the run is written.
pub fn insert_start(conn: &Connection, run: &NewRun) -> Result<Started, StoreError> {
    run.check()?;
    if run.forked.is_some() {
        return Err(StoreError::Unusable("a fork is not made inside a user's transaction".into()));
    }
    inside(conn, |started| matches!(started, Started::New(_)), |conn| insert_pending(conn, run))
}

fn insert_pending(conn: &Connection, run: &NewRun) -> Result<Started, Fault> {
    let id = conn
        .prepare_cached("UPDATE everstep_meta SET value = value + 1 WHERE key = 'run' RETURNING value")
        .and_then(|mut next| next.query_row([], |row| row.get(0).map(RunId)));
    let id = inside::first(conn, id)?;
    let texts = Texts::default();
    let old = row::run_by_id(conn, &texts, &run.id)?;
    let workflow = names::intern(conn, NameKind::Workflow, &run.workflow)?;
    let id = match old {
        None => {
            insert_run(id, run, workflow, Status::Pending, None, |row| {
                conn.prepare_cached(INSERT_RUN)?.execute(row)
            })?;
            id
        }
        Some(old) if run.replaces(old.status) => {
            renew::give_place(conn, &old, run, workflow)?;
            old.run
        }
        Some(_) => return known(conn, &texts, &run.id),
    };
    entry::insert_on(conn, id, &run.first)?;
    renew::furnish(conn, id, run)?;
    add_count(conn, workflow, Status::Pending, 1)?;
    tx::wakes_a_run();
    Ok(Started::New(id))
}
