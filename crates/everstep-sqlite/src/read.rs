//! Reads, on read-only connections of their own. Each is short: a read that is held open keeps the WAL from being
//! used again, which then grows by 80 MB a second.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use everstep_core::{
    AttributeValue, Status, Stuck, Timestamp,
    journal::{Entry, Payload},
    store::{
        Act, Answer, Filter, Inspect, Kept, LetterId, Loaded, PATCHED, PatchRow, PublishedRow, Received,
        RunId, RunRow, StoreError, StreamRow, WorkerId, WorkerSeen,
    },
};
use rusqlite::{Connection, OpenFlags, params};
use tokio::sync::Semaphore;

use crate::{
    attribute,
    fault::{Fault, store_error},
    find, kept,
    names::Texts,
    open::{Sqlite, connection},
    row, whole,
};

/// Reads at the same time: more would only wait for the disk, and each has a page cache of its own to fill.
const AT_ONCE: usize = 4;

/// Runs are read together until they have so many entries, so that what is in memory at once stays bounded.
const ENTRIES_TOGETHER: usize = 10_000;

/// The read-only connections of one opening.
pub(crate) struct Readers {
    path: PathBuf,
    vfs: Option<Arc<str>>,
    idle: Mutex<Vec<Connection>>,
    room: Semaphore,
    texts: Texts,
    closed: Arc<OnceLock<Arc<str>>>,
}

impl Readers {
    pub(crate) fn new(path: &Path, vfs: Option<Arc<str>>, closed: Arc<OnceLock<Arc<str>>>) -> Readers {
        Readers {
            path: path.to_path_buf(),
            vfs,
            idle: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            texts: Texts::default(),
            closed,
        }
    }

    /// The store is closed: nothing is read any more.
    pub(crate) fn close(&self) {
        self.room.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn read<T>(&self, work: impl FnOnce(&Connection, &Texts) -> Result<T, Fault>) -> Result<T, StoreError> {
        let conn = self.connection()?;
        let result = work(&conn, &self.texts);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.room.is_closed() {
            idle.push(conn);
        }
        result.map_err(told)
    }

    fn connection(&self) -> Result<Connection, StoreError> {
        if let Some(cause) = self.closed.get() {
            return Err(StoreError::Closed(cause.clone()));
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(conn) => Ok(conn),
            None => connect(&self.path, self.vfs.as_deref()).map_err(store_error),
        }
    }
}

/// What whoever reads hears.
pub(crate) fn told(fault: Fault) -> StoreError {
    match fault {
        Fault::Refuse(error) => error,
        Fault::Sql(error) => store_error(error),
        Fault::TransactionGone => unreachable!("reads run no jobs"),
    }
}

/// Everything that `look` sees is of the same moment.
pub(crate) fn in_one_look<T>(
    conn: &Connection,
    look: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    conn.prepare_cached("BEGIN")?.execute([])?;
    let seen = look(conn);
    let ended = conn.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([]));
    let seen = seen?;
    ended?;
    Ok(seen)
}

const INBOX: &str = "SELECT n, kind, name, body, codec, id, at FROM everstep_inbox WHERE run = ?1 ORDER BY n";
const STARTED: &str = "SELECT key, attempt, at, abandoned, details, details_codec FROM everstep_started WHERE run = ?1 ORDER BY key";

fn entries() -> String {
    format!("SELECT {} FROM everstep_journal WHERE run = ?1 ORDER BY seq", row::ENTRY)
}

/// A run's journal, inbox and started rows.
pub(crate) fn load(conn: &Connection, texts: &Texts, run: RunId) -> Result<Loaded, Fault> {
    Ok(Loaded {
        entries: row::all(conn, &entries(), [run.0], |row| row::entry(conn, texts, row))?,
        inbox: row::all(conn, INBOX, [run.0], row::received)?,
        started: row::all(conn, STARTED, [run.0], row::started)?,
    })
}

fn connect(path: &Path, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connection(path, flags, vfs)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8000; PRAGMA trusted_schema = OFF;")?;
    Ok(conn)
}

impl Sqlite {
    /// Runs a read on a thread that may block.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Texts) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<T> {
        let readers = self.inner.readers.clone();
        #[cfg(feature = "testing")]
        if self.inner.is_inline {
            return Box::pin(std::future::ready(readers.read(work)));
        }
        Box::pin(async move {
            let ended = || StoreError::Closed("the store was dropped".into());
            let inner = readers.clone();
            let _room = readers.room.acquire().await.map_err(|_| ended())?;
            tokio::task::spawn_blocking(move || inner.read(work))
                .await
                .map_err(|e| StoreError::Failed(e.to_string().into()))?
        })
    }

    /// See [`everstep_core::store::Store::workers`].
    pub(crate) fn seen_workers(&self) -> Answer<Vec<WorkerSeen>> {
        let locks = self.inner.locks.clone();
        self.read(move |conn, _| {
            let sql = "SELECT w.id, beat, fenced, n.text FROM everstep_worker w JOIN everstep_name n ON n.id = w.build
                       WHERE fenced = 0 OR EXISTS (
                         SELECT 1 FROM everstep_run WHERE owner = w.id AND wake_at IS NOT NULL)";
            row::all(conn, sql, [], |row| {
                let worker = WorkerId(row.get(0)?);
                let beat = row::unsigned(row.get(1)?);
                let (fenced, gone, build) = (row.get(2)?, locks.is_dead(worker), row.get::<_, String>(3)?.into());
                Ok(WorkerSeen { worker, build, beat, fenced, gone })
            })
        })
    }

    /// See [`everstep_core::store::Store::next_due`].
    pub(crate) fn first_due(&self, workflows: Arc<[Arc<str>]>) -> Answer<Option<Timestamp>> {
        self.read(move |conn, _| {
            let sql = "SELECT min(wake_at) FROM everstep_run WHERE owner = 0 AND wake_at IS NOT NULL
                       AND workflow = (SELECT id FROM everstep_name WHERE kind = 1 AND text = ?1)";
            let mut first = None;
            for workflow in workflows.iter() {
                let due =
                    row::one(conn, sql, [&**workflow], |row| Ok(row.get::<_, Option<i64>>(0)?))?.flatten();
                first = first.into_iter().chain(due).min();
            }
            Ok(first.map(Timestamp))
        })
    }
}

impl Inspect for Sqlite {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.read(move |conn, texts| row::run_by_id(conn, texts, &id))
    }

    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(move |conn, texts| find::runs(conn, texts, &filter, before, limit))
    }

    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.read(move |conn, _| find::count(conn, &filter, at_most))
    }

    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.read(move |conn, texts| in_one_look(conn, |conn| load(conn, texts, run)))
    }

    fn load_some(&self, runs: Vec<RunId>) -> Answer<Vec<Result<Loaded, StoreError>>> {
        self.read(move |conn, texts| {
            in_one_look(conn, |conn| {
                let (mut loaded, mut entries) = (Vec::with_capacity(runs.len()), 0);
                for run in &runs {
                    let read = load(conn, texts, *run).map_err(told);
                    entries += read.as_ref().map_or(0, |read| read.entries.len());
                    loaded.push(read);
                    if entries >= ENTRIES_TOGETHER {
                        break;
                    }
                }
                Ok(loaded)
            })
        })
    }

    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        self.read(move |conn, _| {
            let sql = "SELECT n, kind, name, body, codec, id, at FROM everstep_inbox
                       WHERE run = ?1 AND n > ?2 ORDER BY n";
            row::all(conn, sql, [run.0, row::signed(after)], row::received)
        })
    }

    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.read(move |conn, texts| row::last_entry(conn, texts, run))
    }

    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.read(move |conn, _| Ok(whole::stuck(conn, run)?.map(|(stuck, _)| stuck)))
    }

    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.read(|conn, texts| {
            let sql =
                "SELECT workflow, status, n FROM everstep_run_count WHERE n > 0 ORDER BY workflow, status";
            row::all(conn, sql, [], |row| {
                Ok((texts.get(conn, row.get(0)?)?, row::status(row.get(1)?)?, row::unsigned(row.get(2)?)))
            })
        })
    }

    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        self.read(move |conn, _| {
            let sql = "SELECT name, body, seq, at FROM everstep_state WHERE run = ?1 AND name = ?2";
            row::one(conn, sql, params![run.0, &*name], row::published)
        })
    }

    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.read(move |conn, _| whole::published(conn, run, limit))
    }

    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        self.read(move |conn, _| {
            let sql = "SELECT n, body, at FROM everstep_stream WHERE run = ?1 AND name = ?2 AND n >= ?3
                       ORDER BY n LIMIT ?4";
            let params = params![run.0, &*name, row::signed(from), row::signed(limit as u64)];
            row::all(conn, sql, params, row::item)
        })
    }

    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.read(move |conn, _| {
            let sql = "SELECT body FROM everstep_reply WHERE run = ?1 AND id = ?2";
            row::one(conn, sql, params![run.0, id.0.to_be_bytes()], |row| Ok(row::unpacked(row.get_ref(0)?)?))
        })
    }

    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.read(move |conn, _| {
            let sql = "SELECT DISTINCT name FROM everstep_stream WHERE run = ?1 ORDER BY name";
            row::all(conn, sql, [run.0], |row| Ok(row.get::<_, String>(0)?.into()))
        })
    }

    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.read(move |conn, _| whole::acts(conn, run, limit))
    }

    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.read(move |conn, _| kept::of(conn, run))
    }

    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.read(move |conn, texts| whole::attributes(conn, texts, run))
    }

    fn patches(&self) -> Answer<Vec<PatchRow>> {
        self.read(|conn, texts| {
            // The names that begin with it: `0` is the character after its `/`.
            let names = "SELECT id, text FROM everstep_name WHERE kind = 2 AND text >= ?1 AND text < ?2 ORDER BY text";
            let end = PATCHED.replace('/', "0");
            let names = row::all(conn, names, [PATCHED, &end], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            let mut patches = Vec::new();
            for (name, text) in names {
                let sql = "SELECT r.workflow, min(a.value), count(*) FILTER (WHERE r.status NOT IN (3, 4, 5)), count(*)
                           FROM everstep_attribute a INDEXED BY everstep_attribute_find
                           CROSS JOIN everstep_run r ON r.id = a.run WHERE a.name = ?1 GROUP BY r.workflow";
                let mut of_name = row::all(conn, sql, [name], |row| {
                    let workflow: i64 = row.get(0)?;
                    let AttributeValue::Time(first) = attribute::read(row.get_ref(1)?)? else {
                        return Err(row::damaged("a patch was not recorded with a time").into());
                    };
                    let (open, all) = (row::unsigned(row.get(2)?), row::unsigned(row.get(3)?));
                    let patch = text.strip_prefix(PATCHED).unwrap_or(&text).into();
                    let over = all - open;
                    let known = PatchRow { patch, workflow: texts.get(conn, workflow)?, first, open, over, old_open: 0, old_over: 0 };
                    Ok((workflow, known))
                })?;
                for (workflow, patch) in &mut of_name {
                    let sql = "SELECT count(*) FILTER (WHERE status NOT IN (3, 4, 5)), count(*) FROM everstep_run r
                               WHERE workflow = ?1 AND created_at < ?2 AND NOT EXISTS (
                                 SELECT 1 FROM everstep_attribute WHERE run = r.id AND name = ?3)";
                    let old = row::one(conn, sql, params![*workflow, patch.first.0, name], |row| {
                        Ok((row::unsigned(row.get(0)?), row::unsigned(row.get(1)?)))
                    })?;
                    let (open, all) = old.unwrap_or_default();
                    (patch.old_open, patch.old_over) = (open, all - open);
                }
                patches.extend(of_name.into_iter().map(|(_, patch)| patch));
            }
            patches.sort_by(|a, b| (&a.patch, &a.workflow).cmp(&(&b.patch, &b.workflow)));
            Ok(patches)
        })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// SQLite plans a statement again at each use if the plan may depend on a value, unless it is told not to: that cost
    /// nearly half of what it costs to wake a run.
    #[tokio::test]
    async fn the_statements_of_a_load_are_planned_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Sqlite::open(dir.path().join("app.db")).expect("opens");
        let planned_again = store.read(|conn, texts| {
            for run in 1..4 {
                load(conn, texts, RunId(run))?;
            }
            let mut all = Vec::new();
            for sql in [&*entries(), INBOX, STARTED] {
                all.push(conn.prepare_cached(sql)?.get_status(StatementStatus::RePrepare));
            }
            Ok(all)
        });
        assert_eq!(planned_again.await.expect("reads"), [0, 0, 0]);
    }
}
