//! Several processes on one file: workers, clients, the user's own program.

use everstep_processes::stage::{LEASE_MS, Stage};

use crate::ACTOR;

#[test]
fn two_workers_and_a_client_share_a_file() {
    const RUNS: usize = 40;
    let stage = Stage::new(ACTOR);
    let (mut client, mut one, mut two) = (stage.client(), stage.worker(LEASE_MS), stage.worker(LEASE_MS));
    for n in 0..RUNS {
        client.asks(&format!("start chain {n} 3"), "started");
    }
    for n in 0..RUNS {
        client.asks(&format!("result chain {n}"), "ok 3");
    }
    assert_eq!(stage.each_body_ran_once(), RUNS * 3);
    // A worker is told by whoever asks, also when another process drives the run.
    one.asks("start gated g 1", "started");
    one.hears("begins g held");
    client.asks("cancel g", "ok");
    assert!(client.ask("result gated g").starts_with("EV0007"));
    two.asks("start chain last 1", "started");
    client.asks("result chain last", "ok 1");
    one.leaves();
    two.leaves();
    stage.is_whole();
}

/// The user's program may hold the file for seconds: everybody waits, and nothing fails.
#[test]
fn a_program_that_holds_the_file_delays_and_fails_nothing() {
    let stage = Stage::new(ACTOR);
    let (mut worker, mut client) = (stage.worker(LEASE_MS), stage.client());
    worker.asks("start gated g 1", "started");
    worker.hears("begins g held");
    worker.asks("start gated gone 1", "started");
    worker.hears("begins gone held");
    let mut holder = stage.holder(3_500);

    worker.tell("start chain mine 3");
    client.tell("start chain yours 3");
    client.tell("cancel gone");
    worker.asks("open g", "ok");
    let mut third = stage.worker(LEASE_MS);
    holder.hears("released");
    worker.hears("start chain mine 3: started");
    client.hears("start chain yours 3: started");
    client.hears("cancel gone: ok");
    for (asked, answer) in
        [("result chain mine", "ok 3"), ("result chain yours", "ok 3"), ("result gated g", "ok 1")]
    {
        client.asks(asked, answer);
    }
    assert!(client.ask("result gated gone").starts_with("EV0007"));
    third.asks("start chain late 1", "started");
    third.asks("result chain late", "ok 1");

    let ledger = stage.ledger();
    let released = ledger.iter().position(|line| line == "released").expect("it says so");
    assert!(
        ledger[..released].iter().all(|line| line.starts_with('g')),
        "nothing was started before: {ledger:?}"
    );
    stage.each_body_ran_once();
    for process in [worker, third] {
        process.leaves();
    }
    stage.is_whole();
}

/// faults.md row 38: nobody meets SQLITE_BUSY, however many write.
#[test]
fn eight_processes_hammer_one_file() {
    const RUNS: usize = 15;
    let stage = Stage::new(ACTOR);
    let mut workers: Vec<_> = (0..8).map(|_| stage.worker(LEASE_MS)).collect();
    for (w, worker) in workers.iter_mut().enumerate() {
        for n in 0..RUNS {
            worker.tell(&format!("start chain {w}-{n} 3"));
        }
    }
    for (w, worker) in workers.iter_mut().enumerate() {
        for n in 0..RUNS {
            worker.hears(&format!("start chain {w}-{n} 3: started"));
            worker.asks(&format!("result chain {w}-{n}"), "ok 3");
        }
    }
    assert_eq!(stage.each_body_ran_once(), 8 * RUNS * 3);
    for mut worker in workers {
        worker.tell("leave");
        worker.hears("left");
        let troubles: Vec<_> = worker
            .last_words()
            .iter()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .collect();
        assert!(troubles.is_empty(), "{troubles:?}");
    }
    assert_eq!(stage.number("SELECT sum(n) FROM everstep_run_count WHERE status = 3"), (8 * RUNS) as i64);
    stage.is_whole();
}
