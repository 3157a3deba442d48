//! Letters into inboxes.

use everstep_core::{
    Change, Status,
    store::{Letter, Post, Posted, RunId, To, WorkerId},
};

use super::{
    claim::illegal,
    promise::{self, Promised},
    turn::clear_stuck,
};
use crate::{
    batch::Batch,
    conn::{Conn, Speaks},
    fault::Fault,
    guest::Writes,
    row::{self, codec},
    sql::{Sql, args, get, sql},
    text::kept,
};

/// A run as a letter finds it. Its row is locked from then on.
pub(crate) struct Addressee {
    pub(super) run: RunId,
    pub(super) status: Status,
    pub(super) owner: i64,
    inbox_n: i64,
    has_begun: bool,
    pub(crate) generation: i64,
}

/// Locks rows of runs in the order of their numbers. Whoever sends letters to runs of another worker, and ends its own in
/// the same transaction, waits for that worker, which may do the same the other way round: with one order one of them waits,
/// and without it the server would end a transaction after a second, and perhaps the next one, and so on.
pub(crate) async fn lock_in_order(conn: &Conn, runs: &[i64], ids: &[&str]) -> Result<(), Fault> {
    const LOCK: Sql = sql(
        "lock runs in order",
        "SELECT 1 FROM @run WHERE id = ANY($1) OR text_id = ANY($2) ORDER BY id FOR UPDATE",
    );
    let ids: Vec<_> = ids.iter().map(|id| kept(id)).collect();
    conn.rows(&LOCK, args![runs.to_vec(), ids]).await.map(drop)
}

/// Puts a letter into a run's inbox and wakes the run.
pub(crate) async fn post(batch: &mut impl Writes, post: &Post) -> Result<Posted, Fault> {
    batch.check_mark().await?;
    post.letter.check()?;
    let Some((to, promise)) = addressee(batch.reads(), &post.to).await? else { return Ok(Posted::NoSuchRun) };
    let is_refused = !post.only.contains(to.status);
    // Known before refused: a letter sent again is the same letter, whatever has become of the run.
    if (is_refused || promise.is_some()) && is_known(batch.reads(), to.run, &post.letter).await? {
        return Ok(Posted::Known);
    }
    if is_refused {
        return Ok(Posted::Refused(to.status));
    }
    let Some(promise) = promise else {
        let is_new = deliver(batch, &to, &post.letter, post.revive).await?;
        return Ok(if is_new { Posted::Added } else { Posted::Known });
    };
    match promise.expires {
        _ if promise.settled => return Ok(Posted::Settled),
        Some(expires) if expires <= post.letter.at => return Ok(Posted::Expired),
        _ => {}
    }
    promise::set_settled(batch, to.run, &promise.key, true).await?;
    let letter = Letter { name: promise.key, ..post.letter.clone() };
    deliver(batch, &to, &letter, post.revive).await?;
    Ok(Posted::Added)
}

/// Whom a letter reaches, and the promise that it is about.
async fn addressee(conn: &impl Speaks, to: &To) -> Result<Option<(Addressee, Option<Promised>)>, Fault> {
    match to {
        To::Run(id) => Ok(find(conn, id).await?.map(|to| (to, None))),
        To::Promise(hash) => {
            let Some(promise) = promise::find(conn, hash).await? else { return Ok(None) };
            let found = find_run(conn, promise.run).await?;
            let Some(found) = found.filter(|to| to.generation == promise.generation) else { return Ok(None) };
            // Its run is locked now: nobody settles it any more, but somebody may just have.
            Ok(promise::find(conn, hash).await?.map(|promise| (found, Some(promise))))
        }
    }
}

/// Puts a letter that nothing speaks against into a run's inbox, unless it is known there, and wakes the run; whether it
/// was new.
pub(crate) async fn deliver(
    batch: &mut impl Writes,
    to: &Addressee,
    letter: &Letter,
    revive: bool,
) -> Result<bool, Fault> {
    // One statement: nobody who goes away in the middle leaves a name that is known and a letter that is not there.
    const DELIVER: Sql = sql(
        "deliver a letter",
        "WITH s AS (INSERT INTO @inbox_seen (run, id) VALUES ($1, $7) ON CONFLICT DO NOTHING RETURNING run),
         i AS (
           INSERT INTO @inbox (run, n, kind, name, body, codec, id, at)
           SELECT run, $2, $3, $4, $5, $6, $7, $8 FROM s)
         UPDATE @run SET inbox_n = $2, status = $9,
           wake_at = CASE WHEN $10 THEN coalesce(:now - $12, 0) ELSE wake_at END,
           takeovers = CASE WHEN $11 THEN 0 ELSE takeovers END
         WHERE id = $1 AND EXISTS (SELECT 1 FROM s)",
    );
    // Of an owned run the owner decides; of a free one a person's letter may set it going again.
    let revived = revive && to.owner == 0 && matches!(to.status, Status::Stuck | Status::Paused);
    let status = match revived {
        true => to.status.after(Change::Revived).map_err(|e| illegal(to.run, e))?,
        false => to.status,
    };
    // Of an owned run what is not above 0 says: look into your inbox.
    let wakes = to.owner != 0 || letter.wakes(status, to.has_begun);
    let (kind, id) = (i32::from(letter.kind), letter.id.0.to_be_bytes().to_vec());
    let args = args![
        to.run.0,
        to.inbox_n + 1,
        kind,
        kept(&letter.name),
        &*letter.body.bytes,
        codec(&letter.body),
        id,
        letter.at.0,
        i16::from(status.code()),
        wakes,
        status != to.status,
        batch.dates_from(),
    ];
    if batch.execute(&DELIVER, args).await? == 0 {
        return Ok(false);
    }
    if revived {
        clear_stuck(batch, to.run).await?;
    }
    if to.owner != 0 {
        batch.rings().letters.insert(WorkerId(to.owner));
    } else if wakes {
        batch.rings().due(0);
    }
    Ok(true)
}

macro_rules! addressee_by {
    ($of:literal) => {
        concat!(
            "SELECT id, status, owner, inbox_n, began_at IS NOT NULL, generation FROM @run WHERE ",
            $of,
            " = $1 FOR UPDATE"
        )
    };
}

/// A run by its number.
pub(crate) async fn find_run(conn: &impl Speaks, run: RunId) -> Result<Option<Addressee>, Fault> {
    const FIND: Sql = sql("lock a run by its number", addressee_by!("id"));
    read(conn.one(&FIND, args![run.0]).await?)
}

/// A run by its id.
pub(super) async fn find(conn: &impl Speaks, id: &str) -> Result<Option<Addressee>, Fault> {
    const FIND: Sql = sql("lock a run by its id", addressee_by!("text_id"));
    read(conn.one(&FIND, args![kept(id)]).await?)
}

fn read(row: Option<tokio_postgres::Row>) -> Result<Option<Addressee>, Fault> {
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Addressee {
        run: RunId(get(&row, 0)?),
        status: row::status(get(&row, 1)?)?,
        owner: get(&row, 2)?,
        inbox_n: get(&row, 3)?,
        has_begun: get(&row, 4)?,
        generation: get(&row, 5)?,
    }))
}

/// Whether a letter of this name ever reached the run.
pub(crate) async fn is_known(conn: &impl Speaks, run: RunId, letter: &Letter) -> Result<bool, Fault> {
    const KNOWN: Sql =
        sql("look for a letter's name", "SELECT 1 FROM @inbox_seen WHERE run = $1 AND id = $2");
    let id = letter.id.0.to_be_bytes().to_vec();
    Ok(conn.one(&KNOWN, args![run.0, id]).await?.is_some())
}

/// Writes a letter as number `n`, and remembers its name for good; not if a letter of this name ever came: whether it
/// was new.
pub(crate) async fn add(batch: &mut Batch<'_>, run: RunId, n: i64, letter: &Letter) -> Result<bool, Fault> {
    let is_new = remember(batch, run, letter).await?;
    if is_new {
        insert(batch, run, n, letter).await?;
    }
    Ok(is_new)
}

/// Remembers a letter's name for good; whether it was new.
pub(super) async fn remember(batch: &mut Batch<'_>, run: RunId, letter: &Letter) -> Result<bool, Fault> {
    const REMEMBER: Sql = sql(
        "remember a letter's name",
        "INSERT INTO @inbox_seen (run, id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    );
    let id = letter.id.0.to_be_bytes().to_vec();
    Ok(batch.execute(&REMEMBER, args![run.0, id]).await? > 0)
}

/// Writes a letter as number `n`.
pub(crate) async fn insert(batch: &mut Batch<'_>, run: RunId, n: i64, letter: &Letter) -> Result<(), Fault> {
    const INSERT: Sql = sql(
        "write a letter",
        "INSERT INTO @inbox (run, n, kind, name, body, codec, id, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    );
    let (kind, id) = (i32::from(letter.kind), letter.id.0.to_be_bytes().to_vec());
    let args =
        args![run.0, n, kind, kept(&letter.name), &*letter.body.bytes, codec(&letter.body), id, letter.at.0];
    batch.execute(&INSERT, args).await.map(drop)
}
