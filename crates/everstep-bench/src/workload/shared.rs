//! Several processes on one database: how fast two workers are together, and how soon one process sees what another has
//! committed.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep::{Ctx, Result, Workflow};
use serde_json::{Value, json};

use super::{
    Place, Round, engine,
    parallel::{ours, waves},
    spawn, take_times,
};
use crate::{
    database::Database,
    measure::{median, monotonic, quantile},
    report::{Rates, thousandths},
};

/// Commits whose way to the other process is timed.
const SEEN: u64 = 300;
/// Between two of them: longer than a commit takes, so that each finds the other process idle.
const APART: Duration = Duration::from_millis(7);
const SEE: Workflow<u64, u64> = Workflow::new("see");

/// From just before a start in one process to the first step's body in the other.
static WAYS: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

async fn see(ctx: Ctx, sent: u64) -> Result<u64> {
    let ns = ctx.step("look", async || Ok(monotonic().as_nanos() as u64 - sent)).await?;
    WAYS.lock().unwrap_or_else(PoisonError::into_inner).push(Duration::from_nanos(ns));
    Ok(ns)
}

/// A second worker: says that it is ready, waits for a line, works, says how many steps it did.
pub async fn worker(database: &Database) {
    let engine = engine(database).await;
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new()).expect("told to begin");
    let began = Instant::now();
    let steps = waves(&engine, &format!("{}-", std::process::id())).await;
    println!("{}", steps as f64 / began.elapsed().as_secs_f64());
    engine.shutdown().await.expect("it leaves");
}

/// A client without a worker: its runs are for the other process.
pub async fn client(database: &Database) {
    let client = database.client().await;
    for n in 0..SEEN {
        tokio::time::sleep(APART).await;
        client.start(SEE, n.to_string(), monotonic().as_nanos() as u64).await.expect("it starts");
    }
}

pub async fn run(place: &Place<'_>) -> Value {
    let (mut one, mut two) = (Rates::default(), Vec::new());
    for round in 0..place.rounds {
        let round = place.round(round).await;
        ours(&round.database, &mut one).await;
        two.push(together(&round));
    }
    see_others(&place.round(place.rounds).await).await;
    let mut ways = std::mem::take(&mut *WAYS.lock().unwrap_or_else(PoisonError::into_inner));
    drop(take_times());
    let (rate, one) = (median(&two), median(&one.ours));
    json!({
        "workload": "shared", "rate": rate.round(), "unit": "steps/s", "one_worker_rate": one.round(),
        "of_one": thousandths(rate / one), "seen": ways.len(),
        "seen_p50_us": quantile(&mut ways, 0.5).as_micros(), "seen_p99_us": quantile(&mut ways, 0.99).as_micros(),
    })
}

/// Two processes that both start and drive runs; their rates together.
fn together(round: &Round) -> f64 {
    let start = || {
        let child = spawn("worker", round).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        said.read_line(&mut String::new()).expect("ready");
        (child, said)
    };
    let mut both = [start(), start()];
    for (child, _) in &mut both {
        child.stdin.take().expect("piped").write_all(b"go\n").expect("it listens");
    }
    let rate = |(mut child, mut said): (std::process::Child, BufReader<_>)| {
        let mut line = String::new();
        said.read_line(&mut line).expect("its rate");
        assert!(child.wait().expect("it ends").success());
        line.trim().parse::<f64>().expect("a number")
    };
    both.into_iter().map(rate).sum()
}

async fn see_others(round: &Round) {
    let engine = round.database.builder().await.register(SEE, see).start().await.expect("it starts");
    let child = spawn("client", round).spawn().expect("it starts");
    let ended = tokio::task::spawn_blocking(move || { child }.wait()).await.expect("no panic");
    assert!(ended.expect("it ends").success());
    for n in 0..SEEN {
        engine.get(SEE, n.to_string()).await.expect("started").result().await.expect("it runs");
    }
    engine.shutdown().await.expect("it leaves");
}
