//! Runs that come whole from another store.

use everstep_core::store::{
    Archived, CopyId, CopyMark, CopyStage, Mark, Numbers, PromiseRow, RunId, Say, Whole,
};
use foldhash::{HashSet, HashSetExt as _};

use super::{act, entry, mark, post, renew, say, turn};
use crate::{
    batch::Batch,
    fault::Fault,
    names::NameKind,
    packed,
    row::signed,
    sql::{Sql, args, get, sql},
    text::kept,
    whole,
};

/// Writes those of `runs` that are not there; how many. Decides about all of them before it writes any.
pub(crate) async fn place(
    batch: &mut Batch<'_>,
    copy: CopyId,
    numbers: Numbers,
    runs: &[Whole],
) -> Result<usize, Fault> {
    match mark::read(batch.conn).await? {
        Some(mark) if mark.copy == copy && mark.stage == CopyStage::Arriving => {}
        found => return Err(CopyMark::changed(found.as_ref()).into()),
    }
    let (mut new, mut taken) = (Vec::new(), HashSet::new());
    // Asked all at once.
    let looked = futures_util::future::join_all(runs.iter().map(|whole| is_new(batch, whole))).await;
    for (whole, is_new) in runs.iter().zip(looked) {
        if is_new? {
            let row = &whole.row;
            if !taken.insert((None, row.run.0)) || !taken.insert((Some(&*row.id), 0)) {
                return Err(whole.refused("its number or id comes twice").into());
            }
            new.push(whole);
        }
    }
    raise(batch, numbers).await?;
    for whole in &new {
        insert(batch, whole).await?;
    }
    for due in new.iter().filter_map(|whole| whole.row.wake_at) {
        batch.rings().due(due.0);
    }
    Ok(new.len())
}

/// `false` if it is there and equal.
async fn is_new(batch: &Batch<'_>, whole: &Whole) -> Result<bool, Fault> {
    const OF_ID: Sql = sql("look for a run's id", "SELECT id FROM @run WHERE text_id = $1");
    let row = &whole.row;
    if row.owner.is_some() {
        return Err(whole.refused("a worker has it").into());
    }
    if let Some(there) = whole::of(batch.conn, batch.texts, row.run).await? {
        return match there.digest() == whole.digest() {
            true => Ok(false),
            false => Err(whole.refused("another run of its number is there, or it in another state").into()),
        };
    }
    match batch.conn.one(&OF_ID, args![kept(&row.id)]).await? {
        Some(found) => {
            let number: i64 = get(&found, 0)?;
            Err(whole.refused(&format!("run {number} has its id there")).into())
        }
        None => Ok(true),
    }
}

/// From now on higher numbers are given.
async fn raise(batch: &mut Batch<'_>, numbers: Numbers) -> Result<(), Fault> {
    const RAISE: Sql =
        sql("raise a highest number", "UPDATE @meta SET value = greatest(value, $2) WHERE key = $1");
    batch.forget_numbers();
    batch.execute(&RAISE, args!["run", numbers.run]).await?;
    batch.execute(&RAISE, args!["worker", numbers.worker]).await.map(drop)
}

/// Writes a run with everything of it, most of it by the statements that wrote it where it comes from.
async fn insert(batch: &mut Batch<'_>, whole: &Whole) -> Result<(), Fault> {
    const SEEN: Sql = sql(
        "remember names of letters",
        "INSERT INTO @inbox_seen (run, id) SELECT $1, id FROM unnest($2) AS u(id)",
    );
    let Whole { row, trace, parent, loaded, stuck, acts, kept, .. } = whole;
    let run = row.run;
    insert_row(batch, whole).await?;
    let mut n = 0;
    for archived in &kept.archive {
        n = archive(batch, run, n, archived).await?;
    }
    entry::insert(batch, run, &loaded.entries).await?;
    for received in &loaded.inbox {
        post::insert(batch, run, signed(received.n), &received.letter).await?;
    }
    if !kept.seen.is_empty() {
        let ids: Vec<_> = kept.seen.iter().map(|id| id.0.to_be_bytes().to_vec()).collect();
        batch.execute(&SEEN, args![run.0, ids]).await?;
    }
    for started in &loaded.started {
        turn::set_mark(batch, run, &Mark::Started(started.clone())).await?;
    }
    if let Some((stuck, at)) = stuck {
        turn::set_stuck(batch, run, stuck, *at).await?;
    }
    if trace.is_some() || parent.is_some() {
        renew::insert_extra(batch, run, trace.as_deref(), parent.as_ref()).await?;
    }
    for act in acts {
        act::record(batch, run, act).await?;
    }
    for promise in &kept.promises {
        insert_promise(batch, run, promise).await?;
    }
    let (says, items) = said(whole);
    say::add(batch, run, &says, items).await
}

async fn insert_row(batch: &mut Batch<'_>, whole: &Whole) -> Result<(), Fault> {
    const INSERT: Sql = sql(
        "place a run",
        "INSERT INTO @run (id, text_id, workflow, status, owner, wake_at, inbox_n, generation, takeovers, crash_seq,
           created_at, began_at, finished_at)
         VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    let Whole { row, loaded, .. } = whole;
    let workflow = batch.intern(NameKind::Workflow, &row.workflow).await?;
    // What is left of deaths was counted up to its last entry.
    let crash_seq = loaded.entries.last().map_or(0, |last| last.seq);
    let args = args![
        row.run.0,
        kept(&row.id),
        workflow,
        i16::from(row.status.code()),
        row.wake_at.map(|at| at.0),
        signed(row.inbox_n),
        i64::from(row.generation),
        i64::from(row.takeovers),
        signed(crash_seq),
        row.created_at.0,
        row.began_at.map(|at| at.0),
        row.finished_at.map(|at| at.0),
    ];
    batch.execute(&INSERT, args).await.map(drop)
}

/// Packs entries as they are packed when they are taken out of a journal, behind number `n`; the last number.
async fn archive(batch: &mut Batch<'_>, run: RunId, mut n: i64, archived: &Archived) -> Result<i64, Fault> {
    const PACK: Sql = sql(
        "place an archive",
        "INSERT INTO @archive (run, n, generation, from_seq, why, at, body) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    let Archived { generation, why, at, entries } = archived;
    let (mut rest, mut sign) = (&entries[..], 1);
    while sign > 0 || !rest.is_empty() {
        let part;
        (part, rest) = rest.split_at(packed::fitting(rest));
        let from = part.first().map_or(0, |first| first.seq);
        n += 1;
        let args =
            args![run.0, n, i64::from(*generation), sign * signed(from), kept(why), at.0, packed::pack(part)];
        batch.execute(&PACK, args).await?;
        sign = -1;
    }
    Ok(n)
}

async fn insert_promise(batch: &mut Batch<'_>, run: RunId, promise: &PromiseRow) -> Result<(), Fault> {
    const INSERT: Sql = sql(
        "place a promise",
        "INSERT INTO @promise (hash, run, key, generation, expires_at, settled) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let PromiseRow { hash, key, generation, expires, settled } = promise;
    let expires = expires.map(|at| at.0);
    let args = args![&hash[..], run.0, kept(key), i64::from(*generation), expires, *settled];
    batch.execute(&INSERT, args).await.map(drop)
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
