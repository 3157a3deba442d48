//! How long a claim takes among ten thousand runs that wait, and among a million: nearly the same, or a worker on a
//! full database is slow for ever.
//!
//! The store alone, without an engine. All runs are due, in an order that has nothing to do with the one in which they lie
//! on the disk; a claim takes those that are due longest, and what it took goes to the end again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep::{
    Timestamp,
    journal::{Entry, Kind, Payload, Site},
    store::{Adopt, Claim, Claimed, End, Fence, NewRun, Receipt, Settled, Store, Turn, WorkerInfo},
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Place, Round};
use crate::{
    database::OldSnapshot,
    measure::{median, quantile},
    report::thousandths,
};

/// What is compared.
const SIZES: [u64; 2] = [10_000, 1_000_000];
/// Runs of one claim.
const BATCH: usize = 50;
/// Claims of one round, after as many that are not measured.
const CLAIMS: usize = 1_000;
/// Started and parked together.
const PART: u64 = 4_000;
const WORKFLOW: &str = "waits";
/// The first of all runs is due then, the last one a day later: long ago, but for those that were claimed since.
const DUE: i64 = 1_767_225_600_000_000;
const DAY: u64 = 86_400_000_000;

/// A database full of runs that wait, and the one worker that is there.
struct Full {
    runs: u64,
    store: Arc<dyn Store>,
    fence: Fence,
    receipt: Arc<dyn Receipt>,
    settled: UnboundedReceiver<Settled>,
    round: Round,
}

/// What its rounds gave.
struct Measured {
    full: Full,
    p50s: Vec<f64>,
    p99s: Vec<f64>,
    _held: Option<OldSnapshot>,
}

struct Receipts(UnboundedSender<Settled>);

impl Receipt for Receipts {
    fn settled(&self, settled: Settled) {
        let _ = self.0.send(settled);
    }
}

#[derive(Default)]
struct Loads(Mutex<Vec<Claimed>>);

impl Adopt for Loads {
    fn adopt(&self, run: Claimed, _: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(run);
    }
}

impl Full {
    async fn of(runs: u64, round: Round) -> Full {
        let store = round.database.store().await;
        let info = WorkerInfo { name: "bench".into(), build: "b".into(), at: Timestamp(DUE) };
        let fence = store.enroll(info).await.expect("a worker");
        let (send, settled) = unbounded_channel();
        let mut full = Full { runs, store, fence, receipt: Arc::new(Receipts(send)), settled, round };
        for part in 0..runs.div_ceil(PART) {
            let ns = part * PART..((part + 1) * PART).min(runs);
            full.park_new(ns).await;
        }
        full
    }

    async fn park_new(&mut self, ns: std::ops::Range<u64>) {
        let new = |n: u64| NewRun {
            claim: true,
            ..NewRun::of(format!("run-{n}").into(), WORKFLOW.into(), entry(0, Kind::Started, None))
        };
        let loads = Arc::new(Loads::default());
        let started = self.store.start(ns.clone().map(new).collect(), Some((self.fence, loads.clone())));
        started.await.expect("they start");
        let loads = std::mem::take(&mut *loads.0.lock().unwrap_or_else(PoisonError::into_inner));
        let due = ns.map(|n| Timestamp(DUE + (scattered(n) % DAY).cast_signed()));
        self.park(loads.into_iter().zip(due), &[entry(1, Kind::StepDone, Some("step"))]).await;
    }

    async fn park(&mut self, loads: impl Iterator<Item = (Claimed, Timestamp)>, entries: &[Entry]) {
        let mut count = 0;
        for (claimed, due) in loads {
            let turn = Turn {
                run: claimed.row.run,
                load: claimed.load,
                entries: entries.to_vec(),
                marks: Vec::new(),
                takes: Vec::new(),
                says: Vec::new(),
                end: Some(End::Parked { wake_at: Some(due), inbox_n: claimed.row.inbox_n }),
            };
            self.store.commit(self.fence, turn, &self.receipt);
            count += 1;
        }
        for _ in 0..count {
            let settled = self.settled.recv().await.expect("each is settled");
            assert!(matches!(settled, Settled::Durable { .. }), "{settled:?}");
        }
    }

    /// Claims so many times.
    async fn claims(&mut self) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..CLAIMS {
            let now = Timestamp::from_system(std::time::SystemTime::now());
            let claim = Claim { workflows: [WORKFLOW.into()].into(), due: now, limit: BATCH };
            let began = Instant::now();
            let claimed = self.store.claim(self.fence, claim).await.expect("it claims");
            times.push(began.elapsed());
            assert_eq!(claimed.len(), BATCH, "all are due");
            self.park(claimed.into_iter().map(|claimed| (claimed, now)), &[]).await;
        }
        times
    }
}

fn entry(seq: u64, kind: Kind, key: Option<&str>) -> Entry {
    Entry {
        seq,
        kind: kind.code(),
        key: key.map(Into::into),
        attempt: 0,
        input: None,
        body: Payload::json("1"),
        site: Some(Site::Recorded("src/flow.rs:1:2".into())),
        build: "b".into(),
        fingerprint: 7,
        at: Timestamp(DUE),
    }
}

/// Another number for each, in no order (the finisher of splitmix64).
fn scattered(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

pub async fn run(place: &Place<'_>) -> Value {
    let sizes = place.runs.map_or(SIZES.to_vec(), |runs| vec![runs]);
    let mut all = Vec::new();
    for (at, runs) in sizes.into_iter().enumerate() {
        let mut full = Full::of(runs, place.round(at).await).await;
        full.claims().await;
        let held = match place.old_snapshot {
            true => Some(full.round.database.old_snapshot().await),
            false => None,
        };
        all.push(Measured { full, p50s: Vec::new(), p99s: Vec::new(), _held: held });
    }
    // In turn, so that whatever else the machine does concerns both.
    for _ in 0..place.rounds {
        for Measured { full, p50s, p99s, .. } in &mut all {
            let mut times = full.claims().await;
            p50s.push(quantile(&mut times, 0.5).as_secs_f64() * 1e6);
            p99s.push(quantile(&mut times, 0.99).as_secs_f64() * 1e6);
        }
    }
    let of = |Measured { full, p50s, p99s, .. }: &Measured| {
        let each: Vec<_> = p50s.iter().map(|p50| p50.round()).collect();
        json!({ "runs": full.runs, "p50_us": median(p50s).round(), "p99_us": median(p99s).round(), "rounds_p50_us": each })
    };
    let mut told = json!({
        "workload": "claims", "batch": BATCH, "rounds": place.rounds, "claims": all.iter().map(of).collect::<Vec<_>>(),
    });
    let (first, last) = (&all[0], &all[all.len() - 1]);
    (told["p50_us"], told["p99_us"]) = (of(last)["p50_us"].take(), of(last)["p99_us"].take());
    if all.len() > 1 {
        told["p99_ratio"] = json!(thousandths(median(&last.p99s) / median(&first.p99s)));
    }
    told
}
