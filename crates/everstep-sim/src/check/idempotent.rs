//! Guarantee 7: a start with a used id is the same run, or a conflict. Workers' ids are never given twice.

use std::collections::BTreeSet;

use crate::history::{Fact, What};

/// What breaks it.
pub fn check(history: &[Fact]) -> Vec<String> {
    let (mut started, mut workers, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for fact in history {
        match &fact.what {
            What::Started { run, new } if started.insert(*run) != *new => {
                let was = if *new { "made again" } else { "known before it was made" };
                found.push(format!("run-{run} was {was}"));
            }
            What::ConflictMissed { run } => found.push(format!(
                "run-{run}: a start with another input was accepted, or one with the same was refused"
            )),
            What::Enrolled { worker } if !workers.insert(*worker) => {
                found.push(format!("the number of worker {worker} was given twice"));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts)).len()
    }

    #[test]
    fn a_start_that_makes_a_second_run_is_found() {
        let started = |new| What::Started { run: 0, new };
        assert_eq!(finds(vec![started(true), started(false), started(false)]), 0);
        assert_eq!(finds(vec![started(true), started(true)]), 1);
        assert_eq!(finds(vec![started(false)]), 1);
        assert_eq!(finds(vec![What::ConflictMissed { run: 0 }]), 1);
    }

    #[test]
    fn a_worker_number_that_is_given_twice_is_found() {
        let enrolled = |worker| What::Enrolled { worker };
        assert_eq!((finds(vec![enrolled(1), enrolled(2)]), finds(vec![enrolled(1), enrolled(1)])), (0, 1));
    }
}
