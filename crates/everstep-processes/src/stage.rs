//! A folder with a database and a ledger, and the processes that act on them.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use everstep::sqlite::{
    Sqlite,
    rusqlite::{Connection, config::DbConfig},
};

use crate::{
    clock::Clock,
    process::{Actor, HANGS},
};

/// A lease that no test outlives: whoever takes over within it was told by the lock file.
pub const DAY_MS: u64 = 24 * 3600 * 1000;
/// What Everstep uses if nothing is said.
pub const LEASE_MS: u64 = 10_000;

/// Where a test plays.
#[derive(Debug)]
pub struct Stage {
    /// The program of every process here.
    actor: PathBuf,
    database: PathBuf,
    ledger: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    /// An empty folder; `actor` is the program that acts in it.
    pub fn new(actor: impl Into<PathBuf>) -> Stage {
        let folder = tempfile::tempdir().expect("room");
        let (database, ledger) = (folder.path().join("app.db"), folder.path().join("ledger"));
        Stage { actor: actor.into(), database, ledger, folder }
    }

    /// The database elsewhere than the ledger.
    pub fn with_database(actor: impl Into<PathBuf>, database: PathBuf) -> Stage {
        Stage { database, ..Stage::new(actor) }
    }

    /// With the files that a process leaves behind that was killed just after it had made the database and `tables`:
    /// whoever opens it first writes nothing for that, and all its commits come from one thread.
    pub fn just_crashed(actor: &str, tables: &str) -> Stage {
        let (made, stage) = (Stage::new(actor), Stage::new(actor));
        let store = Sqlite::open(&made.database).expect("opens");
        made.sql(tables);
        for suffix in ["", "-wal"] {
            fs::copy(made.beside(suffix), stage.beside(suffix)).expect("copies");
        }
        drop(store);
        stage
    }

    /// A file beside the database.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.database.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// An engine of its own process.
    pub fn worker(&self, lease_ms: u64) -> Actor {
        let mut worker = self.worker_as_it_comes(lease_ms, None);
        worker.hears("ready");
        worker
    }

    /// An engine that meets a fault, in strace's words, at the `nth` of these system calls of a thread.
    pub fn tampered_worker(&self, calls: &str, fault: &str, nth: usize) -> Actor {
        // A lease of a day: no beat comes between the commits that are counted.
        self.worker_as_it_comes(DAY_MS, Some((calls, format!("{calls}:{fault}:when={nth}"))))
    }

    /// The system call that met its fault, with the path it was about.
    pub fn tampered(&self) -> Option<String> {
        let log = fs::read_to_string(self.strace_log()).expect("strace wrote it");
        log.lines().find(|line| line.contains("INJECTED") || line.contains("killed by")).map(str::to_string)
    }

    fn strace_log(&self) -> PathBuf {
        self.folder.path().join("strace")
    }

    fn worker_as_it_comes(&self, lease_ms: u64, tampered: Option<(&str, String)>) -> Actor {
        let mut command = match tampered {
            None => Command::new(&self.actor),
            Some((calls, inject)) => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-y", "-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")]);
                strace.arg("-o").arg(self.strace_log()).arg(&self.actor);
                strace
            }
        };
        Actor::spawn(self.as_worker(&mut command, lease_ms))
    }

    fn as_worker<'c>(&self, command: &'c mut Command, lease_ms: u64) -> &'c mut Command {
        command.arg("worker").args([&self.database, &self.ledger]).arg(lease_ms.to_string())
    }

    /// An engine whose process is told the time by `clock`.
    pub fn worker_with(&self, clock: &Clock, lease_ms: u64) -> Actor {
        let mut command = Command::new(&self.actor);
        clock.tells(&mut command);
        let mut worker = Actor::spawn(self.as_worker(&mut command, lease_ms));
        worker.hears("ready");
        worker
    }

    /// An engine whose process passes its failpoints as it is told (`EVERSTEP_FAILPOINT`), and keeps a list of them.
    pub fn worker_at(&self, failpoint: &str, lease_ms: u64) -> Actor {
        let mut command = Command::new(&self.actor);
        command.env("EVERSTEP_FAILPOINT", failpoint).env("EVERSTEP_FAILPOINT_LOG", self.beside(".passed"));
        let mut worker = Actor::spawn(self.as_worker(&mut command, lease_ms));
        worker.hears("ready");
        worker
    }

    /// The failpoints that were passed.
    pub fn passed(&self) -> Vec<String> {
        let passed = fs::read_to_string(self.beside(".passed")).unwrap_or_default();
        passed.lines().map(str::to_string).collect()
    }

    /// A clock that shows the right time, until it is set.
    pub fn clock(&self, name: &str) -> Clock {
        Clock::right(self.folder.path().join(name))
    }

    /// A process with a client and no worker.
    pub fn client(&self) -> Actor {
        let mut client = Actor::spawn(Command::new(&self.actor).arg("client").arg(&self.database));
        client.hears("ready");
        client
    }

    /// A program that keeps a transaction open for a while.
    pub fn holder(&self, ms: u64) -> Actor {
        let mut command = Command::new(&self.actor);
        command.arg("hold").args([&self.database, &self.ledger]).arg(ms.to_string());
        let mut holder = Actor::spawn(&mut command);
        holder.hears("holds");
        holder
    }

    /// The lines of the ledger.
    pub fn ledger(&self) -> Vec<String> {
        fs::read_to_string(&self.ledger).unwrap_or_default().lines().map(str::to_string).collect()
    }

    /// How often each body ran.
    pub fn bodies(&self) -> BTreeMap<String, usize> {
        let mut bodies = BTreeMap::new();
        for line in self.ledger() {
            *bodies.entry(line).or_default() += 1;
        }
        bodies
    }

    /// Every body that ran, and it ran once.
    #[track_caller]
    pub fn each_body_ran_once(&self) -> usize {
        let bodies = self.bodies();
        let again: Vec<_> = bodies.iter().filter(|(_, n)| **n != 1).collect();
        assert!(again.is_empty(), "these ran again: {again:?}");
        bodies.len()
    }

    fn connection(&self) -> Connection {
        let connection = Connection::open(&self.database).expect("opens");
        connection.busy_timeout(HANGS).expect("is set");
        // Who looks at what a dead process left must not tidy it up.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("is set");
        connection
    }

    /// Runs statements of the user's.
    pub fn sql(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Whether nobody is writing just now.
    pub(crate) fn can_be_written(&self) -> bool {
        let connection = self.connection();
        connection.busy_timeout(std::time::Duration::ZERO).expect("a setting");
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
    }

    /// What a query says.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        self.connection()
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A run's journal as lines.
    pub fn journal(&self, run: &str) -> Vec<String> {
        let connection = self.connection();
        let mut lines = connection
            .prepare("SELECT seq || ' ' || what || ' ' || coalesce(key, '-') || ' ' || time FROM everstep_timeline WHERE run = ?1 ORDER BY seq")
            .expect("is a query");
        lines.query_map([run], |row| row.get(0)).expect("reads").map(|line| line.expect("a text")).collect()
    }

    /// The database is no torn one.
    #[track_caller]
    pub fn is_whole(&self) {
        let said: String =
            self.connection().query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
        assert_eq!(said, "ok");
    }
}
