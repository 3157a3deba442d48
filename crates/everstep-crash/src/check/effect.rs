//! Effects: what bodies did to the world, and which of them may happen again. A step that a person has taken back is
//! another step from then on, told by its other idempotency key: its *era* counts how often it was taken back before.

use std::collections::{BTreeMap, BTreeSet};

use crate::{life::Life, snapshot::Snapshot};

/// A step of a run.
pub(super) type Key = (String, String);

/// A line `effect RUN KEY ATTEMPT STAGE IDEMPOTENCY_KEY`. What runs beside everything has the stage `-`.
struct Effect {
    key: Key,
    attempt: u32,
    stage: Option<usize>,
    era: usize,
}

/// The effects of a history, life by life.
pub(super) struct Effects(Vec<Vec<Effect>>);

impl Effects {
    pub(super) fn of<'a>(lives: impl Iterator<Item = &'a Life>) -> Effects {
        let mut eras = BTreeMap::new();
        Effects(
            lives
                .map(|life| life.lines.iter().filter_map(|line| effect(line, &mut eras)).collect())
                .collect(),
        )
    }

    /// Design, guarantee 1: a step whose outcome was recorded before the `n`th life never runs in it, unless a person took
    /// it back.
    pub(super) fn never_again(&self, n: usize, before: Option<&Snapshot>) -> Vec<String> {
        let again = |effect: &&Effect| {
            let run = before.and_then(|before| before.runs.get(&effect.key.0));
            run.is_some_and(|run| {
                run.recorded.contains(&effect.key.1) && effect.era <= run.rewinds(&effect.key.1)
            })
        };
        let again = self.0[n].iter().filter(again);
        again
            .map(|Effect { key: (run, key), .. }| {
                format!("step {key} of run {run} was recorded and ran again")
            })
            .collect()
    }

    /// A step keeps its idempotency key until a person takes it back. `after` is what the `n`th life has left.
    pub(super) fn one_idempotency_key(&self, n: usize, after: &Snapshot) -> Vec<String> {
        let changed = |effect: &&Effect| {
            let rewinds = after.runs.get(&effect.key.0).map_or(0, |run| run.rewinds(&effect.key.1));
            effect.era > rewinds
        };
        let changed = self.0[n].iter().filter(changed);
        changed
            .map(|Effect { key: (run, key), .. }| {
                format!("step {key} of run {run} has another idempotency key")
            })
            .collect()
    }

    /// Nothing repeats an attempt but the death of its process.
    pub(super) fn once_a_life(&self, n: usize) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let twice = self.0[n].iter().filter(|effect| !seen.insert((&effect.key, effect.attempt, effect.era)));
        twice
            .map(|Effect { key: (run, key), attempt, .. }| {
                format!("attempt {attempt} of step {key} of run {run} ran twice in one life")
            })
            .collect()
    }

    /// Design, guarantee 4: a body is outside. When one begins, everything that it follows from is durable.
    pub(super) fn in_order(&self, n: usize, now: &Snapshot) -> Vec<String> {
        let run = |effect: &Effect| now.runs.get(&effect.key.0);
        // What was taken back has nothing to follow from, and nothing follows from it.
        let stands =
            |effect: &&Effect| run(effect).is_none_or(|run| effect.era >= run.rewinds(&effect.key.1));
        let all: Vec<&Effect> = self.0[..=n].iter().flatten().filter(stands).collect();
        let mut furthest: BTreeMap<&str, usize> = BTreeMap::new();
        for (effect, stage) in all.iter().filter_map(|effect| Some((effect, effect.stage?))) {
            let furthest = furthest.entry(&effect.key.0).or_default();
            *furthest = (*furthest).max(stage);
        }
        let is_open = |effect: &Effect| run(effect).is_none_or(|run| !run.recorded.contains(&effect.key.1));
        let is_early = |effect: &&&Effect| {
            effect.stage.is_some_and(|stage| stage < furthest[&*effect.key.0]) && is_open(effect)
        };
        let early: BTreeSet<String> = all
            .iter()
            .filter(is_early)
            .map(|Effect { key: (run, key), .. }| {
                format!("step {key} of run {run} is not recorded, and a later step began")
            })
            .collect();
        early.into_iter().collect()
    }

    /// Design, guarantee 2: whatever is not to be repeated by itself was not.
    pub(super) fn policies(&self) -> Vec<String> {
        let mut counts: BTreeMap<&Key, usize> = BTreeMap::new();
        for effect in self.0.iter().flatten() {
            *counts.entry(&effect.key).or_default() += 1;
        }
        let guarded = |key: &str| ["fail-", "ask-", "verify-"].iter().any(|policy| key.starts_with(policy));
        let against = counts.into_iter().filter(|(key, count)| guarded(&key.1) && *count > 1);
        against
            .map(|((run, key), count)| {
                format!("step {key} of run {run} ran {count} times against its policy")
            })
            .collect()
    }

    /// How many happened again because nobody knew of them: allowed, and shown.
    pub(super) fn repeated(&self) -> usize {
        let mut seen = BTreeSet::new();
        let all = self.0.iter().flatten();
        all.filter(|effect| !seen.insert((&effect.key, effect.attempt, effect.era))).count()
    }
}

/// `eras` knows the idempotency keys of each step so far.
fn effect(line: &str, eras: &mut BTreeMap<Key, Vec<String>>) -> Option<Effect> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["effect", run, key, attempt, stage, idempotency_key] = words[..] else { return None };
    let key = (run.to_string(), key.to_string());
    let known = eras.entry(key.clone()).or_default();
    let era = known.iter().position(|known| known == idempotency_key).unwrap_or_else(|| {
        known.push(idempotency_key.to_string());
        known.len() - 1
    });
    Some(Effect { key, attempt: attempt.parse().ok()?, stage: stage.parse().ok(), era })
}
