//! Guarantee 1: a step whose outcome was recorded never runs again, and what the function is given, live and on every
//! replay, is what is recorded. Free values are the same on every replay too.

use std::{collections::BTreeMap, sync::Arc};

use crate::history::{Fact, Got, What};

type Step = (usize, Arc<str>);

/// What breaks it.
pub fn check(history: &[Fact]) -> Vec<String> {
    let mut look = Look::default();
    history.iter().for_each(|fact| look.at(&fact.what));
    look.found
}

#[derive(Default)]
struct Look {
    /// What is recorded, and by which entry.
    recorded: BTreeMap<Step, (u64, Got)>,
    /// What a worker's function was given of a step that is not recorded yet.
    ahead: BTreeMap<(Step, i64), Got>,
    drawn: BTreeMap<(usize, String), u64>,
    owner: BTreeMap<usize, i64>,
    found: Vec<String>,
}

impl Look {
    fn at(&mut self, what: &What) {
        match what {
            What::Turn { run, worker, entries, .. } => {
                for entry in entries.iter().filter(|entry| entry.is_outcome_of_step()) {
                    let (Some(key), Some(got)) = (&entry.key, entry.got) else { continue };
                    let step = (*run, key.clone());
                    if let Some(given) = self.ahead.remove(&(step.clone(), *worker)) {
                        self.same(&step, given, got);
                    }
                    self.recorded.insert(step, (entry.seq, got));
                }
            }
            What::Owned { run, worker } => {
                self.ahead.retain(|((of, _), who), _| (of, who) != (run, worker));
                self.owner.insert(*run, *worker);
            }
            What::Begun { run, key, attempt, .. } if self.recorded.contains_key(&(*run, key.clone())) => {
                self.found.push(format!(
                    "run-{run}: attempt {attempt} of `{key}` began, whose outcome is recorded"
                ));
            }
            // What a stale worker's function is given in memory binds nobody: nothing of it is ever written.
            What::Given { run, worker, .. } | What::Drawn { run, worker, .. }
                if self.owner.get(run) != Some(worker) => {}
            What::Given { run, key, worker, got, .. } => {
                let step = (*run, key.clone());
                match self.recorded.get(&step) {
                    Some((_, recorded)) => self.same(&step, *got, *recorded),
                    None => drop(self.ahead.insert((step, *worker), *got)),
                }
            }
            // Only a person goes back: what was recorded from there on is made again, and free values are others.
            What::CutBack { run, from } => {
                self.recorded.retain(|(of, _), (seq, _)| of != run || *seq < *from);
                self.drawn.retain(|(of, _), _| of != run);
            }
            What::Drawn { run, label, value, .. } => {
                let first = *self.drawn.entry((*run, label.clone())).or_insert(*value);
                if first != *value {
                    self.found
                        .push(format!("run-{run}: the free value at {label} was {first}, and then {value}"));
                }
            }
            _ => {}
        }
    }

    fn same(&mut self, (run, key): &Step, given: Got, recorded: Got) {
        if given != recorded {
            self.found.push(format!(
                "run-{run}: the function was given {given:?} of `{key}`, and recorded is {recorded:?}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::program::Policy;

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts)).len()
    }

    #[test]
    fn a_recorded_step_that_begins_again_is_found() {
        let (first, again) = (begun(1, 1, 1, Policy::Retry), begun(2, 2, 1, Policy::Retry));
        assert_eq!(
            finds(vec![owned(1), first.clone(), owned(2), again.clone(), turn(2, vec![done(1, 2)])]),
            0
        );
        assert_eq!(finds(vec![owned(1), first, turn(1, vec![done(1, 1)]), owned(2), again]), 1);
    }

    #[test]
    fn another_value_than_the_recorded_one_is_found_live_and_on_replay() {
        assert_eq!(
            finds(vec![owned(1), given(1, 1, 1), turn(1, vec![done(1, 1)]), owned(2), given(2, 2, 1)]),
            0
        );
        assert_eq!(finds(vec![owned(1), given(1, 1, 1), turn(1, vec![done(1, 5)])]), 1, "live");
        assert_eq!(finds(vec![owned(1), turn(1, vec![done(1, 1)]), owned(2), given(2, 2, 5)]), 1, "replayed");
        let lost = vec![owned(1), given(1, 1, 1), owned(2), given(2, 2, 5), turn(2, vec![done(1, 5)])];
        assert_eq!(finds(lost), 0, "what was never recorded binds nobody");
        let stale = vec![owned(1), owned(2), turn(2, vec![done(1, 1)]), given(1, 1, 5)];
        assert_eq!(finds(stale), 0, "nor does what a stale worker's function is given");
    }

    #[test]
    fn what_a_person_has_taken_back_may_be_made_again() {
        let (first, again) = (begun(1, 1, 1, Policy::Retry), begun(2, 2, 1, Policy::Retry));
        let back = |from| What::CutBack { run: 0, from };
        let facts = |from| {
            vec![owned(1), first.clone(), turn(1, vec![done(1, 1)]), back(from), owned(2), again.clone()]
        };
        assert_eq!((finds(facts(1)), finds(facts(2))), (0, 1), "what is kept is not made again");
    }

    #[test]
    fn another_free_value_is_found() {
        let drawn = |worker, value| What::Drawn { run: 0, worker, label: "0.1".to_string(), value };
        assert_eq!(finds(vec![owned(1), drawn(1, 1), drawn(1, 1)]), 0);
        assert_eq!(finds(vec![owned(1), drawn(1, 1), owned(2), drawn(2, 2)]), 1);
        let stale = vec![owned(1), owned(2), drawn(1, 1), drawn(2, 2)];
        assert_eq!(
            finds(stale),
            0,
            "a stale worker's binds nobody: its run was perhaps taken back and reseeded"
        );
    }
}
