//! Opening a database file: what is checked, how it is made, and what its end is.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::Duration,
};

use everstep_core::{
    failpoint::{Failpoint, Guard, broken, pass},
    store::{Bell, CopyStage, Durability, StoreError},
};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    checkpoint::{self, checkpoint},
    fault::store_error,
    hot::Prepared,
    lockfile::{OpenLock, WorkerLocks, beside},
    migrate,
    queue::Queue,
    read::{self, Readers},
    tx, wal,
    write::mark,
    writer::{State, Writer},
};

/// Older ones can corrupt a database in WAL mode when two connections write (the WAL-reset bug).
const SQLITE_MIN: i32 = 3_051_003;
/// How long an opening waits for somebody else's lock.
const OPEN_WAIT: Duration = Duration::from_secs(10);

const NO_CHECKPOINT: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// Everstep's store in one SQLite file, beside the user's own tables if they like.
///
/// A handle: clones are the same opening. When the last one is dropped, everything that was queued is written and the
/// file is closed.
///
/// # What survives a crash
/// Everything that was acknowledged, also when power fails, on a disk that honours fsync and on a local file system.
/// Keep the file and its `-wal` together: a deleted `-wal` is noticed, and reported at the next opening.
///
/// ```
/// use everstep_sqlite::Sqlite;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// let store = Sqlite::open(&path)?;
/// assert_eq!(store.path(), path);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sqlite {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) queue: Arc<Queue>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) locks: Arc<WorkerLocks>,
    pub(crate) durability: Durability,
    /// With which workflow the next claim begins.
    pub(crate) turn: std::sync::atomic::AtomicUsize,
    path: PathBuf,
    writer: Option<JoinHandle<()>>,
    #[cfg(feature = "testing")]
    pub(crate) is_inline: bool,
}

/// How a database is opened, when not as usual.
///
/// ```
/// use everstep_core::store::Durability;
/// use everstep_sqlite::Sqlite;
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// let store = Sqlite::options()
///     .durability(Durability::Process) // a power failure may take the last commits
///     .transaction_limit(Duration::from_secs(30))
///     .open(&path)?;
/// # drop(store);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    durability: Durability,
    transaction_limit: Duration,
    accept_lost_wal: bool,
    accept_moved: bool,
    for_copy: bool,
    through: Option<Arc<str>>,
    wal_pages: u64,
}

impl Sqlite {
    /// Opens a database, and makes it (readable for its owner only) if there is none.
    ///
    /// # Errors
    /// Says what is wrong with the file and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Sqlite, StoreError> {
        Sqlite::options().open(path)
    }

    /// For everything that is not as usual.
    pub fn options() -> Options {
        Options {
            durability: Durability::Power,
            transaction_limit: Duration::from_secs(5),
            accept_lost_wal: false,
            accept_moved: false,
            for_copy: false,
            through: None,
            wal_pages: checkpoint::EVERY,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Options {
    /// What commits survive. With [`Durability::Process`] power loss may take the last ones, and then steps run twice;
    /// single commits are several times faster.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// How long SQL of one transactional step may run; 5 s if nothing is said. Everybody who writes waits for it.
    pub fn transaction_limit(mut self, limit: Duration) -> Options {
        self.transaction_limit = limit;
        self
    }

    /// Opens a database even if its `-wal` file is gone that had commits when the last process died. They are lost:
    /// steps that had been done may be done again.
    pub fn accept_lost_wal(mut self, accept: bool) -> Options {
        self.accept_lost_wal = accept;
        self
    }

    /// Opens a database even if its runs have moved to another store, and goes on with it. What is done here is not done
    /// there, and each run that was open is open twice then. Inside transactions of the user's own (`start_in`,
    /// `signal_in`) it stays closed.
    pub fn accept_moved(mut self, accept: bool) -> Options {
        self.accept_moved = accept;
        self
    }

    /// Opens a database also in the middle of a copy, for whoever copies or only looks: workers and clients are refused
    /// when they write, for as long as a copy says so. See [`Transfer`](everstep_core::store::Transfer).
    pub fn for_copy(mut self, copies: bool) -> Options {
        self.for_copy = copies;
        self
    }

    /// Goes to the disk through the VFS that is registered under this name.
    #[cfg(feature = "testing")]
    pub fn vfs(mut self, name: &str) -> Options {
        self.through = Some(name.into());
        self
    }

    /// Brings the WAL into the database every so many pages, and warms it for as many: everything that happens to a
    /// WAL happens to one of a few kilobytes too.
    #[cfg(feature = "testing")]
    pub fn wal_pages(mut self, pages: u64) -> Options {
        self.wal_pages = pages;
        self
    }

    /// Opens a database.
    ///
    /// # Errors
    /// Says what is wrong with the file and what to do.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Sqlite, StoreError> {
        let (path, conn, lock) = self.prepare(path.as_ref())?;
        self.start(path, conn, lock)
    }

    /// Opens a database without a thread that writes: nothing is written but by [`crate::Inline::pump`], and reads are
    /// made where they are asked for.
    ///
    /// # Errors
    /// As [`Options::open`].
    #[cfg(feature = "testing")]
    pub fn open_inline(self, path: impl AsRef<Path>) -> Result<(Sqlite, crate::Inline), StoreError> {
        let (path, conn, lock) = self.prepare(path.as_ref())?;
        let closed = Arc::new(OnceLock::new());
        let readers = Arc::new(Readers::new(&path, self.through.clone(), closed.clone()));
        let (queue, bell) = (Arc::new(Queue::default()), Arc::new(Bell::default()));
        let locks = Arc::new(WorkerLocks::new(&path));
        let inline = crate::Inline {
            state: State::listening(&conn, self.wal_pages, self.accept_moved),
            conn: Some(conn),
            queue: queue.clone(),
            bell: bell.clone(),
            locks: locks.clone(),
            closed,
            readers: readers.clone(),
            job_limit: self.transaction_limit,
            path: path.clone(),
            lock: Some(lock),
        };
        let (durability, turn) = (self.durability, std::sync::atomic::AtomicUsize::new(0));
        let inner =
            Inner { queue, bell, readers, locks, durability, turn, path, writer: None, is_inline: true };
        Ok((Sqlite { inner: Arc::new(inner) }, inline))
    }

    /// Looks at the file, or makes it; what follows is only who writes to it.
    fn prepare(&self, path: &Path) -> Result<(PathBuf, Connection, OpenLock), StoreError> {
        check_library(rusqlite::ffi::SQLITE_VERSION_NUMBER.min(rusqlite::version_number()))?;
        let path = resolve(path)?;
        let opening = OpenLock::take(&path, OPEN_WAIT).map_err(|_| still_held(&path))?;
        create(&path)?;
        pass(Failpoint::FileMade);
        // Looked at before SQLite makes a new one.
        let wal_is_gone = fs::metadata(beside(&path, "-wal")).map_or(true, |wal| wal.len() == 0);
        let mut conn = connect(&path, self)?;
        migrate::migrate(&mut conn)?;
        if self.durability == Durability::Power {
            sync_folder(&path)?;
        }
        if opening.alone && wal_is_gone && meta(&conn, "open")? == 1 && !self.accept_lost_wal {
            if !wal::is_in(&path) {
                return Err(lost_wal(&path));
            }
            tracing::info!("another program has closed the database after a crash; nothing is lost");
        }
        check_mark(&conn, self)?;
        prepare_file(&conn, self, opening.alone)?;
        wal::keep(&path);
        pass(Failpoint::StoreOpened);
        let lock = opening.share();
        // From here on the writer waits by itself, and can be stopped while it does.
        conn.busy_timeout(Duration::ZERO).map_err(store_error)?;
        tx::guard(&mut conn).map_err(store_error)?;
        Ok((path, conn, lock))
    }

    fn start(self, path: PathBuf, conn: Connection, lock: OpenLock) -> Result<Sqlite, StoreError> {
        let closed = Arc::new(OnceLock::new());
        let readers = Arc::new(Readers::new(&path, self.through.clone(), closed.clone()));
        let (queue, bell) = (Arc::new(Queue::default()), Arc::new(Bell::default()));
        let locks = Arc::new(WorkerLocks::new(&path));
        let (job_limit, end) = (self.transaction_limit, EndQueue(queue.clone()));
        let state = State::listening(&conn, self.wal_pages, self.accept_moved);
        let parts = (queue.clone(), bell.clone(), locks.clone(), closed);
        let (pool, file) = (readers.clone(), path.clone());
        let thread = std::thread::Builder::new()
            .name("everstep-sqlite".into())
            .spawn(move || {
                // Also when the writer panics: whoever waits is told.
                let _end = end;
                let (queue, bell, locks, closed) = parts;
                match Prepared::new(&conn) {
                    Ok(hot) => {
                        let closed = closed.clone();
                        Writer {
                            conn: &conn,
                            hot: Box::new(hot),
                            queue,
                            bell,
                            locks,
                            closed,
                            job_limit,
                            state,
                        }
                        .run();
                    }
                    Err(error) => drop(closed.set(error.to_string().into())),
                }
                pool.close();
                close(conn, &file, &lock, closed.get().is_none());
            })
            .map_err(|e| cannot(&path, &e))?;
        let durability = self.durability;
        let turn = std::sync::atomic::AtomicUsize::new(0);
        let inner = Inner {
            queue,
            bell,
            readers,
            locks,
            durability,
            turn,
            path,
            writer: Some(thread),
            #[cfg(feature = "testing")]
            is_inline: false,
        };
        Ok(Sqlite { inner: Arc::new(inner) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
        let Some(writer) = self.writer.take() else { return };
        // The writer itself may drop the last handle, with a receipt that held one: it ends by itself then.
        if writer.thread().id() != std::thread::current().id() && writer.join().is_err() {
            tracing::error!("the writer of the store panicked");
        }
    }
}

struct EndQueue(Arc<Queue>);

impl Drop for EndQueue {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whether this SQLite may be trusted with the file.
fn check_library(number: i32) -> Result<(), StoreError> {
    if number >= SQLITE_MIN {
        return Ok(());
    }
    let text = format!(
        "SQLite {}.{}.{} is linked, which can corrupt a database in WAL mode; Everstep needs 3.51.3 or newer. Use the \
         feature `bundled`, or update the system's SQLite",
        number / 1_000_000,
        number / 1000 % 1000,
        number % 1000
    );
    Err(StoreError::Unusable(text.into()))
}

/// The real file, whatever link leads to it: its WAL and our locks are beside it. Absolute, because the process may
/// change its directory, and readers open the file later.
fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let name = path.as_os_str().to_string_lossy();
    if name.is_empty() || name == ":memory:" || name.starts_with("file:") {
        let text = format!(
            "`{name}` is no path of a file. Give the path where the database is to be; for tests without a file there \
             is the in-memory store"
        );
        return Err(StoreError::Unusable(text.into()));
    }
    let real = fs::canonicalize(path).or_else(|error| {
        // Not there yet; but its directory is.
        let absolute = std::path::absolute(path)?;
        match (absolute.parent(), absolute.file_name()) {
            (Some(directory), Some(name)) => Ok(fs::canonicalize(directory)?.join(name)),
            _ => Err(error),
        }
    });
    real.map_err(|error| cannot(path, &error))
}

/// Makes an empty file that only its owner can read: journals hold what users typed. `-wal` and `-shm` follow it.
///
/// Only while nobody else can have it open: closing a handle drops the locks that this process has on the file.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(cannot(path, &error)),
    }
}

/// Makes the names of the database and its WAL durable. SQLite does that too, when it first syncs the WAL, and does not
/// look whether it failed: what is synced to a file without a name is lost all the same.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    // Not every system can open a folder, nor can every file system sync one: then there is nothing to hope for.
    let Some(Ok(folder)) = path.parent().map(fs::File::open) else { return Ok(()) };
    match folder.sync_all() {
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Err(cannot(path, &error))
        }
        _ => Ok(()),
    }
}

fn connect(path: &Path, options: &Options) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connection(path, flags, options.through.as_deref()).map_err(|e| cannot(path, &e))?;
    // SQLite deletes the WAL at the end of the last connection. While the file is marked as open, that would look
    // like a lost one; and a store that an error closed must leave everything to the next opening.
    conn.set_db_config(NO_CHECKPOINT, true).map_err(store_error)?;
    conn.set_prepared_statement_cache_capacity(tx::CACHED_STATEMENTS);
    conn.busy_timeout(OPEN_WAIT).map_err(store_error)?;
    let mode = wal_mode(&conn).map_err(|e| not_a_database(path, e))?;
    if mode != "wal" {
        let text = format!(
            "`{}` cannot be in WAL mode (SQLite answered `{mode}`): put it on a local file system where this program \
             may write",
            path.display()
        );
        return Err(StoreError::Unusable(text.into()));
    }
    // FULL, not NORMAL: in WAL mode NORMAL may lose the last commits at power loss, and a lost commit is a step that
    // runs twice. Group commit wins the cost back.
    conn.execute_batch(&format!(
        "PRAGMA synchronous = {};
         PRAGMA fullfsync = {};
         PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -16000;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA trusted_schema = OFF;
         PRAGMA mmap_size = 0;",
        level(options.durability),
        if options.durability == Durability::Power { "ON" } else { "OFF" },
    ))
    .map_err(|e| not_a_database(path, e))?;
    Ok(conn)
}

/// Asks for WAL mode; the mode that it is then. To the end of the statement: its row says `wal` before the change is
/// committed, and that may fail. The database would be in its old mode, where a commit may come undone.
fn wal_mode(conn: &Connection) -> rusqlite::Result<String> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mode = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get(0)?;
    while rows.next()?.is_some() {}
    Ok(mode)
}

/// A connection through a VFS, or SQLite's own.
pub(crate) fn connection(path: &Path, flags: OpenFlags, vfs: Option<&str>) -> rusqlite::Result<Connection> {
    let conn = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    // A plan may not depend on the values that are bound: it would be made again at each use.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(conn)
}

fn level(durability: Durability) -> &'static str {
    match durability {
        _ if broken(Guard::Sync) => "OFF",
        Durability::Process => "NORMAL",
        _ => "FULL",
    }
}

/// Whether a copy lets this opening in.
fn check_mark(conn: &Connection, options: &Options) -> Result<(), StoreError> {
    let mark = mark::read(conn).map_err(read::told)?;
    match mark {
        Some(mark) if mark.stage == CopyStage::Moved && options.accept_moved => Ok(()),
        Some(mark) if !options.for_copy => Err(mark.refusal()),
        _ => Ok(()),
    }
}

/// Marks the file as open, in the main file itself: the mark must not be lost with the WAL it tells about.
fn prepare_file(conn: &Connection, options: &Options, alone: bool) -> Result<(), StoreError> {
    if alone && meta(conn, "warm")? == 0 {
        warm(conn, options).map_err(store_error)?;
    }
    if meta(conn, "open")? == 0 {
        set_meta(conn, "open", 1).map_err(store_error)?;
        pass(Failpoint::FileMarked);
        // Not TRUNCATE: an empty WAL beside the mark would look like a lost one.
        checkpoint(conn, "FULL").map_err(store_error)?;
    }
    Ok(())
}

/// Makes the WAL as long at once as it will be between two checkpoints, and a bit longer: growing it later costs each commit
/// a change of the file's length.
fn warm(conn: &Connection, options: &Options) -> rusqlite::Result<()> {
    conn.execute_batch("PRAGMA synchronous = OFF")?;
    for n in 1..=options.wal_pages + options.wal_pages / 10 {
        set_meta(conn, "warm", n as i64)?;
    }
    conn.execute_batch(&format!("PRAGMA synchronous = {}", level(options.durability)))?;
    pass(Failpoint::LogWarmed);
    checkpoint(conn, "RESTART")
}

fn meta(conn: &Connection, key: &str) -> Result<i64, StoreError> {
    conn.query_row("SELECT value FROM everstep_meta WHERE key = ?1", [key], |row| row.get(0))
        .map_err(store_error)
}

fn set_meta(conn: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE everstep_meta SET value = ?2 WHERE key = ?1")?
        .execute(rusqlite::params![key, value])
        .map(drop)
}

/// The end of an opening. The last one takes the mark away, if the store was not closed by an error.
pub(crate) fn close(conn: Connection, path: &Path, lock: &OpenLock, clean: bool) {
    if clean && lock.is_last() {
        let _ = conn.busy_timeout(Duration::from_secs(1));
        let closed = set_meta(&conn, "open", 0)
            .inspect(|()| pass(Failpoint::FileUnmarked))
            .and_then(|()| checkpoint(&conn, "TRUNCATE"))
            .and_then(|()| conn.set_db_config(NO_CHECKPOINT, false));
        match closed {
            Ok(_) => wal::forget(path),
            Err(error) => tracing::warn!(%error, "the database could not be closed cleanly; nothing is lost"),
        }
    }
    // Deletes the WAL, if that may be and nobody else has the file open.
    if let Err((_, error)) = conn.close() {
        tracing::warn!(%error, "the database could not be closed cleanly; nothing is lost");
    }
    pass(Failpoint::StoreClosed);
}

fn cannot(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unusable(
        format!("cannot open `{}`: {error}. Check the path and its permissions", path.display()).into(),
    )
}

fn still_held(path: &Path) -> StoreError {
    let text = format!(
        "another process has been opening or closing `{}` for {OPEN_WAIT:?}: wait until it is done, or end it if it \
         hangs, and try again",
        path.display()
    );
    StoreError::Unusable(text.into())
}

fn not_a_database(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as C;
    match error.sqlite_error_code() {
        Some(C::NotADatabase | C::DatabaseCorrupt) => {
            let text = format!(
                "`{}` is no SQLite database, or a damaged one ({error}): check the path, or restore it from a backup",
                path.display()
            );
            StoreError::Unusable(text.into())
        }
        _ => cannot(path, &error),
    }
}

fn lost_wal(path: &Path) -> StoreError {
    let text = format!(
        "`{0}` was not closed by the last process that had it open, and its file `{0}-wal` is gone. If that was deleted, \
         the last commits are lost, and steps that were done would be done again: put the file back, or restore both \
         from a backup. If another program has opened the database since and closed it properly, nothing is lost. Then, \
         or if you take the loss, open it once with `Sqlite::options().accept_lost_wal(true)`",
        path.display()
    );
    StoreError::Unusable(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// faults.md row 1: the WAL-reset bug.
    #[test]
    fn an_old_sqlite_is_refused() {
        assert!(check_library(3_051_003).is_ok());
        let error = check_library(3_051_002).expect_err("too old").to_string();
        assert!(error.contains("3.51.2") && error.contains("bundled"), "{error}");
    }
}
