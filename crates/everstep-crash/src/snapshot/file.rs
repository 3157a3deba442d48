//! The rows of a database in a file: read from a copy, so that looking changes nothing.

use std::{fs, path::Path};

use everstep::sqlite::rusqlite::{self, Connection, OptionalExtension as _, Row};

use super::{
    Snapshot,
    entry::Entry,
    rows::{Archive, Item, Letter, Rows},
};

/// What is in this file; nothing if there is none.
pub(crate) fn of_file(database: &Path) -> Snapshot {
    let copies = tempfile::tempdir_in(database.parent().expect("a folder")).expect("room");
    let copy = copies.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", database.display());
        if fs::exists(&from).unwrap_or(false) {
            fs::copy(&from, format!("{}{suffix}", copy.display())).expect("copies");
        }
    }
    if !copy.exists() {
        return Snapshot::default();
    }
    read(&copy).unwrap_or_else(|error| Snapshot::unreadable(&error))
}

fn read(path: &Path) -> rusqlite::Result<Snapshot> {
    let conn = Connection::open(path)?;
    let mut snapshot = Snapshot::default();
    let whole: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if whole != "ok" {
        snapshot.damage.push(whole);
    }
    if has_table(&conn, "moved")? {
        let mut rows = conn.prepare("SELECT run, key FROM moved ORDER BY run, key")?;
        snapshot.rows =
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    }
    // The tables of the last migration are there with all others, or none are.
    if !has_table(&conn, "everstep_act")? {
        return Ok(snapshot);
    }
    let mut runs = conn.prepare("SELECT id FROM everstep_run")?;
    let runs: Vec<i64> = runs.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for number in runs {
        snapshot.add(rows(&conn, number)?);
    }
    Ok(snapshot)
}

fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
}

fn rows(conn: &Connection, run: i64) -> rusqlite::Result<Rows> {
    const PARENT: &str =
        "SELECT p.text_id FROM everstep_run_extra x JOIN everstep_run p ON p.id = x.parent WHERE x.run = ?1";
    let first = |row: &Row<'_>| row.get(0);
    let (id, status, generation) =
        conn.query_row("SELECT text_id, status, generation FROM everstep_run WHERE id = ?1", [run], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    Ok(Rows {
        id,
        status,
        generation,
        parent: conn.query_row(PARENT, [run], first).optional()?,
        seen: conn.prepare("SELECT 1 FROM everstep_inbox_seen WHERE run = ?1")?.exists([run])?,
        journal: all(
            conn,
            "SELECT seq, kind, key, body FROM everstep_journal WHERE run = ?1 ORDER BY seq",
            run,
            |row| Ok(Entry { seq: row.get(0)?, kind: row.get(1)?, key: row.get(2)?, body: row.get(3)? }),
        )?,
        archives: all(
            conn,
            "SELECT why = 'restart', generation, id, body FROM everstep_archive WHERE run = ?1",
            run,
            |row| {
                Ok(Archive {
                    restart: row.get(0)?,
                    generation: row.get(1)?,
                    n: row.get(2)?,
                    body: row.get(3)?,
                })
            },
        )?,
        letters: all(conn, "SELECT kind, name, body FROM everstep_inbox WHERE run = ?1", run, |row| {
            Ok(Letter { kind: row.get(0)?, name: row.get(1)?, body: row.get(2)? })
        })?,
        started: all(conn, "SELECT key FROM everstep_started WHERE run = ?1", run, first)?,
        replies: all(conn, "SELECT body FROM everstep_reply WHERE run = ?1 ORDER BY body", run, first)?,
        items: all(conn, "SELECT n, body FROM everstep_stream WHERE run = ?1", run, |row| {
            Ok(Item { n: row.get(0)?, body: row.get(1)? })
        })?,
    })
}

fn all<T>(
    conn: &Connection,
    sql: &str,
    run: i64,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    conn.prepare(sql)?.query_map([run], row)?.collect()
}
