//! Restarts: a run keeps its id and its place in the store, its generations are counted without a gap, and a function is
//! called with the input of the generation that its worker has.

use std::collections::BTreeMap;

use super::Content;
use crate::history::{Ending, Fact, What};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let (mut now, mut owner) = (BTreeMap::<usize, u32>::new(), BTreeMap::<usize, i64>::new());
    let mut found = Vec::new();
    for fact in history {
        match &fact.what {
            What::Owned { run, worker } => drop(owner.insert(*run, *worker)),
            What::Turn { run, end: Some(end), .. } => {
                owner.remove(run);
                if *end == Ending::Restarted {
                    *now.entry(*run).or_default() += 1;
                }
            }
            // A stale worker may still call what it has read.
            What::Called { run, worker, generation, .. } if owner.get(run) == Some(worker) => {
                let is = now.get(run).copied().unwrap_or(0);
                if is != *generation {
                    found.push(format!("run-{run}: generation {generation} was called in generation {is}"));
                }
            }
            _ => {}
        }
    }
    for (run, held) in &content.generations {
        let restarts = now.get(run).copied().unwrap_or(0);
        if restarts != *held {
            found.push(format!("run-{run}: it is in generation {held} after {restarts} restarts"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};

    fn restarted() -> What {
        What::Turn { run: 0, worker: 1, entries: Vec::new(), end: Some(Ending::Restarted) }
    }

    fn called(generation: u32) -> What {
        What::Called { run: 0, worker: 1, life: 1, generation }
    }

    fn finds(facts: Vec<What>, held: u32) -> usize {
        check(&history(facts), &Content { generations: [(0, held)].into(), ..Content::default() }).len()
    }

    #[test]
    fn a_generation_that_is_not_counted_is_found() {
        let facts = || vec![owned(1), called(0), restarted(), owned(1), called(1)];
        assert_eq!((finds(facts(), 1), finds(facts(), 0), finds(facts(), 2)), (0, 1, 1));
    }

    #[test]
    fn a_function_that_is_called_with_another_generations_input_is_found() {
        assert_eq!(finds(vec![owned(1), restarted(), owned(1), called(0)], 1), 1);
        assert_eq!(finds(vec![owned(1), restarted(), called(0)], 1), 0, "a stale worker's");
    }
}
