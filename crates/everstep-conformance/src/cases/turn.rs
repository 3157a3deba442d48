//! Turns: what a load may write, and that nothing else passes.

use everstep_core::{
    Status,
    store::{LoadId, Mark, Posted, RunId, StartedRow, Turn},
};

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{at, begins, claim, finished, given_back, parked, post, started, steps, stuck_end},
};

/// The keys of a run's started rows, with attempt and whether they are abandoned.
async fn marks(desk: &Desk, load: &Load) -> Vec<(String, u32, bool)> {
    let rows = desk.loaded(load.run).await.started;
    rows.iter().map(|row| (row.key.to_string(), row.attempt, row.abandoned)).collect()
}

pub(crate) async fn entries_are_appended(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.adds(1..2).await, Heard::Next(2));
    assert_eq!(load.adds(2..5).await, Heard::Next(5));
    assert_eq!(desk.loaded(load.run).await.entries[1..], steps(1..5));
}

pub(crate) async fn a_turn_with_nothing_in_it_is_durable(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.adds([]).await, Heard::Next(1));
    assert_eq!(load.adds([1]).await, Heard::Next(2));
    assert_eq!(load.adds([]).await, Heard::Next(2));
}

pub(crate) async fn a_gap_inside_a_turn_is_refused(desk: Desk) {
    let worker = desk.worker().await;
    for (n, seqs) in [[1, 3], [1, 1], [1, 0], [1, u64::MAX]].into_iter().enumerate() {
        let mut load = worker.start(&format!("run {n}")).await;
        assert_eq!(load.adds(seqs).await, Heard::Refused, "{seqs:?}");
        assert_eq!(desk.seqs(load.run).await, [0]);
    }
}

pub(crate) async fn a_wrong_first_number_is_refused(desk: Desk) {
    let worker = desk.worker().await;
    for seq in [0, 2, u64::MAX - 1, u64::MAX] {
        let mut load = worker.start(&format!("run {seq}")).await;
        assert_eq!(load.adds([seq]).await, Heard::Refused, "{seq}");
        assert_eq!(desk.seqs(load.run).await, [0]);
    }
}

pub(crate) async fn a_number_is_written_once(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.adds(1..3).await, Heard::Next(3));
    let mut changed = steps(2..3);
    changed[0].fingerprint = 99;
    assert_eq!(load.commit(Turn { entries: changed, ..load.turn() }).await, Heard::Refused);
    assert_eq!(desk.loaded(load.run).await.entries[1..], steps(1..3));
}

/// faults.md row 23: status and journal change together or not at all.
pub(crate) async fn a_refused_turn_writes_nothing(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    let before = desk.row("a").await;
    let turn = Turn {
        entries: steps([1, 3]),
        marks: vec![begins("k")],
        takes: vec![1],
        end: given_back(at(0)),
        ..load.turn()
    };
    assert_eq!(load.commit(turn).await, Heard::Refused);
    let loaded = desk.loaded(load.run).await;
    assert_eq!((loaded.entries.len(), loaded.inbox.len(), loaded.started.len()), (1, 1, 0));
    assert_eq!(desk.row("a").await, before);
}

pub(crate) async fn after_a_refused_turn_nothing_of_its_load_passes(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    load.send(Turn { entries: steps([1]), ..load.turn() });
    load.send(Turn { entries: steps([3]), ..load.turn() });
    load.send(Turn { entries: steps([2]), ..load.turn() });
    load.send(load.turn());
    load.send(Turn { end: given_back(at(0)), ..load.turn() });
    assert_eq!(load.hears().await, Heard::Next(2));
    for _ in 0..4 {
        assert_eq!(load.hears().await, Heard::Refused);
    }
    assert_eq!(desk.seqs(load.run).await, [0, 1]);
    assert_eq!(desk.row("a").await.status, Status::Running);
}

pub(crate) async fn a_refused_turn_hinders_no_other_run(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    a.send(Turn { entries: steps([7]), ..a.turn() });
    b.send(Turn { entries: steps([1]), ..b.turn() });
    assert_eq!(a.hears().await, Heard::Refused);
    assert_eq!(b.hears().await, Heard::Next(2));
}

pub(crate) async fn a_run_whose_load_was_refused_can_be_loaded_anew(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    assert_eq!(load.adds([5]).await, Heard::Refused);
    assert_eq!(taker.takes_over(&worker).await, 1);
    let (_, mut again) = taker.claims_one().await;
    assert_eq!(again.adds([1]).await, Heard::Next(2));
}

pub(crate) async fn another_workers_load_is_refused_and_goes_on(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    let mut forged = Load::new(&other, load.run, load.load);
    assert_eq!(forged.adds([1]).await, Heard::Refused);
    assert_eq!(forged.ends(given_back(at(0))).await, Heard::Refused);
    assert_eq!(desk.seqs(load.run).await, [0]);
    assert_eq!(load.adds([1]).await, Heard::Next(2), "its owner is not hindered");
}

pub(crate) async fn another_runs_load_is_refused_and_goes_on(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    let crossed = Turn { run: b.run, entries: steps([1]), ..a.turn() };
    assert_eq!(a.commit(crossed).await, Heard::Refused);
    assert_eq!(desk.seqs(b.run).await, [0]);
    assert_eq!(a.adds([1]).await, Heard::Next(2));
    assert_eq!(b.adds([1]).await, Heard::Next(2));
}

pub(crate) async fn a_load_counts_only_in_its_own_opening(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let mut there = worker;
    there.desk = desk.another().await;
    let mut forged = Load::new(&there, load.run, load.load);
    assert_eq!(forged.adds([1]).await, Heard::Refused);
    assert_eq!(load.adds([1]).await, Heard::Next(2));
}

pub(crate) async fn a_load_that_never_was_is_refused(desk: Desk) {
    let worker = desk.worker().await;
    let load = worker.start("a").await;
    for (run, number) in [(load.run, LoadId(u64::MAX)), (load.run, LoadId(0)), (RunId(i64::MIN), load.load)] {
        assert_eq!(Load::new(&worker, run, number).adds([1]).await, Heard::Refused);
    }
    assert_eq!(desk.seqs(load.run).await, [0]);
}

/// faults.md row 11: a late executor cannot write over an outcome.
pub(crate) async fn after_its_end_everything_of_a_load_is_refused(desk: Desk) {
    let worker = desk.worker().await;
    let ends = [finished(Status::Failed, 0), parked(Some(at(5000)), 0), stuck_end(0), given_back(at(5000))];
    for (n, end) in ends.into_iter().enumerate() {
        let id = format!("run {n}");
        let mut load = worker.start(&id).await;
        assert_eq!(load.ends(end.clone()).await, Heard::Next(1));
        let row = desk.row(&id).await;
        assert_eq!(load.adds([1]).await, Heard::Refused, "{end:?}");
        assert_eq!(load.ends(end.clone()).await, Heard::Refused, "{end:?}");
        assert_eq!((desk.seqs(load.run).await, desk.row(&id).await), (vec![0], row));
    }
}

pub(crate) async fn receipts_come_in_the_order_of_turns(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    for seq in 1..50 {
        b.send(Turn { entries: steps([seq]), ..b.turn() });
        a.send(Turn { entries: steps([seq]), ..a.turn() });
    }
    for seq in 1..50 {
        assert_eq!(a.hears().await, Heard::Next(seq + 1));
        assert_eq!(b.hears().await, Heard::Next(seq + 1));
    }
}

pub(crate) async fn each_turn_is_answered_once(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    assert_eq!(load.adds([1]).await, Heard::Next(2));
    assert_eq!(load.ends(parked(None, 0)).await, Heard::Moved(1));
    assert_eq!(load.ends(parked(None, 1)).await, Heard::Next(2));
    assert_eq!(load.adds([2]).await, Heard::Refused);
    // Whatever else would be said about them is said by the time that a later call is answered.
    desk.start_pending("b").await;
    assert!(!load.has_unheard());
}

pub(crate) async fn a_turn_takes_its_place_when_it_is_sent(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    load.send(Turn { entries: steps([1]), end: parked(None, 0), ..load.turn() });
    let posted = desk.store.post(post("a", 1));
    let claimed = desk.store.claim(worker.fence, claim());
    assert_eq!(load.hears().await, Heard::Next(2), "it came before the letter");
    assert_eq!(posted.await.expect("posts"), Posted::Added);
    assert_eq!(claimed.await.expect("claims").len(), 1, "the letter has woken it");
}

pub(crate) async fn a_mark_stands_until_it_is_cleared(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    assert_eq!(desk.loaded(load.run).await.started, [started("k", 1)]);
    let turn = Turn { entries: steps([1]), marks: vec![Mark::Cleared("k".into())], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(marks(&desk, &load).await, []);
}

pub(crate) async fn a_mark_replaces_that_of_its_step(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let again = StartedRow { at: at(90), abandoned: true, ..started("k", 2) };
    let both = vec![begins("k"), begins("other"), Mark::Started(again.clone())];
    assert_eq!(load.commit(Turn { marks: both, ..load.turn() }).await, Heard::Next(1));
    assert_eq!(desk.loaded(load.run).await.started, [again, started("other", 1)]);
}

pub(crate) async fn marks_are_told_by_key(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let keys = ["b", "a#2", "a", "ü", "a/z"];
    let turn = Turn { marks: keys.map(begins).to_vec(), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    let told: Vec<_> = marks(&desk, &load).await.into_iter().map(|(key, ..)| key).collect();
    assert_eq!(told, ["a", "a#2", "a/z", "b", "ü"]);
}

pub(crate) async fn marks_are_applied_in_their_order(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let cleared = || Mark::Cleared("k".into());
    let turn = Turn { marks: vec![cleared(), begins("k"), cleared()], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(marks(&desk, &load).await, []);
    let turn = Turn { marks: vec![begins("k"), cleared(), begins("k")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(marks(&desk, &load).await, [("k".to_string(), 1, false)]);
}

pub(crate) async fn marks_belong_to_their_run(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    assert_eq!(a.commit(Turn { marks: vec![begins("k")], ..a.turn() }).await, Heard::Next(1));
    let cleared = vec![Mark::Cleared("k".into())];
    assert_eq!(b.commit(Turn { marks: cleared, ..b.turn() }).await, Heard::Next(1));
    assert_eq!(marks(&desk, &a).await.len(), 1);
}

pub(crate) async fn what_a_turn_takes_leaves_the_inbox(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    for id in 1..5 {
        desk.post(post("a", id)).await;
    }
    let turn = Turn { entries: steps([1]), takes: vec![2, 4], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(desk.letters(load.run).await, [1, 3]);
    assert_eq!(desk.row("a").await.inbox_n, 4, "it counts what ever came");
}

pub(crate) async fn taking_what_is_not_there_is_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let (mut load, other) = (worker.start("a").await, worker.start("b").await);
    desk.post(post("b", 1)).await;
    let turn = Turn { takes: vec![0, 1, 7, u64::MAX], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(desk.letters(other.run).await, [1], "the other run's stays");
}
