//! A hundred thousand runs that did two steps and sleep: what each takes in memory.

use std::time::Duration;

use everstep::{Ctx, Engine, Result, Settings, Workflow, days};
use serde_json::{Value, json};

use super::{Place, STEPS, steps, wait_all};
use crate::measure::memory_mib;

const RUNS: u64 = 100_000;
const AT_ONCE: u64 = 1000;
/// Runs that are finished before: what they leave (the page caches of the database, above all) is no cost of a run that
/// waits.
const WARM: u64 = 30_000;
const SLEEPER: Workflow<u64, u64> = Workflow::new("sleeper");

async fn sleeper(ctx: Ctx, _: u64) -> Result<u64> {
    ctx.step("one", async || Ok(1)).await?;
    ctx.step("two", async || Ok(2)).await?;
    ctx.sleep(days(1)).await;
    Ok(0)
}

pub async fn run(place: &Place<'_>) -> Value {
    let round = place.round(0).await;
    // They would leave memory.
    let settings = Settings { park_after: Duration::MAX, ..Settings::default() };
    let builder =
        round.database.builder().await.register(SLEEPER, sleeper).register(STEPS, steps).settings(settings);
    let engine = builder.start().await.expect("it starts");
    for part in 0..WARM / AT_ONCE {
        let inputs: Vec<_> = (0..AT_ONCE).map(|n| (format!("warm-{part}-{n}"), 2)).collect();
        wait_all(engine.start_batch(STEPS, inputs).await.expect("they start")).await;
    }
    let before = memory_mib("VmRSS");
    fall_asleep(&engine, "r", RUNS).await;
    let after = memory_mib("VmRSS");
    drop(engine);
    json!({
        "workload": "resident", "runs": RUNS, "rss_before_mib": before.round(), "rss_mib": after.round(),
        "bytes_per_run": ((after - before) * 1024.0 * 1024.0 / RUNS as f64).round(),
    })
}

/// Starts so many runs, and returns when all sleep.
async fn fall_asleep(engine: &Engine, name: &str, count: u64) {
    for part in 0..count / AT_ONCE {
        let inputs: Vec<_> = (0..AT_ONCE).map(|n| (format!("{name}-{part}-{n}"), 0)).collect();
        for run in engine.start_batch(SLEEPER, inputs).await.expect("they start") {
            let run = run.expect("it started");
            while run.journal_len().await.expect("readable") < 3 {
                tokio::task::yield_now().await;
            }
        }
    }
}
