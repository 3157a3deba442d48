//! Guarantee 8, its first half: journals have no gap, one outcome for each step, nothing after the run's own outcome, and
//! what the store holds in the end is what it committed. (That a whole journal replays to the same outcome is tried in a
//! fresh engine: `replay`.)

use std::collections::{BTreeMap, BTreeSet};

use everstep_core::journal::Role;

use super::Content;
use crate::history::{Ending, Fact, Noted, What};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let (mut journals, mut found) = (BTreeMap::<usize, Vec<Noted>>::new(), Vec::new());
    for fact in history {
        if let What::CutBack { run, from } = &fact.what {
            journals.entry(*run).or_default().retain(|entry| entry.seq < *from);
        }
        let What::Turn { run, entries, end, .. } = &fact.what else { continue };
        let journal = journals.entry(*run).or_default();
        for entry in entries {
            // Entry 0 came with the start.
            let next = journal.last().map_or(1, |last| last.seq + 1);
            if entry.seq != next {
                found.push(format!("run-{run}: entry {} was committed where {next} is next", entry.seq));
            }
            if journal.last().is_some_and(|last| last.kind.role() == Role::Outcome) {
                found.push(format!("run-{run}: entry {} stands after the outcome", entry.seq));
            }
            journal.push(entry.clone());
        }
        if *end == Some(Ending::Restarted) {
            journal.clear();
        }
    }
    for (run, (_, entries)) in &content.runs {
        let committed = journals.remove(run).unwrap_or_default();
        let held = entries.get(1..).unwrap_or_default();
        if *held != committed {
            let (held, committed) = (held.len(), committed.len());
            found.push(format!(
                "run-{run}: the store holds other entries ({held}) than it has committed ({committed})"
            ));
        }
        let mut keys = BTreeSet::new();
        let twice =
            entries.iter().filter(|entry| entry.is_outcome_of_step() && !keys.insert(entry.key.clone()));
        found.extend(twice.map(|entry| format!("run-{run}: `{:?}` has two outcomes", entry.key)));
    }
    found
}

#[cfg(test)]
mod tests {
    use everstep_core::journal::Kind;

    use super::{super::made_up::*, *};

    fn finds(facts: Vec<What>, held: Vec<Noted>) -> usize {
        let entries = [entry(0, Kind::Started)].into_iter().chain(held).collect();
        let runs = [(0, ("Completed".to_string(), entries))].into();
        check(&history(facts), &Content { runs, ..Content::default() }).len()
    }

    #[test]
    fn gaps_and_entries_after_the_outcome_are_found() {
        let (one, over) = (done(1, 1), entry(2, Kind::Completed));
        let good = vec![one.clone(), over.clone()];
        assert_eq!(finds(vec![turn(1, vec![one.clone()]), turn(1, vec![over.clone()])], good.clone()), 0);
        assert_eq!(finds(vec![turn(1, vec![over.clone()])], vec![over.clone()]), 1, "a gap");
        let after = entry(3, Kind::TimerFired);
        let bad = vec![one, over, after];
        assert_eq!(finds(vec![turn(1, bad.clone())], bad), 1, "after the outcome");
    }

    #[test]
    fn other_content_than_was_committed_and_second_outcomes_are_found() {
        assert_eq!(finds(vec![turn(1, vec![done(1, 1)])], vec![done(1, 2)]), 1);
        assert_eq!(finds(vec![turn(1, vec![done(1, 1)])], vec![]), 1);
        let two = vec![done(1, 1), done(2, 2)];
        assert_eq!(finds(vec![turn(1, two.clone())], two), 1);
    }
}
