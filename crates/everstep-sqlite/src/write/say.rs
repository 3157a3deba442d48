//! What runs tell others than their journal.

use everstep_core::{
    AttributeValue,
    store::{RunId, Say, item_number},
};
use foldhash::{HashMap, HashMapExt as _};
use rusqlite::{Connection, params};

use super::{child, promise};
use crate::{
    attribute,
    batch::Batch,
    fault::Fault,
    names::NameKind,
    row::{packed, signed, unsigned},
};

/// The numbers of the items among `says`, in their order. Writes nothing: what is refused must concern nobody else.
pub(crate) fn item_numbers(conn: &Connection, run: RunId, says: &[Say]) -> Result<Vec<u64>, Fault> {
    let mut next = HashMap::new();
    let mut numbers = Vec::new();
    for say in says {
        say.check()?;
        if let Say::Emitted { name, n, .. } = say {
            let held = match next.get(name) {
                Some(held) => *held,
                None => held(conn, run, name)?,
            };
            // A stream that continues needs no look into the archive.
            let was_cut = *n < held && was_cut(conn, run)?;
            numbers.push(item_number(name, *n, held, was_cut)?);
            next.insert(name, held + 1);
        }
    }
    Ok(numbers)
}

fn held(conn: &Connection, run: RunId, stream: &str) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT max(n) + 1 FROM everstep_stream WHERE run = ?1 AND name = ?2")?
        .query_row(params![run.0, stream], |row| Ok(row.get::<_, Option<i64>>(0)?.map_or(0, unsigned)))
}

fn was_cut(conn: &Connection, run: RunId) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM everstep_archive WHERE run = ?1")?.exists([run.0])
}

/// Writes what was said; `numbers` are those of the items.
pub(crate) fn add(batch: &mut Batch<'_>, run: RunId, says: &[Say], numbers: Vec<u64>) -> Result<(), Fault> {
    let mut numbers = numbers.into_iter();
    for say in says {
        match say {
            Say::Published { name, body, seq, at } => batch
                .conn
                .prepare_cached(
                    "INSERT INTO everstep_state (run, name, body, seq, at) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (run, name) DO UPDATE SET body = excluded.body, seq = excluded.seq, at = excluded.at",
                )?
                .execute(params![run.0, &**name, packed(body), signed(*seq), at.0])?,
            Say::Emitted { name, body, at, .. } => {
                let n = numbers.next().expect("each item has a number");
                batch
                    .conn
                    .prepare_cached("INSERT INTO everstep_stream (run, name, n, body, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![run.0, &**name, signed(n), packed(body), at.0])?
            }
            Say::Attribute { name, value: Some(value) } => {
                let name = batch.names.intern(batch.conn, NameKind::Attribute, name)?;
                set_attribute(batch.conn, run, name, value)?
            }
            Say::Promised { hash, key, expires } => promise::add(batch.conn, run, hash, key, *expires)?,
            Say::Answered { id, body, at } => batch
                .conn
                .prepare_cached(
                    "INSERT INTO everstep_reply (run, id, body, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                )?
                .execute(params![run.0, id.0.to_be_bytes(), packed(body), at.0])?,
            Say::Child { run, answer } => child::start(batch, run, *answer).map(|()| 0)?,
            Say::Tell { run, generation, letter } => child::tell(batch, *run, *generation, letter).map(|()| 0)?,
            Say::Cancel { child, letter } => child::cancel(batch, run, child.as_deref(), letter).map(|()| 0)?,
            Say::Attribute { name, value: None } => {
                let Some(name) = batch.names.find(batch.conn, NameKind::Attribute, name)? else { continue };
                batch
                    .conn
                    .prepare_cached("DELETE FROM everstep_attribute WHERE run = ?1 AND name = ?2")?
                    .execute([run.0, name])?
            }
        };
    }
    Ok(())
}

/// `name` is its number in `everstep_name`.
pub(crate) fn set_attribute(
    conn: &Connection,
    run: RunId,
    name: i64,
    value: &AttributeValue,
) -> rusqlite::Result<usize> {
    conn.prepare_cached(
        "INSERT INTO everstep_attribute (run, name, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (run, name) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![run.0, name, attribute::value(value)])
}
