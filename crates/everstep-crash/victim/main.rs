//! A process that is there to be killed: starts its workload's runs, or goes on with them, and says on its standard
//! output, line by line and after the fact, what took effect and what was acknowledged. Whoever reads the other end of
//! that pipe keeps the ledger.
//!
//! `victim WORKLOAD DATABASE SEEN LEASE_MS [RESULTS]`: `DATABASE` is a file, or the URL of a PostgreSQL database; `SEEN` is
//! a file with the effects of earlier lives; after so many results the engine shuts down, whatever still runs.

mod outside;
mod wish;
mod world;

mod family;
mod looping;
mod messages;
mod onboarding;
mod parallel;
mod random;
mod rewound;
mod saga;
mod transfer;

use std::{process::ExitCode, sync::Arc, time::Duration};

use everstep::{
    Builder, Client, Engine, EngineError, Event, Settings, With, Workflow, postgres::Postgres,
    sqlite::Sqlite, store::Store,
};
use outside::{Visit, Visited, end};
use tokio::task::JoinSet;
use wish::Wishes;
use world::{World, say};

/// What a workload is: its workflow, its runs, and what is done to each of them while it goes on.
struct Workload {
    workflow: Workflow<u64, String>,
    register: fn(Builder<With<World>>) -> Builder<With<World>>,
    runs: Vec<(String, u64)>,
    visit: fn(Visited, u64) -> Visit,
}

/// It has shut down before its runs were over.
const LEFT_EARLY: u8 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [workload, database, seen, lease_ms, rest @ ..] = &args[..] else {
        eprintln!("victim WORKLOAD DATABASE SEEN LEASE_MS [RESULTS]");
        return ExitCode::from(64);
    };
    let lease = Duration::from_millis(lease_ms.parse().expect("milliseconds"));
    let results = rest.first().map(|n| n.parse().expect("a number"));
    let world = World::new(seen, database.starts_with("postgres://"));
    // Those who start runs with rows of their own.
    let wishes = (world.on_postgres && workload == "transfer").then(|| database.clone());
    match live(named(workload), database, (world, wishes), lease, results).await {
        Ok(code) => code,
        Err(error) => {
            say(format!("error {error}"));
            ExitCode::from(2)
        }
    }
}

fn named(workload: &str) -> Workload {
    match workload {
        "onboarding" => onboarding::workload(),
        "parallel" => parallel::workload(),
        "transfer" => transfer::workload(),
        "random" => random::workload(),
        "saga" => saga::workload(),
        "messages" => messages::workload(),
        "family" => family::workload(),
        "looping" => looping::workload(),
        "rewound" => rewound::workload(),
        other => panic!("there is no workload `{other}`"),
    }
}

async fn live(
    workload: Workload,
    database: &str,
    (world, wishes): (World, Option<String>),
    lease: Duration,
    results: Option<usize>,
) -> Result<ExitCode, EngineError> {
    // Whoever waits leaves memory soon, so that there is a death on the way out and on the way back.
    let park_after = Duration::from_millis(5);
    let settings = Settings { lease, park_after, build: Some("victim".to_string()), ..Settings::default() };
    let store: Arc<dyn Store> = match world.on_postgres {
        true => Arc::new(Postgres::open(database).await?),
        false => Arc::new(Sqlite::open(database)?),
    };
    let builder = Engine::on(store).settings(settings).state(world);
    let engine = (workload.register)(builder).start().await?;
    let mut events = engine.events();
    let telling = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            tell(&event);
        }
    });
    let mut wishes = match wishes {
        Some(database) => Some(Wishes::connect(&database).await),
        None => None,
    };
    let mut waiting = JoinSet::new();
    for (id, input) in &workload.runs {
        let events = engine.events();
        let run = match &mut wishes {
            Some(wishes) => wishes.start(&engine, workload.workflow, id, *input).await?,
            None => engine.start(workload.workflow, id, *input).await?,
        };
        say(format!("started {id}"));
        let client = Client::clone(&engine);
        let visit = (workload.visit)(Visited { client: client.clone(), run: run.clone(), events }, *input);
        waiting.spawn(async move { tokio::try_join!(visit, end(&client, &run)).map(drop) });
    }
    let mut left = results.unwrap_or(usize::MAX);
    while left > 0
        && let Some(ended) = waiting.join_next().await
    {
        ended.expect("no panic")?;
        left -= 1;
    }
    waiting.abort_all();
    engine.shutdown().await?;
    telling.await.expect("no panic");
    if left == 0 {
        return Ok(ExitCode::from(LEFT_EARLY));
    }
    say("all over");
    Ok(ExitCode::SUCCESS)
}

fn tell(event: &Event) {
    match event {
        Event::StepDone { run, key, .. } => say(format!("done {run} {key}")),
        Event::StepFailed { run, key, .. } => say(format!("gave-up {run} {key}")),
        Event::InDoubt { run, key, .. } => say(format!("doubts {run} {key}")),
        Event::Completed { run } => say(format!("completed {run}")),
        _ => {}
    }
}
