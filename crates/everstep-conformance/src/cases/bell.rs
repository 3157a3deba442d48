//! The bell: a hint that is never lost.

use everstep_core::{
    Status,
    journal::{Kind, Outcome, Payload},
    store::{Ended, Hearer, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{
        at, cut, emits, entry, finished, given_back, parked, post, publishes, run_of, sets, steps, stuck_end,
    },
    worker::Worker,
};

/// A bell that says nothing until it is rung again.
fn quiet(mut bell: Hearer<u64>) -> Hearer<u64> {
    bell.mark_unchanged();
    bell
}

async fn rings(mut bell: Hearer<u64>) {
    bell.changed().await.expect("the store is open");
}

pub(crate) async fn a_start_rings_for_claimers(desk: Desk) {
    let bell = quiet(desk.store.bell().claimable());
    desk.start(vec![run_of("flow", "a", at(9000))]).await;
    rings(bell).await;
}

pub(crate) async fn a_run_with_a_new_time_rings_for_claimers(desk: Desk) {
    let worker = desk.worker().await;
    for (n, end) in [parked(Some(at(9000)), 0), given_back(at(9000))].into_iter().enumerate() {
        let mut load = worker.start(&format!("run {n}")).await;
        let bell = quiet(desk.store.bell().claimable());
        assert_eq!(load.ends(end).await, Heard::Next(1));
        rings(bell).await;
    }
}

pub(crate) async fn a_letter_to_a_free_run_rings_for_claimers(desk: Desk) {
    desk.worker().await.brings("a", Status::Waiting).await;
    let bell = quiet(desk.store.bell().claimable());
    desk.post(post("a", 1)).await;
    rings(bell).await;
}

pub(crate) async fn a_letter_to_an_owned_run_rings_for_its_worker(desk: Desk) {
    desk.worker().await.start("a").await;
    let bell = quiet(desk.store.bell().inbox());
    desk.post(post("a", 1)).await;
    rings(bell).await;
}

pub(crate) async fn a_freed_run_rings_for_claimers(desk: Desk) {
    let (worker, leaver, taker) = (desk.worker().await, desk.worker().await, desk.worker().await);
    worker.start("a").await;
    leaver.start("b").await;
    let bell = quiet(desk.store.bell().claimable());
    taker.takes_over(&worker).await;
    rings(bell).await;
    let bell = quiet(desk.store.bell().claimable());
    desk.store.leave(leaver.fence).await.expect("leaves");
    rings(bell).await;
}

pub(crate) async fn a_cut_rings_for_claimers(desk: Desk) {
    let run = desk.worker().await.brings("a", Status::Failed).await;
    let bell = quiet(desk.store.bell().claimable());
    assert!(desk.cut(cut(run, 0, 1)).await.expect("cuts"));
    rings(bell).await;
}

/// What a listener hears of a run that ends with this entry.
async fn heard(worker: &Worker, id: &str, status: Status, kind: Kind, body: &str) -> Ended {
    let mut load = worker.start(id).await;
    let mut listener = worker.desk.store.bell().listen(load.run);
    let turn = Turn { entries: vec![entry(1, kind, body)], end: finished(status, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    listener.ended().await.expect("rung")
}

pub(crate) async fn listeners_hear_how_a_run_ended(desk: Desk) {
    let worker = desk.worker().await;
    let completed = heard(&worker, "a", Status::Completed, Kind::Completed, "\"done\"").await;
    assert_eq!(completed.status, Status::Completed);
    assert_eq!(completed.outcome, Some(Outcome::Completed(Payload::json("\"done\""))));
    let cancelled = heard(&worker, "b", Status::Cancelled, Kind::Cancelled, "\"why\"").await;
    assert_eq!(cancelled.status, Status::Cancelled);
    assert_eq!(cancelled.outcome, Some(Outcome::Cancelled("why".into())));
}

pub(crate) async fn an_outcome_that_cannot_be_read_is_left_to_the_reader(desk: Desk) {
    let worker = desk.worker().await;
    for (id, status, kind) in [("a", Status::Failed, Kind::Failed), ("b", Status::Cancelled, Kind::Cancelled)]
    {
        let ended = heard(&worker, id, status, kind, "no JSON").await;
        assert_eq!((ended.status, ended.outcome), (status, None));
    }
}

pub(crate) async fn listeners_hear_that_a_run_is_stuck(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let mut listener = desk.store.bell().listen(load.run);
    assert_eq!(load.ends(stuck_end(0)).await, Heard::Next(1));
    let ended = listener.ended().await.expect("rung");
    assert_eq!((ended.status, ended.outcome), (Status::Stuck, None));
}

pub(crate) async fn listeners_hear_of_their_own_run_and_of_its_end_alone(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    let mut listener = desk.store.bell().listen(a.run);
    desk.post(post("a", 1)).await;
    assert_eq!(a.ends(finished(Status::Completed, 0)).await, Heard::Moved(1), "this is no end");
    assert_eq!(b.ends(finished(Status::Completed, 0)).await, Heard::Next(1), "this is another's");
    assert!(desk.store.bell().has_listeners());
    assert_eq!(a.ends(finished(Status::Failed, 1)).await, Heard::Next(1));
    assert_eq!(listener.ended().await.map(|ended| ended.status), Some(Status::Failed));
}

pub(crate) async fn readers_hear_of_what_their_run_says(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    let says =
        [publishes("total", 1, "1"), emits("log", 0), sets("team", Some("x".into())), sets("team", None)];
    for say in says {
        let mut reading = desk.store.bell().read(a.run);
        assert_eq!(a.commit(Turn { says: vec![say], ..a.turn() }).await, Heard::Next(1));
        reading.said().await;
    }
    assert_eq!(desk.store.stream(a.run, "log".into(), 0, 9).await.expect("reads").len(), 1);
    let reading = desk.store.bell().read(a.run);
    assert_eq!(b.commit(Turn { says: vec![emits("log", 0)], ..b.turn() }).await, Heard::Next(1));
    assert_eq!(a.adds([1]).await, Heard::Next(2));
    assert_eq!(a.commit(Turn { says: vec![emits("log", 0)], ..a.turn() }).await, Heard::Refused);
    // Whatever else is rung for is rung by the time that a later call is answered.
    desk.start_pending("c").await;
    assert!(!reading.has_said());
}

pub(crate) async fn durable_turns_ring_after_their_receipts(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    for seq in 1..5 {
        let mut bell = quiet(desk.store.bell().settled());
        load.send(Turn { entries: steps([seq]), ..load.turn() });
        // It may ring for something else before; without a ring after the receipt this never ends.
        while !load.has_unheard() {
            bell.changed().await.expect("the store is open");
        }
        assert_eq!(load.hears().await, Heard::Next(seq + 1));
    }
}

pub(crate) async fn other_openings_hear_of_commits(desk: Desk) {
    let other = desk.another().await;
    let bell = quiet(desk.store.bell().foreign());
    other.start_pending("a").await;
    rings(bell).await;
    assert_eq!(desk.row("a").await.status, Status::Pending, "who hears of it can read it");
    let worker = other.worker().await;
    let (_, mut load) = worker.claims_one().await;
    let bell = quiet(desk.store.bell().foreign());
    // What concerns nobody but its worker need not be told: an end concerns whoever waits for it.
    assert_eq!(load.adds([1]).await, Heard::Next(2));
    assert_eq!(load.ends(finished(Status::Completed, 0)).await, Heard::Next(2));
    rings(bell).await;
}
