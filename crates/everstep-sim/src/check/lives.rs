//! Which calls of a function came to something: of each run and generation the one whose worker committed its end. What
//! other lives were given binds nobody.

use std::collections::BTreeMap;

use crate::history::{Ending, Fact, What};

/// Of each run the lives that ended its generations, the last one last; `None` for an end that no function was called for.
pub(super) fn that_ended(history: &[Fact]) -> BTreeMap<usize, Vec<Option<u64>>> {
    let (mut called, mut ended) = (BTreeMap::new(), BTreeMap::<usize, Vec<(Option<u64>, bool)>>::new());
    for fact in history {
        match &fact.what {
            What::Owned { run, worker } => drop(called.remove(&(*run, *worker))),
            What::Called { run, worker, life, .. } => drop(called.insert((*run, *worker), *life)),
            What::Turn { run, worker, end: Some(end), .. } => {
                let life = called.remove(&(*run, *worker));
                let restarts = *end == Ending::Restarted;
                if restarts || *end == Ending::Finished {
                    ended.entry(*run).or_default().push((life, restarts));
                }
            }
            // A person took the end back.
            What::CutBack { run, .. } => {
                let _ = ended.entry(*run).or_default().pop_if(|(_, restarts)| !*restarts);
            }
            _ => {}
        }
    }
    ended.into_iter().map(|(run, all)| (run, all.into_iter().map(|(life, _)| life).collect())).collect()
}

/// Runs that a person has taken back.
pub(super) fn went_back(history: &[Fact]) -> std::collections::BTreeSet<usize> {
    let runs = history.iter().filter_map(|fact| match fact.what {
        What::CutBack { run, .. } => Some(run),
        _ => None,
    });
    runs.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};

    fn called(worker: i64, life: u64) -> What {
        What::Called { run: 0, worker, life, generation: 0 }
    }

    #[test]
    fn the_life_that_ends_a_run_is_its_last_workers() {
        let facts = vec![owned(1), called(1, 1), owned(2), called(2, 2), last_turn(2, vec![])];
        assert_eq!(that_ended(&history(facts.clone()))[&0], [Some(2)]);
        let back = [What::CutBack { run: 0, from: 1 }, owned(3), called(3, 3), last_turn(3, vec![])];
        assert_eq!(that_ended(&history(facts.into_iter().chain(back).collect()))[&0], [Some(3)]);
        assert_eq!(that_ended(&history(vec![owned(1), last_turn(1, vec![])]))[&0], [None]);
    }
}
