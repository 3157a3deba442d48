//! Promises: who may settle them, and whether somebody has.

use std::sync::Arc;

use everstep_core::{Timestamp, store::RunId};

use crate::{
    batch::Batch,
    conn::Speaks,
    fault::Fault,
    guest::Writes,
    row,
    sql::{Sql, args, get, sql},
    text::kept,
};

/// One token of a promise.
pub(crate) struct Promised {
    pub(crate) run: RunId,
    pub(crate) generation: i64,
    pub(crate) key: Arc<str>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) settled: bool,
}

/// Writes a token, if it is new; it is settled if its key is.
pub(crate) async fn add(
    batch: &mut Batch<'_>,
    run: RunId,
    hash: &[u8; 32],
    key: &str,
    expires: Option<Timestamp>,
) -> Result<(), Fault> {
    const ADD: Sql = sql(
        "make a promise",
        "INSERT INTO @promise (hash, run, key, generation, expires_at, settled)
         SELECT $1, id, $3, generation, $4,
           EXISTS (SELECT 1 FROM @promise p
                   WHERE p.run = r.id AND p.key = $3 AND p.generation = r.generation AND p.settled)
         FROM @run r WHERE id = $2
         ON CONFLICT (hash) DO NOTHING",
    );
    let args = args![&hash[..], run.0, kept(key), expires.map(|at| at.0)];
    batch.execute(&ADD, args).await.map(drop)
}

/// The promise that a token is of. Whoever settles it locks its run first, and looks again then.
pub(crate) async fn find(conn: &impl Speaks, hash: &[u8; 32]) -> Result<Option<Promised>, Fault> {
    const FIND: Sql = sql(
        "find a promise",
        "SELECT run, generation, key, expires_at, settled FROM @promise WHERE hash = $1",
    );
    let row = conn.one(&FIND, args![&hash[..]]).await?;
    let promised = |row: tokio_postgres::Row| {
        Ok::<_, Fault>(Promised {
            run: RunId(get(&row, 0)?),
            generation: get(&row, 1)?,
            key: row::text(&row, 2)?,
            expires: get::<Option<i64>>(&row, 3)?.map(Timestamp),
            settled: get(&row, 4)?,
        })
    };
    row.map(promised).transpose()
}

/// The promise of this key was settled, or may be settled anew.
pub(crate) async fn set_settled(
    batch: &mut impl Writes,
    run: RunId,
    key: &str,
    settled: bool,
) -> Result<(), Fault> {
    const SET: Sql = sql("settle a promise", "UPDATE @promise SET settled = $3 WHERE run = $1 AND key = $2");
    batch.execute(&SET, args![run.0, kept(key), settled]).await.map(drop)
}
