//! What a claim costs is what it takes: it goes neither over runs that are due later, nor over what earlier claims have left
//! in the index while somebody's old snapshot keeps it there. Counted by the database: entries that it read in the index.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use everstep_cluster::Cluster;
use everstep_core::{
    Timestamp,
    store::{Claim, End, NewRun, Store as _, Turn},
};
use everstep_postgres::Postgres;

use crate::{
    fixture::Desk,
    hand::{Hand, at, new_run, post},
};

const RUNS: i64 = 2000;
/// Of one claim.
const BATCH: usize = 50;
const DECADE: i64 = 10 * 365 * 86_400_000_000;

/// Opens a store about whose runs the server learns nothing meanwhile: when it has seen how few they are, it reads the table
/// and not its index, and nothing is counted.
async fn open(desk: &Desk) -> Postgres {
    let store = desk.open().await;
    desk.run_sql(&format!("ALTER TABLE {} SET (autovacuum_enabled = false)", desk.table("everstep_run")));
    store
}

/// Starts runs for whoever claims them, due at these times.
async fn start(store: &Postgres, due: impl Iterator<Item = i64>) {
    let new = |(n, due): (usize, i64)| NewRun { claim: false, due: at(due), ..new_run(&format!("run-{n}")) };
    store.start(due.enumerate().map(new).collect(), None).await.expect("starts");
}

/// Takes what is due and parks it again, each run later than all before.
async fn claim(hand: &Hand, round: i64) -> usize {
    let claim = Claim { workflows: Arc::from(["flow".into()]), due: at(RUNS * 10), limit: BATCH };
    let claimed = hand.store.claim(hand.fence, claim).await.expect("claims");
    for (claimed, n) in claimed.iter().zip(0..) {
        let mut held = hand.held(claimed);
        let wake_at = Some(at(RUNS + round * BATCH as i64 + n));
        let end = Some(End::Parked { wake_at, inbox_n: 0 });
        let settled = held.commit(Turn { end, ..held.turn() }).await;
        assert_eq!(settled, "next 1");
    }
    claimed.len()
}

#[allow(clippy::disallowed_methods, reason = "a bound against hanging")]
async fn soon<T>(told: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("it comes soon")
}

/// For how long somebody claims and looks.
struct Play(Instant);

impl Play {
    #[allow(clippy::disallowed_methods, reason = "a look from the beginning is allowed now and then")]
    fn begin() -> Play {
        Play(Instant::now())
    }

    /// One for each second that has begun, of claims and of those who ask whether something is there; and the first ones.
    fn looks_from_the_beginning(&self) -> i64 {
        2 * (2 + self.0.elapsed().as_secs().cast_signed())
    }
}

/// Entries of the due index that were read in so many looks or more. A connection tells what it has read when it ends.
fn entries_read(desk: &Desk, looks: i64) -> i64 {
    let read = "SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes
                WHERE schemaname = $1 AND indexrelname = 'everstep_run_due'";
    let schema = desk.table("").trim_end_matches('.').to_string();
    desk.asks(async |client| {
        let told = async {
            loop {
                let row = client.query_one(read, &[&schema]).await.expect("readable");
                if row.get::<_, i64>(0) >= looks {
                    return row.get(1);
                }
            }
        };
        soon(told).await
    })
}

#[tokio::test]
async fn a_claim_does_not_go_over_what_is_due_later() {
    let desk = Desk::new();
    let store = open(&desk).await;
    start(&store, (0..RUNS).map(|n| DECADE + n)).await;
    let hand = Hand::of(&store).await;
    for round in 0..20 {
        assert_eq!(claim(&hand, round).await, 0);
    }
    drop((hand, store));
    let read = entries_read(&desk, 20);
    assert!(read < RUNS, "{read} entries read for nothing");
}

#[tokio::test]
async fn claims_beside_an_old_snapshot_do_not_go_over_those_before() {
    let desk = Desk::new();
    let store = open(&desk).await;
    start(&store, 0..RUNS).await;
    let old = Cluster::shared().expect("a server").connect("postgres").await.expect("connects");
    let look =
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM {} LIMIT 1", desk.table("everstep_run"));
    old.batch_execute(&look).await.expect("reads");
    let hand = Hand::of(&store).await;
    let claims = RUNS / BATCH as i64 * 2;
    let play = Play::begin();
    for round in 0..claims {
        assert_eq!(claim(&hand, round).await, BATCH);
    }
    drop((hand, store));
    let whole = play.looks_from_the_beginning();
    let read = entries_read(&desk, claims);
    old.batch_execute("COMMIT").await.expect("ends");
    // Each claim goes over what it takes, and a look from the beginning over all that were ever taken. Without a bound each
    // would go over those: half of them on average.
    let (all, without) = (claims * BATCH as i64, claims * claims * BATCH as i64 / 2);
    assert!(read < (2 + whole) * all, "{read} entries read in {claims} claims, {without} without a bound");
}

#[tokio::test]
async fn looks_for_letters_beside_an_old_snapshot_do_not_go_over_those_before() {
    const LETTERS: i64 = 200;
    let desk = Desk::new();
    let hand = Hand::of(&open(&desk).await).await;
    let held = hand.start(new_run("run")).await;
    let connect = async || Cluster::shared().expect("a server").connect("postgres").await.expect("connects");
    let (old, clock, runs) = (connect().await, connect().await, desk.table("everstep_run"));
    let look = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM {runs} LIMIT 1");
    old.batch_execute(&look).await.expect("reads");
    let play = Play::begin();
    for n in 0..LETTERS {
        hand.store.post(post("run", n.unsigned_abs().into())).await.expect("posts");
        // Each comes ten seconds after the one before.
        let later = format!("UPDATE {runs} SET wake_at = wake_at + {n} * 10000000");
        clock.batch_execute(&later).await.expect("comes later");
        assert_eq!(hand.store.nudged(hand.fence).await.expect("looks"), [held.run]);
    }
    drop((hand, held));
    let whole = play.looks_from_the_beginning();
    let read = entries_read(&desk, LETTERS);
    old.batch_execute("COMMIT").await.expect("ends");
    let without = LETTERS * LETTERS / 2;
    assert!(read < (2 + whole) * LETTERS, "{read} entries read, {without} without a bound");
}

#[tokio::test]
async fn claims_of_runs_that_were_given_back_beside_an_old_snapshot_do_not_go_over_those_before() {
    const CLAIMS: i64 = 200;
    let desk = Desk::new();
    let store = open(&desk).await;
    start(&store, 0..1).await;
    let hand = Hand::of(&store).await;
    let connect = async || Cluster::shared().expect("a server").connect("postgres").await.expect("connects");
    let (old, clock, runs) = (connect().await, connect().await, desk.table("everstep_run"));
    let look = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM {runs} LIMIT 1");
    old.batch_execute(&look).await.expect("reads");
    let play = Play::begin();
    for n in 0..CLAIMS {
        let claim = Claim { workflows: Arc::from(["flow".into()]), due: at(RUNS), limit: 1 };
        let claimed = store.claim(hand.fence, claim).await.expect("claims");
        let mut held = hand.held(&claimed[0]);
        let end = Some(End::GivenBack { wake_at: Timestamp(0) });
        assert_eq!(held.commit(Turn { end, ..held.turn() }).await, "next 1");
        // Each comes ten seconds after the one before.
        let later = format!("UPDATE {runs} SET wake_at = wake_at + {n} * 10000000");
        clock.batch_execute(&later).await.expect("comes later");
    }
    drop((hand, store));
    let whole = play.looks_from_the_beginning();
    let read = entries_read(&desk, CLAIMS);
    old.batch_execute("COMMIT").await.expect("ends");
    // Two of each: as it was given back, and later.
    let without = CLAIMS * CLAIMS;
    assert!(read < (2 + whole) * 2 * CLAIMS, "{read} entries read, {without} without a bound");
}

#[tokio::test]
async fn a_run_that_another_opening_makes_due_before_the_bound_is_claimed() {
    let desk = Desk::new();
    let (store, other) = (desk.open().await, desk.open().await);
    let hand = Hand::of(&store).await;
    start(&store, 100..200).await;
    assert_eq!(claim(&hand, 0).await, BATCH);
    let early = NewRun { claim: false, due: at(0), ..new_run("early") };
    other.start(vec![early], None).await.expect("starts");
    let claim = Claim { workflows: Arc::from(["flow".into()]), due: at(1000), limit: RUNS as usize };
    let claimed = store.claim(hand.fence, claim).await.expect("claims");
    assert!(claimed.iter().any(|claimed| &*claimed.row.id == "early"));
}
