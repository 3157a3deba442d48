//! Writes a database with runs in every state, as this version of the code leaves it, for the test `databases`:
//! `cargo run -p everstep --example write_database -- v1`. Refuses to write over one that is there.

#[path = "../tests/databases/story.rs"]
mod story;
#[path = "../tests/databases/waiting.rs"]
mod waiting;

#[path = "../tests/databases/finish.rs"]
mod finish;

use std::{fs, path::Path, time::Duration};

use everstep::{
    Client, EngineError, Run, Settings,
    sqlite::{Sqlite, rusqlite::Connection},
};
use finish::finish;
use story::{Any, BROKEN, DIVERGES, DOUBTS, GONE, PANICS, PAYS, PLAIN, SPENT, WAITS, World, builder};

#[tokio::main]
async fn main() -> Any<()> {
    let name = std::env::args().nth(1).ok_or("the name of the database, like `v1`")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases");
    let target = folder.join(format!("{name}.db"));
    if target.exists() {
        return Err(format!("{} is there, and what is there is never changed", target.display()).into());
    }
    let room = tempfile::tempdir()?;
    let (first, second) = (room.path().join("first.db"), room.path().join("second.db"));
    begin(&first).await?;
    crash(&first, &second)?;
    go_on(&second).await?;
    let done = room.path().join("done.db");
    crash(&second, &done)?;
    fs::copy(&done, &target)?;
    let told = finish(&done).await?;
    print!("{told}");
    fs::write(target.with_extension("txt"), told)?;
    Ok(())
}

/// The first process: starts everything, and dies with bodies under way.
async fn begin(path: &Path) -> Any<()> {
    let store = Sqlite::open(path)?;
    Connection::open(path)?
        .execute_batch("CREATE TABLE account (cents INTEGER); INSERT INTO account VALUES (100)")?;
    let engine = builder(store.clone(), World::Crashing).start().await?;
    engine.run(PLAIN, "plain-done", 1).await?;
    let under_way = engine.start(PLAIN, "plain-under-way", 100).await?;
    let _ = engine.run(BROKEN, "broken-failed", "no luck".to_string()).await;
    let cancelled = engine.start(WAITS, "waits-cancelled", 24).await?;
    let waiting = engine.start(WAITS, "waits-long", 24 * 365 * 100).await?;
    engine.cancel("waits-cancelled", "not wanted").await?;
    over(cancelled.result().await);
    for (id, policy) in
        [("done", "ask"), ("no", "ask"), ("again", "ask"), ("fail", "fail"), ("verify", "verify")]
    {
        engine.start(DOUBTS, format!("doubts-{id}"), policy.to_string()).await?;
    }
    engine.start(DOUBTS, "doubts-retry", "retry".to_string()).await?;
    let spent = engine.start(SPENT, "spent", 0).await?;
    over(spent.result().await);
    let panics = engine.start(PANICS, "panics", 0).await?;
    over(panics.result().await);
    let pays = engine.start(PAYS, "pays", 30).await?;
    let diverges = engine.start(DIVERGES, "diverges", 0).await?;
    // A client without a worker: its runs wait for one, or for a program that knows them.
    let client = Client::new(store);
    client.start(GONE, "gone", 1).await?;
    reaches(&under_way, 11).await?;
    reaches(&waiting, 2).await?;
    reaches(&pays, 2).await?;
    reaches(&diverges, 2).await?;
    // Bodies in doubt are marked before they run: wait until all marks are there.
    let marks = "SELECT count(*) FROM everstep_started";
    while Connection::open(path)?.query_row::<i64, _, _>(marks, [], |row| row.get(0))? < 5 {
        tokio::task::yield_now().await;
    }
    waiting::begin(&engine, path).await?;
    // The process dies here: `crash` copies its files as they are.
    std::mem::forget(engine);
    Ok(())
}

/// The second process: finds doubts and a divergence, takes a failure back, asks to cancel, and dies.
async fn go_on(path: &Path) -> Any<()> {
    let store = Sqlite::open(path)?;
    let settings = Settings { park_after: Duration::ZERO, ..Settings::default() };
    let engine = builder(store.clone(), World::Changed).settings(settings).start().await?;
    for id in ["doubts-done", "doubts-no", "doubts-again"] {
        over(engine.get(DOUBTS, id).await?.result().await);
    }
    over(engine.get(DIVERGES, "diverges").await?.result().await);
    waiting::park(&engine).await?;
    // Let go of the worker before people come: what they ask for waits in the inbox.
    let client = Client::new(store);
    engine.shutdown().await?;
    client.retry("broken-failed").await?;
    client.start(WAITS, "waits-then-cancelled", 24).await?;
    client.cancel("waits-then-cancelled", "asked while nobody was there").await?;
    client.start(PLAIN, "plain-pending", 2).await?;
    waiting::go_on(&client, path).await?;
    Ok(())
}

fn over(outcome: Result<String, EngineError>) {
    assert!(outcome.is_err(), "{outcome:?}");
}

async fn reaches(run: &Run<String>, entries: u64) -> Any<()> {
    while run.journal_len().await? < entries {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// The file as a dead process left it, with its log in it, as one file.
fn crash(from: &Path, to: &Path) -> Any<()> {
    fs::copy(from, to)?;
    let log = |path: &Path| path.with_extension("db-wal");
    if log(from).exists() {
        fs::copy(log(from), log(to))?;
    }
    let db = Connection::open(to)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    db.execute_batch(
        "UPDATE everstep_meta SET value = 0 WHERE key = 'open'; PRAGMA journal_mode = DELETE; VACUUM",
    )?;
    Ok(())
}
