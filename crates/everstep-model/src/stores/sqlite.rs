//! SQLite in a directory of its own. Nothing here is about power, so that its commits need only survive the process.

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use everstep_conformance::{Bench, Deed};
use everstep_core::{
    BoxFuture,
    journal::Payload,
    store::{Durability, Store, StoreError},
};
use everstep_sqlite::{
    Sqlite, SqliteJob, Tx,
    rusqlite::{self, Connection},
};

/// A database with nothing in it but the table that jobs write to.
#[derive(Debug)]
pub struct SqliteBench {
    /// As the user's own program sees the file. Before the directory, which goes last.
    outside: Mutex<Connection>,
    dir: tempfile::TempDir,
}

impl SqliteBench {
    /// Makes the database.
    ///
    /// # Panics
    /// If there is no place for it.
    pub fn new() -> SqliteBench {
        // In memory where there is such a place: nothing here is about the disk.
        let shm = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(shm).or_else(|_| tempfile::tempdir()).expect("a directory");
        drop(open(&dir).expect("opens"));
        let outside = Connection::open(path(&dir)).expect("opens");
        outside
            .execute_batch("PRAGMA synchronous = OFF; CREATE TABLE mine (text TEXT NOT NULL UNIQUE)")
            .expect("makes the table");
        SqliteBench { outside: Mutex::new(outside), dir }
    }
}

impl Default for SqliteBench {
    fn default() -> SqliteBench {
        SqliteBench::new()
    }
}

impl Bench for SqliteBench {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(open(&self.dir).expect("opens")) as Arc<dyn Store> })
    }

    fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send> {
        let count = |tx: &Tx<'_>| tx.query_row("SELECT count(*) FROM mine", [], |row| row.get::<_, i64>(0));
        Box::new(SqliteJob(Box::new(move |tx| {
            let before = count(tx)?;
            deeds.iter().try_for_each(|deed| act(tx, deed))?;
            Ok(Payload::json((count(tx)? - before).to_string()))
        })))
    }

    fn rows(&self) -> BoxFuture<'_, Vec<String>> {
        let rows = texts(&self.outside.lock().unwrap_or_else(PoisonError::into_inner)).expect("reads");
        Box::pin(async { rows })
    }
}

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("app.db")
}

fn open(dir: &tempfile::TempDir) -> Result<Sqlite, StoreError> {
    Sqlite::options().durability(Durability::Process).open(path(dir))
}

fn texts(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut rows = conn.prepare_cached("SELECT text FROM mine ORDER BY text")?;
    rows.query_map([], |row| row.get(0))?.collect()
}

/// A text that is there already stays there once, as in the in-memory store.
fn act(tx: &Tx<'_>, deed: &Deed) -> everstep_core::Result<()> {
    match deed {
        Deed::Write(text) => drop(tx.execute("INSERT OR IGNORE INTO mine (text) VALUES (?1)", [text])?),
        Deed::Fail(why) => return Err(why.clone().into()),
        Deed::Panic(why) => panic!("{why}"),
    }
    Ok(())
}
