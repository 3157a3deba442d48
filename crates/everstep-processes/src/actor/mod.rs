//! One process of a test: an engine or a client on a database file, told by lines on its standard input what to do,
//! telling on its standard output what happened. A test waits for such lines and never for time.

mod commands;
mod mixed;
mod workflows;

use std::{error::Error, path::Path, time::Duration};

use everstep::{
    Client, Engine, Event, Settings,
    sqlite::{Sqlite, rusqlite::Connection},
};
pub use mixed::STEPS;
use workflows::World;

/// Any error ends an actor.
pub type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The parts an actor can play.
pub const USAGE: &str = "actor worker DATABASE LEDGER LEASE_MS | client DATABASE | hold DATABASE LEDGER MS";

/// Plays the part that `args` name; `None` if there is no such part.
pub async fn act(args: &[String]) -> Option<AnyResult<()>> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", database, ledger, lease] => Some(worker(database, ledger, lease).await),
        ["client", database] => Some(client(database).await),
        ["hold", database, ledger, time] => Some(hold(database, ledger, time)),
        _ => None,
    }
}

fn listen_to_the_log() {
    // The lines of the log and those of the events share one pipe, and so have one order.
    tracing_subscriber::fmt().without_time().with_ansi(false).with_target(false).init();
}

/// One line, whole: other threads say something too.
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

fn ms(text: &str) -> AnyResult<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}

async fn client(database: &str) -> AnyResult<()> {
    listen_to_the_log();
    let client = Client::new(Sqlite::open(database)?);
    say(format!("ready {}", std::process::id()));
    commands::obey(&client, &World::default()).await;
    Ok(())
}

async fn worker(database: &str, ledger: &str, lease: &str) -> AnyResult<()> {
    listen_to_the_log();
    let world = World::new(database, ledger);
    let settings = Settings { lease: ms(lease)?, build: Some("actor".to_string()), ..Settings::default() };
    let store = match Sqlite::open(database) {
        Ok(store) => store,
        Err(error) => {
            say(format!("no store: {error}"));
            return Ok(());
        }
    };
    let builder = Engine::builder(store).settings(settings).state(world.clone());
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
fn hold(database: &str, ledger: &str, time: &str) -> AnyResult<()> {
    let connection = Connection::open(database)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    say("holds");
    std::thread::sleep(ms(time)?);
    // Before the commit: whatever another process can do only after it comes later in the ledger.
    workflows::append(Path::new(ledger), "released")?;
    connection.execute_batch("COMMIT")?;
    say("released");
    Ok(())
}
