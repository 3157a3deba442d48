//! Acts: a change that a person makes, and its record.

use std::sync::Arc;

use everstep_core::{
    Change, Timestamp,
    store::{Act, Acted, Does, Edit, Post, Posted, RunId, StoreError},
};

use super::{claim::illegal, cut, entry, post, turn::clear_stuck};
use crate::{
    batch::Batch,
    fault::Fault,
    row::{self, signed},
    sql::{Sql, args, get, sql},
    text::kept,
};

/// The payloads of an act.
pub(crate) fn bytes(does: &Does) -> usize {
    match does {
        Does::Post(post) | Does::Pause(post) => post.letter.body.bytes.len(),
        Does::Cut(cut) => cut.letters.iter().map(|letter| letter.body.bytes.len()).sum(),
        Does::Edit(edit) => entry::bytes(&edit.entry),
    }
}

/// The id of the run that its letter is for, if it is one.
pub(crate) fn addressed(does: &Does) -> Option<Arc<str>> {
    match does {
        Does::Post(post) | Does::Pause(post) => post.to.run().cloned(),
        Does::Cut(_) | Does::Edit(_) => None,
    }
}

/// Makes the change; if it is made, writes who made it.
pub(crate) async fn act(batch: &mut Batch<'_>, does: &Does, act: &Act) -> Result<Acted, Fault> {
    batch.check_mark().await?;
    let acted = match does {
        Does::Post(post) => post::post(batch, post).await?.into(),
        Does::Pause(post) => pause(batch, post).await?.into(),
        Does::Cut(cut) => Acted::compared(cut::cut(batch, cut).await?),
        Does::Edit(edit) => Acted::compared(replace(batch, edit, act.at).await?),
    };
    if acted == Acted::Done {
        let run = match does {
            Does::Post(post) | Does::Pause(post) => addressee(batch, post).await?.map(|to| to.run),
            Does::Cut(cut) => Some(cut.run),
            Does::Edit(edit) => Some(edit.run),
        };
        if let Some(run) = run {
            record(batch, run, act).await?;
        }
    }
    Ok(acted)
}

/// Writes an act behind the others of its run, which is locked.
pub(crate) async fn record(batch: &mut Batch<'_>, run: RunId, act: &Act) -> Result<(), Fault> {
    const RECORD: Sql = sql(
        "record what a person did",
        "INSERT INTO @act (run, n, verb, who, why, at, detail)
         SELECT $1, 1 + coalesce(max(n), 0), $2, $3, $4, $5, $6 FROM @act WHERE run = $1",
    );
    let Act { verb, who, why, at, detail } = act;
    let args = args![run.0, kept(verb), kept(who), kept(why), at.0, kept(detail)];
    batch.execute(&RECORD, args).await.map(drop)
}

/// The run that an act is about, if there is one.
async fn addressee(batch: &Batch<'_>, post: &Post) -> Result<Option<post::Addressee>, Fault> {
    match post.to.run() {
        Some(id) => post::find(batch.conn, id).await,
        None => Ok(None),
    }
}

/// Sets a free run aside; the worker of another hears of it.
async fn pause(batch: &mut Batch<'_>, post: &Post) -> Result<Posted, Fault> {
    const PAUSE: Sql = sql("set a run aside", "UPDATE @run SET status = $2, wake_at = NULL WHERE id = $1");
    post.letter.check()?;
    let Some(to) = addressee(batch, post).await? else { return Ok(Posted::NoSuchRun) };
    if to.owner != 0 || post::is_known(batch.conn, to.run, &post.letter).await? {
        return post::post(batch, post).await;
    }
    if !post.only.contains(to.status) {
        return Ok(Posted::Refused(to.status));
    }
    let status = to.status.after(Change::Paused).map_err(|e| illegal(to.run, e))?;
    batch.execute(&PAUSE, args![to.run.0, i16::from(status.code())]).await?;
    clear_stuck(batch, to.run).await?;
    post::remember(batch, to.run, &post.letter).await?;
    batch.rings().said = true;
    Ok(Posted::Added)
}

/// Replaces an entry; `false` if the run has moved, or somebody has it.
async fn replace(batch: &mut Batch<'_>, edit: &Edit, at: Timestamp) -> Result<bool, Fault> {
    const LOCK: Sql =
        sql("lock a run to edit it", "SELECT status, owner, inbox_n FROM @run WHERE id = $1 FOR UPDATE");
    let Some(found) = batch.conn.one(&LOCK, args![edit.run.0]).await? else { return Ok(false) };
    let (status, owner, inbox_n) =
        (row::status(get(&found, 0)?)?, get::<i64>(&found, 1)?, get::<i64>(&found, 2)?);
    if owner != 0 || inbox_n != signed(edit.inbox_n) || !edit.only.contains(status) {
        return Ok(false);
    }
    let seq = edit.entry.seq;
    if seq == 0 || row::entry_at(batch.conn, batch.texts, edit.run, signed(seq)).await?.is_none() {
        let why = format!("run {}: there is no entry {seq} to be replaced", edit.run.0);
        return Err(StoreError::Refused(why.into()).into());
    }
    cut::archive(batch, edit.run, seq..=seq, ("edit", at)).await?;
    entry::insert(batch, edit.run, std::slice::from_ref(&edit.entry)).await?;
    Ok(true)
}
