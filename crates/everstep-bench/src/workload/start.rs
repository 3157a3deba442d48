//! Ten thousand one-step runs: started by a thousand submitters who each wait for start and result, or in one batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use everstep::Engine;
use serde_json::{Value, json};

use super::{Place, STEPS, engine, take_times, wait_all};
use crate::{database::Database, measure::quantile, raw, report::Rates};

const RUNS: u64 = 10_000;
const SUBMITTERS: u64 = 1000;

pub async fn one_by_one(place: &Place<'_>) -> Value {
    let (mut rates, mut times) = (Rates::default(), Vec::new());
    for round in 0..place.rounds {
        let round = place.round(round).await;
        if place.raw {
            rates.raw.push(raw::pipeline(&round, SUBMITTERS, RUNS / SUBMITTERS, Duration::ZERO).await);
        }
        let database = &round.database;
        let engine = Arc::new(engine(database).await);
        let (before, began) = (database.bytes().await, Instant::now());
        let submitters: Vec<_> = (0..SUBMITTERS).map(|n| tokio::spawn(submit(engine.clone(), n))).collect();
        for submitter in submitters {
            times.extend(submitter.await.expect("it does not panic"));
        }
        rates.ours.push(RUNS as f64 / began.elapsed().as_secs_f64());
        end(engine, database, before, &mut rates).await;
    }
    rates.steps = take_times();
    let mut told = rates.tell("start", "runs/s", "raw-pipeline");
    told["run_p50_us"] = json!(quantile(&mut times, 0.5).as_micros());
    told["run_p99_us"] = json!(quantile(&mut times, 0.99).as_micros());
    told
}

async fn submit(engine: Arc<Engine>, submitter: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..RUNS / SUBMITTERS {
        let began = Instant::now();
        let run = engine.start(STEPS, format!("{submitter}-{n}"), 1).await.expect("it starts");
        run.result().await.expect("it runs");
        times.push(began.elapsed());
    }
    times
}

pub async fn batch(place: &Place<'_>) -> Value {
    let mut rates = Rates::default();
    for round in 0..place.rounds {
        let round = place.round(round).await;
        if place.raw {
            rates.raw.push(raw::pipeline(&round, RUNS, 1, Duration::ZERO).await);
        }
        let database = &round.database;
        let engine = Arc::new(engine(database).await);
        let (before, began) = (database.bytes().await, Instant::now());
        let inputs: Vec<_> = (0..RUNS).map(|n| (n.to_string(), 1)).collect();
        wait_all(engine.start_batch(STEPS, inputs).await.expect("they start")).await;
        rates.ours.push(RUNS as f64 / began.elapsed().as_secs_f64());
        end(engine, database, before, &mut rates).await;
    }
    rates.steps = take_times();
    rates.tell("start-batch", "runs/s", "raw-pipeline")
}

async fn end(engine: Arc<Engine>, database: &Database, before: u64, rates: &mut Rates) {
    Arc::into_inner(engine).expect("all submitters are done").shutdown().await.expect("it leaves");
    database.settle();
    rates.bytes_per_step = database.bytes().await.saturating_sub(before) as f64 / RUNS as f64;
}
