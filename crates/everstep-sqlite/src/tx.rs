//! The user's transaction on the writer's connection: what it may not do, and how long it may take.

use std::{
    cell::Cell,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use everstep_core::{Error, Result, journal::Payload};
use rusqlite::{
    Connection,
    config::DbConfig,
    ffi,
    hooks::{AuthAction as A, AuthContext, Authorization},
};

use crate::{migrate::check_tables, stopwatch::Stopwatch};

/// SQLite's instructions between two looks at the time: some ten microseconds.
const INSTRUCTIONS: i32 = 1000;

/// More than there are texts of our own.
pub(crate) const CACHED_STATEMENTS: usize = 256;

/// The database inside a transactional step: everything that is written through it commits together with the step's
/// record, or not at all.
///
/// It refuses to begin, end or nest transactions, to attach databases, to set pragmas, to make temporary tables, and
/// to touch tables of Everstep (names that begin with `everstep_`).
///
/// SQLite plans its statements without a look at the values that are bound to them (`SQLITE_DBCONFIG_ENABLE_QPSG`): a
/// partial index, or one for `LIKE`, helps a condition that is written out and not one with a `?`.
#[derive(Debug)]
pub struct Tx<'c> {
    conn: &'c Connection,
}

impl Deref for Tx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.conn
    }
}

/// The job of [`everstep_core::store::Transact`] for this store.
///
/// It may be called more than once, each time with nothing of its earlier calls in the database: the writer repeats
/// what it had to roll back for the sake of others.
pub struct SqliteJob(pub JobBody);

/// What a transactional step does with the database, and the value it records.
pub type JobBody = Box<dyn FnMut(&Tx<'_>) -> Result<Payload> + Send>;

impl std::fmt::Debug for SqliteJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqliteJob")
    }
}

/// How a job went.
pub(crate) enum Ran {
    Done {
        body: Payload,
        wakes: Wakes,
    },
    /// Its own changes are undone; the transaction around it stands.
    RolledBack(Error),
    /// It ended the transaction around it.
    Gone(Error),
}

/// What a job did that others are to hear of after the commit.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wakes {
    /// There are runs to be claimed.
    pub(crate) claimable: bool,
    /// There are letters to runs that a worker has.
    pub(crate) inbox: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// The store's own statements.
    Off,
    /// A user's.
    On,
    /// The store's own again, for a user: a start or a signal inside his transaction.
    Lifted,
}

// The handlers are installed once, because installing an authorizer makes SQLite prepare every statement anew; what
// they forbid is the state of this thread.
thread_local! {
    static GUARD: Cell<Guard> = const { Cell::new(Guard::Off) };
    static LIMIT: Cell<Option<(Stopwatch, Duration)>> = const { Cell::new(None) };
    static LATE: Cell<bool> = const { Cell::new(false) };
    static WAKES: Cell<Wakes> = const { Cell::new(Wakes { claimable: false, inbox: false }) };
    static LOST: Cell<bool> = const { Cell::new(false) };
    /// A table may have got a new name, which the authorizer is not told.
    static ALTERED: Cell<bool> = const { Cell::new(false) };
}

/// Makes a connection guard what jobs do on it.
pub(crate) fn guard(conn: &mut Connection) -> rusqlite::Result<()> {
    conn.authorizer(Some(authorize))?;
    // A job that has lost its transaction stands in none: its next statement would commit by itself.
    conn.commit_hook(Some(in_job))?;
    conn.rollback_hook(Some(|| LOST.set(true)))?;
    conn.progress_handler(INSTRUCTIONS, Some(is_late))
}

/// Runs a job under a savepoint in the open transaction.
///
/// # Errors
/// What the disk or the file is to blame for, whoever noticed it: the whole transaction is to be rolled back.
pub(crate) fn run(conn: &Connection, job: &mut SqliteJob, limit: Duration) -> rusqlite::Result<Ran> {
    conn.prepare_cached("SAVEPOINT everstep_job")?.execute([])?;
    WAKES.set(Wakes::default());
    LOST.set(false);
    LATE.set(false);
    ALTERED.set(false);
    let settings = settings(conn)?;
    LIMIT.set(Some((Stopwatch::start(), limit)));
    GUARD.set(Guard::On);
    let result = catch_unwind(AssertUnwindSafe(|| (job.0)(&Tx { conn })));
    // Its own code takes time too.
    is_late();
    GUARD.set(Guard::Off);
    LIMIT.set(None);
    let changed = restore(conn, settings)?;
    let result = result.unwrap_or_else(|panic| Err(Error::from(format!("panicked: {}", message(&*panic)))));
    let result = match LATE.get() {
        true => Err(too_long(limit)),
        false => result,
    };
    // Asked of the hook too: another transaction may stand by now.
    let lost = LOST.get() || conn.is_autocommit();
    if let Err(error) = &result
        && !LATE.get()
        && let Some(error) = of_the_disk(error, lost)
    {
        return Err(error);
    }
    if lost {
        return Ok(Ran::Gone(gone(result.err())));
    }
    let result = match result {
        Ok(_) if changed => Err(Error::terminal(
            "the transaction changed the connection with `set_db_config`, and is rolled back: the connection is the store's",
        )),
        Ok(_) if ALTERED.get() => check_tables(conn).map_err(Error::terminal).and(result),
        other => other,
    };
    match result {
        Ok(body) => {
            conn.prepare_cached("RELEASE everstep_job")?.execute([])?;
            Ok(Ran::Done { body, wakes: WAKES.get() })
        }
        Err(error) => {
            conn.prepare_cached("ROLLBACK TO everstep_job")?.execute([])?;
            conn.prepare_cached("RELEASE everstep_job")?.execute([])?;
            Ok(Ran::RolledBack(error))
        }
    }
}

/// What [`Connection::set_db_config`] can change, and what the store or the meaning of its SQL rests on.
const SETTINGS: [DbConfig; 7] = [
    DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY,
    DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
    DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
    DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA,
    DbConfig::SQLITE_DBCONFIG_RESET_DATABASE,
];

type Settings = [bool; SETTINGS.len()];

fn settings(conn: &Connection) -> rusqlite::Result<Settings> {
    let mut settings = [false; SETTINGS.len()];
    for (value, setting) in settings.iter_mut().zip(SETTINGS) {
        *value = conn.db_config(setting)?;
    }
    Ok(settings)
}

/// Sets the connection as it was before a job; whether the job had changed what its SQL means.
fn restore(conn: &Connection, before: Settings) -> rusqlite::Result<bool> {
    conn.busy_timeout(Duration::ZERO)?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    let changed = settings(conn)? != before;
    if changed {
        for (value, setting) in before.into_iter().zip(SETTINGS) {
            conn.set_db_config(setting, value)?;
        }
    }
    Ok(changed)
}

/// An error that a job met and that is not its own: no space, or a disk that fails. A damaged file needs no look:
/// SQLite itself refuses the commit after it.
fn of_the_disk(error: &Error, lost: bool) -> Option<rusqlite::Error> {
    // An error that enters a workflow keeps its text and tells its type, and no more.
    let text = error.to_string();
    let code = if text.contains("database or disk is full") && (lost || error.is::<rusqlite::Error>()) {
        ffi::SQLITE_FULL
    } else if text.contains("disk I/O error") && lost {
        ffi::SQLITE_IOERR
    } else {
        return None;
    };
    Some(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text)))
}

fn too_long(limit: Duration) -> Error {
    Error::from(format!(
        "the transaction took longer than {limit:?} and was rolled back: it holds up everybody who writes. Do less \
         in it, or raise `transaction_limit`"
    ))
}

fn gone(error: Option<Error>) -> Error {
    match error {
        Some(error) if error.to_string().starts_with("the transaction took") => error,
        Some(error) => Error::from(format!(
            "the transaction was ended from inside and is rolled back (by `OR ROLLBACK`, or because of an error of \
             the database): {error}"
        )),
        None => Error::terminal(
            "the transaction was ended from inside and is rolled back: use `OR ABORT` instead of `OR ROLLBACK`",
        ),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}

/// Until it is dropped, this thread's statements are the store's own.
pub(crate) fn lift_guard() -> Lifted {
    let before = GUARD.get();
    if before == Guard::On {
        GUARD.set(Guard::Lifted);
    }
    Lifted(before)
}

pub(crate) struct Lifted(Guard);

impl Drop for Lifted {
    fn drop(&mut self) {
        GUARD.set(self.0);
    }
}

/// Whether this thread is running a job.
pub(crate) fn in_job() -> bool {
    GUARD.get() != Guard::Off
}

/// A run became claimable inside the job that this thread runs, if it runs one.
pub(crate) fn wakes_a_run() {
    WAKES.set(Wakes { claimable: true, ..WAKES.get() });
}

/// A run that a worker has got a letter inside the job that this thread runs, if it runs one.
pub(crate) fn wakes_a_worker() {
    WAKES.set(Wakes { inbox: true, ..WAKES.get() });
}

fn is_late() -> bool {
    let late = in_job() && LIMIT.get().is_some_and(|(watch, limit)| watch.elapsed() > limit);
    if late {
        LATE.set(true);
    }
    late
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    if GUARD.get() != Guard::On {
        return Authorization::Allow;
    }
    // Many short statements take as long as a long one.
    if is_late() {
        return Authorization::Deny;
    }
    let names: [Option<&str>; 2] = match context.action {
        A::Transaction { .. }
        | A::Savepoint { .. }
        | A::Attach { .. }
        | A::Detach { .. }
        | A::Pragma { .. } => {
            return Authorization::Deny;
        }
        // A temporary object would stand before the one of that name in the file, and stay.
        A::CreateTempTable { .. }
        | A::CreateTempIndex { .. }
        | A::CreateTempTrigger { .. }
        | A::CreateTempView { .. } => return Authorization::Deny,
        A::CreateTable { .. }
        | A::CreateIndex { .. }
        | A::CreateTrigger { .. }
        | A::CreateView { .. }
        | A::CreateVtable { .. }
            if context.database_name == Some("temp") =>
        {
            return Authorization::Deny;
        }
        A::AlterTable { table_name, .. } => {
            ALTERED.set(true);
            [Some(table_name), None]
        }
        A::Unknown { .. } => return Authorization::Deny,
        A::Read { table_name, .. } | A::Update { table_name, .. } => [Some(table_name), None],
        A::Insert { table_name } | A::Delete { table_name } | A::Analyze { table_name } => {
            [Some(table_name), None]
        }
        A::CreateTable { table_name } => [Some(table_name), None],
        A::DropTable { table_name } | A::DropTempTable { table_name } => [Some(table_name), None],
        A::CreateVtable { table_name, .. } | A::DropVtable { table_name, .. } => [Some(table_name), None],
        A::CreateIndex { index_name, table_name }
        | A::DropIndex { index_name, table_name }
        | A::DropTempIndex { index_name, table_name } => [Some(index_name), Some(table_name)],
        A::CreateTrigger { trigger_name, table_name }
        | A::DropTrigger { trigger_name, table_name }
        | A::DropTempTrigger { trigger_name, table_name } => [Some(trigger_name), Some(table_name)],
        A::CreateView { view_name } => [Some(view_name), None],
        A::DropView { view_name } | A::DropTempView { view_name } => [Some(view_name), None],
        A::Reindex { index_name } => [Some(index_name), None],
        _ => return Authorization::Allow,
    };
    if names.into_iter().flatten().any(is_ours) { Authorization::Deny } else { Authorization::Allow }
}

/// SQLite's names do not tell upper from lower case.
fn is_ours(name: &str) -> bool {
    name.get(..9).is_some_and(|begin| begin.eq_ignore_ascii_case("everstep_"))
}
