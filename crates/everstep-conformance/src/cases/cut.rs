//! Cuts: a person takes the end of a journal back.

use everstep_core::{
    Status, StatusSet, Timestamp,
    journal::Kind,
    store::{Cut, Posted, RunId, StoreError, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{at, begins, claim, cut, entry, finished, given_back, letter, parked, post, steps},
    worker::Worker,
};

/// A failed run with entries 0 to 4.
async fn failed(worker: &Worker, id: &str) -> RunId {
    let mut load = worker.start(id).await;
    let mut entries = steps(1..4);
    entries.push(entry(4, Kind::Failed, "{}"));
    let turn = Turn { entries, end: finished(Status::Failed, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(5));
    load.run
}

pub(crate) async fn a_cut_takes_the_end_of_the_journal_back(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    assert!(desk.cut(cut(run, 0, 2)).await.expect("cuts"));
    assert_eq!(desk.loaded(run).await.entries[1..], steps(1..2));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner), (Status::Pending, None));
    assert_eq!((row.wake_at, row.finished_at), (Some(Timestamp(0)), None));
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 1)]);
}

pub(crate) async fn a_run_goes_on_where_it_was_cut(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    assert!(desk.cut(cut(run, 0, 2)).await.expect("cuts"));
    let (claimed, mut load) = worker.claims_one().await;
    assert_eq!(claimed.row.status, Status::Pending);
    assert_eq!(load.adds(2..6).await, Heard::Next(6));
    assert_eq!(desk.loaded(run).await.entries[1..], steps(1..6));
}

pub(crate) async fn a_cut_behind_the_end_only_sets_the_run_going(desk: Desk) {
    let worker = desk.worker().await;
    for (n, from) in [5, 6, u64::MAX].into_iter().enumerate() {
        let run = failed(&worker, &format!("run {n}")).await;
        assert!(desk.cut(cut(run, 0, from)).await.expect("cuts"));
        assert_eq!(desk.seqs(run).await, [0, 1, 2, 3, 4]);
        let (_, mut load) = worker.claims_one().await;
        assert_eq!(load.adds([5]).await, Heard::Next(6));
    }
}

pub(crate) async fn a_cut_may_leave_the_first_entry_alone(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    assert!(desk.cut(cut(run, 0, 1)).await.expect("cuts"));
    assert_eq!(desk.seqs(run).await, [0]);
}

pub(crate) async fn the_first_entry_cannot_be_cut_off(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    let refused = desk.cut(cut(run, 0, 0)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(desk.seqs(run).await, [0, 1, 2, 3, 4]);
    assert_eq!(desk.row("a").await.status, Status::Failed);
}

pub(crate) async fn a_run_that_has_moved_is_not_cut(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    let before = desk.row("a").await;
    let right = Cut { letters: vec![letter(1)], ..cut(run, 0, 2) };
    let moved = [
        Cut { inbox_n: 1, ..right.clone() },
        Cut { inbox_n: u64::MAX, ..right.clone() },
        Cut { last: Some(3), ..right.clone() },
        Cut { last: Some(5), ..right.clone() },
        Cut { only: StatusSet::of(&[Status::Stuck, Status::Pending]), ..right.clone() },
    ];
    for wrong in moved {
        assert!(!desk.cut(wrong).await.expect("looks"));
    }
    assert_eq!((desk.row("a").await, desk.seqs(run).await.len()), (before, 5), "nothing has changed");
    assert!(desk.letters(run).await.is_empty());
    let only = StatusSet::of(&[Status::Failed]);
    assert!(desk.cut(Cut { only, last: Some(4), ..right }).await.expect("cuts"));
}

pub(crate) async fn a_cut_is_made_once(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    let once = Cut { only: StatusSet::of(&[Status::Failed]), ..cut(run, 0, 3) };
    assert!(desk.cut(once.clone()).await.expect("cuts"));
    assert!(!desk.cut(once).await.expect("looks"), "it is pending now");
    assert_eq!(desk.seqs(run).await, [0, 1, 2]);
}

pub(crate) async fn a_run_that_a_worker_has_is_not_cut(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.adds(1..3).await, Heard::Next(3));
    assert!(!desk.cut(cut(load.run, 0, 1)).await.expect("looks"));
    assert_eq!(load.adds([3]).await, Heard::Next(4));
}

pub(crate) async fn a_run_that_never_was_is_not_cut(desk: Desk) {
    let run = desk.start_pending("a").await;
    for missing in [run.0 + 1, 0, -1, i64::MIN, i64::MAX] {
        assert!(!desk.cut(cut(RunId(missing), 0, 1)).await.expect("looks"));
    }
}

pub(crate) async fn a_cut_puts_letters_into_the_inbox(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    let letters = vec![letter(7), letter(8)];
    assert!(desk.cut(Cut { letters, ..cut(run, 0, 2) }).await.expect("cuts"));
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    let told: Vec<_> = inbox.iter().map(|received| (received.n, received.letter.clone())).collect();
    assert_eq!(told, [(1, letter(7)), (2, letter(8))]);
    assert_eq!(desk.row("a").await.inbox_n, 2);
    assert_eq!(desk.post(post("a", 7)).await, Posted::Known);
}

pub(crate) async fn a_cut_does_not_double_a_known_letter(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    desk.post(post("a", 2)).await;
    let turn = Turn { entries: steps([1]), takes: vec![1], end: parked(None, 2), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let letters = vec![letter(1), letter(2), letter(3), letter(3)];
    assert!(desk.cut(Cut { letters, ..cut(load.run, 2, 2) }).await.expect("cuts"));
    let inbox = desk.store.inbox(load.run, 0).await.expect("reads");
    let told: Vec<_> = inbox.iter().map(|received| (received.n, received.letter.id.0)).collect();
    assert_eq!(told, [(2, 2), (3, 3)], "1 was taken, 2 is there, 3 comes once");
    assert_eq!(desk.row("a").await.inbox_n, 3);
}

pub(crate) async fn a_cut_forgets_takeovers(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps([1]), marks: vec![begins("k")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    taker.takes_over(&worker).await;
    assert_eq!(desk.row("a").await.takeovers, 1);
    assert!(desk.cut(cut(load.run, 0, u64::MAX)).await.expect("cuts"));
    assert_eq!(desk.row("a").await.takeovers, 0);
    taker.claims_one().await;
    let third = desk.worker().await;
    third.takes_over(&taker).await;
    assert_eq!(desk.row("a").await.takeovers, 1, "counted from there on");
}

pub(crate) async fn a_cut_forgets_why_the_run_was_stuck(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    assert!(desk.cut(cut(run, 0, u64::MAX)).await.expect("cuts"));
    assert_eq!(desk.store.stuck(run).await.expect("reads"), None);
    assert_eq!(desk.row("a").await.status, Status::Pending);
}

pub(crate) async fn a_cut_wakes_a_run_that_waits(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    assert_eq!(a.ends(parked(None, 0)).await, Heard::Next(1));
    assert_eq!(b.ends(given_back(at(9000))).await, Heard::Next(1));
    for (id, run, status) in [("a", a.run, Status::Waiting), ("b", b.run, Status::Pending)] {
        assert!(desk.cut(cut(run, 0, u64::MAX)).await.expect("cuts"));
        let row = desk.row(id).await;
        assert_eq!((row.status, row.wake_at), (status, Some(Timestamp(0))));
    }
    assert_eq!(worker.claims(claim()).await.len(), 2);
}
