//! Rows as the engine's structs, and payloads as PostgreSQL's values.

use std::sync::Arc;

use everstep_core::{
    Digest, Status, Timestamp,
    journal::{Entry, Payload, Site},
    store::{
        Act, Letter, LetterId, Parent, PublishedRow, Received, RunId, RunRow, StartedRow, StoreError,
        StreamRow, WorkerId,
    },
};
use tokio_postgres::Row;

use crate::{
    bounds::due,
    conn::{Conn, Speaks},
    fault::Fault,
    names::Texts,
    sql::{Sql, args, get, sql},
    text::meant,
};

/// Added to codec 0 of bytes that are no text: views show the others as text.
const NO_TEXT: i16 = 256;

/// The columns of a run's row, for [`run`]. Deaths before its last entry do not count: the journal is asked, and only
/// when there were any, because counting them down would cost every turn.
macro_rules! run_columns {
    () => {
        "r.id, r.text_id, r.workflow, r.status, r.owner, r.wake_at, r.inbox_n, r.generation,
         CASE WHEN r.takeovers > 0 AND r.crash_seq < (SELECT max(seq) FROM @journal WHERE run = r.id)
              THEN 0 ELSE r.takeovers END,
         r.created_at, r.began_at, r.finished_at"
    };
}
pub(crate) use run_columns;

/// The columns of an entry, for [`entry`].
macro_rules! entry_columns {
    () => {
        "j.seq, j.kind, j.key, j.attempt, j.input, j.input_codec, j.body, j.codec, j.site, j.build, j.fingerprint, j.at"
    };
}
pub(crate) use entry_columns;

/// A run's row, from the columns `run_columns!`; its workflow's text must be known.
pub(crate) fn run(texts: &Texts, row: &Row) -> Result<RunRow, StoreError> {
    let owner: i64 = get(row, 4)?;
    // Of an owned run the column says whether there are messages.
    let wake_at = if owner == 0 { get::<Option<i64>>(row, 5)? } else { None };
    Ok(RunRow {
        run: RunId(get(row, 0)?),
        id: text(row, 1)?,
        workflow: texts.get(get(row, 2)?)?,
        status: status(get(row, 3)?)?,
        owner: (owner != 0).then_some(WorkerId(owner)),
        wake_at: wake_at.map(due),
        inbox_n: unsigned(get(row, 6)?),
        generation: small(get(row, 7)?)?,
        takeovers: small(get(row, 8)?)?,
        created_at: Timestamp(get(row, 9)?),
        began_at: get::<Option<i64>>(row, 10)?.map(Timestamp),
        finished_at: get::<Option<i64>>(row, 11)?.map(Timestamp),
    })
}

/// Rows of runs, each by itself.
pub(crate) async fn runs(
    conn: &impl Speaks,
    texts: &Texts,
    rows: &[Row],
) -> Result<Vec<Result<RunRow, StoreError>>, Fault> {
    let workflows = rows.iter().filter_map(|row| get(row, 2).ok());
    texts.learn(conn, workflows).await?;
    Ok(rows.iter().map(|row| run(texts, row)).collect())
}

/// The run with this id of its caller's.
pub(crate) async fn run_by_id(conn: &impl Speaks, texts: &Texts, id: &str) -> Result<Option<RunRow>, Fault> {
    const FIND: Sql =
        sql("read a run", concat!("SELECT ", run_columns!(), " FROM @run r WHERE r.text_id = $1"));
    let rows = conn.rows(&FIND, args![crate::text::kept(id)]).await?;
    Ok(runs(conn, texts, &rows).await?.into_iter().next().transpose()?)
}

/// The name ids that entries carry, in the columns `entry_columns!` from `first` on.
pub(crate) fn names_of_entries(rows: &[Row], first: usize) -> impl Iterator<Item = i64> {
    rows.iter().flat_map(move |row| {
        let site: Option<i64> = get(row, first + 8).ok().flatten();
        site.into_iter().chain(get(row, first + 9).ok())
    })
}

/// An entry, from the columns `entry_columns!` from `first` on; its texts must be known.
pub(crate) fn entry(texts: &Texts, row: &Row, first: usize) -> Result<Entry, StoreError> {
    let site: Option<i64> = get(row, first + 8)?;
    let input_codec: Option<i16> = get(row, first + 5)?;
    let attempt: i32 = get(row, first + 3)?;
    let fingerprint: i32 = get(row, first + 10)?;
    let kind: i32 = get(row, first + 1)?;
    Ok(Entry {
        seq: unsigned(get(row, first)?),
        kind: u16::try_from(kind).map_err(|_| damaged(&format!("{kind} is no kind of an entry")))?,
        key: get::<Option<&str>>(row, first + 2)?.map(meant),
        attempt: attempt.cast_unsigned(),
        input: input_codec.map(|codec| payload(get(row, first + 4)?, codec)).transpose()?,
        body: payload(get(row, first + 6)?, get(row, first + 7)?)?,
        site: site.map(|id| texts.get(id)).transpose()?.map(Site::Recorded),
        build: texts.get(get(row, first + 9)?)?,
        fingerprint: fingerprint.cast_unsigned(),
        at: Timestamp(get(row, first + 11)?),
    })
}

/// Entries from rows of `entry_columns!`.
pub(crate) async fn entries(conn: &impl Speaks, texts: &Texts, rows: &[Row]) -> Result<Vec<Entry>, Fault> {
    texts.learn(conn, names_of_entries(rows, 0)).await?;
    Ok(rows.iter().map(|row| entry(texts, row, 0)).collect::<Result<_, _>>()?)
}

/// Entry `seq` of a run.
pub(crate) async fn entry_at(
    conn: &impl Speaks,
    texts: &Texts,
    run: RunId,
    seq: i64,
) -> Result<Option<Entry>, Fault> {
    const AT: Sql = sql(
        "read an entry",
        concat!("SELECT ", entry_columns!(), " FROM @journal j WHERE j.run = $1 AND j.seq = $2"),
    );
    let rows = conn.rows(&AT, args![run.0, seq]).await?;
    Ok(entries(conn, texts, &rows).await?.pop())
}

/// A run's last entry.
pub(crate) async fn last_entry(conn: &Conn, texts: &Texts, run: RunId) -> Result<Option<Entry>, Fault> {
    const LAST: Sql = sql(
        "read the last entry",
        concat!("SELECT ", entry_columns!(), " FROM @journal j WHERE j.run = $1 ORDER BY j.seq DESC LIMIT 1"),
    );
    let rows = conn.rows(&LAST, args![run.0]).await?;
    Ok(entries(conn, texts, &rows).await?.pop())
}

/// The number of a run's last entry.
pub(crate) async fn last_seq(conn: &Conn, run: RunId) -> Result<Option<i64>, Fault> {
    const LAST: Sql = sql("find the last entry", "SELECT max(seq) FROM @journal WHERE run = $1");
    let row = conn.one(&LAST, args![run.0]).await?;
    Ok(row.map(|row| get(&row, 0)).transpose()?.flatten())
}

/// A letter of an inbox, from `n, kind, name, body, codec, id, at` from `first` on.
pub(crate) fn received(row: &Row, first: usize) -> Result<Received, StoreError> {
    let kind: i32 = get(row, first + 1)?;
    Ok(Received {
        n: unsigned(get(row, first)?),
        letter: Letter {
            id: letter_id(row, first + 5)?,
            kind: u16::try_from(kind).map_err(|_| damaged(&format!("{kind} is no kind of a letter")))?,
            name: text(row, first + 2)?,
            body: payload(get(row, first + 3)?, get(row, first + 4)?)?,
            at: Timestamp(get(row, first + 6)?),
        },
    })
}

/// The name of a letter.
pub(crate) fn letter_id(row: &Row, column: usize) -> Result<LetterId, StoreError> {
    let id: &[u8] = get(row, column)?;
    let id = id.try_into().map_err(|_| damaged("a letter's id has not 16 bytes"))?;
    Ok(LetterId(u128::from_be_bytes(id)))
}

/// A started row, from `key, attempt, at, abandoned, details, details_codec` from `first` on.
pub(crate) fn started(row: &Row, first: usize) -> Result<StartedRow, StoreError> {
    let attempt: i32 = get(row, first + 1)?;
    let codec: Option<i16> = get(row, first + 5)?;
    Ok(StartedRow {
        key: text(row, first)?,
        attempt: attempt.cast_unsigned(),
        at: Timestamp(get(row, first + 2)?),
        abandoned: get(row, first + 3)?,
        details: codec.map(|codec| payload(get(row, first + 4)?, codec)).transpose()?,
    })
}

/// Whose child a run is, from `parent, parent_generation, parent_key, policy, digest`.
pub(crate) fn parent(row: &Row) -> Result<Option<Parent>, StoreError> {
    let Some(run) = get::<Option<i64>>(row, 0)? else { return Ok(None) };
    let digest: &[u8] = get(row, 4)?;
    let digest = digest.try_into().map_err(|_| damaged("a digest has not 16 bytes"))?;
    Ok(Some(Parent {
        run: RunId(run),
        generation: small(get(row, 1)?)?,
        key: text(row, 2)?,
        closes: get::<i16>(row, 3)? == 1,
        digest: Digest(u128::from_be_bytes(digest)),
    }))
}

/// A published value, from `name, body, codec, seq, at`.
pub(crate) fn published(row: &Row) -> Result<PublishedRow, StoreError> {
    Ok(PublishedRow {
        name: text(row, 0)?,
        body: payload(get(row, 1)?, get(row, 2)?)?,
        seq: unsigned(get(row, 3)?),
        at: Timestamp(get(row, 4)?),
    })
}

/// What a person did, from `verb, who, why, at, detail`.
pub(crate) fn act(row: &Row) -> Result<Act, StoreError> {
    let at = Timestamp(get(row, 3)?);
    Ok(Act { verb: text(row, 0)?, who: text(row, 1)?, why: text(row, 2)?, at, detail: text(row, 4)? })
}

/// An item of a stream, from `n, body, codec, at`.
pub(crate) fn item(row: &Row) -> Result<StreamRow, StoreError> {
    let body = payload(get(row, 1)?, get(row, 2)?)?;
    Ok(StreamRow { n: unsigned(get(row, 0)?), body, at: Timestamp(get(row, 3)?) })
}

/// A text that cannot be missing.
pub(crate) fn text(row: &Row, column: usize) -> Result<Arc<str>, StoreError> {
    Ok(meant(get(row, column)?))
}

/// A status from its number.
pub(crate) fn status(code: i16) -> Result<Status, StoreError> {
    let known = u8::try_from(code).ok().and_then(Status::from_code);
    known.ok_or_else(|| damaged(&format!("{code} is no status this version knows")))
}

pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("the database is damaged or newer than this program: {what}").into())
}

/// A payload's codec as it is kept.
pub(crate) fn codec(payload: &Payload) -> i16 {
    let is_text = || !payload.bytes.contains(&0) && std::str::from_utf8(&payload.bytes).is_ok();
    match payload.codec {
        0 if !is_text() => NO_TEXT,
        codec => codec.into(),
    }
}

/// A payload as it was.
pub(crate) fn payload(bytes: &[u8], codec: i16) -> Result<Payload, StoreError> {
    let codec = if codec == NO_TEXT { 0 } else { codec };
    let codec = u8::try_from(codec).map_err(|_| damaged(&format!("{codec} is no codec")))?;
    Ok(Payload { codec, bytes: bytes.to_vec() })
}

/// Counts are kept as signed integers and never negative.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// The other way; no count of ours reaches 2^63.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn small(n: i64) -> Result<u32, StoreError> {
    u32::try_from(n).map_err(|_| damaged(&format!("{n} is no count of restarts or takeovers")))
}
