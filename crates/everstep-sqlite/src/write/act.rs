//! Acts: a change that a person makes, and its record.

use everstep_core::{
    Change, Timestamp,
    store::{Act, Acted, Does, Edit, Post, Posted, RunId, StoreError},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{claim::illegal, cut, entry, post, turn::clear_stuck};
use crate::{
    batch::Batch,
    fault::Fault,
    row::{self, signed},
};

/// The payloads of an act.
pub(crate) fn bytes(does: &Does) -> usize {
    match does {
        Does::Post(post) | Does::Pause(post) => post.letter.body.bytes.len(),
        Does::Cut(cut) => cut.letters.iter().map(|letter| letter.body.bytes.len()).sum(),
        Does::Edit(edit) => entry::bytes(&edit.entry),
    }
}

/// Makes the change; if it is made, writes who made it.
pub(crate) fn act(batch: &mut Batch<'_>, does: &Does, act: &Act) -> Result<Acted, Fault> {
    batch.check_mark()?;
    let acted = match does {
        Does::Post(post) => post::post(batch, post)?.into(),
        Does::Pause(post) => pause(batch, post)?.into(),
        Does::Cut(cut) => Acted::compared(cut::cut(batch, cut)?),
        Does::Edit(edit) => Acted::compared(replace(batch, edit, act.at)?),
    };
    if acted == Acted::Done {
        let run = match does {
            Does::Post(post) | Does::Pause(post) => addressee(batch.conn, post)?.map(|to| to.run),
            Does::Cut(cut) => Some(cut.run),
            Does::Edit(edit) => Some(edit.run),
        };
        if let Some(run) = run {
            record(batch.conn, run, act)?;
        }
    }
    Ok(acted)
}

/// Writes an act behind the others of its run.
pub(crate) fn record(conn: &Connection, run: RunId, act: &Act) -> rusqlite::Result<()> {
    let Act { verb, who, why, at, detail } = act;
    conn.prepare_cached(
        "INSERT INTO everstep_act (run, n, verb, who, why, at, detail)
         SELECT ?1, 1 + ifnull(max(n), 0), ?2, ?3, ?4, ?5, ?6 FROM everstep_act WHERE run = ?1",
    )?
    .execute(params![run.0, &**verb, &**who, &**why, at.0, &**detail])
    .map(drop)
}

/// The run that an act is about, if there is one.
fn addressee(conn: &Connection, post: &Post) -> Result<Option<post::Addressee>, Fault> {
    post.to.run().map_or(Ok(None), |id| post::find(conn, "text_id = ?1", &**id))
}

/// Sets a free run aside; the worker of another hears of it.
fn pause(batch: &mut Batch<'_>, post: &Post) -> Result<Posted, Fault> {
    post.letter.check()?;
    let Some(to) = addressee(batch.conn, post)? else { return Ok(Posted::NoSuchRun) };
    if to.owner != 0 || post::is_known(batch.conn, to.run, &post.letter)? {
        return post::post(batch, post);
    }
    if !post.only.contains(to.status) {
        return Ok(Posted::Refused(to.status));
    }
    let status = to.status.after(Change::Paused).map_err(|e| illegal(to.run, e))?;
    batch
        .conn
        .prepare_cached("UPDATE everstep_run SET status = ?2, wake_at = NULL WHERE id = ?1")?
        .execute(params![to.run.0, status.code()])?;
    clear_stuck(batch.conn, to.run)?;
    post::remember(batch.conn, to.run, &post.letter)?;
    batch.count(to.workflow, Some(to.status), status);
    Ok(Posted::Added)
}

/// Replaces an entry; `false` if the run has moved, or somebody has it.
fn replace(batch: &mut Batch<'_>, edit: &Edit, at: Timestamp) -> Result<bool, Fault> {
    let found = batch
        .conn
        .prepare_cached("SELECT status, owner, inbox_n FROM everstep_run WHERE id = ?1")?
        .query_row([edit.run.0], |row| {
            Ok((row.get::<_, u8>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let Some((code, owner, inbox_n)) = found else { return Ok(false) };
    if owner != 0 || inbox_n != signed(edit.inbox_n) || !edit.only.contains(row::status(code)?) {
        return Ok(false);
    }
    let seq = edit.entry.seq;
    if seq == 0 || row::entry_at(batch.conn, batch.texts, edit.run, signed(seq))?.is_none() {
        let why = format!("run {}: there is no entry {seq} to be replaced", edit.run.0);
        return Err(StoreError::Refused(why.into()).into());
    }
    cut::archive(batch.conn, edit.run, seq..=seq, ("edit", at), None)?;
    entry::insert(batch, edit.run, &edit.entry)?;
    Ok(true)
}
