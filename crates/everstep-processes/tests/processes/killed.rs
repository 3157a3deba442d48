//! A killed process is known to be dead at once: its lock file is free.

use everstep_processes::stage::{DAY_MS, Stage};

use crate::ACTOR;

/// faults.md row 24: nothing stays with a process that was killed. The lease is a day: only the lock file can tell.
#[test]
fn a_killed_process_is_taken_over_at_once() {
    let stage = Stage::new(ACTOR);
    let mut first = stage.worker(DAY_MS);
    first.asks("start gated r 1", "started");
    first.hears("begins r held");
    first.kill();

    let mut second = stage.worker(DAY_MS);
    second.hears("skips r before");
    second.hears("begins r held 1");
    second.asks("open r", "ok");
    second.asks("result gated r", "ok 1");
    second.leaves();
    assert_eq!(stage.ledger(), ["r before", "r held", "r held", "r after"]);
    stage.is_whole();
}

/// The same for one that was there already: it looks for dead neighbours more often than its own lease would need.
#[test]
fn a_killed_process_is_taken_over_by_its_neighbour() {
    let stage = Stage::new(ACTOR);
    let mut first = stage.worker(DAY_MS);
    first.asks("start gated r 1", "started");
    first.hears("begins r held");
    let mut second = stage.worker(DAY_MS);
    second.asks("start chain other 3", "started");
    second.asks("result chain other", "ok 3");
    first.kill();

    second.hears("begins r held 1");
    second.asks("open r", "ok");
    second.asks("result gated r", "ok 1");
    second.leaves();
}
