//! What a database holds when its process is dead: read from a copy, so that looking changes nothing.

mod entry;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use entry::{Entries, of_journal};
use everstep::{
    Status,
    journal::Kind,
    sqlite::rusqlite::{self, Connection, OptionalExtension as _},
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

/// A run as its rows tell it. A key of a later generation is `key@2`.
#[derive(Clone, Debug)]
pub(crate) struct RunSeen {
    pub(crate) status: Status,
    /// Keys of steps whose outcome is recorded, in a journal or on its way there.
    pub(crate) recorded: BTreeSet<String>,
    /// Keys, without generations, of steps whose outcome is or was in a journal.
    pub(crate) in_journal: BTreeSet<String>,
    /// Keys of attempts that were started and of which nothing more is known.
    pub(crate) started: BTreeSet<String>,
    /// Whether somebody's wish to cancel is in the inbox, or was taken.
    pub(crate) asked: bool,
    /// Name and value of each signal that is there: in the inbox, taken, or carried.
    pub(crate) signals: BTreeSet<String>,
    /// Of those, the ones in the inbox.
    pub(crate) untaken: BTreeSet<String>,
    /// Those that stand in a journal as taken.
    pub(crate) taken: Vec<String>,
    /// Keys of promises of which it is known what became of them.
    pub(crate) settled: BTreeSet<String>,
    /// What the journals have recorded as answers to requests, and what those who ask are given; in the same order.
    pub(crate) answers: Vec<String>,
    pub(crate) replies: Vec<String>,
    /// Number and value of what it has emitted.
    pub(crate) items: BTreeSet<String>,
    /// Keys of steps that a person took back, once for each time.
    pub(crate) taken_back: Vec<String>,
    /// The run that has started it, and those that it has started.
    pub(crate) parent: Option<String>,
    pub(crate) children: BTreeSet<String>,
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

impl RunSeen {
    /// A run without anything.
    #[cfg(test)]
    pub(crate) fn of(status: Status) -> RunSeen {
        RunSeen {
            status,
            recorded: BTreeSet::new(),
            in_journal: BTreeSet::new(),
            started: BTreeSet::new(),
            asked: false,
            signals: BTreeSet::new(),
            untaken: BTreeSet::new(),
            taken: Vec::new(),
            settled: BTreeSet::new(),
            answers: Vec::new(),
            replies: Vec::new(),
            items: BTreeSet::new(),
            taken_back: Vec::new(),
            parent: None,
            children: BTreeSet::new(),
            answered: false,
            value: None,
        }
    }

    /// How often a person took this step back.
    pub(crate) fn rewinds(&self, key: &str) -> usize {
        self.taken_back.iter().filter(|taken| *taken == key).count()
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
    // The tables of the last migration are there with all others, or none are.
    if !has_table(&conn, "everstep_act")? {
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
    let journal = of_journal(conn, run)?;
    if journal.iter().zip(0..).any(|(entry, seq)| entry.seq != seq) || journal.is_empty() {
        damage.push(format!("the journal of run {run} has a gap"));
    }
    let value = journal.last().filter(|last| last.kind == Kind::Completed.code());
    let value = value.map(|last| last.body.trim_matches('"').to_string());
    let entries = Entries::read(conn, run, journal)?;
    let texts = |sql: &str| -> rusqlite::Result<Vec<String>> {
        conn.prepare(sql)?.query_map([run], |row| row.get(0))?.collect()
    };
    let letters = texts("SELECT kind || ' ' || name || ' ' || body FROM everstep_inbox WHERE run = ?1")?;
    let of_kind = |kind: &str| -> Vec<&str> { letters.iter().filter_map(|l| l.strip_prefix(kind)).collect() };
    let name = |letter: &str| letter.split(' ').next().unwrap_or_default().to_string();
    let untaken: BTreeSet<String> = of_kind("1 ").into_iter().map(str::to_string).collect();
    let seen = "SELECT 1 FROM everstep_inbox_seen WHERE run = ?1";
    let parent =
        "SELECT p.text_id FROM everstep_run_extra x JOIN everstep_run p ON p.id = x.parent WHERE x.run = ?1";
    let recorded = entries.recorded().into_iter().chain(of_kind("5 ").into_iter().map(name));
    let carrying = texts("SELECT body FROM everstep_inbox WHERE run = ?1 AND kind = 12")?;
    let carried = entry::carried(carrying.iter().map(String::as_str));
    let signals = entries.signals().into_iter().chain(untaken.clone()).chain(carried);
    Ok(RunSeen {
        status: Status::from_code(status).unwrap_or(Status::Paused),
        recorded: recorded.collect(),
        in_journal: entries.ever_recorded(),
        started: texts("SELECT key FROM everstep_started WHERE run = ?1")?.into_iter().collect(),
        asked: entries.ask_to_cancel() || !of_kind("6 ").is_empty(),
        signals: signals.collect(),
        untaken,
        taken: entries.taken(),
        settled: entries.settled().into_iter().chain(of_kind("4 ").into_iter().map(name)).collect(),
        answers: entries.answers(),
        replies: texts("SELECT body FROM everstep_reply WHERE run = ?1 ORDER BY body")?,
        items: texts("SELECT n || ' ' || trim(body, '\"') FROM everstep_stream WHERE run = ?1")?
            .into_iter()
            .collect(),
        taken_back: entries.taken_back(),
        parent: conn.query_row(parent, [run], |row| row.get(0)).optional()?,
        children: entries.children(),
        answered: conn.prepare(seen)?.exists([run])?,
        value,
    })
}
