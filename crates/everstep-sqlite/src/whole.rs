//! Runs with everything that is kept of them, and the parts of that which readers ask for one by one.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Stuck, StuckReason, Timestamp,
    store::{Act, PAGE_BYTES, Parent, PublishedRow, RunId, RunRow, StoreError, StreamRow, Whole},
};
use rusqlite::{Connection, params};

use crate::{
    attribute,
    fault::Fault,
    kept,
    names::Texts,
    read,
    row::{self, signed},
};

/// Runs above `after`, by number.
pub(crate) fn page(
    conn: &Connection,
    texts: &Texts,
    after: RunId,
    limit: usize,
) -> Result<Vec<Whole>, Fault> {
    let sql = format!("SELECT {} FROM everstep_run WHERE id > ?1 ORDER BY id LIMIT ?2", row::RUN);
    let rows = row::all(conn, &sql, [after.0, signed(limit as u64)], |row| row::run(conn, texts, row))?;
    let (mut page, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        let whole = whole(conn, texts, row)?;
        bytes += whole.bytes();
        page.push(whole);
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

/// The run of this number.
pub(crate) fn of(conn: &Connection, texts: &Texts, run: RunId) -> Result<Option<Whole>, Fault> {
    let sql = format!("SELECT {} FROM everstep_run WHERE id = ?1", row::RUN);
    let row = row::one(conn, &sql, [run.0], |row| row::run(conn, texts, row))?;
    row.map(|row| whole(conn, texts, row)).transpose()
}

fn whole(conn: &Connection, texts: &Texts, row: RunRow) -> Result<Whole, Fault> {
    let id = row.id.clone();
    read_whole(conn, texts, row).map_err(|fault| match fault {
        Fault::Refuse(StoreError::Damaged(why)) => damaged(&id, &why),
        // Not SQLite's: a value that is none of ours.
        Fault::Sql(error) if error.sqlite_error().is_none() => damaged(&id, &error.to_string()),
        other => other,
    })
}

fn damaged(id: &str, why: &str) -> Fault {
    StoreError::Damaged(format!("run `{id}` cannot be read: {why}").into()).into()
}

fn read_whole(conn: &Connection, texts: &Texts, row: RunRow) -> Result<Whole, Fault> {
    let run = row.run;
    let (trace, parent) = extra(conn, run)?;
    Ok(Whole {
        row,
        trace,
        parent,
        loaded: read::load(conn, texts, run)?,
        stuck: stuck(conn, run)?,
        attributes: attributes(conn, texts, run)?,
        published: published(conn, run, usize::MAX)?,
        streams: streams(conn, run)?,
        acts: acts(conn, run, usize::MAX)?,
        kept: kept::of(conn, run)?,
    })
}

/// What few runs have: the trace context of whoever started it, and whose child it is.
fn extra(conn: &Connection, run: RunId) -> Result<(Option<Arc<str>>, Option<Parent>), Fault> {
    let sql = "SELECT parent, parent_generation, parent_key, policy, digest, trace FROM everstep_run_extra
               WHERE run = ?1";
    let extra = row::one(conn, sql, [run.0], |row| Ok((row.get(5)?, row::parent(row)?)))?;
    Ok(extra.unwrap_or_default())
}

/// Why a run is stuck, and since when.
pub(crate) fn stuck(conn: &Connection, run: RunId) -> Result<Option<(Stuck, Timestamp)>, Fault> {
    row::one(conn, "SELECT reason, key, detail, at FROM everstep_stuck WHERE run = ?1", [run.0], |row| {
        let code: u8 = row.get(0)?;
        let reason = StuckReason::from_code(code)
            .ok_or_else(|| row::damaged(&format!("{code} is no reason this version knows")))?;
        let key = row.get::<_, Option<String>>(1)?.map(Arc::from);
        Ok((Stuck { reason, key, detail: row.get(2)? }, Timestamp(row.get(3)?)))
    })
}

/// A run's attributes, by name.
pub(crate) fn attributes(
    conn: &Connection,
    texts: &Texts,
    run: RunId,
) -> Result<Vec<(Arc<str>, AttributeValue)>, Fault> {
    let sql = "SELECT a.name, a.value FROM everstep_attribute a JOIN everstep_name n ON n.id = a.name
               WHERE a.run = ?1 ORDER BY n.text";
    row::all(conn, sql, [run.0], |row| Ok((texts.get(conn, row.get(0)?)?, attribute::read(row.get_ref(1)?)?)))
}

/// What a run has published last under each name, by name.
pub(crate) fn published(conn: &Connection, run: RunId, limit: usize) -> Result<Vec<PublishedRow>, Fault> {
    let sql = "SELECT name, body, seq, at FROM everstep_state WHERE run = ?1 ORDER BY name LIMIT ?2";
    row::all(conn, sql, [run.0, signed(limit as u64)], row::published)
}

/// By name, those that have items.
type Streams = Vec<(Arc<str>, Vec<StreamRow>)>;

fn streams(conn: &Connection, run: RunId) -> Result<Streams, Fault> {
    let sql = "SELECT n, body, at, name FROM everstep_stream WHERE run = ?1 ORDER BY name, n";
    let mut streams: Streams = Vec::new();
    row::all(conn, sql, [run.0], |row| {
        let (name, item): (Arc<str>, _) = (row.get(3)?, row::item(row)?);
        match streams.last_mut() {
            Some((last, items)) if *last == name => items.push(item),
            _ => streams.push((name, vec![item])),
        }
        Ok(())
    })?;
    Ok(streams)
}

/// What people did to a run, in this order; of more than `limit` the last ones.
pub(crate) fn acts(conn: &Connection, run: RunId, limit: usize) -> Result<Vec<Act>, Fault> {
    let sql = "SELECT verb, who, why, at, detail FROM
               (SELECT * FROM everstep_act WHERE run = ?1 ORDER BY n DESC LIMIT ?2) ORDER BY n";
    row::all(conn, sql, params![run.0, signed(limit as u64)], row::act)
}
