//! Workers: ids, beats, fences, and what becomes of the runs of the dead.

use std::collections::BTreeSet;

use everstep_core::{
    Status, Timestamp,
    store::{Fence, Mark, StartedRow, StoreError, Turn, WorkerId, WorkerInfo},
};

use crate::{
    Deed,
    desk::Desk,
    load::{Heard, Load},
    sample::{begins, claim, claim_of, given_back, new_run, parked, post, run_of, started, steps},
    worker::{Taker, Worker},
};

pub(crate) async fn each_worker_gets_a_higher_id(desk: Desk) {
    let other = desk.another().await;
    let mut last = WorkerId(0);
    for desk in [&desk, &other, &desk, &other] {
        let worker = desk.worker().await;
        assert!(worker.fence.worker > last);
        last = worker.fence.worker;
        desk.store.leave(worker.fence).await.expect("leaves");
    }
}

pub(crate) async fn beats_are_counted(desk: Desk) {
    let (worker, watcher) = (desk.worker().await, desk.another().await.worker().await);
    let first = watcher.sees(&worker).await.expect("is there");
    assert!(!first.fenced && !first.gone);
    for n in 1..4 {
        desk.store.beat(worker.fence).await.expect("beats");
        assert_eq!(watcher.sees(&worker).await.expect("is there").beat, first.beat + n);
    }
}

pub(crate) async fn a_worker_is_seen_with_its_build(desk: Desk) {
    let watcher = desk.another().await.worker().await;
    for build in ["b1", "b2", "b1", "ü\0"] {
        let info = WorkerInfo { name: "here".into(), build: build.into(), at: Timestamp(0) };
        let fence = desk.store.enroll(info).await.expect("enrolls");
        let seen = watcher.desk.store.workers().await.expect("sees");
        let seen = seen.into_iter().find(|seen| seen.worker == fence.worker).expect("is there");
        assert_eq!(&*seen.build, build);
    }
}

pub(crate) async fn a_worker_that_beats_is_not_fenced(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    let beat = taker.sees(&worker).await.expect("is there").beat;
    desk.store.beat(worker.fence).await.expect("beats");
    for stale in [beat, beat + 2, u64::MAX] {
        let fenced = desk.store.fence(taker.fence, worker.fence.worker, stale).await;
        assert!(!fenced.expect("looks"), "{stale} is not its beat");
    }
    desk.store.beat(worker.fence).await.expect("still lives");
    let fenced = desk.store.fence(taker.fence, worker.fence.worker, beat + 2).await;
    assert!(fenced.expect("fences"));
    assert!(desk.store.beat(worker.fence).await.is_err());
}

pub(crate) async fn a_fenced_worker_stays_fenced(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    taker.fences(&worker).await;
    let again = desk.store.fence(taker.fence, worker.fence.worker, u64::MAX).await;
    assert!(again.expect("looks"), "whatever its beat was");
}

pub(crate) async fn a_missing_worker_counts_as_fenced(desk: Desk) {
    let taker = desk.worker().await;
    desk.start_pending("a").await;
    for missing in [taker.fence.worker.0 + 1, 0, -1, i64::MIN, i64::MAX] {
        let missing = WorkerId(missing);
        assert!(desk.store.fence(taker.fence, missing, 0).await.expect("looks"), "{missing:?}");
        let freed = desk.store.free(taker.fence, missing, 9).await;
        assert_eq!(freed.ok(), Some(0), "{missing:?} has no runs");
    }
    assert_eq!(desk.row("a").await.wake_at, Some(new_run("a").due), "a free run is nobody's");
}

/// Asserts that every verb that carries a fence refuses this worker, who has `load`.
async fn assert_fenced(desk: &Desk, fence: Fence, load: Option<&mut Load>) {
    let is_fenced = |error: Option<StoreError>| {
        assert!(matches!(error, Some(StoreError::Fenced(w)) if w == fence.worker), "{error:?}");
    };
    let (other, store) = (desk.worker().await, &desk.store);
    is_fenced(store.beat(fence).await.err());
    is_fenced(store.fence(fence, other.fence.worker, 0).await.err());
    is_fenced(store.free(fence, WorkerId(i64::MAX), 9).await.err());
    is_fenced(store.leave(fence).await.err());
    is_fenced(store.start(vec![new_run("new")], Some((fence, Taker::channel().0))).await.err());
    is_fenced(store.claim(fence, claim()).await.err());
    is_fenced(store.nudged(fence).await.err());
    if let Some(load) = load {
        assert_eq!(load.adds([1]).await, Heard::Fenced);
        assert_eq!(load.adds([1]).await, Heard::Fenced, "each time");
        assert_eq!(load.adds([5]).await, Heard::Fenced, "whatever else is wrong");
        is_fenced(load.transact("k", &[Deed::Write("row".into())]).await.err());
    }
    assert!(!other.sees(&other).await.expect("is there").fenced);
}

pub(crate) async fn a_fenced_worker_can_do_nothing(desk: Desk) {
    let (slow, taker) = (desk.worker().await, desk.worker().await);
    let mut load = slow.start("a").await;
    desk.start_pending("b").await;
    taker.fences(&slow).await;
    assert_fenced(&desk, slow.fence, Some(&mut load)).await;
    assert_eq!(desk.seqs(load.run).await, [0]);
    assert_eq!(desk.row("a").await.owner, Some(slow.fence.worker), "its runs are freed later");
    assert!(desk.rows().await.is_empty());
}

pub(crate) async fn a_worker_that_never_was_can_do_nothing(desk: Desk) {
    desk.start_pending("a").await;
    for missing in [0, -1, i64::MAX] {
        assert_fenced(&desk, Fence { worker: WorkerId(missing) }, None).await;
    }
    assert_eq!(desk.row("a").await.owner, None);
}

pub(crate) async fn a_worker_that_has_left_can_do_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    desk.store.leave(worker.fence).await.expect("leaves");
    assert_fenced(&desk, worker.fence, Some(&mut load)).await;
    assert_eq!(desk.seqs(load.run).await, [0]);
}

pub(crate) async fn a_late_worker_cannot_hinder_the_new_owner(desk: Desk) {
    let (slow, taker) = (desk.worker().await, desk.another().await.worker().await);
    let mut late = slow.start("a").await;
    assert_eq!(late.adds([1]).await, Heard::Next(2));
    assert_eq!(taker.takes_over(&slow).await, 1);
    let (_, mut load) = taker.claims_one().await;
    assert_eq!(load.adds([2]).await, Heard::Next(3));
    assert_eq!(late.adds([3]).await, Heard::Fenced);
    assert_eq!(load.adds([3]).await, Heard::Next(4));
    assert_eq!(desk.loaded(load.run).await.entries[1..], steps(1..4));
}

pub(crate) async fn runs_are_freed_in_batches(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    for n in 0..5 {
        worker.start(&format!("run {n}")).await;
    }
    taker.fences(&worker).await;
    let seen = taker.sees(&worker).await.expect("it still has runs");
    assert!(seen.fenced);
    let mut freed = Vec::new();
    for limit in [0, 2, 2, 2, usize::MAX] {
        freed.push(taker.frees(&worker, limit).await);
    }
    assert_eq!(freed, [0, 2, 2, 1, 0]);
    assert_eq!(taker.sees(&worker).await, None, "nothing is left of it");
    assert_eq!(taker.claims(claim()).await.len(), 5);
}

pub(crate) async fn a_freed_run_is_claimable_at_once(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    worker.start("a").await;
    taker.takes_over(&worker).await;
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Pending, None, Some(Timestamp(0))));
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 1)]);
    taker.claims_one().await;
}

pub(crate) async fn a_live_worker_keeps_its_runs(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    worker.start("a").await;
    for by in [&other, &worker] {
        let refused = desk.store.free(by.fence, worker.fence.worker, 9).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    assert_eq!(desk.row("a").await.owner, Some(worker.fence.worker));
}

pub(crate) async fn a_worker_that_leaves_frees_its_runs_without_blame(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    worker.start("b").await;
    other.start("c").await;
    desk.store.leave(worker.fence).await.expect("leaves");
    assert_eq!(other.sees(&worker).await, None);
    let claimed = other.claims(claim()).await;
    let ids: BTreeSet<_> = claimed.iter().map(|claimed| &*claimed.row.id).collect();
    assert_eq!(ids, BTreeSet::from(["a", "b"]));
    assert!(claimed.iter().all(|claimed| claimed.row.takeovers == 0));
}

pub(crate) async fn a_worker_leaves_with_any_number_of_runs(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    let runs = (0..2100).map(|n| new_run(&format!("run {n}"))).collect();
    let (_, claimed) = worker.start_all(runs).await;
    assert_eq!(claimed.len(), 2100);
    desk.store.leave(worker.fence).await.expect("leaves");
    assert_eq!(other.claims(claim_of(&["flow"], 9999)).await.len(), 2100);
}

pub(crate) async fn workers_are_seen_until_they_are_gone(desk: Desk) {
    let (a, b, watcher) = (desk.worker().await, desk.another().await.worker().await, desk.worker().await);
    let ids = async |desk: &Desk| {
        let seen = desk.store.workers().await.expect("sees");
        seen.iter().map(|seen| seen.worker).collect::<BTreeSet<_>>()
    };
    let all = BTreeSet::from([a.fence.worker, b.fence.worker, watcher.fence.worker]);
    assert_eq!((ids(&desk).await, ids(&b.desk).await), (all.clone(), all));
    watcher.fences(&a).await;
    assert_eq!(ids(&desk).await, BTreeSet::from([b.fence.worker, watcher.fence.worker]));
}

/// The worker dies while it has the only run, and another takes over and claims; the takeovers that tells.
async fn dies(desk: &Desk, worker: &mut Worker, load: &mut Load) -> u32 {
    let taker = desk.worker().await;
    assert_eq!(taker.takes_over(worker).await, 1);
    let (claimed, next) = taker.claims_one().await;
    (*worker, *load) = (taker, next);
    claimed.row.takeovers
}

pub(crate) async fn deaths_inside_a_step_are_counted(desk: Desk) {
    let mut worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    for n in 1..6 {
        assert_eq!(dies(&desk, &mut worker, &mut load).await, n);
        assert_eq!(desk.row("a").await.takeovers, n);
    }
}

pub(crate) async fn deaths_outside_of_steps_are_counted_to_two(desk: Desk) {
    let mut worker = desk.worker().await;
    let mut load = worker.start("a").await;
    for n in [1, 2, 2, 2] {
        assert_eq!(dies(&desk, &mut worker, &mut load).await, n);
    }
}

pub(crate) async fn an_abandoned_attempt_is_no_step_to_die_in(desk: Desk) {
    let mut worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let row = StartedRow { abandoned: true, ..started("k", 1) };
    assert_eq!(load.commit(Turn { marks: vec![Mark::Started(row)], ..load.turn() }).await, Heard::Next(1));
    for n in [1, 2, 2] {
        assert_eq!(dies(&desk, &mut worker, &mut load).await, n);
    }
}

pub(crate) async fn an_entry_begins_the_count_of_deaths_anew(desk: Desk) {
    let mut worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    for n in 1..4 {
        assert_eq!(dies(&desk, &mut worker, &mut load).await, n);
    }
    assert_eq!(load.adds([1]).await, Heard::Next(2));
    assert_eq!(dies(&desk, &mut worker, &mut load).await, 1, "the first since that entry");
    assert_eq!(dies(&desk, &mut worker, &mut load).await, 2);
}

pub(crate) async fn after_a_new_entry_a_claim_tells_no_takeovers(desk: Desk) {
    let mut worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    for n in 1..4 {
        assert_eq!(dies(&desk, &mut worker, &mut load).await, n);
    }
    let turn = Turn { entries: steps([1]), end: given_back(Timestamp(0)), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(desk.row("a").await.takeovers, 0, "its row tells the same");
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(claimed.row.takeovers, 0);
}

pub(crate) async fn waiting_does_not_end_the_count_of_deaths(desk: Desk) {
    let mut worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    for n in 1..4 {
        assert_eq!(dies(&desk, &mut worker, &mut load).await, n);
    }
    assert_eq!(load.ends(parked(Some(Timestamp(0)), 0)).await, Heard::Next(1));
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(claimed.row.takeovers, 3, "it has made no entry");
}

pub(crate) async fn a_death_concerns_every_run_of_the_worker(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    desk.start(vec![run_of("other", "free", Timestamp(0))]).await;
    for id in ["a", "b"] {
        worker.start(id).await;
        desk.post(post(id, 1)).await;
    }
    assert_eq!(taker.takes_over(&worker).await, 2);
    for id in ["a", "b"] {
        assert_eq!(desk.row(id).await.takeovers, 1);
    }
    assert_eq!(desk.row("free").await.takeovers, 0);
}

pub(crate) async fn workers_may_have_any_name(desk: Desk) {
    for name in ["", "host:ü'; DROP TABLE worker; --\n", &"x".repeat(10_000)] {
        let worker = WorkerInfo { name: name.into(), build: name.into(), at: Timestamp(i64::MIN) };
        let fence = desk.store.enroll(worker).await.expect("enrolls");
        desk.store.beat(fence).await.expect("beats");
    }
}
