//! Regressions by the row of the table of known faults of such engines: what happened to others must not happen here.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use everstep::{
    Client, Code, Ctx, Engine, EngineError, Error, Result, Retry, Status, Workflow,
    sqlite::Sqlite,
    store::{StoreError, WorkerId},
};

const W: Workflow<u64, u64> = Workflow::new("w");

async fn engine<F, Fut>(path: &Path, workflow: F) -> Engine
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u64>> + Send + 'static,
{
    let builder = Engine::builder(Sqlite::open(path).expect("opens")).register(W, workflow);
    builder.start().await.expect("starts")
}

/// faults.md row 24: a panic in a step keeps no claim; the run is over, and its worker goes on.
#[tokio::test]
async fn a_panic_in_a_step_keeps_no_claim() {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("app.db");
    let panics = async |ctx: Ctx, n: u64| {
        ctx.step("divide", async || 100u64.checked_div(n).map_or_else(|| panic!("by zero"), Ok)).await
    };
    let engine = engine(&path, panics).await;
    let failed = engine.run(W, "zero", 0).await.expect_err("panics");
    assert_eq!(failed.code(), Code::PANIC);
    assert!(failed.to_string().contains("by zero"), "{failed}");
    assert_eq!(engine.run(W, "two", 2).await.expect("the others go on"), 50);
    let connection = everstep::sqlite::rusqlite::Connection::open(&path).expect("opens");
    let owned: i64 = connection
        .query_row("SELECT count(*) FROM everstep_run WHERE owner <> 0", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(owned, 0);
}

/// faults.md row 25: a runtime that is shut down in the middle of a step loses no run: the engine that went down with
/// it has given it back.
#[test]
fn a_runtime_that_ends_in_a_step_loses_no_run() {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("app.db");
    let bodies = Arc::new(AtomicUsize::new(0));
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (inside, is_inside) = std::sync::mpsc::channel();
    let stays = |stays: bool| {
        let (inside, counted) = (inside.clone(), bodies.clone());
        move |ctx: Ctx, n: u64| {
            let (inside, counted) = (inside.clone(), counted.clone());
            async move {
                let done = ctx.step("done", async || Ok(counted.fetch_add(1, Ordering::SeqCst))).await?;
                let last = async || {
                    inside.send(done).map_err(|_| Error::from("nobody listens"))?;
                    if stays { std::future::pending().await } else { Ok(n + 1) }
                };
                ctx.step("last", last).await
            }
        }
    };

    let first = runtime();
    let (file, workflow) = (path.clone(), stays(true));
    // The engine lives in a task, as in most programs, and is dropped with it.
    first.spawn(async move { engine(&file, workflow).await.run(W, "r", 1).await });
    is_inside.recv().expect("comes into the step");
    first.shutdown_background();

    let outcome = runtime().block_on(async {
        let engine = engine(&path, stays(false)).await;
        let outcome = engine.run(W, "r", 1).await;
        engine.shutdown().await.expect("leaves");
        outcome
    });
    assert_eq!(outcome.expect("finishes"), 2);
    assert_eq!(bodies.load(Ordering::SeqCst), 1, "what was recorded did not run again");
}

/// faults.md row 31: an error is the engine's by where it comes from, never by its type: a step that returns an error
/// of a store, or of an engine, has failed like any other.
#[tokio::test]
async fn a_step_that_fails_with_an_error_of_the_store_is_an_ordinary_failed_step() {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("app.db");
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let returns = move |ctx: Ctx, n: u64| {
        let counted = counted.clone();
        async move {
            let work = async || {
                counted.fetch_add(1, Ordering::SeqCst);
                Err::<u64, _>(Error::from(theirs().swap_remove(n as usize)))
            };
            let retry = Retry::fixed(2, std::time::Duration::ZERO);
            ctx.step("work", work).retry(retry).await
        }
    };
    let engine = engine(&path, returns).await;
    for (n, error) in theirs().into_iter().enumerate() {
        let failed = engine.run(W, format!("r{n}"), n as u64).await.expect_err("fails");
        assert_eq!(failed.to_string(), error.to_string());
        // An engine's error keeps its code when it is passed on, and means nothing to this engine.
        let code = error.downcast_ref::<EngineError>().map_or(Code::RAISED, EngineError::code);
        assert_eq!(failed.code(), code, "{failed}");
        assert_eq!(attempts.swap(0, Ordering::SeqCst), 2, "{failed}: as often as its policy says");
        let status =
            engine.get(W, format!("r{n}")).await.expect("is there").status().await.expect("is there");
        assert_eq!(status, Status::Failed);
    }
    // The store and the worker have taken none of it for their own trouble.
    engine.shutdown().await.expect("leaves");
    Client::new(Sqlite::open(&path).expect("opens")).start(W, "later", 0).await.expect("starts");
}

/// Every error that a store or an engine has.
fn theirs() -> Vec<Box<dyn std::error::Error + Send + Sync>> {
    let of_stores = || {
        [
            StoreError::Fenced(WorkerId(1)),
            StoreError::Closed("gone".into()),
            StoreError::Full("no space".into()),
            StoreError::Refused("out of order".into()),
            StoreError::Damaged("broken".into()),
            StoreError::Unusable("old".into()),
            StoreError::Failed("busy".into()),
        ]
    };
    let of_engines = of_stores().into_iter().map(|error| EngineError::from(error).into());
    let plain = of_stores().into_iter().map(Into::into);
    plain.chain(of_engines).collect()
}
