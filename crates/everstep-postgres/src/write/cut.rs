//! The end of a journal, taken back by a person.

use std::ops::RangeInclusive;

use everstep_core::{
    Change, Status, Timestamp,
    store::{Cut, Letter, RunId, StoreError},
};

use super::{claim::illegal, post, promise, turn::clear_stuck};
use crate::{
    batch::Batch,
    fault::Fault,
    packed,
    row::{self, entry_columns, signed, unsigned},
    sql::{Sql, args, get, sql},
    text::kept,
};

/// Archives the entries from `cut.from` on and makes the run claimable; `false` if it has moved, or somebody has it.
pub(crate) async fn cut(batch: &mut Batch<'_>, cut: &Cut) -> Result<bool, Fault> {
    const LOCK: Sql =
        sql("lock a run to cut it", "SELECT status, owner, inbox_n FROM @run WHERE id = $1 FOR UPDATE");
    const FREE: Sql = sql(
        "set a run going",
        "UPDATE @run SET status = $2, wake_at = coalesce(:now - $4, 0), inbox_n = $3, takeovers = 0, crash_seq = 0,
           finished_at = NULL
         WHERE id = $1",
    );
    batch.check_mark().await?;
    cut.letters.iter().try_for_each(Letter::check)?;
    let Some(found) = batch.conn.one(&LOCK, args![cut.run.0]).await? else { return Ok(false) };
    let (from, owner, inbox_n) =
        (row::status(get(&found, 0)?)?, get::<i64>(&found, 1)?, get::<i64>(&found, 2)?);
    if owner != 0 || inbox_n != signed(cut.inbox_n) || !cut.only.contains(from) {
        return Ok(false);
    }
    if cut.last.is_some() && cut.last != row::last_seq(batch.conn, cut.run).await?.map(unsigned) {
        return Ok(false);
    }
    if cut.from == 0 {
        let why = format!("run {}: its first entry cannot be cut off", cut.run.0);
        return Err(StoreError::Refused(why.into()).into());
    }
    let to = match from {
        // It goes on by itself anyway; it only goes on from an earlier entry.
        Status::Pending | Status::Waiting => from,
        _ => from.after(Change::Revived).map_err(|e| illegal(cut.run, e))?,
    };
    archive(batch, cut.run, cut.from..=u64::MAX, (&cut.why, cut.at)).await?;
    let mut n = inbox_n;
    for letter in &cut.letters {
        n += i64::from(post::add(batch, cut.run, n + 1, letter).await?);
    }
    for key in &cut.reopens {
        promise::set_settled(batch, cut.run, key, false).await?;
    }
    // Its deaths are forgotten: a person has looked at it, and its last entry is another one now.
    batch.execute(&FREE, args![cut.run.0, i16::from(to.code()), n, batch.dates_from()]).await?;
    clear_stuck(batch, cut.run).await?;
    batch.rings().due(0);
    Ok(true)
}

/// Entries that are packed together: at first, and at most. What is packed is in memory, and the server waits meanwhile, no
/// longer than it lets a transaction stand still.
const PART_MIN: usize = 256;
const PART_MAX: usize = packed::ENTRIES_MAX;

/// Takes these entries out of the journal. A packed row, readable for people; nothing but people and exports reads it back. A long
/// journal is several, of which all but the first have a number below 0. The run must be locked, or this worker's.
pub(crate) async fn archive(
    batch: &mut Batch<'_>,
    run: RunId,
    seqs: RangeInclusive<u64>,
    (why, at): (&str, Timestamp),
) -> Result<(), Fault> {
    const READ: Sql = sql(
        "read what is archived",
        concat!(
            "SELECT ",
            entry_columns!(),
            " FROM @journal j WHERE j.run = $1 AND j.seq BETWEEN $2 AND $3 ORDER BY j.seq LIMIT $4"
        ),
    );
    const PACK: Sql = sql(
        "archive entries",
        "INSERT INTO @archive (run, n, generation, from_seq, why, at, body)
         SELECT id, (SELECT 1 + coalesce(max(n), 0) FROM @archive WHERE run = $1), generation, $2, $3, $4, $5
         FROM @run WHERE id = $1",
    );
    const TAKE: Sql =
        sql("take entries out", "DELETE FROM @journal WHERE run = $1 AND seq BETWEEN $2 AND $3");
    let (mut from, to) = (signed(*seqs.start()), signed(*seqs.end()));
    let (mut many, mut sign) = (PART_MIN, 1);
    loop {
        let rows = batch.conn.rows(&READ, args![run.0, from, to, signed(many as u64)]).await?;
        if rows.is_empty() && sign < 0 {
            return Ok(());
        }
        let entries = row::entries(batch.conn, batch.texts, &rows).await?;
        let body = packed::pack(&entries);
        let bytes = body.len();
        batch.execute(&PACK, args![run.0, sign * from, kept(why), at.0, body]).await?;
        let last = entries.last().map_or(to, |last| signed(last.seq));
        batch.execute(&TAKE, args![run.0, from, last]).await?;
        if rows.len() < many {
            return Ok(());
        }
        (from, sign) = (last + 1, -1);
        many = if bytes > packed::BYTES_MAX { (many / 2).max(1) } else { (many * 2).min(PART_MAX) };
    }
}
