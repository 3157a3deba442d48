//! A database that is away, silent or in the way: what callers hear meanwhile, and that all goes on by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use everstep_cluster::{
    Cluster, Mode, Private, Settings,
    proxy::{Direction, Fault, Moment, Proxy},
};
use everstep_core::{
    Ctx, Engine, Result, Signal, Status, Workflow,
    journal::{Kind, Payload},
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
    let (mut other, look) = (desk.connects().await, desk.connects().await);
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

/// Makes each letter that is written do this first.
fn before_letters(desk: &Desk, does: &str) {
    let (function, table) = (desk.table("does"), desk.table("everstep_inbox"));
    desk.run_sql(&format!(
        "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN new; END $$;
         CREATE TRIGGER does BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()"
    ));
}

/// What a letter's sender hears while the database cannot take it, and that it can be sent again afterwards.
async fn is_told(desk: &Desk, store: &Postgres, says: &str) {
    let Err(StoreError::Full(why)) = store.post(post("a", 1)).await else { panic!("it is posted") };
    assert!(why.contains(says) && why.contains("`deliver a letter`"), "{why}");
    desk.run_sql(&format!("DROP TRIGGER does ON {}", desk.table("everstep_inbox")));
    // Whoever comes while the writer waits a moment hears the same.
    while !matches!(store.post(post("a", 1)).await, Ok(Posted::Added)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_longer_than_its_limit_is_ended_and_told() {
    let desk = Desk::new();
    let store = desk.options().answer_limit(SECOND / 2).open(&Desk::url()).await.expect("opens");
    let mut held = Hand::of(&store).await.start(new_run("a")).await;
    before_letters(&desk, "PERFORM pg_sleep(3600)");
    is_told(&desk, &store, "57014").await;
    assert_eq!(held.adds(1).await, "next 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_put_in_an_order_is_told_after_some_tries() {
    let desk = Desk::new();
    let store = desk.open().await;
    let mut held = Hand::of(&store).await.start(new_run("a")).await;
    before_letters(&desk, "RAISE EXCEPTION 'never' USING ERRCODE = 'serialization_failure'");
    is_told(&desk, &store, "40001").await;
    assert_eq!(held.adds(1).await, "next 2");
}

/// A row that somebody else has locked for long: callers hear of it after one limit, and the turn of its run is written later.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_methods, reason = "how long people wait")]
async fn who_waits_for_a_lock_of_somebody_else_is_told_after_the_limit() {
    let desk = Desk::new();
    let store = desk.options().answer_limit(SECOND).open(&Desk::url()).await.expect("opens");
    let mut held = Hand::of(&store).await.start(new_run("a")).await;
    let mut other = desk.connects().await;
    let locked = other.transaction().await.expect("begins");
    let lock = format!("SELECT 1 FROM {} FOR UPDATE", desk.table("everstep_run"));
    locked.batch_execute(&lock).await.expect("locks");
    let began = Instant::now();
    let (one, other_one) = tokio::join!(store.post(post("a", 1)), store.start(vec![new_run("b")], None));
    let Err(StoreError::Full(why)) = one else { panic!("it is posted") };
    other_one.expect("nobody else hears of it");
    let took = began.elapsed();
    assert!(why.contains("`lock a run by its id`") && took < SECOND * 5, "after {took:?}: {why}");
    locked.rollback().await.expect("rolls back");
    assert_eq!(held.adds(1).await, "next 2");
}

/// The turns of all runs of a process stood behind the one whose row somebody else had locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_else_has_locked_waits_alone_and_in_its_order() {
    locked_run_waits_alone(Desk::new()).await;
}

/// Behind a pooler a session has no limits: each statement says its own.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_a_run_that_somebody_else_has_locked_waits_alone_too() {
    locked_run_waits_alone(Desk::pooled()).await;
}

async fn locked_run_waits_alone(desk: Desk) {
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let (mut held, mut free) = (hand.start(new_run("a")).await, hand.start(new_run("b")).await);
    let mut other = desk.connects().await;
    let locked = other.transaction().await.expect("begins");
    let row = format!("{} WHERE id = {}", desk.table("everstep_run"), held.run.0);
    locked.batch_execute(&format!("SELECT 1 FROM {row} FOR UPDATE")).await.expect("locks");
    let end = Some(End::Parked { wake_at: None, inbox_n: 0 });
    held.send(Turn { entries: vec![step(1)], end, ..held.turn() });
    held.send(Turn { entries: vec![step(2)], ..held.turn() });
    for next in 1..100 {
        assert_eq!(free.adds(next).await, format!("next {}", next + 1));
    }
    // The first of them has waited for the limit of a lock, and nobody since.
    let look = desk.connects().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    let of_it = format!(
        "SELECT 1 FROM \"{}\".everstep_run WHERE id = $1 FOR UPDATE",
        desk.table("").trim_end_matches('.')
    );
    while look.query_one(waiting, &[&of_it]).await.expect("looks").get::<_, i64>(0) < 1 {}
    locked.rollback().await.expect("rolls back");
    assert_eq!(held.hears().await, "next 2");
    assert!(held.hears().await.contains("has ended"), "after the end of its load");
}

/// The writer waited for that run's row, two seconds of every three, and everybody with it.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_run_that_somebody_else_has_locked_hold_up_no_others() {
    let desk = Desk::new();
    let hand = Hand::of(&desk.open().await).await;
    let (held, free) = (hand.start(new_run("a")).await, hand.start(new_run("b")).await);
    for id in ["a", "b"] {
        hand.store.post(post(id, 1)).await.expect("posts");
    }
    let mut other = desk.connects().await;
    let locked = other.transaction().await.expect("begins");
    let row = format!("{} WHERE id = {}", desk.table("everstep_run"), held.run.0);
    locked.batch_execute(&format!("SELECT 1 FROM {row} FOR UPDATE")).await.expect("locks");
    assert_eq!(hand.store.nudged(hand.fence).await.expect("looks"), [free.run]);
    locked.rollback().await.expect("rolls back");
    assert_eq!(hand.store.nudged(hand.fence).await.expect("looks"), [held.run]);
}

/// While it is on its way its transaction stands still for the server, which ended that after a second, and each repeat of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_is_written_over_a_slow_line() {
    let large = Payload::json(format!("\"{}\"", "x".repeat(1_000_000)));
    for pooled in [false, true] {
        let desk = Desk::new();
        let proxy = Proxy::start(&Desk::url()).await.expect("listens");
        let store = desk.options().pooled(pooled).open(&proxy.url()).await.expect("opens");
        let hand = Hand::of(&store).await;
        let mut held = hand.start(new_run("a")).await;
        proxy.set(Fault::Slow(Direction::ToServer, 50_000, SECOND / 10));
        let mut entry = step(1);
        entry.body = large.clone();
        assert_eq!(held.commit(Turn { entries: vec![entry], ..held.turn() }).await, "next 2");
        let mut letter = post("a", 1);
        letter.letter.body = large.clone();
        assert_eq!(store.post(letter).await.expect("posts"), Posted::Added);
        proxy.heal().await;
    }
}

/// The writer had the whole journal in memory, and the server ended the transaction that stood still meanwhile: for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_journal_that_begins_anew_is_archived_in_parts_and_comes_back_whole() {
    const ENTRIES: u64 = 20_000;
    let desk = Desk::new();
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let mut held = hand.start(new_run("a")).await;
    held.adds(1).await;
    let turn = Turn { entries: (2..ENTRIES).map(step).collect(), ..held.turn() };
    assert_eq!(held.commit(turn).await, format!("next {ENTRIES}"));
    let first = entry(0, Kind::Started, "{}");
    assert_eq!(held.ends(Some(End::Restarted { first: Box::new(first) })).await, format!("next {ENTRIES}"));
    let kept = store.kept(held.run).await.expect("reads");
    let [archived] = &kept.archive[..] else { panic!("{} archives", kept.archive.len()) };
    assert!(archived.entries.iter().map(|entry| entry.seq).eq(0..ENTRIES));
    let rows = format!("SELECT count(*) FROM {}", desk.table("everstep_archive"));
    let rows = desk.connects().await.query_one(&rows, &[]).await.expect("looks").get::<_, i64>(0);
    assert!(rows > 5, "{rows} rows");
}
