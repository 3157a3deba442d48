//! Many seeds, on a few threads. Each seed lives twice, on one thread, and must go the same way both times.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{coverage::Matrix, life, plan::Plan};

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Seeds that lived twice.
    pub seeds: u64,
    /// Programs whose outcome was compared with what the reference interpreter allows.
    pub programs: u64,
    /// Observations, of one life each.
    pub facts: u64,
    /// Virtual time, of one life each.
    pub seconds: u64,
    /// What met what.
    pub matrix: Matrix,
    /// The first plans that failed, and how.
    pub failures: Vec<(Plan, Vec<String>)>,
}

/// Failures after which no further seeds are tried.
const FAILURES_MAX: usize = 3;

/// Lives twice through a plan; what was wrong.
pub fn twice(plan: &Plan) -> (life::Life, Vec<String>) {
    let (first, second) = (life::live(plan, false), life::live(plan, false));
    let mut violations = first.violations.clone();
    if first.trace != second.trace {
        violations.push("the same seed went another way the second time".to_string());
    }
    (first, violations)
}

/// Lives through the plans of `seeds`, on `threads` threads.
pub fn sail(seeds: Range<u64>, threads: u64, plan_of: impl Fn(u64) -> Plan + Sync) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let (tally, enough) = (Mutex::new(Tally::default()), AtomicBool::new(false));
    let every = ((seeds.end - seeds.start) / 10).max(500);
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let plan = plan_of(seed);
            let (life, violations) = twice(&plan);
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.seeds += 1;
            tally.programs += plan.runs.len() as u64;
            tally.facts += life.facts as u64;
            tally.seconds += life.seconds;
            tally.matrix.add(&life);
            if !violations.is_empty() {
                tally.failures.push((plan, violations));
                enough.store(tally.failures.len() >= FAILURES_MAX, Ordering::Relaxed);
            }
            if tally.seeds % every == 0 {
                println!("  {} seeds, {} failing", tally.seeds, tally.failures.len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.failures.sort_by_key(|(plan, _)| plan.seed);
    tally
}
