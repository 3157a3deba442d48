//! One process of a test: an engine or a client on a database file, told by lines on its standard input what to do,
//! telling on its standard output what happened. A test waits for such lines and never for time.
//!
//! `actor worker DATABASE LEDGER LEASE_MS`, `actor client DATABASE`, `actor hold DATABASE LEDGER MS`.

mod commands;
mod workflows;

use std::{error::Error, path::Path, time::Duration};

use everstep::{
    Client, Engine, Event, Settings,
    sqlite::{Sqlite, rusqlite::Connection},
};
use workflows::World;

type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> AnyResult<()> {
    // The lines of the log and those of the events share one pipe, and so have one order.
    tracing_subscriber::fmt().without_time().with_ansi(false).with_target(false).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", database, ledger, lease] => worker(database, ledger, ms(lease)?).await,
        ["client", database] => {
            let client = Client::new(Sqlite::open(database)?);
            say(format!("ready {}", std::process::id()));
            commands::obey(&client, &World::default()).await;
            Ok(())
        }
        ["hold", database, ledger, time] => hold(database, ledger, ms(time)?),
        _ => Err("actor worker DATABASE LEDGER LEASE_MS | client DATABASE | hold DATABASE LEDGER MS".into()),
    }
}

/// One line, whole: other threads say something too.
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

fn ms(text: &str) -> AnyResult<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}

async fn worker(database: &str, ledger: &str, lease: Duration) -> AnyResult<()> {
    let world = World::new(database, ledger);
    let settings = Settings { lease, build: Some("actor".to_string()), ..Settings::default() };
    let builder = Engine::builder(Sqlite::open(database)?).settings(settings).state(world.clone());
    let engine = match workflows::register(builder).start().await {
        Ok(engine) => engine,
        Err(error) => {
            say(format!("no engine {} {error}", error.code()));
            return Ok(());
        }
    };
    let mut events = engine.events();
    let telling = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            tell(&event);
        }
    });
    first_beat(&engine, &world).await?;
    say(format!("ready {}", std::process::id()));
    commands::obey(&engine, &world).await;
    match engine.shutdown().await {
        Ok(()) => say("left"),
        Err(error) => say(format!("left with {} {error}", error.code())),
    }
    telling.await?;
    Ok(())
}

/// Lets the engine's first beat pass, so that the commits of a run come in the same order each time.
#[allow(clippy::disallowed_methods, reason = "time passes until the beat is there")]
async fn first_beat(engine: &Engine, world: &World) -> AnyResult<()> {
    let beaten = format!("SELECT beat > 0 FROM everstep_worker WHERE name LIKE '%:{}'", std::process::id());
    // If the store has failed meanwhile, there will be none.
    while engine.counts().await.is_ok() && !world.read::<bool>(&beaten)? {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn tell(event: &Event) {
    match event {
        Event::StepStarted { run, key, attempt } => say(format!("begins {run} {key} {attempt}")),
        Event::StepDone { run, key, .. } => say(format!("done {run} {key}")),
        Event::Skipped { run, key, .. } => say(format!("skips {run} {key}")),
        Event::InDoubt { run, key, .. } => say(format!("in doubt {run} {key}")),
        Event::Completed { run } => say(format!("completed {run}")),
        Event::Failed { run, error } => say(format!("failed {run} {error}")),
        Event::Cancelled { run } => say(format!("cancelled {run}")),
        Event::Stuck { run, reason, .. } => say(format!("stuck {run} {reason}")),
        other => say(format!("{other:?}")),
    }
}

/// The user's own program, which keeps a transaction open: here time passes.
#[allow(clippy::disallowed_methods, reason = "holding the file for a while is what this program is for")]
fn hold(database: &str, ledger: &str, time: Duration) -> AnyResult<()> {
    let connection = Connection::open(database)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    say("holds");
    std::thread::sleep(time);
    // Before the commit: whatever another process can do only after it comes later in the ledger.
    workflows::append(Path::new(ledger), "released")?;
    connection.execute_batch("COMMIT")?;
    say("released");
    Ok(())
}
