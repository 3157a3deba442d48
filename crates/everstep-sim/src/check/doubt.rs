//! Guarantee 2: only attempts that were in flight when their load ended are made again, and each as its step's policy
//! says: `Fail` and `Ask` never on their own, `verify` only after it has looked and found nothing.

use std::{collections::BTreeMap, sync::Arc};

use everstep_core::journal::Kind;

use crate::{
    history::{Fact, What},
    program::Policy,
};

/// What breaks it.
pub fn check(history: &[Fact]) -> Vec<String> {
    let mut look = Look::default();
    history.iter().for_each(|fact| look.at(&fact.what));
    look.found
}

/// What happened to a step since its last attempt began.
#[derive(Clone, Copy, Default)]
struct Since {
    life: u64,
    attempt: u32,
    /// An attempt's failure, or a person's answer, was recorded.
    recorded: bool,
    looked: bool,
}

/// A step: its run and its key.
type Of = (usize, Arc<str>);

#[derive(Default)]
struct Look {
    begun: BTreeMap<Of, Since>,
    /// The failed attempts of each step, and the entries that say so.
    failed: BTreeMap<Of, Vec<(u32, u64)>>,
    found: Vec<String>,
}

impl Look {
    fn at(&mut self, what: &What) {
        match what {
            What::Turn { run, entries, .. } => {
                for entry in entries {
                    let Some(key) = &entry.key else { continue };
                    let step = (*run, key.clone());
                    match entry.kind {
                        Kind::AttemptFailed => {
                            let failed = self.failed.entry(step.clone()).or_default();
                            failed.push((entry.attempt, entry.seq));
                        }
                        Kind::Answered => drop(self.failed.remove(&step)),
                        _ => continue,
                    }
                    if let Some(since) = self.begun.get_mut(&step) {
                        since.recorded = true;
                    }
                }
            }
            What::Looked { run, key, found: false } => {
                if let Some(since) = self.begun.get_mut(&(*run, key.clone())) {
                    since.looked = true;
                }
            }
            // Attempts are counted anew.
            What::CutBack { run, from } => {
                self.begun.retain(|(of, _), _| of != run);
                let own = self.failed.iter_mut().filter(|((of, _), _)| of == run);
                own.for_each(|(_, failed)| failed.retain(|(_, seq)| seq < from));
            }
            What::Begun { run, key, attempt, life, policy, .. } => {
                self.begins((*run, key.clone()), *attempt, *life, *policy);
            }
            _ => {}
        }
    }

    fn begins(&mut self, step: (usize, Arc<str>), attempt: u32, life: u64, policy: Policy) {
        let (run, key) = step.clone();
        let failed =
            self.failed.get(&step).and_then(|failed| failed.last()).map_or(0, |(attempt, _)| *attempt);
        if attempt != failed + 1 {
            self.found
                .push(format!("run-{run}: attempt {attempt} of `{key}` began, and recorded are {failed}"));
        }
        let before = self.begun.insert(step, Since { life, attempt, recorded: false, looked: false });
        let Some(before) = before.filter(|before| !before.recorded) else { return };
        if before.life == life && before.attempt == attempt && !before.looked {
            self.found.push(format!("run-{run}: attempt {attempt} of `{key}` began twice in one load"));
        }
        let allowed = match policy {
            Policy::Retry => true,
            Policy::Fail | Policy::Ask => false,
            Policy::Verify => before.looked,
        };
        if !allowed {
            self.found.push(format!(
                "run-{run}: attempt {attempt} of `{key}` began again, though its policy is {policy:?}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts)).len()
    }

    #[test]
    fn each_policy_that_is_broken_is_found() {
        for (policy, found) in [(Policy::Retry, 0), (Policy::Fail, 1), (Policy::Ask, 1), (Policy::Verify, 1)]
        {
            assert_eq!(finds(vec![begun(1, 1, 1, policy), begun(2, 2, 1, policy)]), found, "{policy:?}");
        }
        let looked = What::Looked { run: 0, key: key(), found: false };
        assert_eq!(finds(vec![begun(1, 1, 1, Policy::Verify), looked, begun(2, 2, 1, Policy::Verify)]), 0);
        let answered = turn(2, vec![Noted { key: Some(key()), ..entry(1, Kind::Answered) }]);
        assert_eq!(finds(vec![begun(1, 1, 1, Policy::Ask), answered, begun(2, 2, 1, Policy::Ask)]), 0);
    }

    use crate::history::Noted;

    #[test]
    fn an_attempt_that_begins_twice_in_one_load_is_found() {
        assert_eq!(finds(vec![begun(1, 1, 1, Policy::Retry), begun(1, 1, 1, Policy::Retry)]), 1);
    }

    #[test]
    fn an_attempt_that_is_not_the_next_is_found() {
        let failed = turn(1, vec![attempt_failed(1, 1)]);
        assert_eq!(
            finds(vec![begun(1, 1, 1, Policy::Fail), failed.clone(), begun(1, 1, 2, Policy::Fail)]),
            0
        );
        assert_eq!(
            finds(vec![begun(1, 1, 1, Policy::Retry), begun(1, 1, 2, Policy::Retry)]),
            1,
            "not recorded"
        );
        assert_eq!(
            finds(vec![begun(1, 1, 1, Policy::Retry), failed, begun(2, 2, 1, Policy::Retry)]),
            1,
            "recorded"
        );
    }
}
