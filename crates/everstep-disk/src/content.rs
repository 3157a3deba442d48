//! What a database says, as a whole: the digest that tells two states apart, and the rows that promises are about.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    path::Path,
};

use everstep::journal::Kind;
use everstep_sqlite::rusqlite::{Connection, OpenFlags, Result, types::ValueRef};

/// A connection past the engine, which only looks.
///
/// # Errors
/// SQLite's.
pub fn look(database: &Path) -> Result<Connection> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Whether SQLite finds nothing wrong with the file.
///
/// # Errors
/// SQLite's.
pub fn is_whole(conn: &Connection) -> Result<Option<String>> {
    let said: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

/// A number for every row of every table, Everstep's and the user's: two states are equal if it is. `None` of a database
/// that has no tables of Everstep yet.
///
/// Without the two rows that say whether and how the file was opened: to open it is what changes them.
///
/// # Errors
/// SQLite's.
pub fn digest(conn: &Connection) -> Result<Option<u64>> {
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    if !tables.iter().any(|table| table == "everstep_meta") {
        return Ok(None);
    }
    for table in tables {
        let but = if table == "everstep_meta" { "WHERE key NOT IN ('open', 'warm')" } else { "" };
        table.hash(&mut hasher);
        // In the order of the table itself, which follows from its rows.
        let mut statement = conn.prepare(&format!("SELECT * FROM \"{table}\" {but}"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                add(row.get_ref(column)?, &mut hasher);
            }
        }
    }
    Ok(Some(hasher.finish()))
}

fn add(value: ValueRef<'_>, to: &mut impl std::hash::Hasher) {
    match value {
        ValueRef::Null => 0u8.hash(to),
        ValueRef::Integer(n) => (1u8, n).hash(to),
        ValueRef::Real(x) => (2u8, x.to_bits()).hash(to),
        ValueRef::Text(bytes) => (3u8, bytes).hash(to),
        ValueRef::Blob(bytes) => (4u8, bytes).hash(to),
    }
}

/// What promises are about.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Runs by the ids of their callers.
    pub runs: BTreeMap<String, i64>,
    /// Journals, by run.
    pub journals: HashMap<i64, Vec<Entry>>,
    /// Attempts of which no outcome is known.
    pub started: HashSet<(i64, String)>,
    /// Messages that ever came.
    pub letters: HashSet<u128>,
    /// Records of transactional steps that no entry has taken yet.
    pub records: HashSet<(i64, String)>,
    /// How often a run is in the user's own table; `None` if that is not there.
    pub ledger: Option<HashMap<String, u32>>,
}

/// An entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// Its kind.
    pub kind: u16,
    /// Of which step.
    pub key: Option<String>,
    /// Of which attempt.
    pub attempt: u32,
    /// What it carries.
    pub body: Vec<u8>,
}

impl Content {
    /// Reads it; empty if there are no tables of Everstep.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read(conn: &Connection) -> Result<Content> {
        let mut content = Content::default();
        if !has(conn, "everstep_meta")? {
            return Ok(content);
        }
        each(conn, "SELECT text_id, id FROM everstep_run", |row| {
            content.runs.insert(row.get(0)?, row.get(1)?);
            Ok(())
        })?;
        let journal =
            "SELECT run, seq, kind, key, attempt, CAST(body AS BLOB) FROM everstep_journal ORDER BY run, seq";
        each(conn, journal, |row| {
            let entry = Entry {
                seq: row.get::<_, i64>(1)? as u64,
                kind: row.get(2)?,
                key: row.get(3)?,
                attempt: row.get(4)?,
                body: row.get(5)?,
            };
            content.journals.entry(row.get(0)?).or_default().push(entry);
            Ok(())
        })?;
        each(conn, "SELECT run, key FROM everstep_started", |row| {
            content.started.insert((row.get(0)?, row.get(1)?));
            Ok(())
        })?;
        each(conn, "SELECT id FROM everstep_inbox UNION SELECT id FROM everstep_inbox_seen", |row| {
            content.letters.insert(u128::from_be_bytes(row.get(0)?));
            Ok(())
        })?;
        each(conn, "SELECT run, name FROM everstep_inbox WHERE kind = 5", |row| {
            content.records.insert((row.get(0)?, row.get(1)?));
            Ok(())
        })?;
        if has(conn, "ledger")? {
            let ledger = content.ledger.insert(HashMap::new());
            each(conn, "SELECT run, count(*) FROM ledger GROUP BY run", |row| {
                ledger.insert(row.get(0)?, row.get(1)?);
                Ok(())
            })?;
        }
        Ok(content)
    }

    /// The journal of a run, by the id of its caller.
    pub fn journal(&self, run: &str) -> &[Entry] {
        self.runs.get(run).and_then(|run| self.journals.get(run)).map_or(&[], Vec::as_slice)
    }

    /// Whether the journal of a run has an entry of these kinds about a step.
    pub fn has(&self, run: i64, key: &str, kinds: &[Kind]) -> bool {
        let journal = self.journals.get(&run).map_or(&[][..], Vec::as_slice);
        journal.iter().any(|entry| {
            entry.key.as_deref() == Some(key) && kinds.iter().any(|kind| kind.code() == entry.kind)
        })
    }

    /// What is wrong with it whatever was promised: journals begin with entry 0 and have no gap, every run has one, and
    /// a transactional step's record and rows are there together, once.
    pub fn flaw(&self) -> Option<String> {
        for (id, run) in &self.runs {
            let Some(journal) = self.journals.get(run) else {
                return Some(format!("run {id} has no journal"));
            };
            if let Some((n, entry)) = (0..).zip(journal).find(|(n, entry)| entry.seq != *n) {
                return Some(format!("run {id} has entry {} where {n} belongs", entry.seq));
            }
            let rows = self.ledger.as_ref().and_then(|ledger| ledger.get(id)).copied().unwrap_or(0);
            let done = |entry: &&Entry| {
                entry.kind == Kind::StepDone.code() && entry.key.as_deref() == Some(crate::story::PAY)
            };
            let records = journal.iter().filter(done).count()
                + usize::from(self.records.contains(&(*run, crate::story::PAY.to_string())));
            if rows as usize != records || records > 1 {
                return Some(format!("run {id} has {rows} rows and {records} records of its transaction"));
            }
        }
        (self.journals.len() != self.runs.len()).then(|| "a journal belongs to no run".to_string())
    }
}

fn has(conn: &Connection, table: &str) -> Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)", [table], |row| row.get(0))
}

fn each(
    conn: &Connection,
    sql: &str,
    mut row: impl FnMut(&everstep_sqlite::rusqlite::Row<'_>) -> Result<()>,
) -> Result<()> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(next) = rows.next()? {
        row(next)?;
    }
    Ok(())
}
