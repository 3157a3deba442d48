//! Rows as the engine's structs, and payloads as SQLite's values.

use std::sync::Arc;

use everstep_core::{
    Digest, Status, Timestamp,
    journal::{Entry, Payload, Site},
    store::{
        Act, Letter, LetterId, Parent, PublishedRow, Received, RunId, RunRow, StartedRow, StoreError,
        StreamRow, WorkerId,
    },
};
use rusqlite::{
    Connection, OptionalExtension, Row,
    types::{ToSqlOutput, Value, ValueRef},
};

use crate::{fault::Fault, names::Texts};

/// The columns of a run's row, for [`run`]. Deaths before its last entry do not count: the journal is asked, and only
/// when there were any, because counting them down would cost every turn.
pub(crate) const RUN: &str = "id, text_id, workflow, status, owner, wake_at, inbox_n, generation,
    CASE WHEN takeovers > 0 AND crash_seq < (SELECT max(seq) FROM everstep_journal WHERE run = everstep_run.id)
         THEN 0 ELSE takeovers END,
    created_at, began_at, finished_at";

/// The columns of an entry, for [`entry`].
pub(crate) const ENTRY: &str =
    "seq, kind, key, attempt, input, input_codec, body, codec, site, build, fingerprint, at";

/// A run's row, from the columns [`RUN`].
pub(crate) fn run(conn: &Connection, texts: &Texts, row: &Row<'_>) -> Result<RunRow, Fault> {
    let owner: i64 = row.get(4)?;
    // Of an owned run the column says whether there are messages.
    let wake_at = if owner == 0 { row.get::<_, Option<i64>>(5)? } else { None };
    Ok(RunRow {
        run: RunId(row.get(0)?),
        id: text(row, 1)?,
        workflow: texts.get(conn, row.get(2)?)?,
        status: status(row.get(3)?)?,
        owner: (owner != 0).then_some(WorkerId(owner)),
        wake_at: wake_at.map(Timestamp),
        inbox_n: unsigned(row.get(6)?),
        generation: row.get(7)?,
        takeovers: row.get(8)?,
        created_at: Timestamp(row.get(9)?),
        began_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        finished_at: row.get::<_, Option<i64>>(11)?.map(Timestamp),
    })
}

/// The run with this id of its caller's.
pub(crate) fn run_by_id(conn: &Connection, texts: &Texts, id: &str) -> Result<Option<RunRow>, Fault> {
    one(conn, &format!("SELECT {RUN} FROM everstep_run WHERE text_id = ?1"), [id], |row| {
        run(conn, texts, row)
    })
}

/// An entry, from the columns [`ENTRY`].
pub(crate) fn entry(conn: &Connection, texts: &Texts, row: &Row<'_>) -> Result<Entry, Fault> {
    let site: Option<i64> = row.get(8)?;
    let input_codec: Option<u8> = row.get(5)?;
    Ok(Entry {
        seq: unsigned(row.get(0)?),
        kind: row.get(1)?,
        key: row.get(2)?,
        attempt: row.get(3)?,
        input: match input_codec {
            Some(codec) => Some(payload(row.get_ref(4)?, codec)?),
            None => None,
        },
        body: payload(row.get_ref(6)?, row.get(7)?)?,
        site: site.map(|id| texts.get(conn, id)).transpose()?.map(Site::Recorded),
        build: texts.get(conn, row.get(9)?)?,
        fingerprint: row.get(10)?,
        at: Timestamp(row.get(11)?),
    })
}

/// Entry `seq` of a run.
pub(crate) fn entry_at(
    conn: &Connection,
    texts: &Texts,
    run: RunId,
    seq: i64,
) -> Result<Option<Entry>, Fault> {
    let sql = format!("SELECT {ENTRY} FROM everstep_journal WHERE run = ?1 AND seq = ?2");
    one(conn, &sql, [run.0, seq], |row| entry(conn, texts, row))
}

/// The number of a run's last entry.
pub(crate) fn last_entry(conn: &Connection, texts: &Texts, run: RunId) -> Result<Option<Entry>, Fault> {
    let sql = format!("SELECT {ENTRY} FROM everstep_journal WHERE run = ?1 ORDER BY seq DESC LIMIT 1");
    one(conn, &sql, [run.0], |row| entry(conn, texts, row))
}

pub(crate) fn last_seq(conn: &Connection, run: i64) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT max(seq) FROM everstep_journal WHERE run = ?1")?
        .query_row([run], |row| row.get(0))
}

/// A letter of an inbox, from `n, kind, name, body, codec, id, at`.
pub(crate) fn received(row: &Row<'_>) -> Result<Received, Fault> {
    let id: Vec<u8> = row.get(5)?;
    let id = id.try_into().map_err(|_| damaged("a letter's id has not 16 bytes"))?;
    Ok(Received {
        n: unsigned(row.get(0)?),
        letter: Letter {
            id: LetterId(u128::from_be_bytes(id)),
            kind: row.get(1)?,
            name: text(row, 2)?,
            body: payload(row.get_ref(3)?, row.get(4)?)?,
            at: Timestamp(row.get(6)?),
        },
    })
}

/// A started row, from `key, attempt, at, abandoned, details, details_codec`.
pub(crate) fn started(row: &Row<'_>) -> Result<StartedRow, Fault> {
    Ok(StartedRow {
        key: text(row, 0)?,
        attempt: row.get(1)?,
        at: Timestamp(row.get(2)?),
        abandoned: row.get(3)?,
        details: match row.get(5)? {
            None => None,
            Some(codec) => Some(payload(row.get_ref(4)?, codec)?),
        },
    })
}

/// Whose child a run is, from `parent, parent_generation, parent_key, policy, digest`.
pub(crate) fn parent(row: &Row<'_>) -> Result<Option<Parent>, Fault> {
    let Some(run) = row.get::<_, Option<i64>>(0)? else { return Ok(None) };
    Ok(Some(Parent {
        run: RunId(run),
        generation: row.get(1)?,
        key: text(row, 2)?,
        closes: row.get(3)?,
        digest: Digest(u128::from_be_bytes(row.get(4)?)),
    }))
}

/// All rows of a query, each through `read`.
pub(crate) fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

/// The first row of a query through `read`, if there is one.
pub(crate) fn one<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut statement = conn.prepare_cached(sql)?;
    let read = statement.query_row(params, |row| Ok(read(row))).optional()?;
    read.transpose()
}

/// A status from its number.
pub(crate) fn status(code: u8) -> Result<Status, StoreError> {
    Status::from_code(code).ok_or_else(|| damaged(&format!("{code} is no status this version knows")))
}

pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("the database is damaged or newer than this program: {what}").into())
}

/// A payload as a value: JSON as TEXT, so that `sqlite3` shows it; anything else as bytes.
pub(crate) fn value(payload: &Payload) -> ToSqlOutput<'_> {
    match std::str::from_utf8(&payload.bytes) {
        Ok(text) if payload.codec == 0 => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        _ => ToSqlOutput::Borrowed(ValueRef::Blob(&payload.bytes)),
    }
}

/// A payload in one column, for tables without one for its codec: JSON as TEXT, so that `sqlite3` shows it; anything else
/// as a BLOB of the codec and the bytes.
pub(crate) fn packed(payload: &Payload) -> ToSqlOutput<'_> {
    match std::str::from_utf8(&payload.bytes) {
        Ok(text) if payload.codec == 0 => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        _ => ToSqlOutput::Owned(Value::Blob([&[payload.codec], &payload.bytes[..]].concat())),
    }
}

pub(crate) fn unpacked(value: ValueRef<'_>) -> Result<Payload, StoreError> {
    match value {
        ValueRef::Text(bytes) => Ok(Payload { codec: 0, bytes: bytes.to_vec() }),
        ValueRef::Blob([codec, bytes @ ..]) => Ok(Payload { codec: *codec, bytes: bytes.to_vec() }),
        other => {
            Err(damaged(&format!("a value is {}, and nothing in it says how to read it", other.data_type())))
        }
    }
}

/// A published value, from `name, body, seq, at`.
pub(crate) fn published(row: &Row<'_>) -> Result<PublishedRow, Fault> {
    Ok(PublishedRow {
        name: text(row, 0)?,
        body: unpacked(row.get_ref(1)?)?,
        seq: unsigned(row.get(2)?),
        at: Timestamp(row.get(3)?),
    })
}

/// What a person did, from `verb, who, why, at, detail`.
pub(crate) fn act(row: &Row<'_>) -> Result<Act, Fault> {
    let at = Timestamp(row.get(3)?);
    Ok(Act { verb: text(row, 0)?, who: text(row, 1)?, why: text(row, 2)?, at, detail: text(row, 4)? })
}

/// An item of a stream, from `n, body, at`.
pub(crate) fn item(row: &Row<'_>) -> Result<StreamRow, Fault> {
    Ok(StreamRow { n: unsigned(row.get(0)?), body: unpacked(row.get_ref(1)?)?, at: Timestamp(row.get(2)?) })
}

fn payload(value: ValueRef<'_>, codec: u8) -> Result<Payload, StoreError> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Payload { codec, bytes: bytes.to_vec() }),
        other => Err(damaged(&format!("a payload is {}, not text or bytes", other.data_type()))),
    }
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<str>> {
    row.get(column)
}

/// Counts are kept as SQLite's signed integers and never negative.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// The other way; no count of ours reaches 2^63.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
