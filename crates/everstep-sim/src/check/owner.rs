//! Guarantee 5: one worker at most can change a run. A turn is committed, and a body begins, only under the run's owner;
//! a run changes its owner only when its load ended or its owner was fenced; and a worker is fenced only after it was
//! silent for the lease by right time, whatever the clocks say, or is dead.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Fact, What};

/// What breaks it; `lease` in microseconds.
pub fn check(history: &[Fact], lease: u64) -> Vec<String> {
    let mut look = Look { lease, ..Look::default() };
    history.iter().for_each(|fact| look.at(fact));
    look.found
}

#[derive(Default)]
struct Look {
    lease: u64,
    owner: BTreeMap<usize, i64>,
    fenced: BTreeSet<i64>,
    dead: BTreeSet<i64>,
    renewed: BTreeMap<i64, u64>,
    found: Vec<String>,
}

impl Look {
    fn at(&mut self, fact: &Fact) {
        match &fact.what {
            What::Enrolled { worker } => drop(self.renewed.insert(*worker, fact.at)),
            What::Beat { worker } => {
                self.writes(*worker, "was renewed");
                self.renewed.insert(*worker, fact.at);
            }
            What::Died { worker } => drop(self.dead.insert(*worker)),
            What::Fenced { worker, by } => {
                // A worker that nobody heard of was made by a doubled call: nobody misses it.
                let silent = self.renewed.get(worker).map(|at| fact.at - at);
                let early = by.is_some() && !self.dead.contains(worker) && !self.fenced.contains(worker);
                if let Some(silent) = silent.filter(|silent| early && *silent < self.lease) {
                    self.found.push(format!("worker {worker} was fenced, alive and silent for {silent} µs"));
                }
                self.fenced.insert(*worker);
            }
            What::Owned { run, worker } => {
                self.writes(*worker, "took a run");
                let before = self.owner.insert(*run, *worker);
                if let Some(other) = before.filter(|other| other != worker && !self.fenced.contains(other)) {
                    self.found.push(format!(
                        "worker {worker} took run-{run} from worker {other}, who was not fenced"
                    ));
                }
            }
            What::Turn { run, worker, end, .. } => {
                self.writes(*worker, "committed a turn");
                self.owns(*run, *worker, "committed a turn of");
                if end.is_some() {
                    self.owner.remove(run);
                }
            }
            What::Transacted { run, worker, .. } => {
                self.writes(*worker, "committed a transaction");
                self.owns(*run, *worker, "committed a transaction of");
            }
            What::Begun { run, worker, .. } => self.owns(*run, *worker, "began a body of"),
            _ => {}
        }
    }

    fn writes(&mut self, worker: i64, what: &str) {
        if self.fenced.contains(&worker) {
            self.found.push(format!("worker {worker} {what}, though it was fenced"));
        }
    }

    fn owns(&mut self, run: usize, worker: i64, what: &str) {
        let owner = self.owner.get(&run).copied();
        if owner != Some(worker) {
            self.found.push(format!("worker {worker} {what} run-{run}, which belongs to {owner:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::program::Policy;

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts), 0).len()
    }

    fn fenced(worker: i64) -> What {
        What::Fenced { worker, by: Some(9) }
    }

    #[test]
    fn a_write_of_a_stale_worker_is_found() {
        assert_eq!(finds(vec![owned(1), turn(1, vec![]), fenced(1), owned(2), turn(2, vec![])]), 0);
        assert_eq!(
            finds(vec![owned(1), fenced(1), owned(2), turn(1, vec![])]),
            2,
            "fenced, and not the owner"
        );
        assert_eq!(finds(vec![fenced(1), What::Beat { worker: 1 }]), 1);
        assert_eq!(finds(vec![fenced(1), owned(1)]), 1);
        let transacted = What::Transacted { run: 0, worker: 1, key: key() };
        assert_eq!(finds(vec![owned(1), transacted.clone()]), 0);
        assert_eq!(finds(vec![owned(1), fenced(1), owned(2), transacted]), 2);
    }

    #[test]
    fn a_run_with_two_owners_is_found() {
        assert_eq!(finds(vec![owned(1), last_turn(1, vec![]), owned(2)]), 0, "given back");
        assert_eq!(finds(vec![owned(1), owned(2)]), 1);
        assert_eq!(finds(vec![owned(1), fenced(1), owned(2), begun(1, 1, 1, Policy::Retry)]), 1, "a body");
    }

    #[test]
    fn a_worker_that_is_fenced_too_early_is_found() {
        let at = |at, what| Fact { at, what };
        let look = |silent: u64, dead: bool| {
            let dies = dead.then(|| at(10, What::Died { worker: 1 }));
            let facts = [at(10, What::Enrolled { worker: 1 })].into_iter().chain(dies);
            check(&facts.chain([at(10 + silent, fenced(1))]).collect::<Vec<_>>(), 100).len()
        };
        assert_eq!((look(100, false), look(99, false), look(99, true)), (0, 1, 0));
    }
}
