//! A database that is away, silent or in the way: what callers hear meanwhile, and that all goes on by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use everstep_cluster::{
    Cluster, Mode, Private, Settings,
    proxy::{Direction, Fault, Moment, Proxy},
};
use everstep_core::{
    Ctx, Engine, Result, Signal, Status, Workflow,
    journal::Kind,
    store::{Doomed, End, Inspect as _, Posted, Store as _, StoreError, Turn},
};
use everstep_postgres::Postgres;

use crate::{
    fixture::Desk,
    hand::{Hand, entry, new_run, post, step},
};

const WAITS: Workflow<(), usize> = Workflow::new("waits");
const GO: Signal<()> = Signal::new("go");
const SECOND: Duration = Duration::from_secs(1);

async fn waits(ctx: Ctx, (): (), done: Arc<AtomicUsize>) -> Result<usize> {
    let first = ctx.step("first", async || Ok(done.fetch_add(1, Ordering::Relaxed))).await?;
    ctx.signal(GO).await?;
    ctx.step("second", async || Ok(done.fetch_add(1, Ordering::Relaxed) - first)).await
}

/// Takes the server away under an engine, and gives it back.
async fn outage(away: impl FnOnce(&Private)) {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    let store = Postgres::open(&cluster.url("postgres")).await.expect("opens");
    let done = Arc::new(AtomicUsize::new(0));
    let engine =
        Engine::builder(store).state(done.clone()).register(WAITS, waits).start().await.expect("starts");
    let run = engine.start(WAITS, "a", ()).await.expect("starts");
    while done.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    away(&cluster);
    loop {
        let error = engine.start(WAITS, "b", ()).await.expect_err("there is no server").to_string();
        if error.contains("PostgreSQL cannot be reached now") {
            break;
        }
    }
    cluster.start().expect("starts");
    while engine.signal("a", GO, ()).await.is_err() {}
    assert_eq!(run.result().await.expect("goes on"), 1);
    assert_eq!(done.load(Ordering::Relaxed), 2, "no step ran twice");
    engine.shutdown().await.expect("shuts down");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_when_a_server_that_was_stopped_is_back() {
    outage(|cluster| cluster.stop(Mode::Fast).expect("stops")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_when_a_server_that_was_stopped_at_once_is_back() {
    outage(|cluster| cluster.stop(Mode::Immediate).expect("stops")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_when_a_server_that_was_killed_is_back() {
    outage(|cluster| cluster.kill().expect("is killed")).await;
}

/// The turn of a run that is under way waits, and is written once.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_waits_for_the_server_and_is_written_once() {
    let cluster = Cluster::private(Settings::default()).expect("starts");
    let store = Postgres::open(&cluster.url("postgres")).await.expect("opens");
    let hand = Hand::of(&store).await;
    let mut held = hand.start(new_run("a")).await;
    cluster.kill().expect("is killed");
    held.send(Turn { entries: vec![step(1)], ..held.turn() });
    let said = store.post(post("a", 1)).await.expect_err("there is no server").to_string();
    assert!(said.contains("cannot be reached"), "{said}");
    cluster.start().expect("starts");
    assert_eq!(held.hears().await, "next 2");
    assert_eq!(held.adds(2).await, "next 3");
}

/// One connection is a black hole, at each moment of a turn and of a transaction: it is given up, and another one answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stays_silent_is_given_up() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("listens");
    let store = desk.options().answer_limit(SECOND / 2).open(&proxy.url()).await.expect("opens");
    let hand = Hand::of(&store).await;
    let mut held = hand.start(new_run("a")).await;
    let moments = [Moment::before("everstep_journal"), Moment::after("everstep_journal")];
    for (next, moment) in (1..).zip(moments) {
        let hole = proxy.at(moment, Fault::Hold(Direction::Both));
        assert_eq!(held.adds(next).await, format!("next {}", next + 1));
        assert_eq!(hole.count(), 1);
    }
    let commits: [fn(&str) -> Moment; 2] = [Moment::before, Moment::after];
    for (id, moment) in (1..).zip(commits) {
        let hole = proxy.at(moment("COMMIT").if_it(|text| text == "COMMIT"), Fault::Hold(Direction::Both));
        assert_eq!(store.post(post("a", id)).await.expect("posts"), Posted::Added);
        assert_eq!(hole.count(), 1);
    }
    assert_eq!(store.inbox(held.run, 0).await.expect("reads").len(), 2, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closed_while_nothing_answers_ends() {
    let desk = Desk::new();
    let proxy = Proxy::start(&Desk::url()).await.expect("listens");
    let store = desk.options().answer_limit(SECOND * 3600).open(&proxy.url()).await.expect("opens");
    let hand = Hand::of(&store).await;
    let mut held = hand.start(new_run("a")).await;
    let hole = proxy.at(Moment::before("everstep_journal"), Fault::Hold(Direction::Both));
    held.send(Turn { entries: vec![step(1)], ..held.turn() });
    hole.happened().await;
    proxy.set(Fault::Hold(Direction::Both));
    held.hand.store = desk.open().await;
    let closed = tokio::task::spawn_blocking(move || drop((store, hand)));
    assert!(held.hears().await.contains("Closed"));
    closed.await.expect("it ends");
}

/// A real deadlock, of which our transaction is the victim.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_repeated() {
    let desk = Desk::new();
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let mut doomed = Vec::new();
    for id in ["a", "b"] {
        let mut held = hand.start(new_run(id)).await;
        let end = Some(End::Finished { status: Status::Completed, inbox_n: 0, at: crate::hand::at(9) });
        held.commit(Turn { entries: vec![entry(1, Kind::Completed, "1")], end, ..held.turn() }).await;
        doomed.push(Doomed {
            run: held.run,
            status: Status::Completed,
            generation: 0,
            inbox_n: 0,
            began: true,
        });
    }
    let mut other = Cluster::shared().expect("a server").connect("postgres").await.expect("connects");
    let look = Cluster::shared().expect("a server").connect("postgres").await.expect("connects");
    other.batch_execute("SET deadlock_timeout = '1h'").await.expect("is never the victim");
    let blocking = other.transaction().await.expect("begins");
    let lock = |run: i64| format!("SELECT 1 FROM {} WHERE id = {run} FOR UPDATE", desk.table("everstep_run"));
    blocking.batch_execute(&lock(doomed[1].run.0)).await.expect("locks");
    let (first, deleted) = (doomed[0].run.0, store.delete(doomed));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    let schema = format!("%{}%", desk.table("").trim_end_matches('.'));
    while look.query_one(waiting, &[&schema]).await.expect("looks").get::<_, i64>(0) < 1 {}
    blocking.batch_execute(&lock(first)).await.expect("ours was rolled back");
    blocking.rollback().await.expect("rolls back");
    assert_eq!(deleted.await.expect("is repeated"), [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_is_told_with_its_state_and_the_statement() {
    let desk = Desk::new();
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let mut held = hand.start(new_run("a")).await;
    desk.run_sql(&format!("ALTER TABLE {} ADD CHECK (name <> 'go')", desk.table("everstep_inbox")));
    let Err(StoreError::Failed(why)) = store.post(post("a", 1)).await else { panic!("it is posted") };
    assert!(why.contains("23514") && why.contains("`deliver a letter`"), "{why}");
    assert_eq!(held.adds(1).await, "next 2", "nobody else is hindered");
}
