//! Children: each starts once and is there, its parent hears once and truly how it ended, and nobody cancels it but
//! people, its parent, and its parent's end if that closes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use everstep_core::journal::Kind;

use super::{Content, lives};
use crate::{
    history::{Ended, Ending, Fact, Got, What},
    program::{CANCELLED, Out},
};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let mut look = Look { went_back: lives::went_back(history), ..Look::default() };
    history.iter().for_each(|fact| look.at(&fact.what));
    look.compare(content);
    look.found
}

#[derive(Default)]
struct Look {
    went_back: BTreeSet<usize>,
    /// Of each child its parent, its key there, and whether the parent's end closes it.
    children: BTreeMap<usize, (usize, Arc<str>, bool)>,
    heard: BTreeMap<(usize, Arc<str>), Option<Got>>,
    /// Runs that ended, or a generation of them.
    over: BTreeSet<usize>,
    /// Children that somebody cancelled.
    cancelled: BTreeSet<usize>,
    asked: BTreeSet<(usize, Arc<str>)>,
    found: Vec<String>,
}

impl Look {
    fn at(&mut self, what: &What) {
        match what {
            What::ChildStarted { run, child, key, closes } => {
                let before = self.children.insert(*child, (*run, key.clone(), *closes));
                if before.is_some() && !self.went_back.contains(run) {
                    self.found.push(format!("run-{run}: its child `{key}` started twice"));
                }
            }
            What::CancelPosted { run } | What::Acted { run, verb: "kill" } => {
                self.cancelled.insert(*run);
            }
            What::Turn { run, entries, end, .. } => {
                for entry in entries {
                    let Some(key) = &entry.key else { continue };
                    match entry.kind {
                        Kind::ChildCancelAsked => drop(self.asked.insert((*run, key.clone()))),
                        Kind::ChildEnded => {
                            let before = self.heard.insert((*run, key.clone()), entry.got);
                            if before.is_some() && !self.went_back.contains(run) {
                                self.found.push(format!("run-{run}: it heard twice of its child `{key}`"));
                            }
                        }
                        _ => {}
                    }
                }
                if matches!(end, Some(Ending::Finished | Ending::Restarted)) {
                    self.over.insert(*run);
                }
            }
            _ => {}
        }
    }

    fn compare(&mut self, content: &Content) {
        for (child, (parent, key, closes)) in &self.children {
            let of = format!("run-{parent}: its child `{key}` (run-{child})");
            let Some((_, entries)) = content.runs.get(child) else {
                self.found.push(format!("{of} was started, and is not there"));
                continue;
            };
            let ended = entries.last().and_then(|last| last.ended);
            let asked = self.asked.contains(&(*parent, key.clone())) || self.cancelled.contains(child);
            let closed = *closes && self.over.contains(parent);
            if ended == Some(Ended::Cancelled) && !asked && !closed {
                self.found.push(format!("{of} was cancelled by nobody"));
            }
            let heard = self.heard.get(&(*parent, key.clone())).copied().flatten();
            if let (Some(heard), Some(ended)) = (heard, ended)
                && !is_same(heard, ended)
            {
                self.found.push(format!("{of} ended with {ended:?}, and its parent heard {heard:?}"));
            }
        }
    }
}

fn is_same(heard: Got, ended: Ended) -> bool {
    match (heard, ended) {
        (Got::Value(made), Ended::With(Out::Go(value))) => made.v == value,
        (Got::Error(code), Ended::With(Out::Fail(own))) => code == own,
        (Got::Error(code), Ended::Cancelled) => code == CANCELLED,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::history::Noted;

    fn started(closes: bool) -> What {
        What::ChildStarted { run: 0, child: 1, key: key(), closes }
    }

    fn heard(got: Got) -> What {
        turn(1, vec![Noted { key: Some(key()), got: Some(got), ..entry(1, Kind::ChildEnded) }])
    }

    fn finds(facts: Vec<What>, ended: Ended) -> usize {
        let last = Noted { ended: Some(ended), ..entry(1, Kind::Completed) };
        let runs = [(1, ("over".to_string(), vec![last]))].into();
        check(&history(facts), &Content { runs, ..Content::default() }).len()
    }

    #[test]
    fn a_child_that_starts_twice_or_is_lost_is_found() {
        let good = Ended::With(Out::Go(1));
        assert_eq!(finds(vec![started(true)], good), 0);
        assert_eq!(finds(vec![started(true), started(true)], good), 1);
        assert_eq!(check(&history(vec![started(true)]), &Content::default()).len(), 1, "lost");
    }

    #[test]
    fn a_parent_that_hears_twice_or_something_else_is_found() {
        let good = Ended::With(Out::Go(1));
        assert_eq!(finds(vec![started(true), heard(value(0))], good), 0);
        assert_eq!(finds(vec![started(true), heard(value(0)), heard(value(0))], good), 1);
        assert_eq!(finds(vec![started(true), heard(Got::Error(1))], good), 1);
        assert_eq!(finds(vec![started(true), heard(Got::Error(1))], Ended::With(Out::Fail(1))), 0);
    }

    #[test]
    fn a_child_that_nobody_cancelled_is_found() {
        assert_eq!(finds(vec![started(true)], Ended::Cancelled), 1);
        assert_eq!(finds(vec![started(true), last_turn(1, vec![])], Ended::Cancelled), 0, "it is closed");
        assert_eq!(finds(vec![started(false), last_turn(1, vec![])], Ended::Cancelled), 1, "it was left");
        assert_eq!(finds(vec![started(false), What::CancelPosted { run: 1 }], Ended::Cancelled), 0);
    }
}
