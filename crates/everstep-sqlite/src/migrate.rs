//! The schema's versions. A version is a file in `schema/` and never changes once it is published; processes that
//! open a file at the same time take turns, and the later one finds the work done.

use everstep_core::{
    failpoint::{Failpoint, fails, pass},
    store::StoreError,
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::fault::store_error;

/// The schema this version writes to.
pub(crate) const VERSION: i64 = 3;

/// What brings the schema from each version to the next.
const STEPS: [&str; VERSION as usize] = [
    include_str!("schema/0001_first.sql"),
    include_str!("schema/0002_waiting.sql"),
    include_str!("schema/0003_copy.sql"),
];

/// Every table and view of ours. Whatever else begins with `everstep_` is not ours, or newer than we are.
const KNOWN: [&str; 22] = [
    "everstep_meta",
    "everstep_name",
    "everstep_worker",
    "everstep_run",
    "everstep_run_extra",
    "everstep_run_count",
    "everstep_journal",
    "everstep_inbox",
    "everstep_inbox_seen",
    "everstep_started",
    "everstep_stuck",
    "everstep_archive",
    "everstep_attribute",
    "everstep_state",
    "everstep_stream",
    "everstep_promise",
    "everstep_reply",
    "everstep_act",
    "everstep_copy",
    "everstep_runs",
    "everstep_timeline",
    "everstep_warm",
];

/// Brings the schema to our version.
pub(crate) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    if version(conn)? == Some(VERSION) {
        return check_tables(conn);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    pass(Failpoint::MigrationBegins);
    // Looked at again under the lock: another process may have been faster.
    let from = version(&tx)?;
    check_tables(&tx)?;
    let from = from.unwrap_or(0);
    if from > VERSION {
        return Err(newer(from));
    }
    for step in &STEPS[usize::try_from(from).unwrap_or(0)..] {
        tx.execute_batch(step).map_err(store_error)?;
    }
    tx.execute("UPDATE everstep_meta SET value = ?1 WHERE key = 'schema'", [VERSION]).map_err(store_error)?;
    if fails(Failpoint::MigrationDone) {
        return Err(StoreError::Full("a failpoint failed".into()));
    }
    tx.commit().map_err(store_error)?;
    pass(Failpoint::MigrationCommitted);
    Ok(())
}

/// Whether a connection sees the schema that this version writes to.
pub(crate) fn check_version(conn: &Connection) -> Result<(), StoreError> {
    match version(conn)? {
        Some(VERSION) => Ok(()),
        Some(other) if other > VERSION => Err(newer(other)),
        Some(other) => Err(unusable(format!(
            "this database has Everstep's schema {other}, and this program writes schema {VERSION}: open it once with \
             `Sqlite::open`, which brings it up to date"
        ))),
        None => Err(unusable(
            "this database has no tables of Everstep: open it once with `Sqlite::open`, or check the path"
                .into(),
        )),
    }
}

fn version(conn: &Connection) -> Result<Option<i64>, StoreError> {
    let there: bool = conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'everstep_meta')",
        )
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(store_error)?;
    if !there {
        return Ok(None);
    }
    conn.prepare_cached("SELECT value FROM everstep_meta WHERE key = 'schema'")
        .and_then(|mut s| s.query_row([], |row| row.get(0)).optional())
        .map_err(store_error)
}

/// Whether all names that are reserved for us are ours.
pub(crate) fn check_tables(conn: &Connection) -> Result<(), StoreError> {
    if let Some(newer_one) = version(conn)?.filter(|version| *version > VERSION) {
        return Err(newer(newer_one));
    }
    let mut statement = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name LIKE 'everstep\\_%' ESCAPE '\\'")
        .map_err(store_error)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0)).map_err(store_error)?;
    let mut found = 0;
    for name in names {
        let name = name.map_err(store_error)?;
        if !KNOWN.contains(&name.as_str()) {
            return Err(unusable(format!(
                "this database has a table or view `{name}`, which this version of Everstep does not know. Names that \
                 begin with `everstep_` are reserved: rename it; or, if a newer version of Everstep made it, run that one"
            )));
        }
        found += 1;
    }
    if found > 0 && version(conn)?.is_none() {
        return Err(unusable(
            "this database has tables that begin with `everstep_`, but none that says their version (`everstep_meta`): \
             restore it from a backup, or rename them if they are yours"
                .into(),
        ));
    }
    Ok(())
}

fn newer(version: i64) -> StoreError {
    unusable(format!(
        "this database has Everstep's schema {version}, and this program knows schemas up to {VERSION}: run a newer \
         version of the program"
    ))
}

fn unusable(text: String) -> StoreError {
    StoreError::Unusable(text.into())
}

#[cfg(test)]
mod tests {
    use everstep_core::journal::Kind;

    use super::*;

    #[test]
    fn the_schema_has_only_known_names_and_comes_twice_without_harm() {
        let mut conn = Connection::open_in_memory().expect("memory");
        migrate(&mut conn).expect("first");
        migrate(&mut conn).expect("again");
        check_version(&conn).expect("ours");
    }

    #[test]
    fn the_timeline_says_the_words_of_the_journal() {
        let view = STEPS.iter().rfind(|step| step.contains("VIEW everstep_timeline")).expect("there is one");
        for kind in Kind::ALL {
            let arm = format!("WHEN {} THEN '{}'", kind.code(), kind.word());
            assert!(view.contains(&arm), "{arm}");
        }
    }
}
