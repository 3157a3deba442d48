//! One run of a million steps that restarts after each thousand: whether the last ones cost what the first did.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep::{Ctx, Result, Workflow};
use serde_json::{Value, json};

use super::Place;
use crate::{
    measure::{cpu, median, memory_mib},
    report::thousandths,
};

const COUNT: u64 = 1_000_000;
const EACH: u64 = 1_000;
/// Generations that are not measured: until then the writer's page cache (16 MB) fills, with restarts or without.
const WARM: usize = 100;
/// So many generations are the first, and so many the last: one alone is a short time for a CPU clock.
const PART: usize = 20;
const COUNTS: Workflow<u64, u64> = Workflow::new("counts");

/// CPU time and memory at the beginning of each generation.
static MARKS: Mutex<Vec<(Duration, f64)>> = Mutex::new(Vec::new());

async fn counts(ctx: Ctx, done: u64) -> Result<u64> {
    MARKS.lock().unwrap_or_else(PoisonError::into_inner).push((cpu(), memory_mib("VmRSS")));
    for n in 0..EACH {
        ctx.step("one", async || Ok(n)).await?;
    }
    match done + EACH {
        COUNT => Ok(COUNT),
        done => ctx.restart(COUNTS, done).await,
    }
}

pub async fn run(place: &Place<'_>) -> Value {
    let round = place.round(0).await;
    let database = &round.database;
    let builder = database.builder().await.register(COUNTS, counts);
    let engine = builder.start().await.expect("it starts");
    let began = Instant::now();
    let run = engine.start(COUNTS, "r", 0).await.expect("it starts");
    assert_eq!(run.result().await.expect("it ends"), COUNT);
    let wall = began.elapsed();
    engine.shutdown().await.expect("it leaves");
    let marks = std::mem::take(&mut *MARKS.lock().unwrap_or_else(PoisonError::into_inner));
    let of = |from: usize| {
        let part = &marks[from..=from + PART];
        let each: Vec<_> = part.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64() * 1e3).collect();
        (median(&each), median(&part.iter().map(|(_, rss)| *rss).collect::<Vec<_>>()))
    };
    let ((first_ms, first_rss), (last_ms, last_rss)) = (of(WARM), of(marks.len() - 1 - PART));
    json!({
        "workload": "restart", "steps": COUNT, "generations": marks.len(),
        "rate": (COUNT as f64 / wall.as_secs_f64()).round(), "unit": "steps/s",
        "first_cpu_ms": thousandths(first_ms), "last_cpu_ms": thousandths(last_ms),
        "cpu_ratio": thousandths(last_ms / first_ms), "rss_first_mib": first_rss.round(), "rss_mib": last_rss.round(),
        "journal_rows": database.rows("journal").await, "run_rows": database.rows("run").await,
        "archive_rows": database.rows("archive").await,
    })
}
