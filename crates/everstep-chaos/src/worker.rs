//! The process of a worker: an engine, told to leave by the end of its standard input, telling by lines on its standard
//! output when it is ready and what its engine logs.

use std::path::Path;

use everstep::{Engine, Event, Settings};
use everstep_postgres::{Options, Postgres};
use tokio::sync::oneshot;

use crate::{
    AnyResult,
    ledger::{Ledger, Line},
    time::{ms, pass},
    workflows::{self, World},
};

/// How long a worker may be silent.
pub(crate) const LEASE_MS: u64 = 2_000;
/// Short, so that runs leave memory and are read again.
const PARK_AFTER_MS: u64 = 100;
/// Before the database is tried again at the start.
const TRY_AGAIN_MS: u64 = 200;
/// What it says when it drives runs.
pub(crate) const READY: &str = "ready";
/// What the engine logs when another has taken over.
pub(crate) const FENCED: &str = "this worker was fenced";

/// Plays the part: `worker URL LEDGER NAME direct|pooled|hostile all|untimed`. On one thread, so that at most one body is on its
/// way to its first deed when the process is stopped.
pub(crate) async fn act(args: &[String]) -> AnyResult<()> {
    let [url, ledger, name, way, which] = args else { return Err("a worker is told five things".into()) };
    tracing_subscriber::fmt().with_ansi(false).with_target(false).init();
    let left = leaves();
    let (name, timed) = (name.clone(), which == "all");
    let world = World { ledger: Ledger::open(Path::new(ledger))?, name: name.clone() };
    let options = match way.as_str() {
        "hostile" => Postgres::options().hostile(seed_of(&name)),
        way => Postgres::options().pooled(way == "pooled"),
    };
    let store = open(url, &options).await;
    let settings = Settings {
        lease: ms(LEASE_MS),
        park_after: ms(PARK_AFTER_MS),
        // However often its workers die, a run goes on.
        takeovers_max: u32::MAX,
        // Every entry says which process wrote it.
        build: Some(name.clone()),
        ..Settings::default()
    };
    let engine = loop {
        let builder = Engine::builder(store.clone()).settings(settings.clone()).state(world.clone());
        match workflows::register(builder, timed).start().await {
            Ok(engine) => break engine,
            Err(error) => println!("no engine yet: {error}"),
        }
        pass(ms(TRY_AGAIN_MS)).await;
    };
    let (mut events, ledger) = (engine.events(), world.ledger.clone());
    let telling = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Some(line) = line(event, &name) {
                // Without its ledger nothing that it does can be judged.
                ledger.note(&line).expect("the ledger can be written");
            }
        }
    });
    println!("{READY}");
    let _ = left.await;
    // Of a worker that was fenced this is the end too.
    if let Err(error) = engine.shutdown().await {
        println!("left with {} {error}", error.code());
    }
    telling.await?;
    Ok(())
}

/// The end of the standard input.
fn leaves() -> oneshot::Receiver<()> {
    let (send, left) = oneshot::channel();
    // Not tokio's stdin: its thread would hold up the end of the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        send.send(())
    });
    left
}

/// The store, as soon as there is a database.
pub(crate) async fn open(url: &str, options: &Options) -> Postgres {
    loop {
        match options.clone().open(url).await {
            Ok(store) => return store,
            Err(error) => println!("no store yet: {error}"),
        }
        pass(ms(TRY_AGAIN_MS)).await;
    }
}

/// Each process of a worker has its own; the same name has the same.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(257).wrapping_add(u64::from(byte)))
}

fn line(event: Event, by: &str) -> Option<Line> {
    let by = by.to_string();
    Some(match event {
        Event::StepDone { run, key, .. } | Event::StepFailed { run, key, .. } => {
            Line::Done { run: run.to_string(), key: key.to_string(), by }
        }
        Event::Completed { run } | Event::Failed { run, .. } | Event::Cancelled { run } => {
            Line::Over { run: run.to_string(), by }
        }
        Event::Missed(_) => Line::Missed { by },
        _ => return None,
    })
}
