//! A process that stands still past its lease and goes on later can change nothing.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use rustix::process::Signal;

use everstep_processes::{stage::Stage, stale};

use crate::ACTOR;

const LEASE_MS: u64 = 600;

/// faults.md row 10: a worker that was taken over writes nothing any more, tells nothing, and knows why.
#[test]
fn a_stopped_worker_that_goes_on_changes_nothing() {
    let stage = Stage::new(ACTOR);
    let mut stale = stage.worker(LEASE_MS);
    stale.asks("start gated r 1", "started");
    stale.hears("begins r held");
    let worker = stage.number("SELECT id FROM everstep_worker");
    let lock = File::open(stage.beside(&format!(".worker-{worker}.lock"))).expect("every worker has one");
    stale.stops_outside_a_transaction(&stage);

    let mut winner = stage.worker(LEASE_MS);
    winner.hears("begins r held 1");
    let held = lock.try_lock_shared();
    assert!(
        matches!(held, Err(TryLockError::WouldBlock)),
        "it is alive and has its lock: the lease alone told"
    );
    winner.asks("open r", "ok");
    winner.asks("result gated r", "ok 1");
    let journal = stage.journal("r");
    assert_eq!(journal.len(), 5, "{journal:?}");

    // The body it stands in returns, after the run is over.
    stale.tell("open r");
    stale.signal(Signal::CONT);
    stale.hears("open r: ok");
    stale.hears("ERROR this worker was fenced");
    // Reading is free, and so are asking and starting; only driving runs is over.
    stale.asks("result gated r", "ok 1");
    stale.asks("start chain late 1", "started");
    winner.asks("result chain late", "ok 1");
    winner.asks("start chain next 1", "started");
    winner.asks("result chain next", "ok 1");
    stale.tell("leave");
    stale.hears("left");

    let told = stale.last_words().to_vec();
    let done: Vec<_> =
        told.iter().filter(|line| line.starts_with("done") || line.starts_with("completed")).collect();
    assert_eq!(done, ["done r before"], "what it told is what it did before it was stopped");
    assert_eq!(stage.journal("r"), journal);
    winner.leaves();
    assert_eq!(stage.bodies()["r held"], 2, "the world outside is not fenced");
    assert_eq!(stage.bodies()["r after"], 1);
    stage.is_whole();
}

/// faults.md row 12: time alone proves no death. The body lasts for three leases, and somebody looks on.
#[test]
fn a_step_longer_than_the_lease_is_not_stolen_while_its_worker_beats() {
    let stage = Stage::new(ACTOR);
    let (mut busy, looks_on) = (stage.worker(LEASE_MS), stage.worker(LEASE_MS));
    busy.asks("start slow r 12", "started");
    busy.hears("begins r last");
    busy.asks("result slow r", "ok 12");
    assert_eq!(stage.ledger(), ["r last"]);
    assert_eq!(stage.number("SELECT count(*) FROM everstep_worker WHERE fenced"), 0);
    looks_on.leaves();
    busy.leaves();
}

/// faults.md row 10, at every point of a run, with right and wrong clocks; `--bin stale -- --full` plays more of it.
#[test]
fn a_worker_that_is_stopped_anywhere_and_goes_on_changes_nothing() {
    let plays = stale::plays(Path::new(ACTOR), false);
    let figures = stale::sweep(Path::new(ACTOR), &plays, |_, _, _| {});
    assert_eq!(figures.violations, Vec::<String>::new());
    assert!(figures.amid_the_run * 2 > figures.stops, "most stops are before the end: {figures:?}");
    assert!(figures.repeated > 0, "who stands in a body makes it again: {figures:?}");
}
