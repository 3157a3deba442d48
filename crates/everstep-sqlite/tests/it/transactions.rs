//! Transactional steps: what they may not do, and that what they do wrong concerns them alone.

use std::time::Duration;

use everstep_core::{
    Status, StatusSet,
    journal::Payload,
    store::{Durability, End, Inspect, LetterKind, Post, Posted, Started, Store, StoreError},
};
use everstep_sqlite::{Sqlite, insert_letter, insert_start, rusqlite::Connection};

use crate::fixture::{Desk, Worker, go, new_run, signal, sql, told};

const TABLES: &str =
    "CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
     CREATE TABLE entry (account INTEGER REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED);
     INSERT INTO account VALUES (1, 10);";

async fn desk() -> (Desk, Worker) {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    desk.run_sql(TABLES);
    (desk, worker)
}

#[tokio::test]
async fn rows_and_record_come_together_and_once() {
    let (desk, worker) = desk().await;
    let run = worker.start("a").await;
    let pay = "UPDATE account SET cents = cents - 4 WHERE id = 1";
    assert_eq!(told(run.transact("pay", sql(pay)).await), "committed 1");
    assert_eq!(told(run.transact("pay", sql(pay)).await), "committed 1", "asked again, it is the same");
    assert_eq!(desk.number("SELECT cents FROM account"), 6);
    let inbox = worker.store.load(run.run).await.expect("loads").inbox;
    assert_eq!((inbox.len(), &*inbox[0].letter.name, inbox[0].letter.kind), (1, "pay", 5));
}

#[tokio::test]
async fn an_error_and_a_panic_undo_only_their_own() {
    let (desk, worker) = desk().await;
    let run = worker.start("a").await;
    let broke = run.transact("a", sql("UPDATE account SET cents = 1; UPDATE account SET cents = -1"));
    let panics = run.transact("b", |tx| {
        tx.execute_batch("UPDATE account SET cents = 2")?;
        panic!("oh")
    });
    let good = run.transact("c", sql("INSERT INTO account VALUES (2, 3)"));
    assert!(told(broke.await).starts_with("rolled back: CHECK constraint"));
    assert_eq!(told(panics.await), "rolled back: panicked: oh");
    assert_eq!(told(good.await), "committed 1");
    assert_eq!(desk.number("SELECT sum(cents) FROM account"), 13);
}

/// The writer is everybody's: it outlives what a transaction holds.
#[tokio::test]
async fn a_value_that_panics_when_it_is_dropped_stops_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let (_desk, worker) = desk().await;
    let run = worker.start("a").await;
    let bomb = Bomb;
    let bad = run.transact("bad", move |tx| {
        let _held = &bomb;
        tx.execute_batch("INSERT INTO account VALUES (2, 3)")?;
        Ok(Payload::default())
    });
    assert!(told(bad.await).starts_with("committed"));
    let good = run.transact("good", sql("INSERT INTO account VALUES (3, 3)"));
    assert!(told(good.await).starts_with("committed"));
}

/// Its step ran out of time while it waited for the writer: it is left alone.
#[tokio::test]
async fn a_job_that_was_withdrawn_in_the_queue_does_not_run() {
    let (desk, worker) = desk().await;
    let run = worker.start("a").await;
    let outside = desk.outside();
    outside.execute_batch("BEGIN IMMEDIATE").expect("begins");
    let late = run.transact("pay", sql("UPDATE account SET cents = cents - 4 WHERE id = 1"));
    run.withdrawn.store(true, std::sync::atomic::Ordering::Release);
    outside.execute_batch("ROLLBACK").expect("ends");
    assert!(told(late.await).contains("withdrawn before it began"));
    assert_eq!(desk.number("SELECT cents FROM account"), 10);
}

/// `OR ROLLBACK` ends the whole transaction, with everybody else's work in it.
#[tokio::test]
async fn a_job_that_ends_the_transaction_takes_nobody_with_it() {
    let (desk, worker) = desk().await;
    let (mut a, b) = (worker.start("a").await, worker.start("b").await);
    // Somebody else holds the lock, so that all of it falls into one batch.
    let outside = desk.outside();
    outside.execute_batch("BEGIN IMMEDIATE").expect("begins");
    a.send(1..3);
    let bad = b.transact("bad", sql("INSERT OR ROLLBACK INTO account VALUES (1, 5)"));
    let good = b.transact("good", sql("INSERT INTO account VALUES (2, 3)"));
    a.send(3..4);
    outside.execute_batch("ROLLBACK").expect("ends");
    assert_eq!(a.hears().await, "next 3");
    assert!(told(bad.await).contains("ended from inside"));
    assert_eq!(told(good.await), "committed 1");
    assert_eq!(a.hears().await, "next 4");
    assert_eq!(desk.number("SELECT count(*) FROM everstep_journal WHERE run = 1"), 4);
}

#[tokio::test]
async fn a_constraint_that_fails_only_at_the_commit_fails_its_own_step() {
    let (desk, worker) = desk().await;
    let (mut a, b) = (worker.start("a").await, worker.start("b").await);
    let outside = desk.outside();
    outside.execute_batch("BEGIN IMMEDIATE").expect("begins");
    a.send(1..3);
    let bad = b.transact("bad", sql("INSERT INTO entry VALUES (77)"));
    a.send(3..4);
    let good = b.transact("good", sql("INSERT INTO entry VALUES (1)"));
    outside.execute_batch("ROLLBACK").expect("ends");
    assert_eq!(a.hears().await, "next 3");
    assert_eq!(a.hears().await, "next 4");
    assert!(told(bad.await).contains("FOREIGN KEY"));
    assert_eq!(told(good.await), "committed 1");
    assert_eq!(desk.number("SELECT sum(account) FROM entry"), 1);
}

#[tokio::test]
async fn what_is_not_the_users_is_refused() {
    let (_desk, worker) = desk().await;
    let run = worker.start("a").await;
    for forbidden in [
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT mine",
        "RELEASE everstep_job",
        "ATTACH ':memory:' AS other",
        "PRAGMA foreign_keys = OFF",
        "DELETE FROM everstep_journal",
        "UPDATE EverStep_Run SET status = 3",
        "SELECT * FROM everstep_runs",
        "DROP TABLE everstep_run",
        "CREATE TABLE everstep_mine (x)",
        "CREATE TRIGGER t AFTER INSERT ON everstep_journal BEGIN SELECT 1; END",
        "ALTER TABLE account RENAME TO everstep_mine",
        "CREATE TABLE mine (x); ALTER TABLE mine RENAME TO EVERSTEP_mine",
        "CREATE TEMP TABLE mine (x)",
        "CREATE TABLE temp.mine (x); ALTER TABLE temp.mine RENAME TO everstep_run",
        "CREATE TEMP VIEW mine AS SELECT 1",
        "CREATE TEMP TRIGGER mine AFTER INSERT ON account BEGIN SELECT 1; END",
    ] {
        let said = told(run.transact("k", sql(forbidden)).await);
        let denied = ["not authorized", "prohibited", "reserved"].iter().any(|word| said.contains(word));
        assert!(said.starts_with("rolled back: ") && denied, "{forbidden}: {said}");
    }
    assert_eq!(
        told(
            run.transact("k", sql("CREATE TABLE mine (x); ALTER TABLE mine RENAME TO m; DROP TABLE m")).await
        ),
        "committed 1"
    );
}

#[tokio::test]
async fn sql_that_takes_too_long_is_stopped() {
    let desk = Desk::new();
    let limit = Duration::from_millis(20);
    let options = Sqlite::options().durability(Durability::Process).transaction_limit(limit);
    let worker = Worker::of(&options.open(desk.path()).expect("opens")).await;
    desk.run_sql(TABLES);
    let mut run = worker.start("a").await;
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    let select: &str = Box::leak(format!("{endless} SELECT sum(i) FROM n").into());
    let insert: &str = Box::leak(format!("{endless} INSERT INTO entry SELECT 1 FROM n").into());
    run.send(1..2);
    let reads = run.transact("reads", sql(select));
    let writes = run.transact("writes", sql(insert));
    assert!(told(reads.await).contains("took longer than 20ms"));
    assert!(told(writes.await).contains("took longer than 20ms"));
    assert_eq!(run.hears().await, "next 2");
}

/// Everybody who writes waits for a job, whatever it does all the time. (The limit is over before it has begun.)
#[tokio::test]
async fn a_job_that_is_late_without_one_long_statement_fails() {
    let desk = Desk::new();
    let options = Sqlite::options().durability(Durability::Process).transaction_limit(Duration::ZERO);
    let worker = Worker::of(&options.open(desk.path()).expect("opens")).await;
    desk.run_sql(TABLES);
    let run = worker.start("a").await;
    let computes = told(run.transact("computes", |_| Ok(Payload::json("1"))).await);
    assert!(computes.starts_with("rolled back: the transaction took longer"), "{computes}");
    let (send, mut ran) = tokio::sync::mpsc::unbounded_channel();
    let many = run.transact("many", move |tx| {
        let _ = send.send(tx.execute_batch("INSERT INTO account VALUES (2, 5)").is_ok());
        Ok(Payload::json("1"))
    });
    assert!(told(many.await).starts_with("rolled back: the transaction took longer"));
    assert_eq!(ran.recv().await, Some(false), "the next statement does not begin");
    assert_eq!(desk.number("SELECT count(*) FROM account"), 1);
}

#[tokio::test]
async fn a_run_started_inside_a_transaction_exists_if_that_commits() {
    let (desk, worker) = desk().await;
    let run = worker.start("a").await;
    let mut claimable = worker.store.bell().claimable();
    claimable.mark_unchanged();
    let failed = run.transact("bad", |tx| {
        insert_start(tx, &new_run("never")).map_err(|e| e.to_string())?;
        Err("no".into())
    });
    assert_eq!(told(failed.await), "rolled back: no");
    let good = run.transact("good", |tx| {
        insert_start(tx, &new_run("child")).map_err(|e| e.to_string())?;
        let denied = tx.execute_batch("DELETE FROM everstep_run");
        assert!(denied.is_err(), "guarded again");
        Ok(Payload::json("1"))
    });
    assert_eq!(told(good.await), "committed 1");
    claimable.changed().await.expect("rung");
    let child = worker.store.run("child".into()).await.expect("reads").expect("is there");
    assert_eq!(child.status, Status::Pending);
    assert!(worker.store.run("never".into()).await.expect("reads").is_none());
    drop(desk);
}

#[tokio::test]
async fn the_users_own_connection_starts_runs_too() {
    let (desk, worker) = desk().await;
    worker.start("a").await;
    let mut outside = desk.outside();
    let tx = outside.transaction().expect("begins");
    let started = insert_start(&tx, &new_run("mine")).expect("starts");
    assert!(matches!(started, Started::New(run) if run.0 == 2), "{started:?}");
    let again = insert_start(&tx, &new_run("mine")).expect("looks");
    assert!(matches!(again, Started::Known(..)));
    tx.commit().expect("commits");
    let next = worker.start("b").await;
    assert_eq!(next.run.0, 3, "ids are given in the database");
    signal(&worker.store, "mine", 1).await;
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let other = Connection::open(empty.path()).expect("opens");
    assert!(matches!(insert_start(&other, &new_run("x")), Err(StoreError::Unusable(_))));
}

/// Nobody looks into the inbox of a run for no reason, and a run that nobody has waits to be claimed.
#[tokio::test]
async fn a_letter_inside_a_job_wakes_whoever_has_its_run() {
    let (_desk, worker) = desk().await;
    let (run, _owned, mut parked) =
        (worker.start("a").await, worker.start("owned").await, worker.start("parked").await);
    parked.send_turn(1..1, Some(End::Parked { wake_at: None, inbox_n: 0 }));
    assert_eq!(parked.hears().await, "next 1");
    let bell = worker.store.bell();
    let (mut inbox, mut claimable) = (bell.inbox(), bell.claimable());
    let sends = |key, to: &'static str| {
        run.transact(key, move |tx| {
            insert_letter(tx, &go(to, 1)).map_err(|e| e.to_string())?;
            Ok(Payload::json("1"))
        })
    };
    inbox.mark_unchanged();
    assert!(told(sends("first", "owned").await).starts_with("committed"));
    assert!(inbox.has_changed().expect("a bell"), "its worker is told");
    claimable.mark_unchanged();
    assert!(told(sends("second", "parked").await).starts_with("committed"));
    assert!(claimable.has_changed().expect("a bell"), "all workers are told");
}

/// What follows in the closure stands in no transaction any more: it would commit by itself.
#[tokio::test]
async fn nothing_commits_by_itself_after_a_job_has_lost_its_transaction() {
    let (desk, worker) = desk().await;
    let run = worker.start("a").await;
    let said = told(
        run.transact("k", |tx| {
            let _ = tx.execute_batch("INSERT OR ROLLBACK INTO account VALUES (1, 5)");
            let _ = tx.execute_batch("INSERT INTO account VALUES (2, 5)");
            let _ = insert_start(tx, &new_run("stray"));
            let _ = insert_letter(tx, &go("a", 1));
            Ok(Payload::json("1"))
        })
        .await,
    );
    assert!(said.contains("ended from inside"), "{said}");
    assert_eq!(desk.number("SELECT count(*) FROM account"), 1);
    assert!(worker.store.run("stray".into()).await.expect("reads").is_none());
    assert_eq!(worker.store.inbox(run.run, 0).await.expect("reads"), []);
}

#[tokio::test]
async fn the_users_own_connection_sends_letters_too() {
    let (desk, worker) = desk().await;
    let run = worker.start("a").await;
    let mut outside = desk.outside();
    let tx = outside.transaction().expect("begins");
    let sends = |id| insert_letter(&tx, &go("a", id)).expect("sends");
    assert_eq!((sends(1), sends(1), sends(2)), (Posted::Added, Posted::Known, Posted::Added));
    assert_eq!(insert_letter(&tx, &go("nobody", 3)).expect("looks"), Posted::NoSuchRun);
    let over = Post { only: StatusSet::of(&[Status::Failed]), ..go("a", 4) };
    assert_eq!(insert_letter(&tx, &over).expect("looks"), Posted::Refused(Status::Running));
    assert_eq!(worker.store.inbox(run.run, 0).await.expect("reads"), [], "not before the commit");
    tx.commit().expect("commits");
    let inbox = worker.store.inbox(run.run, 0).await.expect("reads");
    assert_eq!(
        inbox.iter().map(|received| (received.n, received.letter.id.0)).collect::<Vec<_>>(),
        [(1, 1), (2, 2)]
    );
    assert_eq!(worker.store.nudged(worker.fence).await.expect("reads"), [run.run]);
    assert_eq!(signal(&worker.store, "a", 2).await, Posted::Known, "by whatever way it came");
    let mut recorded = go("a", 5);
    recorded.letter.kind = LetterKind::Recorded as u16;
    assert!(matches!(insert_letter(&outside, &recorded), Err(StoreError::Refused(_))));
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let other = Connection::open(empty.path()).expect("opens");
    assert!(matches!(insert_letter(&other, &go("a", 6)), Err(StoreError::Unusable(_))));
}

/// A transaction that has read before it writes gives up at once when somebody else writes; one that has not waits.
#[tokio::test]
async fn a_start_on_the_users_own_connection_waits_for_others() {
    thread_local!(static OTHER: std::cell::RefCell<Option<Connection>> = const { std::cell::RefCell::new(None) });
    let (desk, _worker) = desk().await;
    let other = desk.outside();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO account VALUES (2, 5)").expect("writes");
    OTHER.set(Some(other));
    let mut mine = desk.outside();
    mine.busy_handler(Some(|_| {
        // Now somebody waits.
        OTHER.take().is_some_and(|other| other.execute_batch("COMMIT").is_ok())
    }))
    .expect("waits");
    let tx = mine.transaction().expect("begins");
    insert_start(&tx, &new_run("mine")).expect("starts");
    tx.commit().expect("commits");
    assert_eq!(desk.number("SELECT count(*) FROM everstep_run"), 1);
    let other = desk.outside();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO account VALUES (3, 5)").expect("writes");
    OTHER.set(Some(other));
    let tx = mine.transaction().expect("begins");
    assert_eq!(insert_letter(&tx, &go("mine", 1)).expect("sends"), Posted::Added);
    tx.commit().expect("commits");
    assert_eq!(desk.number("SELECT inbox_n FROM everstep_run"), 1);
}
