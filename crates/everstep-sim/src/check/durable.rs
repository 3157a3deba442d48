//! Guarantee 4: nothing outside sees a consequence of an entry that is not durable. Outside are bodies, the engine's
//! audience, and whoever waits for a result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use everstep_core::journal::Kind;

use crate::history::{Ended, Fact, What, plain};

/// What breaks it.
pub fn check(history: &[Fact]) -> Vec<String> {
    let mut look = Look::default();
    history.iter().for_each(|fact| look.at(&fact.what));
    look.found
}

#[derive(Default)]
struct Look {
    /// Steps with an outcome, and its entry.
    recorded: BTreeMap<(usize, Arc<str>), u64>,
    /// Steps with an outcome in some generation.
    told: BTreeSet<(usize, String)>,
    failed: BTreeSet<(usize, Arc<str>, u32)>,
    ended: BTreeMap<usize, Ended>,
    /// How runs had ended before a person took their end back: somebody may hear of it late.
    before: BTreeMap<usize, Ended>,
    /// What the function of each life was given, and is not seen to be durable yet.
    given: BTreeMap<u64, Vec<(usize, Arc<str>)>>,
    found: Vec<String>,
}

impl Look {
    fn at(&mut self, what: &What) {
        match what {
            What::Turn { run, entries, .. } => {
                for entry in entries {
                    self.ended.extend(entry.ended.map(|ended| (*run, ended)));
                    let Some(key) = &entry.key else { continue };
                    if entry.is_outcome_of_step() {
                        self.recorded.insert((*run, key.clone()), entry.seq);
                        self.told.insert((*run, plain(key).to_string()));
                    }
                    if entry.kind == Kind::AttemptFailed {
                        self.failed.insert((*run, key.clone(), entry.attempt));
                    }
                }
            }
            What::Given { run, key, life, .. } => {
                self.given.entry(*life).or_default().push((*run, key.clone()));
            }
            What::Begun { run, key, attempt, life, .. } => {
                let given = self.given.entry(*life).or_default();
                given.retain(|step| !self.recorded.contains_key(step));
                if let Some((_, early)) = given.first() {
                    self.found.push(format!(
                        "run-{run}: `{key}` began before the outcome of `{early}` was durable"
                    ));
                }
                if *attempt > 1 && !self.failed.contains(&(*run, key.clone(), attempt - 1)) {
                    self.found.push(format!("run-{run}: attempt {attempt} of `{key}` began before the failure of the one before was durable"));
                }
            }
            What::CutBack { run, from } => {
                self.recorded.retain(|(of, _), seq| of != run || *seq < *from);
                self.before.extend(self.ended.remove(run).map(|ended| (*run, ended)));
                self.given.values_mut().for_each(|given| given.retain(|(of, _)| of != run));
            }
            What::ToldStep { run, key } if !self.told.contains(&(*run, key.to_string())) => {
                self.found.push(format!("run-{run}: the outcome of `{key}` was told before it was durable"));
            }
            What::ToldEnd { run, word } => {
                let is = |ended: Option<&Ended>| {
                    matches!(
                        (ended, *word),
                        (Some(Ended::Cancelled), "cancelled")
                            | (Some(Ended::With(crate::program::Out::Go(_))), "completed")
                            | (Some(Ended::With(crate::program::Out::Fail(_))), "failed")
                    )
                };
                let is_true = is(self.ended.get(run)) || is(self.before.get(run));
                if !is_true {
                    self.found.push(format!("run-{run}: it was told to be {word} before that was durable"));
                }
            }
            What::Heard { run, ended }
                if self.ended.get(run) != Some(ended) && self.before.get(run) != Some(ended) =>
            {
                let durable = self.ended.get(run);
                self.found.push(format!("run-{run}: a client heard {ended:?}, and durable is {durable:?}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::{
        history::Noted,
        program::{Out, Policy},
    };

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts)).len()
    }

    fn next() -> What {
        match begun(1, 1, 1, Policy::Retry) {
            What::Begun { run, attempt, worker, life, by, policy, .. } => {
                What::Begun { run, key: "b".into(), attempt, worker, life, by, policy }
            }
            other => other,
        }
    }

    #[test]
    fn a_body_that_begins_too_early_is_found() {
        assert_eq!(finds(vec![given(1, 1, 1), turn(1, vec![done(1, 1)]), next()]), 0);
        assert_eq!(finds(vec![given(1, 1, 1), next(), turn(1, vec![done(1, 1)])]), 1);
        let again = begun(1, 1, 2, Policy::Retry);
        assert_eq!(finds(vec![turn(1, vec![attempt_failed(1, 1)]), again.clone()]), 0);
        assert_eq!(finds(vec![again, turn(1, vec![attempt_failed(1, 1)])]), 1);
    }

    #[test]
    fn what_is_told_too_early_is_found() {
        let told = What::ToldStep { run: 0, key: key() };
        assert_eq!(finds(vec![turn(1, vec![done(1, 1)]), told.clone()]), 0);
        assert_eq!(finds(vec![told, turn(1, vec![done(1, 1)])]), 1);
        let ended = Ended::With(Out::Go(4));
        let outcome = last_turn(1, vec![Noted { ended: Some(ended), ..entry(1, Kind::Completed) }]);
        let told = What::ToldEnd { run: 0, word: "completed" };
        assert_eq!(finds(vec![outcome.clone(), told.clone()]), 0);
        assert_eq!(finds(vec![told, outcome.clone()]), 1);
        assert_eq!(finds(vec![outcome.clone(), What::ToldEnd { run: 0, word: "failed" }]), 1);
        let heard = |n| What::Heard { run: 0, ended: Ended::With(Out::Go(n)) };
        assert_eq!(finds(vec![outcome.clone(), heard(4)]), 0);
        assert_eq!(finds(vec![outcome.clone(), heard(5)]), 1, "another");
        assert_eq!(finds(vec![heard(4), outcome]), 1, "too early");
    }
}
