//! The one place where these tests touch the store's API.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use everstep_core::{
    Status, Timestamp,
    journal::{Entry, Kind, Payload},
    store::{
        Adopt, Claimed, Durability, End, Fence, Letter, LetterId, LetterKind, LoadId, NewRun, Post, Posted,
        Receipt, RunId, Settled, Started, Store, StoreError, Transact, Transacted, Turn, WorkerInfo,
    },
};
use everstep_core::{StatusSet, store::Answer};
use everstep_sqlite::{Sqlite, SqliteJob, Tx, rusqlite::Connection};
use tokio::sync::mpsc;

/// A database in a directory of its own.
pub(crate) struct Desk {
    pub(crate) dir: tempfile::TempDir,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk { dir: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("app.db{suffix}"))
    }

    /// Nothing here is about power, and syncs are slow.
    pub(crate) fn open(&self) -> Sqlite {
        self.try_open().expect("opens")
    }

    pub(crate) fn try_open(&self) -> Result<Sqlite, StoreError> {
        Sqlite::options().durability(Durability::Process).open(self.path())
    }

    /// As the user's own program or `sqlite3` sees the file.
    pub(crate) fn outside(&self) -> Connection {
        Connection::open(self.path()).expect("opens")
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.outside().query_row(sql, [], |row| row.get(0)).expect(sql)
    }

    pub(crate) fn run_sql(&self, sql: &str) {
        self.outside().execute_batch(sql).expect(sql);
    }
}

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp(1_767_225_600_000_000 + micros)
}

pub(crate) fn entry(seq: u64, kind: Kind, body: &str) -> Entry {
    Entry {
        seq,
        kind: kind.code(),
        key: (kind == Kind::StepDone).then(|| Arc::from(format!("step#{seq}"))),
        attempt: u32::from(kind == Kind::StepDone),
        input: None,
        body: Payload::json(body),
        site: Some(everstep_core::journal::Site::Recorded("src/flow.rs:1:2".into())),
        build: "b1".into(),
        fingerprint: u32::MAX,
        at: at(seq as i64),
    }
}

pub(crate) fn new_run(id: &str) -> NewRun {
    let first = entry(0, Kind::Started, "{}");
    NewRun { due: at(0), claim: true, ..NewRun::of(id.into(), "flow".into(), first) }
}

/// Remembers what was claimed.
#[derive(Default)]
struct Taker(Mutex<Vec<Claimed>>);

impl Adopt for Taker {
    fn adopt(&self, run: Claimed, _: Entry) {
        self.0.lock().expect("nobody panicked").push(run);
    }
}

/// A worker with one store.
pub(crate) struct Worker {
    pub(crate) store: Sqlite,
    pub(crate) fence: Fence,
}

impl Worker {
    pub(crate) async fn of(store: &Sqlite) -> Worker {
        let info = WorkerInfo { name: "here".into(), build: "b1".into(), at: at(0) };
        Worker { store: store.clone(), fence: store.enroll(info).await.expect("enrolled") }
    }

    /// Starts a run and has it.
    pub(crate) async fn start(&self, id: &str) -> Load {
        let taker = Arc::new(Taker::default());
        let adopt: Arc<dyn Adopt> = taker.clone();
        let started = self.store.start(vec![new_run(id)], Some((self.fence, adopt))).await.expect("started");
        assert!(matches!(started[..], [Started::New(_)]), "{started:?}");
        let claimed = taker.0.lock().expect("nobody panicked").pop().expect("adopted");
        Load::new(self, claimed.row.run, claimed.load)
    }
}

/// A run in memory.
pub(crate) struct Load {
    store: Sqlite,
    fence: Fence,
    pub(crate) run: RunId,
    pub(crate) load: LoadId,
    settled: mpsc::UnboundedReceiver<Settled>,
    receipt: Arc<dyn Receipt>,
    /// Whether its jobs are withdrawn.
    pub(crate) withdrawn: Arc<AtomicBool>,
}

struct Slip(mpsc::UnboundedSender<Settled>);

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        let _ = self.0.send(settled);
    }
}

impl Load {
    pub(crate) fn new(worker: &Worker, run: RunId, load: LoadId) -> Load {
        let (send, settled) = mpsc::unbounded_channel();
        Load {
            store: worker.store.clone(),
            fence: worker.fence,
            run,
            load,
            settled,
            receipt: Arc::new(Slip(send)),
            withdrawn: Arc::default(),
        }
    }

    /// Queues entries of these numbers.
    pub(crate) fn send(&self, seqs: std::ops::Range<u64>) {
        self.send_turn(seqs, None);
    }

    pub(crate) fn send_turn(&self, seqs: std::ops::Range<u64>, end: Option<End>) {
        let entries = seqs.map(|seq| entry(seq, Kind::StepDone, "1")).collect();
        let turn =
            Turn { run: self.run, load: self.load, entries, marks: vec![], takes: vec![], says: vec![], end };
        self.store.commit(self.fence, turn, &self.receipt);
    }

    pub(crate) fn send_as_is(&self, turn: Turn) {
        self.store.commit(self.fence, turn, &self.receipt);
    }

    pub(crate) fn finish(&self, seq: u64, inbox_n: u64) {
        let end = End::Finished { status: Status::Completed, inbox_n, at: at(9) };
        let entries = vec![entry(seq, Kind::Completed, "\"done\"")];
        let turn = Turn {
            run: self.run,
            load: self.load,
            entries,
            marks: vec![],
            takes: vec![],
            says: vec![],
            end: Some(end),
        };
        self.store.commit(self.fence, turn, &self.receipt);
    }

    /// The next answer: `next 3`, `moved 1`, `refused: ...`.
    pub(crate) async fn hears(&mut self) -> String {
        match self.settled.recv().await.expect("each turn is answered") {
            Settled::Durable { next } => format!("next {next}"),
            Settled::Moved { inbox_n } => format!("moved {inbox_n}"),
            Settled::Refused(error) => format!("refused: {error}"),
        }
    }

    pub(crate) fn transact(
        &self,
        key: &str,
        job: impl FnMut(&Tx<'_>) -> everstep_core::Result<Payload> + Send + 'static,
    ) -> Answer<Transacted> {
        let job = Box::new(SqliteJob(Box::new(job)));
        self.store.transact(
            self.fence,
            Transact {
                run: self.run,
                load: self.load,
                key: key.into(),
                at: at(5),
                withdrawn: self.withdrawn.clone(),
                job,
            },
        )
    }
}

/// A job that runs these statements and records their number of characters.
pub(crate) fn sql(
    text: &'static str,
) -> impl FnMut(&Tx<'_>) -> everstep_core::Result<Payload> + Send + 'static {
    move |tx| {
        tx.execute_batch(text)?;
        Ok(Payload::json(text.len().to_string()))
    }
}

/// What became of a transaction: `committed 1`, `rolled back: ...`.
pub(crate) fn told(answer: Result<Transacted, StoreError>) -> String {
    match answer {
        Ok(Transacted::Committed { n, .. }) => format!("committed {n}"),
        Ok(Transacted::RolledBack(error)) => format!("rolled back: {error}"),
        Err(error) => format!("failed: {error}"),
    }
}

/// A signal of this id.
pub(crate) fn go(to: &str, id: u128) -> Post {
    let letter = Letter {
        id: LetterId(id),
        kind: LetterKind::Signal as u16,
        name: "go".into(),
        body: Payload::json("true"),
        at: at(3),
    };
    Post { to: to.into(), letter, only: StatusSet::OPEN, revive: false }
}

pub(crate) async fn signal(store: &Sqlite, to: &str, id: u128) -> Posted {
    store.post(go(to, id)).await.expect("posted")
}
