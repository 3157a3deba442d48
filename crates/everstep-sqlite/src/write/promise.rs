//! Promises: who may settle them, and whether somebody has.

use everstep_core::{Timestamp, store::RunId};
use rusqlite::{Connection, params};

use crate::{fault::Fault, row};

/// One token of a promise.
pub(crate) struct Promised {
    pub(crate) run: RunId,
    pub(crate) generation: u32,
    pub(crate) key: String,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) settled: bool,
}

/// Writes a token, if it is new; it is settled if its key is.
pub(crate) fn add(
    conn: &Connection,
    run: RunId,
    hash: &[u8; 32],
    key: &str,
    expires: Option<Timestamp>,
) -> rusqlite::Result<usize> {
    conn.prepare_cached(
        "INSERT INTO everstep_promise (hash, run, key, generation, expires_at, settled)
         SELECT ?1, id, ?3, generation, ?4,
           EXISTS (SELECT 1 FROM everstep_promise p
                   WHERE p.run = r.id AND p.key = ?3 AND p.generation = r.generation AND p.settled = 1)
         FROM everstep_run r WHERE id = ?2
         ON CONFLICT (hash) DO NOTHING",
    )?
    .execute(params![hash, run.0, key, expires.map(|at| at.0)])
}

pub(crate) fn find(conn: &Connection, hash: &[u8; 32]) -> Result<Option<Promised>, Fault> {
    let sql = "SELECT run, generation, key, expires_at, settled FROM everstep_promise WHERE hash = ?1";
    row::one(conn, sql, [hash], |row| {
        Ok(Promised {
            run: RunId(row.get(0)?),
            generation: row.get(1)?,
            key: row.get(2)?,
            expires: row.get::<_, Option<i64>>(3)?.map(Timestamp),
            settled: row.get(4)?,
        })
    })
}

/// The promise of this key was settled, or may be settled anew.
pub(crate) fn set_settled(conn: &Connection, run: RunId, key: &str, settled: bool) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE everstep_promise SET settled = ?3 WHERE run = ?1 AND key = ?2")?
        .execute(params![run.0, key, settled])
        .map(drop)
}
