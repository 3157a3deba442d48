//! A thousand runs of ten steps at once, again and again.

use std::time::{Duration, Instant};

use everstep::Engine;
use serde_json::Value;

use super::{Place, STEPS, engine, take_times, wait_all};
use crate::{database::Database, raw, report::Rates};

pub const RUNS: u64 = 1000;
pub const EACH: u64 = 10;
pub const AT_LEAST: Duration = Duration::from_secs(1);

pub async fn run(place: &Place<'_>) -> Value {
    let mut rates = Rates::default();
    for round in 0..place.rounds {
        let round = place.round(round).await;
        if place.raw {
            rates.raw.push(raw::pipeline(&round, RUNS, EACH, AT_LEAST).await);
        }
        ours(&round.database, &mut rates).await;
    }
    rates.steps = take_times();
    rates.tell("parallel", "steps/s", "raw-pipeline")
}

/// One round of ours.
pub async fn ours(database: &Database, rates: &mut Rates) {
    let engine = engine(database).await;
    let (before, began) = (database.bytes().await, Instant::now());
    let steps = waves(&engine, "").await;
    rates.ours.push(steps as f64 / began.elapsed().as_secs_f64());
    engine.shutdown().await.expect("it leaves");
    rates.bytes_per_step = database.bytes().await.saturating_sub(before) as f64 / steps as f64;
}

/// Starts and finishes all runs again and again; how many steps they did.
pub async fn waves(engine: &Engine, name: &str) -> u64 {
    let (began, mut wave) = (Instant::now(), 0u64);
    while began.elapsed() < AT_LEAST || wave == 0 {
        let inputs: Vec<_> = (0..RUNS).map(|n| (format!("{name}{wave}-{n}"), EACH)).collect();
        wait_all(engine.start_batch(STEPS, inputs).await.expect("they start")).await;
        wave += 1;
    }
    wave * RUNS * EACH
}
