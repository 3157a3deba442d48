//! What a database holds when its process is dead: read from a copy, so that looking changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use everstep::{
    Status,
    journal::Kind,
    sqlite::rusqlite::{self, Connection},
};

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) runs: BTreeMap<String, RunSeen>,
    /// The user's rows: run, key.
    pub(crate) rows: Vec<(String, String)>,
    /// What SQLite finds wrong with the file, and gaps in journals.
    pub(crate) damage: Vec<String>,
}

/// A run as its rows tell it.
#[derive(Clone, Debug)]
pub(crate) struct RunSeen {
    pub(crate) status: Status,
    /// Keys of steps whose outcome is recorded, in the journal or on its way there.
    pub(crate) recorded: BTreeSet<String>,
    /// Of those, the keys that are in the journal.
    pub(crate) in_journal: BTreeSet<String>,
    /// Keys of attempts that were started and of which nothing more is known.
    pub(crate) started: BTreeSet<String>,
    /// Whether somebody's wish to cancel is in the inbox.
    pub(crate) asked: bool,
    /// Whether its signal is in the inbox, or was taken.
    pub(crate) signalled: bool,
    /// Whether a person's answer is there, or was taken.
    pub(crate) answered: bool,
    /// The value of a completed run.
    pub(crate) value: Option<String>,
}

impl Snapshot {
    /// Of the files in this folder.
    pub(crate) fn of(database: &Path) -> Snapshot {
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
        read(&copy).unwrap_or_else(|error| Snapshot {
            damage: vec![format!("the database cannot be read: {error}")],
            ..Snapshot::default()
        })
    }
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
    if !has_table(&conn, "everstep_run")? {
        return Ok(snapshot);
    }
    let mut runs = conn.prepare("SELECT id, text_id, status FROM everstep_run")?;
    let runs: Vec<(i64, String, u8)> =
        runs.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    for (number, id, status) in runs {
        let run = read_run(&conn, number, status, &mut snapshot.damage)?;
        snapshot.runs.insert(id, run);
    }
    Ok(snapshot)
}

fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?.exists([name])
}

fn read_run(conn: &Connection, run: i64, status: u8, damage: &mut Vec<String>) -> rusqlite::Result<RunSeen> {
    let mut entries =
        conn.prepare("SELECT seq, kind, key, body FROM everstep_journal WHERE run = ?1 ORDER BY seq")?;
    let entries: Vec<(i64, u16, Option<String>, String)> = entries
        .query_map([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_, _>>()?;
    if entries.iter().zip(0..).any(|(entry, seq)| entry.0 != seq) || entries.is_empty() {
        damage.push(format!("the journal of run {run} has a gap"));
    }
    let outcomes = [Kind::StepDone.code(), Kind::StepFailed.code()];
    let in_journal: BTreeSet<String> = entries
        .iter()
        .filter(|(_, kind, ..)| outcomes.contains(kind))
        .filter_map(|(_, _, key, _)| key.clone())
        .collect();
    let texts = |sql: &str| -> rusqlite::Result<BTreeSet<String>> {
        conn.prepare(sql)?.query_map([run], |row| row.get(0))?.collect()
    };
    let letters = texts("SELECT kind || ' ' || name FROM everstep_inbox WHERE run = ?1")?;
    let taken_answers = "SELECT 1 FROM everstep_inbox_seen WHERE run = ?1";
    let mut recorded = in_journal.clone();
    recorded.extend(letters.iter().filter_map(|letter| letter.strip_prefix("5 ")).map(str::to_string));
    let value = entries.last().filter(|(_, kind, ..)| *kind == Kind::Completed.code());
    Ok(RunSeen {
        status: Status::from_code(status).unwrap_or(Status::Paused),
        recorded,
        in_journal,
        started: texts("SELECT key FROM everstep_started WHERE run = ?1")?,
        signalled: letters.contains("1 go")
            || entries.iter().any(|(_, kind, ..)| *kind == Kind::SignalTaken.code()),
        asked: letters.iter().any(|letter| letter.starts_with("6 ")),
        answered: conn.prepare(taken_answers)?.exists([run])?,
        value: value.map(|(.., body)| body.trim_matches('"').to_string()),
    })
}
