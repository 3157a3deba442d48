//! Clocks of workers and clients that are wrong by an hour: only what waits for a time is late by that.

use std::sync::{Arc, Mutex};

use everstep_core::{
    Timestamp,
    journal::{Entry, Kind, Payload},
    seconds,
    store::{Claim, End, Fence, NewRun, Receipt, Settled, Store as _, Turn, WorkerInfo},
};
use everstep_postgres::Postgres;
use tokio::sync::oneshot;

use crate::fixture::Desk;

const WORKFLOW: &str = "w";

/// An hour later than the time, as a clock says that is ahead.
#[allow(clippy::disallowed_methods, reason = "real time, as a machine with a wrong clock tells it")]
fn an_hour_ahead() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now()).after(seconds(3600))
}

fn started(id: &str, at: Timestamp) -> NewRun {
    let first = Entry {
        seq: 0,
        kind: Kind::Started.code(),
        key: None,
        attempt: 0,
        input: None,
        body: Payload::json(b"1".to_vec()),
        site: None,
        build: "b".into(),
        fingerprint: 0,
        at,
    };
    NewRun::of(id.into(), WORKFLOW.into(), first)
}

async fn worker(store: &Postgres) -> Fence {
    let info = WorkerInfo { name: "here".into(), build: "b".into(), at: Timestamp(1) };
    store.enroll(info).await.expect("is made")
}

/// What a worker takes whose clock is ahead too: the database's decides.
async fn taken(store: &Postgres, fence: Fence) -> Vec<everstep_core::store::Claimed> {
    let claim = Claim { workflows: [WORKFLOW.into()].into(), due: an_hour_ahead(), limit: 10 };
    store.claim(fence, claim).await.expect("looks")
}

/// Seen by chaos: children that a worker an hour ahead had started began an hour later.
#[tokio::test]
async fn a_start_by_a_clock_that_is_ahead_waits_for_nothing() {
    let desk = Desk::new();
    let store = desk.open().await;
    let fence = worker(&store).await;
    let ahead = an_hour_ahead();
    let delayed = NewRun { due: ahead.after(seconds(1)), ..started("delayed", ahead) };
    for run in [started("now", ahead), delayed] {
        store.start(vec![run], None).await.expect("starts");
    }
    // By statements of its own, as a start with letters is written.
    let extra = NewRun { trace: Some("00-0-0-00".into()), ..started("also now", ahead) };
    store.start(vec![extra], None).await.expect("starts");
    let mut ids: Vec<_> =
        taken(&store, fence).await.iter().map(|claimed| claimed.row.id.to_string()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["also now", "now"], "and the delayed one is late by the error of its starter's clock");
}

struct Told(Mutex<Option<oneshot::Sender<Settled>>>);

impl Receipt for Told {
    fn settled(&self, settled: Settled) {
        let told = self.0.lock().expect("no panic").take();
        told.expect("once").send(settled).expect("is waited for");
    }
}

/// A run that could not be read for a moment is given back for some seconds: not for an hour and some seconds.
#[tokio::test]
async fn who_gives_back_with_a_clock_that_is_ahead_keeps_nobody_waiting() {
    let desk = Desk::new();
    let store = desk.open().await;
    let fence = worker(&store).await;
    store.start(vec![started("r", Timestamp(1))], None).await.expect("starts");
    let claimed = taken(&store, fence).await.pop().expect("is due");
    let (send, told) = oneshot::channel();
    let turn = Turn {
        run: claimed.row.run,
        load: claimed.load,
        entries: vec![],
        marks: vec![],
        takes: vec![],
        says: vec![],
        end: Some(End::GivenBack { wake_at: an_hour_ahead().after(seconds(5)) }),
    };
    let receipt: Arc<dyn Receipt> = Arc::new(Told(Mutex::new(Some(send))));
    store.commit(fence, turn, &receipt);
    assert!(matches!(told.await, Ok(Settled::Durable { .. })));
    let next = store.next_due([WORKFLOW.into()].into()).await.expect("looks").expect("is there");
    assert!(next.after(seconds(3000)) < an_hour_ahead(), "within minutes: {next:?}");
}
