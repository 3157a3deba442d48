//! What comes late, and what is seen too early: statements that a server executes when nobody waits for them any more, and
//! answers that have meanwhile become another's.

use std::time::Duration;

use everstep_cluster::proxy::{Direction, Fault, Moment};
use everstep_core::{
    Status,
    journal::Kind,
    store::{End, Inspect as _, Posted, Started, Store as _, Turn},
};

use crate::{
    hand::{Hand, at, entry, finished, new_run, parked, post, step, told},
    world::{World, another_client},
};

/// Nothing is answered for so long: short, because two tests wait for it.
const LIMIT: Duration = Duration::from_secs(1);

/// An end without entries that nobody waits for any more is executed when its run is in the same worker's memory again.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_late_frees_no_later_load() {
    let ends = [End::GivenBack { wake_at: at(0) }, End::Parked { wake_at: Some(at(0)), inbox_n: 0 }];
    for end in ends {
        let world = World::with(|options| options.answer_limit(LIMIT)).await;
        let (hand, near) = (Hand::of(&world.store).await, world.desk.open().await);
        let mut held = hand.start(new_run("a")).await;
        let backend = world.writer().await;
        let is_end = |text: &str| text.contains("RETURNING r.id");
        let late = world.proxy.at(Moment::before("UPDATE").if_it(is_end), Fault::Hold(Direction::ToServer));
        assert_eq!(held.ends(Some(end)).await, "next 1");
        late.happened().await;
        let (_, mut again) = hand.claims().await.pop().expect("it is due");
        world.proxy.heal().await;
        world.ended(backend).await;
        assert_eq!(Hand::of(&near).await.claims().await.len(), 0, "somebody has it");
        assert_eq!(again.adds(1).await, "next 2");
    }
}

/// One statement is committed that wrote a turn and a start, and the run that has the start's id is gone before anybody
/// looks at it: the turn is told that it is written, and the start is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_there_though_what_followed_its_statement_failed() {
    for end in [None, parked()] {
        let world = World::new().await;
        let hand = Hand::of(&world.store).await;
        let (mut held, mut busy) = (hand.start(new_run("a")).await, hand.start(new_run("b")).await);
        let known = hand.start(new_run("x")).await;
        let mut other = another_client().await;
        let blocking = other.transaction().await.expect("begins");
        blocking.batch_execute(&world.takes_place(busy.run, 1)).await.expect("nobody is there yet");
        busy.send(Turn { entries: vec![step(1)], ..busy.turn() });
        world.waiting(1).await;
        // Both wait for the writer, and so come together.
        held.send(Turn { entries: vec![step(1)], end, ..held.turn() });
        let start = world.store.start(vec![new_run("x")], None);
        let looks = world.proxy.at(Moment::before("WHERE r.text_id = $1"), Fault::Hold(Direction::Both));
        blocking.rollback().await.expect("rolls back");
        looks.happened().await;
        let gone = ["run", "journal"].map(|table| {
            let id = if table == "run" { "id" } else { "run" };
            format!("DELETE FROM {} WHERE {id} = {}", world.table(table), known.run.0)
        });
        world.direct.batch_execute(&gone.join(";")).await.expect("deletes");
        world.proxy.heal().await;
        assert_eq!(busy.hears().await, "next 2");
        assert_eq!(held.hears().await, "next 2");
        let is_new = |answers: &Vec<Started>| matches!(answers[..], [Started::New(_)]).to_string();
        assert_eq!(told(&start.await, is_new), "true");
    }
}

/// A turn was never written; before that is seen, its worker is fenced, and another writes an entry of the same number.
#[tokio::test(flavor = "multi_thread")]
async fn another_workers_entry_is_not_taken_for_ones_own() {
    let world = World::new().await;
    let (hand, near) = (Hand::of(&world.store).await, world.desk.open().await);
    let mut held = hand.start(new_run("a")).await;
    let cut = world
        .proxy
        .at(Moment::before("INSERT INTO").if_it(|text| text.contains("everstep_journal")), Fault::Cut);
    let looks =
        world.proxy.at(Moment::before("j.run = u.run AND j.seq = u.seq"), Fault::Hold(Direction::Both));
    held.send(Turn { entries: vec![entry(1, Kind::Completed, "1")], end: finished(), ..held.turn() });
    cut.happened().await;
    looks.happened().await;
    let other = Hand::of(&near).await;
    assert_eq!(other.takes_over(&hand).await, 1);
    let (_, mut taken) = other.claims().await.pop().expect("it is free");
    assert_eq!(taken.adds(1).await, "next 2");
    world.proxy.heal().await;
    assert_eq!(held.hears().await, "fenced");
}

/// A worker comes back whose run another has begun anew meanwhile, so that its journal is shorter than the worker remembers:
/// that is no damage, and nothing of this worker's.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_worker_sets_no_run_aside_and_its_store_goes_on() {
    let world = World::new().await;
    let (hand, near) = (Hand::of(&world.store).await, world.desk.open().await);
    let mut held = hand.start(new_run("a")).await;
    held.adds(1).await;
    let other = Hand::of(&near).await;
    assert_eq!(other.takes_over(&hand).await, 1);
    let (_, mut taken) = other.claims().await.pop().expect("it is free");
    let first = Box::new(entry(0, Kind::Started, "[2]"));
    taken.ends(Some(End::Restarted { first })).await;
    let again = near.reload(other.fence, taken.run).await.expect("asks").expect("is its own");
    assert_eq!(other.held(&again).ends(parked()).await, "next 1");
    world.proxy.set(Fault::Cut);
    world.proxy.heal().await;
    assert_eq!(held.adds(2).await, "fenced");
    let run = near.run("a".into()).await.expect("reads").expect("is there");
    assert_eq!(run.status, Status::Waiting);
    Hand::of(&world.store).await.start(new_run("b")).await;
}

/// Between a claim's look at what is due and its lock on a run, somebody else has had that run: its journal goes on where
/// he left it.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_goes_on_where_the_journal_ends_when_the_run_is_locked() {
    let world = World::new().await;
    let hand = Hand::of(&world.store).await;
    let mut held = hand.start(new_run("a")).await;
    held.ends(Some(End::Parked { wake_at: Some(at(0)), inbox_n: 0 })).await;
    let (run, journal, waits) = (world.table("run"), world.table("journal"), world.desk.table("waits"));
    // Whoever looks at a run waits until a lock is free, in the middle of the statement.
    let slow = format!(
        "ALTER TABLE {run} RENAME TO real_run;
         CREATE FUNCTION {waits}() RETURNS bool LANGUAGE plpgsql AS
           'BEGIN PERFORM pg_advisory_xact_lock_shared(hashtext(''{waits}'')); RETURN true; END';
         CREATE VIEW {run} AS SELECT * FROM {} WHERE {waits}()",
        world.desk.table("real_run")
    );
    world.direct.batch_execute(&slow).await.expect("is put before it");
    let blocking = another_client().await;
    let lock = |what: &str| format!("SELECT pg_advisory_{what}(hashtext('{waits}'))");
    blocking.batch_execute(&lock("lock")).await.expect("locks");
    let claims = tokio::spawn(async move { hand.claims().await });
    world.waiting(1).await;
    let moves = format!(
        "INSERT INTO {journal} (run, seq, at, build, fingerprint, attempt, kind, codec, body)
           SELECT {}, n, 0, 0, 0, 0, 10, 0, '1' FROM generate_series(1, 3) AS g(n);
         UPDATE {} SET wake_at = 1",
        held.run.0,
        world.desk.table("real_run")
    );
    world.direct.batch_execute(&moves).await.expect("nobody has locked it");
    blocking.batch_execute(&lock("unlock")).await.expect("unlocks");
    let (_, mut taken) = claims.await.expect("no panic").pop().expect("it is due");
    assert_eq!(taken.adds(4).await, "next 5");
}

/// One of two turns of one statement, in a transaction with more, cannot be written: the other one can.
#[tokio::test(flavor = "multi_thread")]
async fn the_turn_that_is_to_blame_is_found_among_several() {
    let world = World::new().await;
    let hand = Hand::of(&world.store).await;
    let (mut good, mut bad) = (hand.start(new_run("a")).await, hand.start(new_run("b")).await);
    let mut busy = hand.start(new_run("c")).await;
    let mut other = another_client().await;
    let blocking = other.transaction().await.expect("begins");
    blocking.batch_execute(&world.takes_place(busy.run, 1)).await.expect("nobody is there yet");
    busy.send(Turn { entries: vec![step(1)], ..busy.turn() });
    world.waiting(1).await;
    world.direct.batch_execute(&world.takes_place(bad.run, 1)).await.expect("somebody has damaged it");
    // All wait for the writer, and so come together.
    good.send(Turn { entries: vec![step(1)], ..good.turn() });
    bad.send(Turn { entries: vec![step(1)], ..bad.turn() });
    let posted = world.store.post(post("a", 1));
    blocking.rollback().await.expect("rolls back");
    assert_eq!(busy.hears().await, "next 2");
    assert_eq!(good.hears().await, "next 2");
    let told = bad.hears().await;
    assert!(told.contains("23505"), "{told}");
    assert_eq!(posted.await.expect("posts"), Posted::Added);
}
