//! A real store that is told what happens in the model, with an opening for each worker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use everstep_conformance::Bench;
use everstep_core::{
    Status, StatusSet, Stuck, StuckReason, Timestamp,
    journal::{Entry, Kind, Payload},
    store::{
        Claim, Claimed, End as RealEnd, Fence, Letter, LetterId, LetterKind, LoadId, Mark, NewRun, Post,
        Posted as RealPosted, Receipt, RunId, Settled, Started, StartedRow, Store, StoreError,
        Turn as RealTurn, WorkerInfo,
    },
};
use tokio::sync::oneshot;

use crate::protocol::{Call, End, Posted, Record, Reply, Standing, Turn, What, Work};

/// The key of the step that must not be repeated.
pub(super) const MARKED: &str = "marked";

/// A store in the middle of a walk.
pub(super) struct Actual {
    bench: Arc<dyn Bench>,
    /// Where clients call, and where is read.
    pub(super) client: Arc<dyn Store>,
    /// The workers, by their number in the model; their openings, unless they are dead.
    pub(super) workers: Vec<(Option<Arc<dyn Store>>, Fence)>,
    loads: HashMap<(usize, u8), LoadId>,
    pub(super) id: Arc<str>,
    workflow: Arc<str>,
    pub(super) run: RunId,
}

/// A point in time of the story.
pub(super) fn at(step: i64) -> Timestamp {
    Timestamp(1_767_225_600_000_000 + step)
}

impl Actual {
    /// A run that was just started; it and its workflow are called `name`.
    pub(super) async fn start(bench: Arc<dyn Bench>, name: &str) -> Result<Actual, StoreError> {
        let client = bench.open().await;
        let (id, workflow): (Arc<str>, Arc<str>) = (name.into(), name.into());
        let first = entry(Record { seq: 0, what: What::Started });
        let new = NewRun { due: at(0), ..NewRun::of(id.clone(), workflow.clone(), first) };
        let run = match client.start(vec![new], None).await?[..] {
            [Started::New(run)] => run,
            ref other => return Err(StoreError::Failed(format!("not new: {other:?}").into())),
        };
        Ok(Actual { bench, client, workers: Vec::new(), loads: HashMap::new(), id, workflow, run })
    }

    pub(super) async fn enroll(&mut self) -> Result<(), StoreError> {
        let store = self.bench.open().await;
        let info = WorkerInfo { name: "here".into(), build: "b1".into(), at: at(0) };
        let fence = store.enroll(info).await?;
        self.workers.push((Some(store), fence));
        Ok(())
    }

    pub(super) fn die(&mut self, worker: usize) {
        self.workers[worker].0 = None;
    }

    pub(super) async fn post(&self, name: u8, revive: bool) -> Result<Posted, StoreError> {
        let letter = Letter {
            id: LetterId(u128::from(name)),
            // Such a letter wakes its run wherever it stands, as the model's do.
            kind: LetterKind::Cancel as u16,
            name: "go".into(),
            body: Payload::json("1"),
            at: at(3),
        };
        let posted =
            self.client.post(Post { to: self.id.clone().into(), letter, only: StatusSet::OPEN, revive });
        Ok(match posted.await? {
            RealPosted::Added => Posted::Added,
            RealPosted::Known => Posted::Known,
            RealPosted::Refused(Status::Completed) => Posted::TooLate,
            other => return Err(StoreError::Failed(format!("posted: {other:?}").into())),
        })
    }

    /// Makes a worker's call.
    pub(super) async fn call(&mut self, by: usize, call: &Call) -> Result<Reply, StoreError> {
        let (store, fence) = &self.workers[by];
        let (store, fence) = (store.clone().expect("the dead call nobody"), *fence);
        let other = |other: &u8| self.workers[usize::from(*other)].1.worker;
        let answer = match call {
            Call::Beat => store.beat(fence).await.map(|()| Reply::Done),
            Call::Fence(whom, beat) => store.fence(fence, other(whom), u64::from(*beat)).await.map(Reply::Is),
            Call::Free(whom) => {
                store.free(fence, other(whom), 10).await.map(|freed| Reply::Freed(freed as u8))
            }
            Call::Leave => store.leave(fence).await.map(|()| Reply::Done),
            Call::Claim => {
                let workflows = [self.workflow.clone()].into();
                let claim = Claim { workflows, due: at(1000), limit: 1 };
                store.claim(fence, claim).await.map(|claimed| self.taken(by, claimed.into_iter().next()))
            }
            Call::Reload => store.reload(fence, self.run).await.map(|again| self.taken(by, again)),
            Call::Turn(turn) => Ok(self.turn(&store, fence, by, turn).await?),
        };
        match answer {
            Err(StoreError::Fenced(_)) => Ok(Reply::Fenced),
            Err(StoreError::Refused(_)) => Ok(Reply::Refused),
            other => other,
        }
    }

    fn taken(&mut self, by: usize, claimed: Option<Claimed>) -> Reply {
        let Some(claimed) = claimed else { return Reply::Nothing };
        let given = self.loads.keys().filter(|(worker, _)| *worker == by).count() as u8 + 1;
        self.loads.insert((by, given), claimed.load);
        match standing(claimed.row.status) {
            Some(before) => Reply::Claimed(given, claimed.row.inbox_n as u8, before),
            None => Reply::Refused,
        }
    }

    async fn turn(
        &self,
        store: &Arc<dyn Store>,
        fence: Fence,
        by: usize,
        turn: &Turn,
    ) -> Result<Reply, StoreError> {
        let stuck_already =
            self.client.run(self.id.clone()).await?.is_some_and(|r| r.status == Status::Stuck);
        let (send, settled) = oneshot::channel();
        let receipt: Arc<dyn Receipt> = Arc::new(Slip(Mutex::new(Some(send))));
        let sent = RealTurn {
            run: self.run,
            load: self.loads[&(by, turn.load)],
            entries: turn.entries.iter().map(|record| entry(*record)).collect(),
            marks: turn.mark.into_iter().map(mark).collect(),
            takes: turn.takes.into_iter().map(u64::from).collect(),
            says: vec![],
            end: turn.end.map(|how| end(how, stuck_already)),
        };
        store.commit(fence, sent, &receipt);
        let settled = settled.await.map_err(|_| StoreError::Failed("a turn was never answered".into()))?;
        Ok(match settled {
            Settled::Durable { next } => Reply::Durable(next as u8),
            Settled::Moved { inbox_n } => Reply::Moved(inbox_n as u8),
            Settled::Refused(StoreError::Fenced(_)) => Reply::Fenced,
            Settled::Refused(StoreError::Refused(_)) => Reply::Refused,
            Settled::Refused(other) => return Err(other),
        })
    }
}

struct Slip(Mutex<Option<oneshot::Sender<Settled>>>);

impl Receipt for Slip {
    fn settled(&self, settled: Settled) {
        let send = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = send.expect("each turn is answered once").send(settled);
    }
}

/// The status of the model, if it has it.
pub(super) fn standing(status: Status) -> Option<Standing> {
    Some(match status {
        Status::Pending => Standing::Pending,
        Status::Running => Standing::Running,
        Status::Waiting => Standing::Waiting,
        Status::Stuck => Standing::Stuck,
        Status::Completed => Standing::Completed,
        _ => return None,
    })
}

/// The entry that says this.
pub(super) fn entry(record: Record) -> Entry {
    let (kind, key, body) = match record.what {
        What::Started => (Kind::Started, None, "{}".to_string()),
        What::Done(Work::Plain) => (Kind::StepDone, Some("plain"), "1".into()),
        What::Done(Work::Marked) => (Kind::StepDone, Some(MARKED), "1".into()),
        What::Failed => (Kind::StepFailed, Some(MARKED), "{}".into()),
        What::Taken(n) => (Kind::SignalTaken, Some("go"), n.to_string()),
        What::Completed => (Kind::Completed, None, "1".into()),
        What::Nonsense => (Kind::Emitted, None, "0".into()),
    };
    Entry {
        seq: u64::from(record.seq),
        kind: kind.code(),
        key: key.map(Arc::from),
        attempt: 1,
        input: None,
        body: Payload::json(body),
        site: None,
        build: "b1".into(),
        fingerprint: 7,
        at: at(i64::from(record.seq)),
    }
}

fn mark(started: bool) -> Mark {
    let key: Arc<str> = MARKED.into();
    match started {
        true => Mark::Started(StartedRow { key, attempt: 1, at: at(2), abandoned: false, details: None }),
        false => Mark::Cleared(key),
    }
}

fn end(how: End, stuck_already: bool) -> RealEnd {
    let inbox_n = u64::from;
    match how {
        End::Finished(n) => RealEnd::Finished { status: Status::Completed, inbox_n: inbox_n(n), at: at(9) },
        End::Parked(n) => RealEnd::Parked { wake_at: None, inbox_n: inbox_n(n) },
        End::Stuck(n) => {
            let stuck = Stuck { reason: StuckReason::Panicked, key: None, detail: "boom".into() };
            RealEnd::Stuck { stuck, inbox_n: inbox_n(n), at: at(9) }
        }
        // One that was stuck is left alone for a while, which is longer than the story.
        End::GivenBack if stuck_already => RealEnd::GivenBack { wake_at: at(1_000_000) },
        End::GivenBack => RealEnd::GivenBack { wake_at: Timestamp(0) },
    }
}
