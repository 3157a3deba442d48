//! Entries into the journal.

use everstep_core::{journal::Entry, store::RunId};
use rusqlite::{Connection, ToSql, params};

use crate::{
    batch::Batch,
    hot::Hot,
    names::{self, NameKind},
    row::{signed, value},
};

/// Writes one entry.
pub(crate) const INSERT: &str = "INSERT INTO everstep_journal
       (run, seq, kind, key, attempt, input, input_codec, body, codec, site, build, fingerprint, at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

/// The names that an entry carries, as ids.
struct NameIds {
    site: Option<i64>,
    build: i64,
}

/// The payloads of an entry.
pub(crate) fn bytes(entry: &Entry) -> usize {
    entry.body.bytes.len() + entry.input.as_ref().map_or(0, |input| input.bytes.len())
}

/// Writes an entry of `run`.
pub(crate) fn insert(batch: &mut Batch<'_>, run: RunId, entry: &Entry) -> rusqlite::Result<()> {
    let site = match &entry.site {
        Some(site) => Some(batch.names.site(batch.conn, site)?),
        None => None,
    };
    let build = batch.names.build(batch.conn, &entry.build)?;
    insert_row(run, entry, &NameIds { site, build }, |row| batch.hot.execute(Hot::InsertEntry, row))
}

/// The same on a connection that is not the writer's: remembers no names.
pub(crate) fn insert_on(conn: &Connection, run: RunId, entry: &Entry) -> rusqlite::Result<()> {
    let site = match &entry.site {
        Some(site) => Some(names::intern(conn, NameKind::Site, &site.to_string())?),
        None => None,
    };
    let build = names::intern(conn, NameKind::Build, &entry.build)?;
    insert_row(run, entry, &NameIds { site, build }, |row| conn.prepare_cached(INSERT)?.execute(row))
}

fn insert_row(
    run: RunId,
    entry: &Entry,
    names: &NameIds,
    execute: impl FnOnce(&[&dyn ToSql]) -> rusqlite::Result<usize>,
) -> rusqlite::Result<()> {
    execute(params![
        run.0,
        signed(entry.seq),
        entry.kind,
        entry.key.as_deref(),
        entry.attempt,
        entry.input.as_ref().map(value),
        entry.input.as_ref().map(|input| input.codec),
        value(&entry.body),
        entry.body.codec,
        names.site,
        names.build,
        entry.fingerprint,
        entry.at.0,
    ])
    .map(drop)
}
