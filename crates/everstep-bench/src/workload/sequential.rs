//! One run of a thousand steps: what a single caller waits for.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Place, STEPS, engine, take_times};
use crate::{measure::median, raw, report::Rates};

const COUNT: u64 = 1000;

pub async fn run(place: &Place<'_>) -> Value {
    let (mut rates, mut syncs) = (Rates::default(), Vec::new());
    for round in 0..place.rounds {
        let round = place.round(round).await;
        if place.raw {
            syncs.push(place.fdatasync(&round));
            rates.raw.push(raw::single(&round, COUNT));
        }
        let database = &round.database;
        let engine = engine(database).await;
        let (before, began) = (database.bytes().await, Instant::now());
        engine.run(STEPS, "r", COUNT).await.expect("it runs");
        rates.ours.push(COUNT as f64 / began.elapsed().as_secs_f64());
        engine.shutdown().await.expect("it leaves");
        rates.bytes_per_step = database.bytes().await.saturating_sub(before) as f64 / COUNT as f64;
    }
    rates.steps = take_times();
    let (syncs, part) = (median(&syncs), median(&rates.raw) / median(&syncs));
    let mut told = rates.tell("sequential", "steps/s", "raw-single");
    told["fdatasync_rate"] = json!(syncs.round());
    told["raw_per_sync"] = json!((part * 100.0).round() / 100.0);
    if place.raw && part < place.kind().syncs_min() {
        told["warning"] = json!("the raw limit is none: it reaches too small a part of the disk's syncs");
    }
    told
}
