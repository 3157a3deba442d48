//! What is kept of a run beside what drives it, read back for exports and copies: the archive, promises, replies, names of letters.

use std::sync::Arc;

use everstep_core::{
    Timestamp,
    journal::{Entry, Payload, Site},
    store::{Archived, Kept, LetterId, PromiseRow, ReplyRow, RunId},
};
use rusqlite::{Connection, Row};

use crate::{
    fault::Fault,
    row::{self, damaged, unsigned},
};

/// All of it, in one read.
pub(crate) fn of(conn: &Connection, run: RunId) -> Result<Kept, Fault> {
    let promises = "SELECT hash, key, generation, expires_at, settled FROM everstep_promise WHERE run = ?1 ORDER BY hash";
    let replies = "SELECT id, body, at FROM everstep_reply WHERE run = ?1 ORDER BY id";
    let seen = "SELECT id FROM everstep_inbox_seen WHERE run = ?1 ORDER BY id";
    Ok(Kept {
        archive: archive(conn, run)?,
        promises: row::all(conn, promises, [run.0], promise)?,
        replies: row::all(conn, replies, [run.0], reply)?,
        seen: row::all(conn, seen, [run.0], letter)?,
    })
}

fn promise(row: &Row<'_>) -> Result<PromiseRow, Fault> {
    Ok(PromiseRow {
        hash: row.get(0)?,
        key: row.get::<_, String>(1)?.into(),
        generation: row.get(2)?,
        expires: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        settled: row.get(4)?,
    })
}

fn reply(row: &Row<'_>) -> Result<ReplyRow, Fault> {
    Ok(ReplyRow { id: letter(row)?, body: row::unpacked(row.get_ref(1)?)?, at: Timestamp(row.get(2)?) })
}

fn letter(row: &Row<'_>) -> Result<LetterId, Fault> {
    Ok(LetterId(u128::from_be_bytes(row.get(0)?)))
}

fn archive(conn: &Connection, run: RunId) -> Result<Vec<Archived>, Fault> {
    let sql = "SELECT id, generation, why, at FROM everstep_archive WHERE run = ?1 ORDER BY id";
    let packed = row::all(conn, sql, [run.0], |row| {
        let (why, at) = (Arc::from(row.get::<_, String>(2)?), Timestamp(row.get(3)?));
        Ok((row.get::<_, i64>(0)?, Archived { generation: row.get(1)?, why, at, entries: Vec::new() }))
    })?;
    let entries = |(id, archived): (i64, Archived)| Ok(Archived { entries: entries(conn, id)?, ..archived });
    packed.into_iter().map(entries).collect()
}

/// The entries of one packed row. Those that were packed before inputs said that they are hexadecimal digits tell it by
/// their codec.
fn entries(conn: &Connection, id: i64) -> Result<Vec<Entry>, Fault> {
    let sql = "SELECT e.value ->> 'seq', e.value ->> 'kind', e.value ->> 'key', e.value ->> 'attempt',
                 CASE WHEN coalesce(e.value ->> 'input_hex', e.value ->> 'input_codec' <> 0)
                      THEN unhex(e.value ->> 'input') ELSE e.value ->> 'input' END,
                 e.value ->> 'input_codec',
                 CASE WHEN e.value ->> 'hex' THEN unhex(e.value ->> 'body') ELSE e.value ->> 'body' END,
                 e.value ->> 'codec', e.value ->> 'site', e.value ->> 'build', e.value ->> 'fingerprint', e.value ->> 'at'
               FROM everstep_archive a, json_each(a.body) e WHERE a.id = ?1 ORDER BY e.key";
    row::all(conn, sql, [id], |row| {
        let text = |column| Ok::<_, Fault>(row.get::<_, Option<String>>(column)?.map(Arc::<str>::from));
        let input: Option<u8> = row.get(5)?;
        Ok(Entry {
            seq: unsigned(row.get(0)?),
            kind: row.get(1)?,
            key: text(2)?,
            attempt: row.get(3)?,
            input: input.map(|codec| payload(row, 4, codec)).transpose()?,
            body: payload(row, 6, row.get(7)?)?,
            site: text(8)?.map(Site::Recorded),
            build: text(9)?.ok_or_else(|| damaged("an archived entry has no build"))?,
            fingerprint: row.get(10)?,
            at: Timestamp(row.get(11)?),
        })
    })
}

fn payload(row: &Row<'_>, column: usize, codec: u8) -> Result<Payload, Fault> {
    let bytes = row.get_ref(column)?.as_bytes().map_err(|_| damaged("an archived payload is no text"))?;
    Ok(Payload { codec, bytes: bytes.to_vec() })
}
