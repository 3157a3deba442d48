//! Writes the next checked-in database, and beside it what must become of each run: `cargo xtask golden-db`.
//!
//! An existing one is never written again: it is what an earlier version has left behind. While its version is not
//! released, delete its two files by hand and run this once more.

mod workflows;

use std::{fs, path::Path};

use everstep::{
    Client, Engine, Event, Settings, Workflow,
    sqlite::{Sqlite, rusqlite::Connection},
};
use workflows::*;

type Done<T> = Result<T, Box<dyn std::error::Error>>;

/// What becomes of each run under later code: its id, what is done to it first, its outcome.
const EXPECTED: &str = "\
before|finish|completed \"left undone\"
cancelled|finish|cancelled EV0007 run `cancelled` was cancelled: not needed
completed|finish|completed \"done\"
diverges|cancel|cancelled EV0007 run `diverges` was cancelled: at last
doubts|answer|completed \"by hand\"
failed|finish|failed EV0001 for good
flaky|finish|completed \"flaky at attempt 3\"
hangs|retry|completed \"hangs\"
letter|finish|cancelled EV0007 run `letter` was cancelled: while nobody was there
long|finish|completed \"long 6 10 20 6 never works true Some(5)\"
panics|retry|completed \"panics\"
pending|finish|completed \"later\"
retried|finish|failed EV0001 for good
spent|retry|completed \"spent\"
";

#[tokio::main]
async fn main() -> Done<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases");
    let version = schema_version()?;
    let (database, expected) =
        (folder.join(format!("v{version}.db")), folder.join(format!("v{version}.txt")));
    for file in [&database, &expected] {
        if file.exists() {
            return Err(format!(
                "{} is there: what a version has left behind is not changed",
                file.display()
            )
            .into());
        }
    }
    let work = tempfile::tempdir()?;
    let path = work.path().join("app.db");
    let crashed = work.path().join("crashed");
    write(&path, &crashed).await?;
    let crashed = crashed.join("app.db");
    in_the_absence_of_workers(&crashed).await?;
    // Which machine wrote it is nobody's business; VACUUM leaves nothing of it in free pages.
    Connection::open(&crashed)?.execute_batch("UPDATE everstep_worker SET name = 'golden'; VACUUM")?;
    fs::copy(&crashed, &database)?;
    fs::write(&expected, EXPECTED)?;
    println!("{} has {} bytes", database.display(), fs::metadata(&database)?.len());
    Ok(())
}

fn schema_version() -> Done<i64> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.db");
    drop(Sqlite::open(&path)?);
    Ok(Connection::open(&path)?.query_row(
        "SELECT value FROM everstep_meta WHERE key = 'schema'",
        [],
        |row| row.get(0),
    )?)
}

/// Brings every run to where it is to be found. The engine is not ended: it is copied as a crash would leave it.
async fn write(path: &Path, crashed: &Path) -> Done<()> {
    let settings = Settings { build: Some("golden".to_string()), ..Settings::default() };
    let builder = Engine::builder(Sqlite::open(path)?).settings(settings);
    let engine = register(builder, When::Written).start().await?;
    let mut events = engine.events();
    let start = async |workflow: Workflow<String, String>, id: &str, said: &str| {
        engine.start(workflow, id, said.to_string()).await.map(drop)
    };
    start(ECHO, "completed", "done").await?;
    start(FAILS, "failed", "for good").await?;
    start(FAILS, "retried", "for good").await?;
    start(WAITS, "cancelled", "never said").await?;
    start(WAITS, "before", "left undone").await?;
    start(WAITS, "letter", "never said").await?;
    start(LONG, "long", "long").await?;
    start(FLAKY, "flaky", "flaky").await?;
    start(DOUBTS, "doubts", "never said").await?;
    start(SPENT, "spent", "spent").await?;
    start(PANICS, "panics", "panics").await?;
    start(DIVERGES, "diverges", "never said").await?;
    start(HANGS, "hangs", "hangs").await?;

    let mut awaited = vec![
        "completed completed",
        "failed failed",
        "failed retried",
        "begins cancelled wait",
        "begins before wait",
        "begins letter wait",
        "begins long stay",
        "again flaky 2",
        "begins doubts pay",
        "stuck spent",
        "stuck panics",
        "begins diverges last",
        "stuck hangs",
    ];
    hear(&mut events, &mut awaited).await;
    engine.cancel("cancelled", "not needed").await?;
    // Fails once more: its first end goes to the archive.
    engine.retry("retried").await?;
    hear(&mut events, &mut vec!["cancelled cancelled", "failed retried"]).await;
    copy(path, crashed)
}

/// Waits until all of these have happened.
async fn hear(events: &mut everstep::Events, awaited: &mut Vec<&str>) {
    while !awaited.is_empty() {
        let event = events.next().await.expect("the engine is there");
        let told = match event {
            Event::StepStarted { run, key, .. } => format!("begins {run} {key}"),
            Event::AttemptFailed { run, attempt, .. } => format!("again {run} {attempt}"),
            Event::Completed { run } => format!("completed {run}"),
            Event::Failed { run, .. } => format!("failed {run}"),
            Event::Cancelled { run } => format!("cancelled {run}"),
            Event::Stuck { run, .. } => format!("stuck {run}"),
            _ => continue,
        };
        awaited.retain(|waiting| **waiting != told);
    }
}

/// The files as they are while the engine runs are what a kill leaves behind.
fn copy(path: &Path, folder: &Path) -> Done<()> {
    fs::create_dir(folder)?;
    for name in ["app.db", "app.db-wal"] {
        fs::copy(path.with_file_name(name), folder.join(name))?;
    }
    Ok(())
}

/// What a client leaves for the next worker.
async fn in_the_absence_of_workers(path: &Path) -> Done<()> {
    let client = Client::new(Sqlite::open(path)?);
    client.start(ECHO, "pending", "later".to_string()).await?;
    client.cancel("letter", "while nobody was there").await?;
    Ok(())
}
