//! A file that cannot be trusted any more. That a full disk makes turns wait is tested in `src/store.rs`, where the
//! writer's connection can be given a limit.

use std::sync::Arc;

use everstep_core::{
    Status, StuckReason,
    store::{Claim, Inspect, RunId, Store, StoreError},
};

use crate::fixture::{Desk, Worker, at, new_run, sql, told};

#[tokio::test]
async fn a_damaged_file_closes_the_store_for_everybody() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    run.send(1..2);
    assert_eq!(run.hears().await, "next 2");
    // SQLite finds a schema that it cannot read when it looks at it anew.
    desk.run_sql("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE nonsense (' WHERE name = 'everstep_run'; PRAGMA schema_version = 4711");
    run.send(2..3);
    assert!(run.hears().await.contains("the store is closed"));
    let started = worker.store.start(vec![new_run("b")], None).await;
    assert!(matches!(started, Err(StoreError::Closed(_))), "{started:?}");
    assert!(told(run.transact("k", sql("SELECT 1")).await).contains("the store is closed"));
    let found = worker.store.run("a".into()).await;
    assert!(matches!(found, Err(StoreError::Closed(_))), "{found:?}");
}

/// The user's own tables are in the same file: a step must not fail, and be recorded as failed, in a file that cannot
/// be trusted.
#[tokio::test]
async fn damage_that_a_job_meets_closes_the_store_too() {
    let desk = Desk::new();
    drop(desk.open());
    desk.run_sql("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)");
    let root = desk.number("SELECT rootpage FROM sqlite_schema WHERE name = 'mine'") as usize;
    let mut bytes = std::fs::read(desk.path()).expect("reads");
    bytes[(root - 1) * 4096..root * 4096].fill(0x5a);
    std::fs::write(desk.path(), bytes).expect("writes");
    let worker = Worker::of(&desk.open()).await;
    let run = worker.start("a").await;
    let said = told(run.transact("k", sql("SELECT * FROM mine")).await);
    assert!(said.contains("the store is closed"), "{said}");
}

/// One row that cannot be used must not keep anybody from the others.
///
/// faults.md row 6: what is damaged is never passed over.
#[tokio::test]
async fn a_damaged_row_of_a_run_is_set_aside_and_the_others_go_on() {
    let desk = Desk::new();
    let (dies, stays) = (Worker::of(&desk.open()).await, Worker::of(&desk.open()).await);
    for id in ["a", "b", "c"] {
        dies.start(id).await;
    }
    let mut listeners = [1, 2].map(|run| stays.store.bell().listen(RunId(run)));
    desk.run_sql("UPDATE everstep_run SET takeovers = -1 WHERE text_id = 'a'");
    assert!(stays.store.fence(stays.fence, dies.fence.worker, 0).await.expect("fences"));
    assert_eq!(stays.store.free(stays.fence, dies.fence.worker, 10).await.expect("frees"), 3);
    desk.run_sql("UPDATE everstep_run SET text_id = CAST(x'ff' AS TEXT) WHERE text_id = 'b'");
    let claim = Claim { workflows: Arc::from(["flow".into()]), due: at(7), limit: 5 };
    let claimed = stays.store.claim(stays.fence, claim).await.expect("claims");
    assert_eq!(claimed.iter().map(|c| &*c.row.id).collect::<Vec<_>>(), ["c"]);
    for run in [1, 2] {
        let stuck = stays.store.stuck(RunId(run)).await.expect("reads").expect("is stuck");
        assert_eq!(stuck.reason, StuckReason::JournalDamaged);
        assert!(stuck.detail.starts_with("its row is damaged: "), "{}", stuck.detail);
    }
    // The symptom: a result that was waited for in this process never came, because nobody rang for it.
    for listener in &mut listeners {
        let heard =
            tokio::select! { biased; ended = listener.ended() => ended, () = std::future::ready(()) => None };
        assert_eq!(heard.map(|ended| ended.status), Some(Status::Stuck));
    }
    let counts = stays.store.counts().await.expect("counts");
    let flow = || "flow".into();
    assert_eq!(counts, [(flow(), Status::Running, 1), (flow(), Status::Stuck, 2)]);
}
