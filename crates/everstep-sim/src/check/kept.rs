//! Guarantee 6, its first half: an acknowledged start is there for good, and so is an acknowledged cancel; whoever takes
//! a run that was cancelled begins no body of it. (That every run ends is seen when all has healed.)

use std::collections::BTreeSet;

use super::Content;
use crate::history::{Ended, Fact, What};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let mut look = Look::default();
    history.iter().for_each(|fact| look.at(&fact.what));
    let lost = look.heard.iter().filter(|run| !content.runs.contains_key(run));
    let lost: Vec<_> = lost.map(|run| format!("run-{run} was acknowledged, and is not there")).collect();
    look.found.into_iter().chain(lost).collect()
}

#[derive(Default)]
struct Look {
    started: BTreeSet<usize>,
    heard: BTreeSet<usize>,
    cancelled: BTreeSet<usize>,
    /// Runs that ended so.
    over: BTreeSet<usize>,
    /// Who took which run after it was cancelled.
    took: BTreeSet<(usize, i64)>,
    found: Vec<String>,
}

impl Look {
    fn at(&mut self, what: &What) {
        match what {
            What::Started { run, .. } => drop(self.started.insert(*run)),
            What::StartHeard { run } => {
                self.heard.insert(*run);
                if !self.started.contains(run) {
                    self.found.push(format!("run-{run}: its start was acknowledged before it was durable"));
                }
            }
            What::CancelPosted { run } => drop(self.cancelled.insert(*run)),
            What::Turn { run, entries, .. } => {
                let ended = entries.iter().filter(|entry| entry.ended == Some(Ended::Cancelled));
                self.over.extend(ended.map(|_| *run));
            }
            // A run that was killed is cancelled already.
            What::CancelHeard { run } if !self.cancelled.contains(run) && !self.over.contains(run) => {
                self.found.push(format!("run-{run}: its cancel was acknowledged before it was durable"));
            }
            What::Owned { run, worker } if self.cancelled.contains(run) => {
                self.took.insert((*run, *worker));
            }
            What::Begun { run, key, worker, .. } if self.took.contains(&(*run, *worker)) => {
                self.found
                    .push(format!("run-{run}: `{key}` began in a load that was taken after the cancel"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use everstep_core::journal::Kind;

    use super::{super::made_up::*, *};
    use crate::{history::Noted, program::Policy};

    fn finds(facts: Vec<What>, is_there: bool) -> usize {
        let runs = is_there.then(|| (0, ("Completed".to_string(), Vec::new()))).into_iter().collect();
        check(&history(facts), &Content { runs, ..Content::default() }).len()
    }

    #[test]
    fn a_lost_start_is_found() {
        let (started, heard) = (What::Started { run: 0, new: true }, What::StartHeard { run: 0 });
        assert_eq!(finds(vec![started.clone(), heard.clone()], true), 0);
        assert_eq!(finds(vec![started, heard.clone()], false), 1, "lost");
        assert_eq!(finds(vec![heard], true), 1, "too early");
    }

    #[test]
    fn a_lost_cancel_is_found() {
        let (posted, heard) = (What::CancelPosted { run: 0 }, What::CancelHeard { run: 0 });
        let killed = last_turn(1, vec![Noted { ended: Some(Ended::Cancelled), ..entry(1, Kind::Cancelled) }]);
        assert_eq!(finds(vec![killed, heard.clone()], true), 0, "it is over already");
        let begins = begun(1, 1, 1, Policy::Retry);
        assert_eq!(finds(vec![posted.clone(), heard.clone()], true), 0);
        assert_eq!(finds(vec![heard, posted.clone()], true), 1, "too early");
        assert_eq!(finds(vec![owned(1), posted.clone(), begins.clone()], true), 0, "on its way");
        assert_eq!(finds(vec![posted, owned(1), begins], true), 1, "not seen");
    }
}
