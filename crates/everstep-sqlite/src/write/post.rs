//! Letters into inboxes.

use everstep_core::{
    Change, Status,
    store::{Letter, Post, Posted, RunId, StoreError, To},
};
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::{
    claim::illegal,
    inside::{self, inside},
    promise::{self, Promised},
    turn::clear_stuck,
};
use crate::{batch::Batch, fault::Fault, row, tx};

/// A run as a letter finds it.
pub(crate) struct Addressee {
    pub(super) run: RunId,
    pub(super) workflow: i64,
    pub(super) status: Status,
    pub(super) owner: i64,
    inbox_n: i64,
    has_begun: bool,
    pub(crate) generation: u32,
}

/// Puts a letter into a run's inbox and wakes the run.
pub(crate) fn post(batch: &mut Batch<'_>, post: &Post) -> Result<Posted, Fault> {
    batch.check_mark()?;
    post.letter.check()?;
    let Some((to, promise)) = addressee(batch.conn, &post.to)? else { return Ok(Posted::NoSuchRun) };
    let is_refused = !post.only.contains(to.status);
    // Known before refused: a letter sent again is the same letter, whatever has become of the run.
    if (is_refused || promise.is_some()) && is_known(batch.conn, to.run, &post.letter)? {
        return Ok(Posted::Known);
    }
    if is_refused {
        return Ok(Posted::Refused(to.status));
    }
    let Some(promise) = promise else {
        let is_new = deliver(batch, &to, &post.letter, post.revive)?;
        return Ok(if is_new { Posted::Added } else { Posted::Known });
    };
    match promise.expires {
        _ if promise.settled => return Ok(Posted::Settled),
        Some(expires) if expires <= post.letter.at => return Ok(Posted::Expired),
        _ => {}
    }
    promise::set_settled(batch.conn, to.run, &promise.key, true)?;
    let letter = Letter { name: promise.key.into(), ..post.letter.clone() };
    deliver(batch, &to, &letter, post.revive)?;
    Ok(Posted::Added)
}

/// Whom a letter reaches, and the promise that it is about.
fn addressee(conn: &Connection, to: &To) -> Result<Option<(Addressee, Option<Promised>)>, Fault> {
    match to {
        To::Run(id) => {
            let found = find(conn, "text_id = ?1", &**id)?;
            Ok(found.map(|to| (to, None)))
        }
        To::Promise(hash) => {
            let Some(promise) = promise::find(conn, hash)? else { return Ok(None) };
            let found = find(conn, "id = ?1", promise.run.0)?;
            let found = found.filter(|to| to.generation == promise.generation);
            Ok(found.map(|to| (to, Some(promise))))
        }
    }
}

/// Puts a letter that nothing speaks against into a run's inbox, unless it is known there, and wakes the run; whether it
/// was new.
pub(crate) fn deliver(
    batch: &mut Batch<'_>,
    to: &Addressee,
    letter: &Letter,
    revive: bool,
) -> Result<bool, Fault> {
    // Of an owned run the owner decides; of a free one a person's letter may set it going again.
    let revived = revive && to.owner == 0 && matches!(to.status, Status::Stuck | Status::Paused);
    let status = match revived {
        true => to.status.after(Change::Revived).map_err(|e| illegal(to.run, e))?,
        false => to.status,
    };
    let Some(wakes) = put(batch.conn, to, letter, status)? else { return Ok(false) };
    if revived {
        clear_stuck(batch.conn, to.run)?;
    }
    batch.count(to.workflow, Some(to.status), status);
    batch.rings.inbox |= to.owner != 0;
    batch.rings.claimable |= to.owner == 0 && wakes;
    Ok(true)
}

/// Puts a letter into the inbox of a run, which has this status from now on; whether that wakes somebody, or `None` if it
/// is known there.
fn put(conn: &Connection, to: &Addressee, letter: &Letter, status: Status) -> rusqlite::Result<Option<bool>> {
    if !add(conn, to.run, to.inbox_n + 1, letter)? {
        return Ok(None);
    }
    // Of an owned run 0 says: look into your inbox.
    let wakes = to.owner != 0 || letter.wakes(status, to.has_begun);
    conn.prepare_cached(
        "UPDATE everstep_run SET inbox_n = inbox_n + 1, status = ?2, wake_at = CASE WHEN ?3 THEN 0 ELSE wake_at END,
           takeovers = CASE WHEN ?4 THEN 0 ELSE takeovers END
         WHERE id = ?1",
    )?
    .execute(params![to.run.0, status.code(), wakes, status != to.status])?;
    Ok(Some(wakes))
}

/// Sends a letter to a run on a connection of the user's, to the same file, inside the user's own transaction: it is
/// there exactly if that commits. [`Post::revive`] is not looked at.
///
/// # Errors
/// As [`insert_start`](crate::insert_start).
pub fn insert_letter(conn: &Connection, post: &Post) -> Result<Posted, StoreError> {
    post.letter.check()?;
    let To::Run(id) = &post.to else {
        return Err(StoreError::Unusable("a promise is not settled inside a user's transaction".into()));
    };
    inside(conn, |posted| *posted == Posted::Added, |conn| send_inside(conn, id, post))
}

fn send_inside(conn: &Connection, id: &str, post: &Post) -> Result<Posted, Fault> {
    let locked = conn
        .prepare_cached("UPDATE everstep_run SET inbox_n = inbox_n WHERE text_id = ?1")
        .and_then(|mut lock| lock.execute([id]));
    if inside::first(conn, locked)? == 0 {
        return Ok(Posted::NoSuchRun);
    }
    let Some(to) = find(conn, "text_id = ?1", id)? else { return Ok(Posted::NoSuchRun) };
    if !post.only.contains(to.status) {
        let known = is_known(conn, to.run, &post.letter)?;
        return Ok(if known { Posted::Known } else { Posted::Refused(to.status) });
    }
    let Some(wakes) = put(conn, &to, &post.letter, to.status)? else { return Ok(Posted::Known) };
    match (wakes, to.owner) {
        (true, 0) => tx::wakes_a_run(),
        (true, _) => tx::wakes_a_worker(),
        (false, _) => {}
    }
    Ok(Posted::Added)
}

/// A run by its number.
pub(crate) fn find_run(conn: &Connection, run: RunId) -> Result<Option<Addressee>, Fault> {
    find(conn, "id = ?1", run.0)
}

/// `of` says of which run, by `?1`.
pub(super) fn find(conn: &Connection, of: &str, id: impl ToSql) -> Result<Option<Addressee>, Fault> {
    let columns = "id, workflow, status, owner, inbox_n, began_at IS NOT NULL, generation";
    let sql = format!("SELECT {columns} FROM everstep_run WHERE {of}");
    row::one(conn, &sql, [id], |row| {
        Ok(Addressee {
            run: RunId(row.get(0)?),
            workflow: row.get(1)?,
            status: row::status(row.get(2)?)?,
            owner: row.get(3)?,
            inbox_n: row.get(4)?,
            has_begun: row.get(5)?,
            generation: row.get(6)?,
        })
    })
}

/// Whether a letter of this name ever reached the run.
pub(crate) fn is_known(conn: &Connection, run: RunId, letter: &Letter) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM everstep_inbox_seen WHERE run = ?1 AND id = ?2")?
        .query_row(params![run.0, letter.id.0.to_be_bytes()], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// Writes a letter as number `n`, and remembers its name for good; not if a letter of this name ever came: whether it
/// was new.
pub(crate) fn add(conn: &Connection, run: RunId, n: i64, letter: &Letter) -> rusqlite::Result<bool> {
    let is_new = remember(conn, run, letter)?;
    if is_new {
        insert(conn, run, n, letter)?;
    }
    Ok(is_new)
}

/// Remembers a letter's name for good; whether it was new.
pub(super) fn remember(conn: &Connection, run: RunId, letter: &Letter) -> rusqlite::Result<bool> {
    conn.prepare_cached("INSERT INTO everstep_inbox_seen (run, id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![run.0, letter.id.0.to_be_bytes()])
        .map(|rows| rows > 0)
}

/// Writes a letter as number `n`.
pub(crate) fn insert(conn: &Connection, run: RunId, n: i64, letter: &Letter) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO everstep_inbox (run, n, kind, name, body, codec, id, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        run.0,
        n,
        letter.kind,
        &*letter.name,
        row::value(&letter.body),
        letter.body.codec,
        letter.id.0.to_be_bytes(),
        letter.at.0,
    ])
    .map(drop)
}
