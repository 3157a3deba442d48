//! How a workload's figures are told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::measure::{median, memory_mib, quantile};

/// What the rounds of a workload gave: ours and the raw limit's rates, the time of each step, bytes on disk.
#[derive(Default)]
pub struct Rates {
    pub ours: Vec<f64>,
    pub raw: Vec<f64>,
    pub steps: Vec<Duration>,
    pub bytes_per_step: f64,
}

impl Rates {
    /// The figures that every workload with a rate has.
    pub fn tell(mut self, workload: &str, unit: &str, raw: &str) -> Value {
        let (rate, raw_rate) = (median(&self.ours), median(&self.raw));
        let spread = |values: &[f64]| {
            let (least, most) = values.iter().fold((f64::MAX, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
            json!([least.round(), most.round()])
        };
        json!({
            "workload": workload, "rate": rate.round(), "unit": unit, "raw": raw, "raw_rate": raw_rate.round(),
            "ratio": thousandths(rate / raw_rate),
            "spread": spread(&self.ours), "raw_spread": spread(&self.raw),
            "p50_us": quantile(&mut self.steps, 0.5).as_micros(), "p99_us": quantile(&mut self.steps, 0.99).as_micros(),
            "bytes_per_step": self.bytes_per_step.round(), "rss_mib": memory_mib("VmHWM").round(),
        })
    }
}

/// Rounded for people.
pub fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What every object has, if only to say that there is no such figure.
const COMMON: [&str; 10] =
    ["workload", "rate", "unit", "raw", "raw_rate", "ratio", "p50_us", "p99_us", "bytes_per_step", "rss_mib"];

/// One object on a line, or a list for people.
pub fn print(mut told: Value, as_json: bool) {
    if as_json {
        for key in COMMON {
            told.as_object_mut().expect("an object").entry(key).or_insert(Value::Null);
        }
        println!("{told}");
        return;
    }
    for (key, value) in told.as_object().into_iter().flatten() {
        match key.as_str() {
            "workload" => println!("{}", value.as_str().unwrap_or_default()),
            _ => println!("  {key}: {value}"),
        }
    }
}
