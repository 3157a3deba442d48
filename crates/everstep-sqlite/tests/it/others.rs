//! Other workers and other processes on the same file.

use std::sync::Arc;

use everstep_core::store::{Claim, Inspect, Store, StoreError};

use crate::fixture::{Desk, Worker, at, new_run};

#[tokio::test]
async fn commits_of_others_are_heard() {
    let desk = Desk::new();
    let (ours, theirs) = (desk.open(), desk.open());
    let mut foreign = ours.bell().foreign();
    foreign.mark_unchanged();
    theirs.start(vec![new_run("a")], None).await.expect("starts");
    foreign.changed().await.expect("rung");
    assert!(ours.run("a".into()).await.expect("reads").is_some());
}

/// Neighbours in time share pages of the file.
#[tokio::test]
async fn numbers_of_runs_are_dense_over_all_openings_and_a_used_id_takes_none() {
    let desk = Desk::new();
    let stores = [desk.open(), desk.open()];
    for (at, id) in ["a", "b", "a", "c"].into_iter().enumerate() {
        stores[at % 2].start(vec![new_run(id), new_run("a")], None).await.expect("starts");
    }
    let numbers = desk.outside().query_row("SELECT group_concat(id) FROM everstep_run", [], |row| row.get(0));
    assert_eq!(numbers.map(|numbers: String| numbers).expect("reads"), "1,2,3");
}

#[tokio::test]
async fn a_fenced_worker_cannot_commit() {
    let desk = Desk::new();
    let (slow, taker) = (Worker::of(&desk.open()).await, Worker::of(&desk.open()).await);
    let mut run = slow.start("a").await;
    let seen = taker.store.workers().await.expect("sees");
    let beat = seen.iter().find(|w| w.worker == slow.fence.worker).expect("there").beat;
    slow.store.beat(slow.fence).await.expect("beats");
    assert!(!taker.store.fence(taker.fence, slow.fence.worker, beat).await.expect("looks"), "it lives");
    assert!(taker.store.fence(taker.fence, slow.fence.worker, beat + 1).await.expect("fences"));
    run.send(1..2);
    assert!(run.hears().await.contains("fenced"));
    assert!(matches!(slow.store.beat(slow.fence).await, Err(StoreError::Fenced(_))));
    assert_eq!(taker.store.free(taker.fence, slow.fence.worker, 10).await.expect("frees"), 1);
    let claim = Claim { workflows: Arc::from(["flow".into()]), due: at(0), limit: 5 };
    let claimed = taker.store.claim(taker.fence, claim).await.expect("claims");
    assert_eq!((claimed[0].row.run, claimed[0].row.takeovers), (run.run, 1));
}

#[tokio::test]
async fn the_lock_file_shows_a_dead_worker() {
    let desk = Desk::new();
    let watcher = Worker::of(&desk.open()).await;
    let dead = Worker::of(&desk.open()).await;
    let (id, file) = (dead.fence.worker, desk.beside(&format!(".worker-{}.lock", dead.fence.worker.0)));
    let gone = async |store: &everstep_sqlite::Sqlite| {
        let seen = store.workers().await.expect("sees");
        seen.iter().find(|w| w.worker == id).map(|w| w.gone)
    };
    assert_eq!(gone(&watcher.store).await, Some(false));
    drop(dead);
    assert_eq!(gone(&watcher.store).await, Some(true), "its lock is free");
    assert!(watcher.store.fence(watcher.fence, id, 0).await.expect("fences"));
    assert!(!file.exists());
    assert_eq!(gone(&watcher.store).await, None, "fenced and without runs");
}

#[tokio::test]
async fn who_leaves_frees_its_runs_and_removes_its_lock() {
    let desk = Desk::new();
    let (leaves, stays) = (Worker::of(&desk.open()).await, Worker::of(&desk.open()).await);
    for n in 0..3 {
        leaves.start(&format!("run {n}")).await;
    }
    leaves.store.leave(leaves.fence).await.expect("leaves");
    assert!(!desk.beside(&format!(".worker-{}.lock", leaves.fence.worker.0)).exists());
    let claim = Claim { workflows: Arc::from(["flow".into()]), due: at(0), limit: 5 };
    let claimed = stays.store.claim(stays.fence, claim).await.expect("claims");
    assert_eq!(claimed.iter().map(|c| c.row.takeovers).collect::<Vec<_>>(), [0, 0, 0]);
}

#[tokio::test]
async fn a_foreign_writer_delays_and_fails_nothing() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    let outside = desk.outside();
    outside.execute_batch("BEGIN IMMEDIATE").expect("begins");
    run.send(1..2);
    let started = worker.store.start(vec![new_run("b")], None);
    outside.execute_batch("CREATE TABLE theirs (x); COMMIT").expect("commits");
    assert_eq!(run.hears().await, "next 2");
    started.await.expect("starts");
}
