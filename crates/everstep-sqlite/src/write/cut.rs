//! The end of a journal, taken back by a person.

use std::ops::RangeInclusive;

use everstep_core::{
    Change, Status, Timestamp,
    store::{Cut, Letter, RunId, StoreError},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{claim::illegal, post, promise, turn::clear_stuck};
use crate::{
    batch::Batch,
    fault::Fault,
    row::{self, signed, unsigned},
};

/// Archives the entries from `cut.from` on and makes the run claimable; `false` if it has moved, or somebody has it.
pub(crate) fn cut(batch: &mut Batch<'_>, cut: &Cut) -> Result<bool, Fault> {
    batch.check_mark()?;
    cut.letters.iter().try_for_each(Letter::check)?;
    let found = batch
        .conn
        .prepare_cached("SELECT status, workflow, owner, inbox_n FROM everstep_run WHERE id = ?1")?
        .query_row([cut.run.0], |row| {
            Ok((row.get::<_, u8>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
        })
        .optional()?;
    let Some((code, workflow, owner, inbox_n)) = found else { return Ok(false) };
    let from = row::status(code)?;
    if owner != 0 || inbox_n != signed(cut.inbox_n) || !cut.only.contains(from) {
        return Ok(false);
    }
    if cut.last.is_some() && cut.last != row::last_seq(batch.conn, cut.run.0)?.map(unsigned) {
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
    archive(batch.conn, cut.run, cut.from..=u64::MAX, (&cut.why, cut.at), None)?;
    let mut n = inbox_n;
    for letter in &cut.letters {
        n += i64::from(post::add(batch.conn, cut.run, n + 1, letter)?);
    }
    for key in &cut.reopens {
        promise::set_settled(batch.conn, cut.run, key, false)?;
    }
    // Its deaths are forgotten: a person has looked at it, and its last entry is another one now.
    batch
        .conn
        .prepare_cached(
            "UPDATE everstep_run SET status = ?2, wake_at = 0, inbox_n = ?3, takeovers = 0, crash_seq = 0,
               finished_at = NULL
             WHERE id = ?1",
        )?
        .execute(params![cut.run.0, to.code(), n])?;
    clear_stuck(batch.conn, cut.run)?;
    batch.count(workflow, Some(from), to);
    batch.rings.claimable = true;
    Ok(true)
}

/// Takes these entries, which are of this generation or of the run's own, out of the journal. One packed row, readable
/// with `sqlite3`: nothing but people, exports and copies read it back.
pub(crate) fn archive(
    conn: &Connection,
    run: RunId,
    seqs: RangeInclusive<u64>,
    (why, at): (&str, Timestamp),
    generation: Option<u32>,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO everstep_archive (run, generation, why, from_seq, body, at)
         SELECT ?1, ifnull(?6, r.generation), ?3, ?2, (
           SELECT json_group_array(json_object(
             'seq', j.seq, 'kind', j.kind, 'key', j.key, 'attempt', j.attempt,
             'input', CASE typeof(j.input) WHEN 'blob' THEN hex(j.input) ELSE j.input END, 'input_codec', j.input_codec,
             'input_hex', typeof(j.input) = 'blob',
             'body', CASE typeof(j.body) WHEN 'blob' THEN hex(j.body) ELSE j.body END, 'codec', j.codec,
             'hex', typeof(j.body) = 'blob',
             'site', (SELECT text FROM everstep_name WHERE id = j.site),
             'build', (SELECT text FROM everstep_name WHERE id = j.build),
             'fingerprint', j.fingerprint, 'at', j.at))
           FROM (SELECT * FROM everstep_journal WHERE run = ?1 AND seq BETWEEN ?2 AND ?5 ORDER BY seq) j), ?4
         FROM everstep_run r WHERE r.id = ?1",
    )?
    .execute(params![run.0, signed(*seqs.start()), why, at.0, signed(*seqs.end()), generation])?;
    conn.prepare_cached("DELETE FROM everstep_journal WHERE run = ?1 AND seq BETWEEN ?2 AND ?3")?
        .execute([run.0, signed(*seqs.start()), signed(*seqs.end())])
        .map(drop)
}
