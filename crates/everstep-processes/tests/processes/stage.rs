//! A folder with a database and a ledger, and the processes that act on them.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use everstep::sqlite::{
    Sqlite,
    rusqlite::{Connection, config::DbConfig},
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Against hanging only: nothing is expected to take nearly so long.
const HANGS: Duration = Duration::from_secs(60);
/// A lease that no test outlives: whoever takes over within it was told by the lock file.
pub(crate) const DAY_MS: u64 = 24 * 3600 * 1000;
/// What Everstep uses if nothing is said.
pub(crate) const LEASE_MS: u64 = 10_000;

/// Where a test plays.
pub(crate) struct Stage {
    database: PathBuf,
    ledger: PathBuf,
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let folder = tempfile::tempdir().expect("room");
        Stage { database: folder.path().join("app.db"), ledger: folder.path().join("ledger"), folder }
    }

    /// The database elsewhere than the ledger.
    pub(crate) fn with_database(database: PathBuf) -> Stage {
        Stage { database, ..Stage::new() }
    }

    /// With the files that a process leaves behind that was killed just after it had made the database and `tables`:
    /// whoever opens it first writes nothing for that, and all its commits come from one thread.
    pub(crate) fn just_crashed(tables: &str) -> Stage {
        let (made, stage) = (Stage::new(), Stage::new());
        let store = Sqlite::open(&made.database).expect("opens");
        made.sql(tables);
        for suffix in ["", "-wal"] {
            fs::copy(made.beside(suffix), stage.beside(suffix)).expect("copies");
        }
        drop(store);
        stage
    }

    /// A file beside the database.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.database.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// An engine of its own process.
    pub(crate) fn worker(&self, lease_ms: u64) -> Actor {
        let mut worker = self.worker_as_it_comes(lease_ms, None);
        worker.hears("ready");
        worker
    }

    /// An engine that meets a fault, in strace's words, at the `nth` of these system calls of a thread.
    pub(crate) fn tampered_worker(&self, calls: &str, fault: &str, nth: usize) -> Actor {
        // A lease of a day: no beat comes between the commits that are counted.
        self.worker_as_it_comes(DAY_MS, Some((calls, format!("{calls}:{fault}:when={nth}"))))
    }

    /// The system call that met its fault, with the path it was about.
    pub(crate) fn tampered(&self) -> Option<String> {
        let log = fs::read_to_string(self.strace_log()).expect("strace wrote it");
        log.lines().find(|line| line.contains("INJECTED") || line.contains("killed by")).map(str::to_string)
    }

    fn strace_log(&self) -> PathBuf {
        self.folder.path().join("strace")
    }

    fn worker_as_it_comes(&self, lease_ms: u64, tampered: Option<(&str, String)>) -> Actor {
        let actor = env!("CARGO_BIN_EXE_actor");
        let mut command = match tampered {
            None => Command::new(actor),
            Some((calls, inject)) => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-y", "-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")]);
                strace.arg("-o").arg(self.strace_log()).arg(actor);
                strace
            }
        };
        Actor::spawn(command.arg("worker").args([&self.database, &self.ledger]).arg(lease_ms.to_string()))
    }

    /// A process with a client and no worker.
    pub(crate) fn client(&self) -> Actor {
        let mut client =
            Actor::spawn(Command::new(env!("CARGO_BIN_EXE_actor")).arg("client").arg(&self.database));
        client.hears("ready");
        client
    }

    /// A program that keeps a transaction open for a while.
    pub(crate) fn holder(&self, ms: u64) -> Actor {
        let mut holder = Actor::spawn(
            Command::new(env!("CARGO_BIN_EXE_actor"))
                .arg("hold")
                .args([&self.database, &self.ledger])
                .arg(ms.to_string()),
        );
        holder.hears("holds");
        holder
    }

    /// The lines of the ledger.
    pub(crate) fn ledger(&self) -> Vec<String> {
        fs::read_to_string(&self.ledger).unwrap_or_default().lines().map(str::to_string).collect()
    }

    /// How often each body ran.
    pub(crate) fn bodies(&self) -> BTreeMap<String, usize> {
        let mut bodies = BTreeMap::new();
        for line in self.ledger() {
            *bodies.entry(line).or_default() += 1;
        }
        bodies
    }

    /// Every body that ran, and it ran once.
    #[track_caller]
    pub(crate) fn each_body_ran_once(&self) -> usize {
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

    pub(crate) fn sql(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Whether nobody is writing just now.
    fn can_be_written(&self) -> bool {
        let connection = self.connection();
        connection.busy_timeout(std::time::Duration::ZERO).expect("a setting");
        connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.connection()
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A run's journal as lines.
    pub(crate) fn journal(&self, run: &str) -> Vec<String> {
        let connection = self.connection();
        let mut lines = connection
            .prepare("SELECT seq || ' ' || what || ' ' || coalesce(key, '-') || ' ' || time FROM everstep_timeline WHERE run = ?1 ORDER BY seq")
            .expect("is a query");
        lines.query_map([run], |row| row.get(0)).expect("reads").map(|line| line.expect("a text")).collect()
    }

    #[track_caller]
    pub(crate) fn is_whole(&self) {
        let said: String =
            self.connection().query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checks");
        assert_eq!(said, "ok");
    }
}

/// A process and what it has said. Dropped, it is killed.
pub(crate) struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Actor {
    fn spawn(command: &mut Command) -> Actor {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{command:?}: {error}. `cargo xtask test` installs what tests need")
            });
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Actor { child, input, lines, said: Vec::new() }
    }

    /// Waits for a line that begins so, said earlier or later, and gives it.
    #[track_caller]
    pub(crate) fn hears(&mut self, beginning: &str) -> String {
        self.hears_or_ends(beginning)
            .unwrap_or_else(|| panic!("it ended without `{beginning}`; it said {:#?}", self.said))
    }

    /// As [`Actor::hears`]; `None` if the process ended without it.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "a bound against hanging, also of one who talks on")]
    pub(crate) fn hears_or_ends(&mut self, beginning: &str) -> Option<String> {
        let (mut at, began) = (0, Instant::now());
        loop {
            while let Some(line) = self.said.get(at) {
                if line.trim_start().starts_with(beginning) {
                    return Some(line.clone());
                }
                at += 1;
            }
            match self.lines.recv_timeout(HANGS.saturating_sub(began.elapsed())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no `{beginning}`; it said {:#?}", self.said),
            }
        }
    }

    /// Everything it has said until its end.
    #[track_caller]
    pub(crate) fn last_words(&mut self) -> &[String] {
        self.input = None;
        loop {
            match self.lines.recv_timeout(HANGS) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return &self.said,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; it said {:#?}", self.said),
            }
        }
    }

    /// Asks for something; the answer comes as a line that begins with `command`.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("its input is open");
        // Who is dead hears nothing, and that is no error of the test.
        let _ = writeln!(input, "{command}");
    }

    /// Asks, and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        let answer = self.hears(&format!("{command}: "));
        answer[command.len() + 2..].to_string()
    }

    /// Asks, and the answer must be this.
    #[track_caller]
    pub(crate) fn asks(&mut self, command: &str, expected: &str) {
        assert_eq!(self.ask(command), expected, "{command}");
    }

    /// Stops driving runs and ends.
    #[track_caller]
    pub(crate) fn leaves(mut self) {
        self.tell("leave");
        self.hears("left");
        self.ends();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> ExitStatus {
        self.last_words();
        self.child.wait().expect("it was ours")
    }

    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ends();
    }

    /// Stops the process while it holds no lock on the database: one that is stopped inside a transaction holds up
    /// everybody, whoever owns the runs.
    pub(crate) fn stops_outside_a_transaction(&self, stage: &Stage) {
        let pid = Pid::from_child(&self.child);
        loop {
            self.signal(Signal::STOP);
            let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).expect("it is ours");
            assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it was alive");
            if stage.can_be_written() {
                return;
            }
            self.signal(Signal::CONT);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is ours");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
