//! After a failed fsync nobody knows what is on the disk.

use everstep_processes::stage::{LEASE_MS, Stage};

use crate::ACTOR;

const STEPS: usize = 5;

/// What became of one failed sync.
#[derive(PartialEq)]
enum Fate {
    Closed,
    /// SQLite does not look whether the sync of a folder fails.
    OfAFolder,
    /// There were not so many before the run had its result.
    NotMet,
}

/// faults.md row 41: SQLite fails the commit whose fsync failed and accepts later ones; the store must not.
///
/// Each sync of a small run fails once, until there is none left to fail.
///
/// faults.md row 5: a commit of which nobody knows whether it happened counts as neither.
#[test]
fn a_failed_fsync_ends_this_opening_and_a_new_one_goes_on() {
    let fates: Vec<_> = (1..).map(fail).take_while(|fate| *fate != Fate::NotMet).collect();
    let closed = fates.iter().filter(|fate| **fate == Fate::Closed).count();
    assert!(closed > STEPS, "only {closed} commits failed, and each step has one");
    assert!(fates.len() - closed <= 1, "only SQLite's own sync of the folder");
}

fn fail(nth: usize) -> Fate {
    let stage = Stage::just_crashed(ACTOR, "");
    let mut worker = stage.tampered_worker("fdatasync,fsync", "error=EIO", nth);
    if worker.hears_or_ends("ready").is_none() {
        let said = worker.hears("no ");
        let of_the_folder = said.starts_with("no store: cannot open") && said.contains("Input/output error");
        assert!(of_the_folder || said.starts_with("no engine EV0121 the store is closed: "), "{said}");
        assert_eq!(
            of_the_folder,
            nth == 1,
            "the names come first, and an error of theirs is no opening: {said}"
        );
    } else {
        worker.tell(&format!("start chain r {STEPS}"));
        worker.hears("start chain r");
        let result = worker.ask("result chain r");
        if result == format!("ok {STEPS}") {
            worker.leaves();
            return match stage.tampered() {
                None => Fate::NotMet,
                Some(call) if !call.contains("app.db") => Fate::OfAFolder,
                // What failed was the worker's leave.
                Some(_) => Fate::NotMet,
            };
        }
        for asked in
            ["result chain r", "start chain late 1", "cancel r", "retry r", "answer r 1", "status chain r"]
        {
            let answer = worker.ask(asked);
            assert!(answer.starts_with("EV0121 the store is closed: "), "{nth}: {asked}: {answer}");
            assert!(answer.contains("disk I/O error"), "it says why: {answer}");
        }
        worker.tell("leave");
        worker.hears("left with EV0121");
    }
    let acknowledged: Vec<String> = worker
        .last_words()
        .iter()
        .filter_map(|line| line.strip_prefix("done "))
        .map(str::to_string)
        .collect();
    worker.ends();

    let before = stage.bodies();
    assert!(before.len() <= acknowledged.len() + 1, "{nth}: no body began after the failure: {before:?}");
    let mut next = stage.worker(LEASE_MS);
    next.asks(&format!("start chain r {STEPS}"), "started");
    next.asks("result chain r", &format!("ok {STEPS}"));
    assert!(next.ask("status chain late").starts_with("EV0101"), "its start was refused");
    next.leaves();
    let bodies = stage.bodies();
    assert_eq!(bodies.len(), STEPS);
    for (body, times) in bodies {
        assert!(times == 1 || !acknowledged.contains(&body), "{nth}: {body} was acknowledged and ran again");
    }
    stage.is_whole();
    Fate::Closed
}
