//! One run of a thousand steps: what a single caller waits for.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Place, STEPS, engine, take_times};
use crate::{
    measure::{bytes, median},
    raw,
    report::Rates,
};

const COUNT: u64 = 1000;
/// A raw single limit below this part of the disk's syncs is no limit.
const RAW_SYNCS_MIN: f64 = 0.6;

pub async fn run(place: &Place<'_>) -> Value {
    let (mut rates, mut syncs) = (Rates::default(), Vec::new());
    for round in 0..place.rounds {
        let folder = place.round(round);
        if place.raw {
            syncs.push(raw::fdatasync(&folder));
            rates.raw.push(raw::single(&folder, COUNT));
        }
        let path = folder.join("ours.db");
        let engine = engine(&path).await;
        let (before, began) = (bytes(&path), Instant::now());
        engine.run(STEPS, "r", COUNT).await.expect("it runs");
        rates.ours.push(COUNT as f64 / began.elapsed().as_secs_f64());
        engine.shutdown().await.expect("it leaves");
        rates.bytes_per_step = bytes(&path).saturating_sub(before) as f64 / COUNT as f64;
    }
    rates.steps = take_times();
    let (syncs, part) = (median(&syncs), median(&rates.raw) / median(&syncs));
    let mut told = rates.tell("sequential", "steps/s", "raw-single");
    told["fdatasync_rate"] = json!(syncs.round());
    told["raw_per_sync"] = json!((part * 100.0).round() / 100.0);
    if part < RAW_SYNCS_MIN {
        told["warning"] = json!("the raw limit is none: it reaches too small a part of the disk's syncs");
    }
    told
}
