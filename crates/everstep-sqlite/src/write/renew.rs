//! The next generation of a run: restarted by its function, or another run in the place of one that is over.

use everstep_core::{
    Change, Status,
    journal::Entry,
    store::{LetterKind, NewRun, Parent, RunId, RunRow},
};
use rusqlite::{Connection, params};

use super::{claim::illegal, cut::archive, entry, post, say};
use crate::{
    batch::{Batch, add_count},
    fault::Fault,
    names::{self, NameKind},
    row,
};

/// The old journal goes to the archive, and `first` is the new one's.
pub(crate) fn restart(batch: &mut Batch<'_>, run: RunId, first: &Entry) -> Result<(), Fault> {
    clear(batch.conn, run, first, "restart")?;
    for kind in LetterKind::OF_A_KEY {
        batch
            .conn
            .prepare_cached("DELETE FROM everstep_inbox WHERE run = ?1 AND kind = ?2")?
            .execute(params![run.0, kind as u16])?;
    }
    batch
        .conn
        .prepare_cached(
            "UPDATE everstep_run SET generation = generation + 1, takeovers = 0, crash_seq = 0, began_at = ?2
             WHERE id = ?1",
        )?
        .execute(params![run.0, first.at.0])?;
    entry::insert(batch, run, first)?;
    Ok(())
}

fn clear(conn: &Connection, run: RunId, first: &Entry, why: &str) -> rusqlite::Result<()> {
    archive(conn, run, 0..=u64::MAX, (why, first.at), None)?;
    conn.prepare_cached("DELETE FROM everstep_started WHERE run = ?1")?.execute([run.0]).map(drop)
}

/// Makes room for `new` in the place of a run that is over, without its first entry. It is pending, and not counted yet.
pub(crate) fn give_place(
    conn: &Connection,
    old: &RunRow,
    new: &NewRun,
    workflow: i64,
) -> Result<Status, Fault> {
    let status = old.status.after(Change::Reused).map_err(|e| illegal(old.run, e))?;
    clear(conn, old.run, &new.first, "reuse")?;
    for table in [
        "everstep_inbox",
        "everstep_inbox_seen",
        "everstep_promise",
        "everstep_reply",
        "everstep_attribute",
        "everstep_state",
        "everstep_run_extra",
    ] {
        conn.prepare_cached(&format!("DELETE FROM {table} WHERE run = ?1"))?.execute([old.run.0])?;
    }
    conn.prepare_cached(
        "UPDATE everstep_run SET generation = generation + 1, takeovers = 0, crash_seq = 0, workflow = ?2, status = ?3,
           owner = 0, wake_at = ?4, created_at = ?5, began_at = NULL, finished_at = NULL
         WHERE id = ?1",
    )?
    .execute(params![old.run.0, workflow, status.code(), new.due.0, new.first.at.0])?;
    add_count(conn, names::intern(conn, NameKind::Workflow, &old.workflow)?, old.status, -1)?;
    Ok(status)
}

pub(super) fn insert_extra(
    conn: &Connection,
    run: RunId,
    trace: Option<&str>,
    parent: Option<&Parent>,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO everstep_run_extra (run, trace, parent, parent_key, policy, parent_generation, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        run.0,
        trace,
        parent.map(|parent| parent.run.0),
        parent.map(|parent| &*parent.key),
        parent.map(|parent| parent.closes),
        parent.map(|parent| parent.generation),
        parent.map(|parent| parent.digest.0.to_be_bytes()),
    ])
    .map(drop)
}

/// What a run has from the beginning, beside its first entry; how many messages it has received by now.
pub(crate) fn furnish(conn: &Connection, run: RunId, new: &NewRun) -> Result<u64, Fault> {
    if new.trace.is_some() || new.parent.is_some() {
        insert_extra(conn, run, new.trace.as_deref(), new.parent.as_ref())?;
    }
    for (name, value) in &new.attributes {
        let name = names::intern(conn, NameKind::Attribute, name)?;
        say::set_attribute(conn, run, name, value)?;
    }
    if new.letters.is_empty() {
        return Ok(0);
    }
    let before: i64 =
        row::one(conn, "SELECT inbox_n FROM everstep_run WHERE id = ?1", [run.0], |row| Ok(row.get(0)?))?
            .unwrap_or(0);
    let mut n = before;
    for letter in &new.letters {
        n += i64::from(post::add(conn, run, n + 1, letter)?);
    }
    conn.prepare_cached("UPDATE everstep_run SET inbox_n = ?2 WHERE id = ?1")?.execute([run.0, n])?;
    Ok(row::unsigned(n))
}
