//! Transactional steps end to end: bodies that run on the run's own task, and what becomes of their transactions.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use everstep_core::{Code, Ctx, Engine, EngineError, Result, Retry, Settings, Workflow, store::Memory};
use everstep_postgres::{Postgres, Transaction as _, Tx};
use tokio::sync::{Barrier, Notify, mpsc};

use crate::fixture::Desk;

const W: Workflow<i64, i64> = Workflow::new("w");
const NOTHING: [i64; 0] = [];

/// A table of numbers.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.run_sql(&format!("CREATE TABLE {} (n int8 PRIMARY KEY)", desk.table("mine")));
    desk
}

fn numbers(desk: &Desk) -> Vec<i64> {
    let read = format!("SELECT n FROM {} ORDER BY n", desk.table("mine"));
    desk.asks(async |client| {
        let rows = client.query(&read, &[]).await.expect("reads");
        rows.iter().map(|row| row.get(0)).collect()
    })
}

/// Returns when no transaction holds anything of the table any more.
fn nobody_is_in(desk: &Desk) {
    let lock = format!("BEGIN; SET LOCAL lock_timeout = '15s'; LOCK TABLE {}; ROLLBACK", desk.table("mine"));
    desk.run_sql(&lock);
}

async fn engine<F, Fut>(store: Postgres, workflow: F) -> Engine
where
    F: Fn(Ctx, i64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<i64>> + Send + 'static,
{
    let settings = Settings { grace: Duration::ZERO, ..Settings::default() };
    Engine::builder(store).register(W, workflow).settings(settings).start().await.expect("starts")
}

/// Runs a workflow whose one transaction is `body`; what it ends with.
async fn plays<Fut>(
    desk: &Desk,
    body: impl Fn(Ctx, Tx, String) -> Fut + Clone + Send + Sync + 'static,
) -> String
where
    Fut: Future<Output = Result<i64>> + Send + 'static,
{
    let mine = desk.table("mine");
    let engine = engine(desk.open().await, move |ctx, _| {
        let (body, mine) = (body.clone(), mine.clone());
        async move {
            let inside = ctx.clone();
            ctx.transaction("tx", move |tx| body(inside, tx, mine)).await
        }
    })
    .await;
    let ended = engine.run(W, "r", 1).await;
    engine.shutdown().await.expect("ends");
    told(ended)
}

fn told(ended: Result<i64, EngineError>) -> String {
    ended.map_or_else(|error| error.to_string(), |n| n.to_string())
}

async fn insert(tx: &Tx, mine: &str, n: i64) -> Result<()> {
    tx.execute(&format!("INSERT INTO {mine} VALUES ($1)"), &[&n]).await?;
    Ok(())
}

/// The body borrows from the function, as any step's may.
#[tokio::test]
async fn a_body_borrows_and_its_rows_come_with_the_record() {
    let desk = desk();
    let mine = desk.table("mine");
    let engine = engine(desk.open().await, move |ctx, n| {
        let mine = mine.clone();
        async move {
            let twice = n * 2;
            let put = ctx.transaction("put", async |tx| {
                insert(&tx, &mine, n).await?;
                insert(&tx, &mine, twice).await?;
                let row = tx.query_one(&format!("SELECT sum(n)::int8 FROM {mine}"), &[]).await?;
                Ok(row.get::<_, i64>(0))
            });
            Ok(put.await? + twice)
        }
    })
    .await;
    assert_eq!(engine.run(W, "r", 5).await.expect("runs"), 25);
    assert_eq!(engine.run(W, "r", 5).await.expect("the same run"), 25);
    assert_eq!(numbers(&desk), [5, 10]);
    engine.shutdown().await.expect("ends");
}

/// The worker goes while the body stands behind its rows and before its record: another one does all of it, once.
#[tokio::test]
async fn a_worker_that_goes_in_the_middle_leaves_nothing_behind() {
    let desk = desk();
    let (written, mut is_written) = mpsc::unbounded_channel();
    let (mine, bodies) = (desk.table("mine"), Arc::new(AtomicU32::new(0)));
    let workflow = {
        let bodies = bodies.clone();
        move |ctx: Ctx, n| {
            let (written, bodies, mine) = (written.clone(), bodies.clone(), mine.clone());
            async move {
                let put = ctx.transaction("put", async |tx| {
                    insert(&tx, &mine, n).await?;
                    if bodies.fetch_add(1, SeqCst) == 0 {
                        let _ = written.send(());
                        std::future::pending().await
                    }
                    Ok(n)
                });
                put.await
            }
        }
    };
    let first = engine(desk.open().await, workflow.clone()).await;
    first.start(W, "r", 7).await.expect("starts");
    is_written.recv().await.expect("its row is written");
    drop(first);
    nobody_is_in(&desk);
    assert_eq!(numbers(&desk), NOTHING, "nothing without its record");

    let second = engine(desk.open().await, workflow).await;
    let run = second.get(W, "r").await.expect("is there");
    assert_eq!(run.result().await.expect("goes on"), 7);
    assert_eq!((numbers(&desk), bodies.load(SeqCst)), (vec![7], 2));
    second.shutdown().await.expect("ends");
}

#[tokio::test]
async fn a_body_that_keeps_its_transaction_gets_nothing_done() {
    static KEPT: Mutex<Option<Tx>> = Mutex::new(None);
    let desk = desk();
    let ended = plays(&desk, async |_, tx: Tx, mine: String| {
        insert(&tx, &mine, 1).await?;
        *KEPT.lock().expect("nobody panics") = Some(tx);
        Ok(1)
    })
    .await;
    assert!(ended.contains("has kept its `Tx`"), "{ended}");
    let kept = KEPT.lock().expect("nobody panics").take().expect("kept");
    nobody_is_in(&desk);
    kept.batch_execute("COMMIT").await.expect_err("its connection has ended");
    assert_eq!(numbers(&desk), NOTHING);
}

/// However many bodies keep theirs, there is a connection for the next.
#[tokio::test]
async fn transactions_that_are_kept_take_no_room() {
    let desk = desk();
    let (mine, kept) = (desk.table("mine"), Arc::new(Mutex::new(Vec::new())));
    let keeps = kept.clone();
    let engine = engine(desk.open().await, move |ctx, n| {
        let (mine, kept) = (mine.clone(), keeps.clone());
        async move {
            for _ in 0..n {
                let keep = ctx.transaction("keep", async |tx| {
                    kept.lock().expect("nobody panics").push(tx);
                    Ok(())
                });
                keep.await.expect_err("kept");
            }
            let put = ctx.transaction("put", async |tx| insert(&tx, &mine, n).await);
            put.await.map(|()| n)
        }
    })
    .await;
    assert_eq!(engine.run(W, "r", 40).await.expect("runs"), 40);
    assert_eq!(kept.lock().expect("nobody panics").len(), 40);
    engine.shutdown().await.expect("ends");
}

#[tokio::test]
async fn a_body_that_ends_the_transaction_itself_fails() {
    for end in ["COMMIT", "ROLLBACK", "COMMIT; BEGIN"] {
        let desk = desk();
        let ended = plays(&desk, move |_, tx: Tx, _| async move {
            tx.batch_execute(end).await?;
            Ok(1)
        })
        .await;
        assert!(ended.contains("has ended the transaction itself"), "{end}: {ended}");
    }
}

#[tokio::test]
async fn a_body_that_passes_over_a_failed_statement_fails() {
    let desk = desk();
    let ended = plays(&desk, async |_, tx: Tx, mine: String| {
        insert(&tx, &mine, 1).await?;
        let _ = insert(&tx, &mine, 1).await;
        Ok(1)
    })
    .await;
    assert!(ended.contains("one of its statements failed"), "{ended}");
    assert_eq!(numbers(&desk), NOTHING);
}

/// Each waits for the other inside of its transaction: both are open at the same time.
#[tokio::test]
async fn two_transactions_of_a_run_stand_side_by_side() {
    let desk = desk();
    let mine = desk.table("mine");
    let engine = engine(desk.open().await, move |ctx, n| {
        let mine = mine.clone();
        async move {
            let both = Barrier::new(2);
            let put = |name, n| {
                let (both, mine) = (&both, &mine);
                ctx.transaction(name, async move |tx| {
                    insert(&tx, mine, n).await?;
                    both.wait().await;
                    Ok(n)
                })
            };
            let (a, b) = everstep_core::try_join!(put("a", n), put("b", n + 1))?;
            Ok(a + b)
        }
    })
    .await;
    assert_eq!(engine.run(W, "r", 1).await.expect("runs"), 3);
    assert_eq!(numbers(&desk), [1, 2]);
    engine.shutdown().await.expect("ends");
}

/// Tells when it is dropped.
struct Tells(mpsc::UnboundedSender<()>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// An attempt that is out of time is dropped where it stands, also in the middle of a statement, and holds nothing.
#[tokio::test]
async fn a_body_that_is_out_of_time_is_dropped_and_rolled_back() {
    for statement in [None, Some("SELECT pg_sleep(3600)")] {
        let desk = desk();
        let (mine, bodies) = (desk.table("mine"), Arc::new(AtomicU32::new(0)));
        let (dropped, mut is_dropped) = mpsc::unbounded_channel();
        let tried = bodies.clone();
        let engine = engine(desk.open().await, move |ctx, n| {
            let (mine, bodies, dropped) = (mine.clone(), tried.clone(), dropped.clone());
            async move {
                let put = ctx.transaction("put", async |tx| {
                    let _tells = Tells(dropped.clone());
                    insert(&tx, &mine, n).await?;
                    match (bodies.fetch_add(1, SeqCst), statement) {
                        (0, None) => std::future::pending().await,
                        (0, Some(statement)) => tx.batch_execute(statement).await?,
                        _ => {}
                    }
                    Ok(n)
                });
                put.attempt_timeout(Duration::from_millis(300)).retry(Retry::fixed(2, Duration::ZERO)).await
            }
        })
        .await;
        let run = engine.start(W, "r", 4).await.expect("starts");
        is_dropped.recv().await.expect("the first is dropped");
        assert_eq!(run.result().await.expect("the second is in time"), 4);
        assert_eq!((numbers(&desk), bodies.load(SeqCst)), (vec![4], 2));
        let failed = &run.journal().await.expect("reads")[1];
        assert_eq!(failed.key.as_deref(), Some("put"));
        engine.shutdown().await.expect("ends");
    }
}

/// The store's own limit ends a body that nobody else bounds.
#[tokio::test]
async fn the_limit_of_the_store_ends_a_body() {
    let desk = desk();
    let (dropped, mut is_dropped) = mpsc::unbounded_channel();
    let mine = desk.table("mine");
    let store = desk.options().transaction_limit(Duration::from_millis(200)).open(&Desk::url()).await;
    let engine = engine(store.expect("opens"), move |ctx, n| {
        let (mine, dropped) = (mine.clone(), dropped.clone());
        async move {
            let put = ctx.transaction("put", async |tx| {
                let _tells = Tells(dropped.clone());
                insert(&tx, &mine, n).await?;
                std::future::pending::<Result<i64>>().await
            });
            put.await
        }
    })
    .await;
    let ended = told(engine.run(W, "r", 1).await);
    assert!(ended.contains("took longer than 200ms"), "{ended}");
    is_dropped.recv().await.expect("it is dropped");
    nobody_is_in(&desk);
    assert_eq!(numbers(&desk), NOTHING);
    engine.shutdown().await.expect("ends");
}

/// The function goes on without it: nothing of it comes later.
#[tokio::test]
async fn a_transaction_that_the_function_drops_changes_nothing() {
    let desk = desk();
    let mine = desk.table("mine");
    let written = Arc::new(Notify::new());
    let engine = engine(desk.open().await, move |ctx, n| {
        let (mine, written) = (mine.clone(), written.clone());
        async move {
            let put = ctx.transaction("put", async |tx| {
                insert(&tx, &mine, n).await?;
                written.notify_one();
                std::future::pending::<()>().await;
                Ok(n)
            });
            let seen = ctx.step("seen", async || {
                written.notified().await;
                Ok(0)
            });
            everstep_core::select! {
                n = put => n,
                n = seen => n,
            }
        }
    })
    .await;
    assert_eq!(engine.run(W, "r", 1).await.expect("the other wins"), 0);
    nobody_is_in(&desk);
    assert_eq!(numbers(&desk), NOTHING);
    engine.shutdown().await.expect("ends");
}

#[tokio::test]
async fn a_panic_fails_the_attempt_and_the_next_one_may_do() {
    let desk = desk();
    let (mine, bodies) = (desk.table("mine"), Arc::new(AtomicU32::new(0)));
    let tried = bodies.clone();
    let engine = engine(desk.open().await, move |ctx, n| {
        let (mine, bodies) = (mine.clone(), tried.clone());
        async move {
            let put = ctx.transaction("put", async |tx| {
                insert(&tx, &mine, n).await?;
                assert!(bodies.fetch_add(1, SeqCst) > 0, "oh");
                Ok(n)
            });
            put.retry(Retry::fixed(2, Duration::ZERO)).await
        }
    })
    .await;
    assert_eq!(engine.run(W, "r", 3).await.expect("the second does"), 3);
    assert_eq!((numbers(&desk), bodies.load(SeqCst)), (vec![3], 2));
    engine.shutdown().await.expect("ends");

    let other = self::desk();
    let ended = plays(&other, async |_, _, _| panic!("oh dear")).await;
    assert_eq!(ended, "panicked: oh dear");
}

/// The database could not put it in an order with others: it is repeated before its step hears of it.
#[tokio::test]
async fn a_transaction_without_a_place_in_the_order_runs_again() {
    let desk = desk();
    let bodies = Arc::new(AtomicU32::new(0));
    let tried = bodies.clone();
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'oh' USING ERRCODE = '40001'; END $$";
    let ended = plays(&desk, move |_, tx: Tx, mine: String| {
        let bodies = tried.clone();
        async move {
            insert(&tx, &mine, 1).await?;
            if bodies.fetch_add(1, SeqCst) < 2 {
                tx.batch_execute(raise).await?;
            }
            Ok(8)
        }
    })
    .await;
    assert_eq!((&*ended, bodies.load(SeqCst), numbers(&desk)), ("8", 3, vec![1]));
}

/// The next step may be another tenant's.
#[tokio::test]
async fn what_a_body_sets_for_its_session_ends_with_it() {
    const SEEN: &str =
        "SELECT current_setting('app.tenant', true), current_user::text, current_setting('search_path')";
    let desk = desk();
    let engine = engine(desk.open().await, async |ctx: Ctx, _| {
        let seen = async |name: &str, sets: &'static str| {
            let step = ctx.transaction(name, async move |tx| {
                let row = tx.query_one(SEEN, &[]).await?;
                tx.batch_execute(sets).await?;
                let tenant: Option<String> = row.get(0);
                Ok((tenant.unwrap_or_default(), row.get::<_, String>(1), row.get::<_, String>(2)))
            });
            step.await
        };
        let sets = "SET app.tenant = 'one'; SET ROLE pg_read_all_data; SET search_path = 'pg_temp'";
        let first = seen("first", sets).await?;
        Ok(i64::from(first == seen("second", "SELECT 1").await?))
    })
    .await;
    assert_eq!(engine.run(W, "r", 1).await.expect("ends"), 1);
    engine.shutdown().await.expect("ends");
}

/// The server ends the body's connection: that is no failure of the step.
#[tokio::test]
async fn a_connection_that_is_lost_in_a_body_is_no_failure() {
    let desk = desk();
    let bodies = Arc::new(AtomicU32::new(0));
    let tried = bodies.clone();
    let ended = plays(&desk, move |_, tx: Tx, mine: String| {
        let bodies = tried.clone();
        async move {
            insert(&tx, &mine, 1).await?;
            if bodies.fetch_add(1, SeqCst) == 0 {
                tx.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await?;
            }
            Ok(8)
        }
    })
    .await;
    assert_eq!((&*ended, bodies.load(SeqCst), numbers(&desk)), ("8", 2, vec![1]));
}

/// What the database has said is what the step says.
#[tokio::test]
async fn an_error_of_a_statement_is_told_in_full() {
    let desk = desk();
    let ended = plays(&desk, async |_, tx: Tx, mine: String| {
        insert(&tx, &mine, 1).await?;
        insert(&tx, &mine, 1).await?;
        Ok(1)
    })
    .await;
    assert!(ended.contains("SQLSTATE 23505") && ended.contains("(n)=(1)"), "{ended}");
}

#[tokio::test]
async fn a_body_makes_no_durable_calls() {
    let desk = desk();
    let ended = plays(&desk, async |ctx: Ctx, _tx, _| ctx.step("inner", async || Ok(1)).await).await;
    assert!(ended.contains("inside a step body"), "{ended}");
}

#[tokio::test]
async fn the_wrong_store_is_named_with_the_right_one() {
    let workflow = async |ctx: Ctx, n: i64| ctx.transaction("tx", async |_tx| Ok(n)).await;
    let engine = Engine::builder(Memory::default()).register(W, workflow).start().await.expect("starts");
    let refused = engine.run(W, "r", 1).await.expect_err("memory is no PostgreSQL");
    assert_eq!(refused.code(), Code::WRONG_STORE);
    assert!(
        refused.to_string().contains("`postgres`") && refused.to_string().contains("`memory`"),
        "{refused}"
    );
    engine.shutdown().await.expect("ends");
}
