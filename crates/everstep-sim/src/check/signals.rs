//! Signals: an acknowledged one is there, and is taken by exactly one wait, in the order in which they were sent, or is
//! reported undelivered when the run is over.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, lives};
use crate::{
    history::{Fact, What},
    plan::Plan,
    program::Node,
};

/// A signal: its name and its value.
type Signal = (usize, i64);

/// What breaks it.
pub fn check(plan: &Plan, history: &[Fact], content: &Content) -> Vec<String> {
    let (mut posted, mut taken) =
        (BTreeMap::<usize, Vec<Signal>>::new(), BTreeMap::<u64, Vec<Signal>>::new());
    let mut found = Vec::new();
    for fact in history {
        match fact.what {
            What::SignalPosted { run, name, value } => posted.entry(run).or_default().push((name, value)),
            What::SignalHeard { run, name, value }
                if !posted.get(&run).is_some_and(|all| all.contains(&(name, value))) =>
            {
                found.push(format!("run-{run}: signal {name} = {value} was acknowledged and is not there"));
            }
            What::Taken { life, name, value, .. } => taken.entry(life).or_default().push((name, value)),
            _ => {}
        }
    }
    let ended = lives::that_ended(history);
    for (run, own) in plan.runs.iter().enumerate() {
        let (Some(lives), Some(said)) = (ended.get(&run), content.said.get(&run)) else { continue };
        let sent = posted.get(&run).map_or(&[][..], Vec::as_slice);
        let took: Vec<_> =
            lives.iter().flatten().filter_map(|life| taken.get(life)).flatten().copied().collect();
        // A run that was ended without its function tells nothing of what that had been given.
        let is_whole = lives.iter().all(Option::is_some);
        found.extend(judge(sent, &took, &said.undelivered, is_whole).map(|why| format!("run-{run}: {why}")));
        let names: BTreeSet<_> = took.iter().map(|(name, _)| *name).collect();
        let in_order = names.into_iter().filter(|name| is_in_a_row(&own.program, *name));
        found.extend(
            in_order.filter_map(|name| disorder(name, sent, &took)).map(|why| format!("run-{run}: {why}")),
        );
    }
    found
}

fn judge(sent: &[Signal], took: &[Signal], left: &[Signal], is_whole: bool) -> Option<String> {
    let sorted = |all: &[Signal]| {
        let mut all = all.to_vec();
        all.sort_unstable();
        all
    };
    let (sent, came) = (sorted(sent), sorted(&[took, left].concat()));
    let count = |all: &[Signal], one: &Signal| all.iter().filter(|other| *other == one).count();
    let too_often = came.iter().find(|one| count(&came, one) > count(&sent, one));
    if let Some((name, value)) = too_often {
        return Some(format!(
            "signal {name} = {value} came more often than it was sent (taken {took:?}, left {left:?})"
        ));
    }
    (is_whole && sent != came)
        .then(|| format!("signals {sent:?} were sent, {took:?} taken and {left:?} reported undelivered"))
}

/// Whether one wait of this name comes after the other.
fn is_in_a_row(program: &Node, name: usize) -> bool {
    !program.any(&|node| match node {
        Node::Join(_) | Node::Stream(_) | Node::Race(_) => node.signals(name) > 0,
        Node::Map(map) => map.limit > 1 && node.signals(name) > 0,
        _ => false,
    })
}

fn disorder(name: usize, sent: &[Signal], took: &[Signal]) -> Option<String> {
    let of =
        |all: &[Signal]| -> Vec<i64> { all.iter().filter(|one| one.0 == name).map(|one| one.1).collect() };
    let (sent, took) = (of(sent), of(took));
    (!sent.starts_with(&took)).then(|| format!("signals {name} were sent as {sent:?} and taken as {took:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_doubled_and_disordered_signals_are_found() {
        let sent = [(0, 1), (0, 2), (1, 1)];
        assert_eq!(judge(&sent, &sent[..2], &sent[2..], true), None);
        assert!(judge(&sent, &sent[..2], &[], true).is_some(), "lost");
        assert_eq!(judge(&sent, &sent[..2], &[], false), None, "nobody was there to tell");
        assert!(judge(&sent, &sent, &sent[2..], false).is_some(), "taken, and left");
        assert!(judge(&sent[..1], &sent[..2], &[], true).is_some(), "nobody sent it");
        assert_eq!(disorder(0, &sent, &sent[..2]), None);
        assert!(disorder(0, &sent, &[(0, 2), (0, 1)]).is_some());
    }

    #[test]
    fn only_waits_that_come_one_after_the_other_have_an_order() {
        let wait = || Node::Signal(0);
        assert!(is_in_a_row(&Node::Sequence(vec![wait(), Node::Loop(2, Box::new(wait()))]), 0));
        assert!(!is_in_a_row(&Node::Join(vec![wait(), Node::Draw]), 0));
        assert!(is_in_a_row(&Node::Join(vec![wait(), Node::Draw]), 1));
    }

    #[test]
    fn an_acknowledged_signal_that_is_not_there_is_found() {
        use super::super::made_up::history;
        let plan = Plan::of_seed(0, crate::plan::StoreKind::Memory);
        let (heard, posted) = (
            What::SignalHeard { run: 0, name: 0, value: 1 },
            What::SignalPosted { run: 0, name: 0, value: 1 },
        );
        let finds = |facts| check(&plan, &history(facts), &Content::default()).len();
        assert_eq!((finds(vec![posted, heard.clone()]), finds(vec![heard])), (0, 1));
    }
}
