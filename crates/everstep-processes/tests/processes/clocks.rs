//! Clocks that are an hour wrong, or jump: timers are early or late by the error, and nothing else changes.

use everstep_processes::{clock::Clock, process::Actor, stage::Stage};

use crate::ACTOR;

const LEASE_MS: u64 = 600;
const HOUR: i64 = 3600;
/// Seconds that no test waits for: whose timer this is, it fires because a clock says so.
const LONG: i64 = 600;

fn worker(stage: &Stage, ahead: i64) -> Actor {
    stage.worker_with(&clock(stage, ahead), LEASE_MS)
}

fn clock(stage: &Stage, ahead: i64) -> Clock {
    let clock = stage.clock(&format!("clock {ahead}"));
    clock.set(ahead);
    clock
}

/// Brings the run `r` to its nap of so many seconds, beside a step that waits for its gate.
fn naps(worker: &mut Actor, seconds: i64) {
    worker.asks(&format!("start naps r {seconds}"), "started");
    worker.hears("begins r gate");
}

/// faults.md row 28: a timer that was set by a clock an hour behind is early by that hour, and no more.
#[test]
fn a_timer_set_by_a_clock_that_is_behind_is_early_by_its_error_at_most() {
    check(-HOUR, 2 * HOUR);
}

/// faults.md row 28: one that was set by a clock an hour ahead is late by that hour, and no more.
#[test]
fn a_timer_set_by_a_clock_that_is_ahead_is_late_by_its_error_at_most() {
    check(HOUR, LONG);
}

/// A run begins its nap on a clock that is wrong by `error` and goes on where the clock is right: a minute before the
/// timer is due, then a minute after that.
#[track_caller]
fn check(error: i64, nap: i64) {
    let stage = Stage::new(ACTOR);
    let mut wrong = worker(&stage, error);
    naps(&mut wrong, nap);
    wrong.kill();

    let mut before = worker(&stage, error + nap - 60);
    before.asks("open r", "ok");
    before.hears("done r gate");
    // Two leases pass.
    before.asks("start slow time 8", "started");
    before.asks("result slow time", "ok 8");
    assert_eq!(stage.number("SELECT count(*) FROM everstep_timeline WHERE run = 'r' AND what = 'fired'"), 0);
    before.kill();

    let mut after = worker(&stage, error + nap + 60);
    after.asks("result naps r", &format!("ok {nap}"));
    after.leaves();
    stage.is_whole();
}

/// A clock that is set while a run sleeps: it goes by what the clock says when it looks again.
#[test]
fn a_clock_that_is_set_forward_ends_a_nap_and_one_set_back_and_right_again_too() {
    let stage = Stage::new(ACTOR);
    let clock = clock(&stage, 0);
    let mut worker = stage.worker_with(&clock, LEASE_MS);
    naps(&mut worker, LONG);
    clock.set(LONG + 1);
    // It looks once a minute, and whenever something happens to the run.
    worker.asks("open r", "ok");
    worker.asks("result naps r", &format!("ok {LONG}"));

    clock.set(-HOUR);
    worker.asks("start chain back 3", "started");
    worker.asks("result chain back", "ok 3");
    clock.set(0);
    worker.asks("start naps again 1", "started");
    worker.hears("begins again gate");
    worker.asks("open again", "ok");
    worker.asks("result naps again", "ok 1");
    worker.leaves();
    stage.is_whole();
}

/// faults.md row 28: no clock says anything about a lease. Two workers, one an hour ahead of the other, then the other
/// way round, again and again: nobody is taken for dead, nothing runs twice, and no run goes back in time.
#[test]
fn leases_know_nothing_of_clocks_that_jump() {
    const RUNS: usize = 30;
    let stage = Stage::new(ACTOR);
    let clocks = [stage.clock("one"), stage.clock("two")];
    // A long one: on a machine with much to do a worker may be silent for a moment.
    let mut workers = clocks.each_ref().map(|clock| stage.worker_with(clock, 2_000));
    for worker in &mut workers {
        worker.hears("ready");
    }
    workers[0].asks("start slow long 6", "started");
    for n in 0..RUNS {
        clocks[n % 2].set(if n % 4 < 2 { HOUR } else { -HOUR });
        workers[n % 2].asks(&format!("start chain {n} 3"), "started");
        clocks[(n + 1) % 2].set(if n % 3 == 0 { -HOUR } else { HOUR });
        workers[(n + 1) % 2].asks(&format!("result chain {n}"), "ok 3");
    }
    workers[1].asks("result slow long", "ok 6");
    assert_eq!(stage.each_body_ran_once(), RUNS * 3 + 1);
    assert_eq!(stage.number("SELECT count(*) FROM everstep_worker WHERE fenced"), 0);
    let back = "SELECT count(*) FROM everstep_journal a JOIN everstep_journal b ON b.run = a.run AND b.seq = a.seq + 1 \
                WHERE b.at < a.at";
    assert_eq!(stage.number(back), 0, "a run went back in time");
    for worker in workers {
        worker.leaves();
    }
    stage.is_whole();
}
