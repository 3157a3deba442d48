//! The schema's versions. A version is a file in `schema/` and never changes once it is published. Processes that open a
//! database at the same time may all try: one is first, and the others look again.

use std::time::Duration;

use everstep_core::{
    failpoint::{Failpoint, fails, pass},
    store::StoreError,
};
use tokio_postgres::error::SqlState as S;

use crate::{
    conn::Conn,
    fault::{Fault, in_order, said, told},
    sql::{Sql, args, get, sql},
    stopwatch::pause,
};

/// The schema this version writes to.
pub(crate) const VERSION: i64 = 3;

/// What brings the schema from each version to the next.
const STEPS: [&str; VERSION as usize] = [
    include_str!("schema/0001_first.sql"),
    include_str!("schema/0002_waiting.sql"),
    include_str!("schema/0003_copy.sql"),
];

/// Whoever loses a race looks again so often; the winner's transaction is short.
const TRIES_MAX: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Brings the schema to our version.
pub(crate) async fn migrate(conn: &Conn) -> Result<(), StoreError> {
    let mut lost = None;
    for _ in 0..TRIES_MAX {
        let from = match in_order(async || version(conn).await).await.map_err(not_migrated)? {
            Some(VERSION) => return Ok(()),
            Some(newer_one) if newer_one > VERSION => return Err(newer(newer_one)),
            from => from,
        };
        match step(conn, from).await {
            Ok(()) => {
                pass(Failpoint::MigrationCommitted);
                return Ok(());
            }
            Err(fault) => {
                let _ = conn.script("roll back a migration", "ROLLBACK").await;
                match was_lost(&fault) {
                    true => lost = Some(fault),
                    false => return Err(not_migrated(fault)),
                }
            }
        }
        pause(LOOK_AGAIN).await;
    }
    Err(lost.map_or_else(|| StoreError::Full("the schema is being changed".into()), told))
}

/// All steps from this version on, in one transaction.
async fn step(conn: &Conn, from: Option<i64>) -> Result<(), Fault> {
    const LOCK: Sql = sql(
        "lock the schema's version",
        "UPDATE @meta SET value = value WHERE key = 'schema' RETURNING value",
    );
    const SET: Sql = sql("set the schema's version", "UPDATE @meta SET value = $1 WHERE key = 'schema'");
    conn.script("begin a migration", "BEGIN").await?;
    pass(Failpoint::MigrationBegins);
    let from = match from {
        None => {
            // Who may make none may own one that an administrator made.
            if !has_schema(conn).await? {
                conn.script("make the schema", "CREATE SCHEMA IF NOT EXISTS @@").await?;
            }
            0
        }
        Some(_) => {
            let row = conn.one(&LOCK, &[]).await?;
            row.map(|row| get(&row, 0)).transpose()?.unwrap_or(VERSION)
        }
    };
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        conn.script("change the schema", &conn.dialect.schema(step)).await?;
    }
    conn.execute(&SET, args![VERSION.max(from)]).await?;
    if fails(Failpoint::MigrationDone) {
        return Err(StoreError::Full("a failpoint failed".into()).into());
    }
    conn.script("commit a migration", "COMMIT").await
}

/// Whether somebody else was faster.
fn was_lost(fault: &Fault) -> bool {
    let Fault::Sql(_, error) = fault else { return false };
    let made = [S::DUPLICATE_TABLE, S::DUPLICATE_SCHEMA, S::DUPLICATE_OBJECT, S::UNIQUE_VIOLATION];
    fault.is_again() || fault.is_blocked() || error.code().is_some_and(|state| made.contains(state))
}

async fn has_schema(conn: &Conn) -> Result<bool, Fault> {
    const FIND: Sql = sql("find the schema", "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1");
    Ok(conn.one(&FIND, args![conn.shape().schema.clone()]).await?.is_some())
}

fn not_migrated(fault: Fault) -> StoreError {
    match fault {
        Fault::Sql(name, error) if error.code() == Some(&S::INSUFFICIENT_PRIVILEGE) => StoreError::Unusable(
            format!(
                "this database's schema of Everstep is not there, or old, or not granted to this role: open it once as the \
                 owner of the schema, then grant the role what it needs, as docs/postgres.md has it ({})",
                said(name, &error)
            )
            .into(),
        ),
        fault => told(fault),
    }
}

/// The schema's version; `None` if there is no schema.
pub(crate) async fn version(conn: &Conn) -> Result<Option<i64>, Fault> {
    const VERSION_OF: Sql = sql("read the schema's version", "SELECT value FROM @meta WHERE key = 'schema'");
    match conn.one(&VERSION_OF, &[]).await {
        Ok(Some(row)) => Ok(Some(get(&row, 0)?)),
        Ok(None) => {
            Err(StoreError::Damaged("the schema has no version: restore it from a backup".into()).into())
        }
        Err(Fault::Sql(_, error))
            if error.code() == Some(&S::UNDEFINED_TABLE) || error.code() == Some(&S::INVALID_SCHEMA_NAME) =>
        {
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

fn newer(version: i64) -> StoreError {
    StoreError::Unusable(
        format!(
            "this database has Everstep's schema {version}, and this program knows schemas up to {VERSION}: run a newer \
             version of the program"
        )
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use everstep_core::journal::Kind;

    use super::*;

    #[test]
    fn the_timeline_says_the_words_of_the_journal() {
        let view = STEPS.iter().rfind(|step| step.contains("VIEW @timeline")).expect("there is one");
        for kind in Kind::ALL {
            let arm = format!("WHEN {} THEN '{}'", kind.code(), kind.word());
            assert!(view.contains(&arm), "{arm}");
        }
    }
}
