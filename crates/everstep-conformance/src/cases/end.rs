//! Ends of loads: what becomes of the run's row.

use everstep_core::{
    Status, Stuck, StuckReason, Timestamp,
    journal::Kind,
    store::{Claim, End, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{at, begins, cancel, claim, entry, finished, given_back, parked, post, steps, stuck, stuck_end},
};

pub(crate) async fn a_finished_run_is_over(desk: Desk) {
    let worker = desk.worker().await;
    let outcomes = [
        (Status::Completed, Kind::Completed),
        (Status::Failed, Kind::Failed),
        (Status::Cancelled, Kind::Cancelled),
    ];
    for (status, kind) in outcomes {
        let id = status.to_string();
        let mut load = worker.start(&id).await;
        let turn = Turn { entries: vec![entry(1, kind, "{}")], end: finished(status, 0), ..load.turn() };
        assert_eq!(load.commit(turn).await, Heard::Next(2));
        let row = desk.row(&id).await;
        assert_eq!((row.status, row.finished_at), (status, Some(at(9))));
        assert_eq!((row.owner, row.wake_at), (None, None));
        assert_eq!(desk.store.last(load.run).await.expect("reads"), Some(entry(1, kind, "{}")));
    }
    assert!(worker.claims(Claim { due: Timestamp::NEVER, ..claim() }).await.is_empty());
}

pub(crate) async fn only_outcomes_finish_a_run(desk: Desk) {
    let worker = desk.worker().await;
    for status in Status::ALL.into_iter().filter(|status| !status.is_over()) {
        let id = status.to_string();
        let mut load = worker.start(&id).await;
        let turn = Turn { entries: steps([1]), end: finished(status, 0), ..load.turn() };
        assert_eq!(load.commit(turn).await, Heard::Refused, "{status}");
        let row = desk.row(&id).await;
        assert_eq!((row.status, row.finished_at), (Status::Running, None));
        assert_eq!(desk.seqs(load.run).await, [0]);
    }
}

pub(crate) async fn a_parked_run_waits_for_its_time(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps([1]), end: parked(Some(at(500)), 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Waiting, None, Some(at(500))));
    assert_eq!(row.finished_at, None);
    assert!(worker.claims(Claim { due: at(499), ..claim() }).await.is_empty());
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(claimed.row.status, Status::Waiting);
}

pub(crate) async fn a_run_parked_for_ever_waits_for_a_letter(desk: Desk) {
    let worker = desk.worker().await;
    worker.brings("a", Status::Waiting).await;
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Waiting, None, None));
    assert!(worker.claims(Claim { due: Timestamp::NEVER, ..claim() }).await.is_empty());
    desk.post(post("a", 1)).await;
    worker.claims_one().await;
}

pub(crate) async fn a_stuck_run_says_why_and_is_left(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps([1]), end: stuck_end(0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Stuck, None, None));
    assert_eq!(row.finished_at, None, "it is not over");
    assert_eq!(desk.store.stuck(load.run).await.expect("reads"), Some(stuck()));
    assert!(worker.claims(Claim { due: Timestamp::NEVER, ..claim() }).await.is_empty());
}

pub(crate) async fn every_reason_to_be_stuck_comes_back(desk: Desk) {
    let worker = desk.worker().await;
    for (n, reason) in StuckReason::ALL.into_iter().enumerate() {
        let mut load = worker.start(&format!("run {n}")).await;
        let key = (n % 2 == 0).then(|| "left/ü#2".into());
        let why = Stuck { reason, key, detail: format!("\"{reason}\"\n") };
        let end = Some(End::Stuck { stuck: why.clone(), inbox_n: 0, at: at(9) });
        assert_eq!(load.ends(end).await, Heard::Next(1));
        assert_eq!(desk.store.stuck(load.run).await.expect("reads"), Some(why));
    }
}

pub(crate) async fn a_run_given_back_is_anybodys_from_its_time_on(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    assert_eq!(load.ends(given_back(at(500))).await, Heard::Next(1));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Pending, None, Some(at(500))));
    assert_eq!(row.takeovers, 0, "its worker has not died");
    assert!(other.claims(Claim { due: at(499), ..claim() }).await.is_empty());
    other.claims_one().await;
}

pub(crate) async fn an_end_that_missed_a_letter_changes_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let ends = |n| [finished(Status::Completed, n), parked(Some(at(5)), n), stuck_end(n)];
    for (n, (stale, fresh)) in ends(0).into_iter().zip(ends(1)).enumerate() {
        let id = format!("run {n}");
        let mut load = worker.start(&id).await;
        desk.post(post(&id, 1)).await;
        let before = desk.row(&id).await;
        let turn =
            Turn { entries: steps([1]), marks: vec![begins("k")], takes: vec![1], end: stale, ..load.turn() };
        assert_eq!(load.commit(turn.clone()).await, Heard::Moved(1));
        let loaded = desk.loaded(load.run).await;
        assert_eq!((loaded.entries.len(), loaded.inbox.len(), loaded.started.len()), (1, 1, 0));
        assert_eq!(desk.row(&id).await, before);
        assert_eq!(desk.store.stuck(load.run).await.expect("reads"), None);
        assert_eq!(load.commit(Turn { end: fresh, ..turn }).await, Heard::Next(2), "the load goes on");
    }
}

pub(crate) async fn after_moved_the_same_numbers_come_again(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    let turn = Turn { entries: steps(1..4), end: parked(None, 0), ..load.turn() };
    assert_eq!(load.commit(turn.clone()).await, Heard::Moved(1));
    assert_eq!(load.commit(turn).await, Heard::Moved(1), "as often as it is wrong");
    assert_eq!(load.adds(1..3).await, Heard::Next(3));
    assert_eq!(desk.seqs(load.run).await, [0, 1, 2]);
}

pub(crate) async fn an_end_that_counts_too_many_letters_has_moved_too(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.ends(parked(None, 1)).await, Heard::Moved(0));
    assert_eq!(load.ends(parked(None, u64::MAX)).await, Heard::Moved(0));
    assert_eq!(load.ends(parked(None, 0)).await, Heard::Next(1));
}

pub(crate) async fn an_end_counts_what_came_not_what_is_left(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    desk.post(post("a", 2)).await;
    let turn = Turn { entries: steps([1]), takes: vec![1], end: parked(None, 2), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(desk.letters(load.run).await, [2]);
}

pub(crate) async fn a_run_is_given_back_whatever_has_come(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    assert_eq!(load.ends(given_back(at(0))).await, Heard::Next(1));
    assert_eq!(desk.letters(load.run).await, [1]);
}

pub(crate) async fn a_wrong_turn_is_refused_even_if_the_run_has_moved(desk: Desk) {
    let worker = desk.worker().await;
    let wrong = [(steps([1, 3]), parked(None, 0)), (steps([1]), finished(Status::Running, 0))];
    for (n, (entries, end)) in wrong.into_iter().enumerate() {
        let id = format!("run {n}");
        let mut load = worker.start(&id).await;
        desk.post(post(&id, 1)).await;
        assert_eq!(load.commit(Turn { entries, end, ..load.turn() }).await, Heard::Refused);
    }
}

pub(crate) async fn a_stuck_run_that_is_given_back_stays_stuck(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    desk.post(cancel("a", 1)).await;
    let (_, mut load) = worker.claims_one().await;
    assert_eq!(desk.row("a").await.status, Status::Stuck, "also while a worker has it");
    assert_eq!(load.ends(given_back(Timestamp::NEVER)).await, Heard::Next(1));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.wake_at), (Status::Stuck, Some(Timestamp::NEVER)));
    assert_eq!(desk.store.stuck(run).await.expect("reads"), Some(stuck()));
}

pub(crate) async fn a_stuck_run_can_be_stuck_for_another_reason(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    desk.post(cancel("a", 1)).await;
    let (_, mut load) = worker.claims_one().await;
    let other = Stuck { reason: StuckReason::Diverged, key: None, detail: "other".into() };
    let end = Some(End::Stuck { stuck: other.clone(), inbox_n: 1, at: at(10) });
    assert_eq!(load.ends(end).await, Heard::Next(1));
    assert_eq!(desk.store.stuck(run).await.expect("reads"), Some(other));
    assert_eq!(desk.counts().await, [("flow".into(), Status::Stuck, 1)]);
}

pub(crate) async fn a_stuck_run_that_is_cancelled_needs_nobody(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    desk.post(cancel("a", 1)).await;
    let (_, mut load) = worker.claims_one().await;
    let entries = vec![entry(1, Kind::CancelAsked, "\"\""), entry(2, Kind::Cancelled, "\"\"")];
    let turn = Turn { entries, takes: vec![1], end: finished(Status::Cancelled, 1), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.finished_at), (Status::Cancelled, Some(at(9))));
    assert_eq!(desk.store.stuck(run).await.expect("reads"), None);
}
