//! Promises: a token that a step was given is good, it is settled one way, and what it is settled with is recorded once.

use std::collections::{BTreeMap, BTreeSet};

use everstep_core::journal::Kind;

use super::lives;
use crate::history::{Ending, Fact, Told, What};

/// What breaks it.
pub fn check(history: &[Fact]) -> Vec<String> {
    let went_back = lives::went_back(history);
    let (mut settled, mut recorded, mut restarted) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    let mut found = Vec::new();
    for fact in history {
        match &fact.what {
            // A generation's promises end with it.
            What::Settled { run, told: Told::Unknown, .. } if !restarted.contains(run) => {
                found.push(format!("run-{run}: a token that was handed out is nobody's"));
            }
            What::Settled { run, token, told } if matches!(told, Told::Resolved(_) | Told::Rejected) => {
                let first = settled.entry(*token).or_insert(*told);
                if first != told {
                    found.push(format!("run-{run}: a promise was settled as {first:?}, and as {told:?}"));
                }
            }
            What::Turn { run, entries, end, .. } => {
                if *end == Some(Ending::Restarted) {
                    restarted.insert(*run);
                }
                for entry in entries.iter().filter(|entry| entry.kind == Kind::PromiseSettled) {
                    let Some(key) = &entry.key else { continue };
                    if !recorded.insert((*run, key.clone())) && !went_back.contains(run) {
                        found.push(format!("run-{run}: promise `{key}` was recorded as settled twice"));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::history::Noted;

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts)).len()
    }

    fn told(told: Told) -> What {
        What::Settled { run: 0, token: 1, told }
    }

    #[test]
    fn a_token_that_is_nobodys_or_settled_in_two_ways_is_found() {
        assert_eq!(finds(vec![told(Told::Resolved(1)), told(Told::Resolved(1)), told(Told::TooLate)]), 0);
        assert_eq!(finds(vec![told(Told::Resolved(1)), told(Told::Rejected)]), 1);
        assert_eq!(finds(vec![told(Told::Unknown)]), 1);
    }

    #[test]
    fn a_promise_that_is_recorded_twice_is_found() {
        let settled = |seq| turn(1, vec![Noted { key: Some(key()), ..entry(seq, Kind::PromiseSettled) }]);
        assert_eq!((finds(vec![settled(1)]), finds(vec![settled(1), settled(2)])), (0, 1));
        let back = What::CutBack { run: 0, from: 1 };
        assert_eq!(finds(vec![settled(1), back, settled(1)]), 0, "a person went back");
    }
}
