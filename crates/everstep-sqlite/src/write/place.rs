//! Runs that come whole from another store.

use everstep_core::store::{
    Archived, CopyId, CopyMark, CopyStage, Mark, Numbers, PromiseRow, RunId, Say, Whole,
};
use foldhash::{HashSet, HashSetExt as _};
use rusqlite::{Connection, params};

use super::{act, cut, entry, mark, post, renew, say, turn};
use crate::{
    batch::Batch,
    fault::Fault,
    names::NameKind,
    row::{self, signed},
    whole,
};

/// Writes those of `runs` that are not there; how many. Decides about all of them before it writes any.
pub(crate) fn place(
    batch: &mut Batch<'_>,
    copy: CopyId,
    numbers: Numbers,
    runs: &[Whole],
) -> Result<usize, Fault> {
    match mark::read(batch.conn)? {
        Some(mark) if mark.copy == copy && mark.stage == CopyStage::Arriving => {}
        found => return Err(CopyMark::changed(found.as_ref()).into()),
    }
    let (mut new, mut taken) = (Vec::new(), HashSet::new());
    for whole in runs {
        if is_new(batch, whole)? {
            let row = &whole.row;
            if !taken.insert((None, row.run.0)) || !taken.insert((Some(&*row.id), 0)) {
                return Err(whole.refused("its number or id comes twice").into());
            }
            new.push(whole);
        }
    }
    raise(batch.conn, numbers)?;
    for whole in &new {
        insert(batch, whole)?;
    }
    batch.rings.claimable |= !new.is_empty();
    Ok(new.len())
}

/// `false` if it is there and equal.
fn is_new(batch: &Batch<'_>, whole: &Whole) -> Result<bool, Fault> {
    let row = &whole.row;
    if row.owner.is_some() {
        return Err(whole.refused("a worker has it").into());
    }
    if let Some(there) = whole::of(batch.conn, batch.texts, row.run)? {
        return match there.digest() == whole.digest() {
            true => Ok(false),
            false => Err(whole.refused("another run of its number is there, or it in another state").into()),
        };
    }
    let sql = "SELECT id FROM everstep_run WHERE text_id = ?1";
    match row::one(batch.conn, sql, [&*row.id], |row| Ok(row.get::<_, i64>(0)?))? {
        Some(number) => Err(whole.refused(&format!("run {number} has its id there")).into()),
        None => Ok(true),
    }
}

/// From now on higher numbers are given. Those of workers are SQLite's own to count.
fn raise(conn: &Connection, numbers: Numbers) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE everstep_meta SET value = max(value, ?1) WHERE key = 'run'")?
        .execute([numbers.run])?;
    let raised = conn
        .prepare_cached("UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'everstep_worker'")?
        .execute([numbers.worker])?;
    if raised == 0 {
        conn.prepare_cached("INSERT INTO sqlite_sequence (name, seq) VALUES ('everstep_worker', ?1)")?
            .execute([numbers.worker])?;
    }
    Ok(())
}

/// Writes a run with everything of it, most of it by the statements that wrote it where it comes from.
fn insert(batch: &mut Batch<'_>, whole: &Whole) -> Result<(), Fault> {
    let Whole { row, trace, parent, loaded, stuck, acts, kept, .. } = whole;
    let run = row.run;
    insert_row(batch, whole)?;
    for archived in &kept.archive {
        archive(batch, run, archived)?;
    }
    for entry in &loaded.entries {
        entry::insert(batch, run, entry)?;
    }
    for received in &loaded.inbox {
        post::insert(batch.conn, run, signed(received.n), &received.letter)?;
    }
    for id in &kept.seen {
        batch
            .conn
            .prepare_cached("INSERT INTO everstep_inbox_seen (run, id) VALUES (?1, ?2)")?
            .execute(params![run.0, id.0.to_be_bytes()])?;
    }
    for started in &loaded.started {
        turn::set_mark(batch.conn, run, &Mark::Started(started.clone()))?;
    }
    if let Some((stuck, at)) = stuck {
        turn::set_stuck(batch.conn, run, stuck, *at)?;
    }
    if trace.is_some() || parent.is_some() {
        renew::insert_extra(batch.conn, run, trace.as_deref(), parent.as_ref())?;
    }
    for act in acts {
        act::record(batch.conn, run, act)?;
    }
    for promise in &kept.promises {
        insert_promise(batch.conn, run, promise)?;
    }
    let (says, items) = said(whole);
    say::add(batch, run, &says, items)
}

fn insert_row(batch: &mut Batch<'_>, whole: &Whole) -> Result<(), Fault> {
    let Whole { row, loaded, .. } = whole;
    let workflow = batch.names.intern(batch.conn, NameKind::Workflow, &row.workflow)?;
    // What is left of deaths was counted up to its last entry.
    let crash_seq = loaded.entries.last().map_or(0, |last| last.seq);
    batch
        .conn
        .prepare_cached(
            "INSERT INTO everstep_run (id, text_id, workflow, status, owner, wake_at, inbox_n, generation, takeovers,
               crash_seq, created_at, began_at, finished_at)
             VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            row.run.0,
            &*row.id,
            workflow,
            row.status.code(),
            row.wake_at.map(|at| at.0),
            signed(row.inbox_n),
            row.generation,
            row.takeovers,
            signed(crash_seq),
            row.created_at.0,
            row.began_at.map(|at| at.0),
            row.finished_at.map(|at| at.0),
        ])?;
    batch.count(workflow, None, row.status);
    Ok(())
}

/// Packs entries as they are packed when they are taken out of a journal: by way of the journal, which has none yet.
fn archive(batch: &mut Batch<'_>, run: RunId, archived: &Archived) -> Result<(), Fault> {
    let Archived { generation, why, at, entries } = archived;
    for entry in entries {
        entry::insert(batch, run, entry)?;
    }
    let from = entries.first().map_or(0, |first| first.seq);
    cut::archive(batch.conn, run, from..=u64::MAX, (why, *at), Some(*generation))?;
    Ok(())
}

fn insert_promise(conn: &Connection, run: RunId, promise: &PromiseRow) -> rusqlite::Result<()> {
    let PromiseRow { hash, key, generation, expires, settled } = promise;
    conn.prepare_cached(
        "INSERT INTO everstep_promise (hash, run, key, generation, expires_at, settled)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![hash, run.0, &**key, generation, expires.map(|at| at.0), settled])
    .map(drop)
}

/// What it has told its readers, as if it told it now; with the numbers of the items.
fn said(whole: &Whole) -> (Vec<Say>, Vec<u64>) {
    let attributes = whole.attributes.iter();
    let attributes =
        attributes.map(|(name, value)| Say::Attribute { name: name.clone(), value: Some(value.clone()) });
    let published = whole.published.iter().cloned();
    let published =
        published.map(|row| Say::Published { name: row.name, body: row.body, seq: row.seq, at: row.at });
    let replies = whole.kept.replies.iter().cloned();
    let replies = replies.map(|reply| Say::Answered { id: reply.id, body: reply.body, at: reply.at });
    let mut says: Vec<_> = attributes.chain(published).chain(replies).collect();
    let mut numbers = Vec::new();
    for (name, items) in &whole.streams {
        for item in items.iter().cloned() {
            numbers.push(item.n);
            says.push(Say::Emitted { name: name.clone(), n: item.n, body: item.body, at: item.at });
        }
    }
    (says, numbers)
}
