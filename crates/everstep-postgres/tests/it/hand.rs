//! A worker by hand: what an engine would ask of the store, verb by verb, and what the database says afterwards.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use everstep_core::{
    Status, StatusSet, Timestamp,
    journal::{Entry, Kind, Payload, Site},
    store::{
        Act, Adopt, Claim, Claimed, End, Fence, Letter, LetterId, LetterKind, LoadId, NewRun, Post, Receipt,
        RunId, Settled, Started, Store, StoreError, Transact, Transacted, Turn, WorkerInfo,
    },
};
use everstep_postgres::{Postgres, PostgresJob};
use tokio::sync::mpsc;

/// Microseconds after the beginning of 2026.
pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp(1_767_225_600_000_000 + micros)
}

pub(crate) fn entry(seq: u64, kind: Kind, body: &str) -> Entry {
    Entry {
        seq,
        kind: kind.code(),
        key: (kind == Kind::StepDone).then(|| format!("step#{seq}").into()),
        attempt: 0,
        input: None,
        body: Payload::json(body),
        site: Some(Site::Recorded("src/flow.rs:1:2".into())),
        build: "b1".into(),
        fingerprint: 7,
        at: at(i64::try_from(seq).unwrap_or(0)),
    }
}

/// A step that is done.
pub(crate) fn step(seq: u64) -> Entry {
    entry(seq, Kind::StepDone, "1")
}

pub(crate) fn new_run(id: &str) -> NewRun {
    let first = entry(0, Kind::Started, "{}");
    NewRun { due: at(0), claim: true, ..NewRun::of(id.into(), "flow".into(), first) }
}

pub(crate) fn letter(id: u128) -> Letter {
    let (kind, name) = (LetterKind::Signal as u16, "go".into());
    Letter { id: LetterId(id), kind, name, body: Payload::json("1"), at: at(3) }
}

pub(crate) fn post(to: &str, id: u128) -> Post {
    Post { to: to.into(), letter: letter(id), only: StatusSet::OPEN, revive: false }
}

pub(crate) fn act(verb: &str) -> Act {
    Act { verb: verb.into(), who: "ada".into(), why: "so".into(), at: at(7), detail: "k".into() }
}

pub(crate) fn claim() -> Claim {
    Claim { workflows: Arc::from(["flow".into()]), due: at(1000), limit: 100 }
}

pub(crate) fn finished() -> Option<End> {
    Some(End::Finished { status: Status::Completed, inbox_n: 0, at: at(9) })
}

pub(crate) fn parked() -> Option<End> {
    Some(End::Parked { wake_at: None, inbox_n: 0 })
}

/// What became of something, without numbers that differ from one time to the next.
pub(crate) fn told<T>(answer: &Result<T, StoreError>, told: impl Fn(&T) -> String) -> String {
    match answer {
        Ok(value) => told(value),
        Err(StoreError::Fenced(_)) => "fenced".into(),
        Err(error) => format!("{error:?}"),
    }
}

/// A worker of one opening.
#[derive(Clone)]
pub(crate) struct Hand {
    pub(crate) store: Postgres,
    pub(crate) fence: Fence,
}

struct Slip(mpsc::UnboundedSender<Settled>);

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        let _ = self.0.send(settled);
    }
}

struct Taker(mpsc::UnboundedSender<Claimed>);

impl Adopt for Taker {
    fn adopt(&self, run: Claimed, _: Entry) {
        let _ = self.0.send(run);
    }
}

impl Hand {
    pub(crate) async fn of(store: &Postgres) -> Hand {
        let info = WorkerInfo { name: "here".into(), build: "b1".into(), at: at(0) };
        Hand { store: store.clone(), fence: store.enroll(info).await.expect("enrolls") }
    }

    /// Starts a run of this worker.
    pub(crate) async fn start(&self, run: NewRun) -> Held {
        let (answer, mut held) = self.try_start(vec![run]).await;
        answer.expect("starts");
        held.pop().expect("it is adopted")
    }

    pub(crate) async fn try_start(&self, runs: Vec<NewRun>) -> (Result<Vec<Started>, StoreError>, Vec<Held>) {
        let (send, mut adopted) = mpsc::unbounded_channel();
        let answer = self.store.start(runs, Some((self.fence, Arc::new(Taker(send))))).await;
        let mut held = Vec::new();
        while let Ok(claimed) = adopted.try_recv() {
            held.push(self.held(&claimed));
        }
        (answer, held)
    }

    pub(crate) fn held(&self, claimed: &Claimed) -> Held {
        let (send, settled) = mpsc::unbounded_channel();
        let hand = self.clone();
        Held { hand, run: claimed.row.run, load: claimed.load, receipt: Arc::new(Slip(send)), settled }
    }

    /// Claims what is due, in the order of ids.
    pub(crate) async fn claims(&self) -> Vec<(String, Held)> {
        let mut claimed = self.store.claim(self.fence, claim()).await.expect("claims");
        claimed.sort_by(|a, b| a.row.id.cmp(&b.row.id));
        claimed.iter().map(|claimed| (claimed.row.id.to_string(), self.held(claimed))).collect()
    }

    /// How often a worker was renewed, as this one sees it.
    pub(crate) async fn sees(&self, other: &Hand) -> u64 {
        let seen = self.store.workers().await.expect("sees");
        seen.iter().find(|seen| seen.worker == other.fence.worker).expect("is there").beat
    }

    pub(crate) async fn fences(&self, other: &Hand) -> Result<bool, StoreError> {
        let beat = self.sees(other).await;
        self.store.fence(self.fence, other.fence.worker, beat).await
    }

    /// Fences another worker, as soon as nothing of it is under way, and frees what it had.
    pub(crate) async fn takes_over(&self, other: &Hand) -> usize {
        while !self.fences(other).await.expect("fences") {}
        self.store.free(self.fence, other.fence.worker, usize::MAX).await.expect("frees")
    }
}

/// A run in a worker's memory.
pub(crate) struct Held {
    pub(crate) hand: Hand,
    pub(crate) run: RunId,
    pub(crate) load: LoadId,
    receipt: Arc<dyn Receipt>,
    settled: mpsc::UnboundedReceiver<Settled>,
}

impl Held {
    pub(crate) fn turn(&self) -> Turn {
        let (run, load) = (self.run, self.load);
        Turn { run, load, entries: vec![], marks: vec![], takes: vec![], says: vec![], end: None }
    }

    pub(crate) fn send(&self, turn: Turn) {
        self.hand.store.commit(self.hand.fence, turn, &self.receipt);
    }

    pub(crate) async fn hears(&mut self) -> String {
        match self.settled.recv().await.expect("each turn is answered") {
            Settled::Durable { next } => format!("next {next}"),
            Settled::Moved { inbox_n } => format!("moved {inbox_n}"),
            Settled::Refused(error) => told(&Err::<(), _>(error), |()| String::new()),
        }
    }

    pub(crate) async fn commit(&mut self, turn: Turn) -> String {
        self.send(turn);
        self.hears().await
    }

    pub(crate) async fn adds(&mut self, seq: u64) -> String {
        let turn = Turn { entries: vec![step(seq)], ..self.turn() };
        self.commit(turn).await
    }

    pub(crate) async fn ends(&mut self, end: Option<End>) -> String {
        let turn = Turn { end, ..self.turn() };
        self.commit(turn).await
    }

    /// A transactional step that writes a row with this text.
    pub(crate) async fn transacts(
        &self,
        key: &str,
        table: &str,
        text: &str,
    ) -> Result<Transacted, StoreError> {
        let insert = format!("INSERT INTO {table} (text) VALUES ('{text}')");
        let job = PostgresJob(Box::new(move |tx| {
            let insert = insert.clone();
            Box::pin(async move {
                tx.batch_execute(&insert).await?;
                Ok(Payload::json("7"))
            })
        }));
        let (run, load, withdrawn) = (self.run, self.load, Arc::new(AtomicBool::new(false)));
        let step = Transact { run, load, key: key.into(), at: at(5), withdrawn, job: Box::new(job) };
        self.hand.store.transact(self.hand.fence, step).await
    }
}

/// A name that was not used before in this process.
pub(crate) fn fresh(of: &str) -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    format!("{of}-{}", GIVEN.fetch_add(1, Ordering::Relaxed))
}
