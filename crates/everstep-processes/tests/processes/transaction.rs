//! The user's rows and the record of a transactional step are one commit, wherever the process dies.

use everstep_processes::stage::{LEASE_MS, Stage};

use crate::ACTOR;

const TABLE: &str = "CREATE TABLE counted (run TEXT NOT NULL)";
/// The step is committed, and its entry is not in the journal yet.
const IN_THE_INBOX: &str = "SELECT count(*) FROM everstep_inbox WHERE kind = 5 AND name = 'count'";

/// Where a process died.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Died {
    Before,
    BetweenCommitAndEntry,
    After,
}

/// Killed at each sync: what a commit has written is in the file then, and its caller knows nothing of it.
#[test]
fn a_transaction_counts_once_wherever_the_process_is_killed_at_a_sync() {
    check("fdatasync,fsync");
}

/// Killed at each write: in the middle of commits.
#[test]
fn a_transaction_counts_once_wherever_the_process_is_killed_at_a_write() {
    check("pwrite64");
}

#[track_caller]
fn check(calls: &str) {
    let deaths: Vec<_> = (1..).map_while(|nth| die(calls, nth)).collect();
    for place in [Died::Before, Died::BetweenCommitAndEntry, Died::After] {
        assert!(deaths.contains(&place), "nobody died {place:?}: {deaths:?}");
    }
}

/// Kills a worker at the `nth` of these calls of its writer, and lets the next finish; `None` if it was not killed.
fn die(calls: &str, nth: usize) -> Option<Died> {
    let stage = Stage::just_crashed(ACTOR, TABLE);
    let mut first = stage.tampered_worker(calls, "signal=KILL", nth);
    first.tell("start counted r 1");
    first.hears_or_ends("start counted r 1: ");
    first.tell("result counted r");
    let lived = first.hears_or_ends("result counted r: ok").is_some();
    first.last_words();
    if lived {
        return None;
    }

    let counted = stage.number("SELECT count(*) FROM counted");
    let died = match stage.number(IN_THE_INBOX) {
        1 => Died::BetweenCommitAndEntry,
        _ if counted == 0 => Died::Before,
        _ => Died::After,
    };
    assert!(counted <= 1, "{calls} {nth}");
    let mut second = stage.worker(LEASE_MS);
    second.asks("start counted r 1", "started");
    second.asks("result counted r", "ok 2");
    assert_eq!(stage.number("SELECT count(*) FROM counted"), 1, "{calls} {nth}: {died:?}");
    assert_eq!(stage.number(IN_THE_INBOX), 0, "{calls} {nth}: {died:?}");
    second.leaves();
    stage.is_whole();
    Some(died)
}
