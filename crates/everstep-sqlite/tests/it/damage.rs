//! A file that cannot be trusted any more. That a full disk makes turns wait is tested in `src/store.rs`, where the
//! writer's connection can be given a limit.

use everstep_core::store::{Store, StoreError};

use crate::fixture::{Desk, Worker, new_run, sql, told};

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
    let found = everstep_core::store::Inspect::run(&worker.store, "a".into()).await;
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
