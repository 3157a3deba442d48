//! Fences under way: what a stale worker sends and a takeover, in both orders, with locks that are really held.

use everstep_cluster::{
    Cluster,
    proxy::{Direction, Fault, Moment, Proxy},
};
use everstep_core::store::{Store as _, StoreError, Turn};

use crate::{
    fixture::Desk,
    hand::{Hand, new_run, step},
};

/// The drain is first: nobody is fenced before its commit, and the taker is not kept waiting for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_something_under_way_is_not_fenced_and_keeps_nobody_waiting() {
    let desk = Desk::new();
    let (store, near) = (desk.open().await, desk.open().await);
    let (hand, other) = (Hand::of(&store).await, Hand::of(&near).await);
    let mut held = hand.start(new_run("a")).await;
    let mut blocker = Cluster::shared().expect("a server").connect("postgres").await.expect("connects");
    let blocking = blocker.transaction().await.expect("begins");
    let block = format!(
        "INSERT INTO {} (run, seq, at, build, fingerprint, attempt, kind, codec, body) VALUES ({}, 1, 0, 0, 0, 0, 0, 0, '')",
        desk.table("everstep_journal"),
        held.run.0
    );
    blocking.batch_execute(&block).await.expect("nobody is there yet");
    held.send(Turn { entries: vec![step(1)], ..held.turn() });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    let schema = format!("%{}%", desk.table("").trim_end_matches('.'));
    while blocking.query_one(waiting, &[&schema]).await.expect("looks").get::<_, i64>(0) < 1 {}
    assert!(!other.fences(&hand).await.expect("is answered"), "its fence is locked");
    blocking.rollback().await.expect("rolls back");
    assert_eq!(held.hears().await, "next 2");
    assert_eq!(other.takes_over(&hand).await, 1);
    assert_eq!(held.adds(2).await, "fenced");
}

/// The takeover is first, and not committed yet: the drain waits for it, and writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_behind_a_takeover_waits_for_it_and_writes_nothing() {
    let desk = Desk::new();
    let (store, proxy) = (desk.open().await, Proxy::start(&Desk::url()).await.expect("listens"));
    let far = desk.options().open(&proxy.url()).await.expect("opens");
    let (hand, other) = (Hand::of(&store).await, Hand::of(&far).await);
    let mut held = hand.start(new_run("a")).await;
    let beat = other.sees(&hand).await;
    let late =
        proxy.at(Moment::before("COMMIT").if_it(|text| text == "COMMIT"), Fault::Hold(Direction::Both));
    let fenced = far.fence(other.fence, hand.fence.worker, beat);
    late.happened().await;
    held.send(Turn { entries: vec![step(1)], ..held.turn() });
    desk.asks(async |client| {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
        let schema = format!("%{}%", desk.table("").trim_end_matches('.'));
        while client.query_one(waiting, &[&schema]).await.expect("looks").get::<_, i64>(0) < 1 {}
    });
    proxy.heal().await;
    assert!(fenced.await.expect("is answered"));
    assert_eq!(held.hears().await, "fenced");
}

/// A transactional step has a fence row of its own, and its takeover is as that of a turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_worker_was_fenced_before_its_record_is_rolled_back() {
    let desk = Desk::new();
    desk.run_sql(&format!("CREATE TABLE {} (text text NOT NULL)", desk.table("mine")));
    let proxy = Proxy::start(&Desk::url()).await.expect("listens");
    let (store, near) = (desk.options().open(&proxy.url()).await.expect("opens"), desk.open().await);
    let (hand, other) = (Hand::of(&store).await, Hand::of(&near).await);
    let held = hand.start(new_run("a")).await;
    let late = proxy.at(Moment::before("RELEASE SAVEPOINT"), Fault::Hold(Direction::Both));
    let mine = desk.table("mine");
    let step = held.transacts("k", &mine, "1");
    let taken = async {
        late.happened().await;
        let taken = other.takes_over(&hand).await;
        proxy.heal().await;
        taken
    };
    let (step, taken) = tokio::join!(step, taken);
    assert_eq!(taken, 1);
    assert!(matches!(step, Err(StoreError::Fenced(_))), "{step:?}");
    let rows = desk.asks(async |client| {
        client.query_one(&format!("SELECT count(*) FROM {mine}"), &[]).await.expect("counts").get::<_, i64>(0)
    });
    assert_eq!(rows, 0);
}

/// Two that take each other for dead at the same moment: one of them is right, and nothing waits for a deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_that_fence_each_other_one_is_left() {
    let desk = Desk::new();
    let stores = [desk.open().await, desk.open().await];
    for _ in 0..20 {
        let (one, two) = (Hand::of(&stores[0]).await, Hand::of(&stores[1]).await);
        let ends = async |by: &Hand, other: &Hand| loop {
            match by.fences(other).await {
                Ok(false) => {}
                fenced => break fenced,
            }
        };
        let ended = tokio::join!(ends(&one, &two), ends(&two, &one));
        let is_fenced = |ended: &Result<bool, StoreError>| matches!(ended, Err(StoreError::Fenced(_)));
        assert!(is_fenced(&ended.0) != is_fenced(&ended.1), "{ended:?}");
    }
}
