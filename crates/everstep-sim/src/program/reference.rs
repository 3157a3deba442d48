//! What a program may end with, computed from its text alone: no engine, no time, no faults but the ones that a
//! guarantee lets show. Pure.
//!
//! Steps are functions of their text, so a program without races has one outcome, whatever happened to its workers.
//! Who wins a race, and whether time runs out, is open: then there are several.

use std::collections::BTreeSet;

use super::{
    ANSWERED, Block, CANCELLED, ENOUGH, EXPIRED, Goal, IN_DOUBT, Kept, Mapping, Node, OUT_OF_TIME, Offspring,
    Owed, Policy, REJECTED, Step, TIMEOUT, mix, walk,
};

/// More outcomes than this are not worth much as a check.
const OUTCOMES_MAX: usize = 400;

/// What a part of a program comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Out {
    /// A value; the program goes on.
    Go(i64),
    /// The whole program returns it.
    Return(i64),
    /// An error.
    Fail(i64),
}

/// What a program may end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Any of these, under any faults.
    pub outcomes: BTreeSet<Out>,
    /// The keys of the steps that must have an outcome in the journal when the program is through, and of no others; if
    /// that is known.
    pub steps: Option<BTreeSet<String>>,
}

/// What `program` may end with; `None` if there are too many possibilities.
pub fn expected(program: &Node) -> Option<Expected> {
    let outcomes = outcomes(program)?;
    Some(Expected { outcomes, steps: walk::steps(program) })
}

type Outcomes = BTreeSet<Out>;

fn one(out: Out) -> Option<Outcomes> {
    Some(BTreeSet::from([out]))
}

pub(super) fn outcomes(node: &Node) -> Option<Outcomes> {
    match node {
        Node::Step(step) => Some(of_step(step)),
        Node::Transact(_, value) => one(Out::Go(*value)),
        Node::Sleep(_) | Node::Yield(_) | Node::Draw => one(Out::Go(1)),
        Node::Signal(_) | Node::Tell(_) | Node::OnCancel => one(Out::Go(1)),
        Node::Raise(code) => one(Out::Fail(*code)),
        Node::Return(value) => one(Out::Return(*value)),
        Node::Sequence(all) => in_a_row(all.iter()),
        Node::Loop(times, body) => in_a_row((0..*times).map(|_| &**body)),
        Node::Scope(body) | Node::Serve(body) | Node::Generation(_, body) => outcomes(body),
        Node::Join(all) | Node::Stream(all) => each(combined(all)?, all_of),
        Node::Map(map) => of_map(map),
        Node::Block(block) => of_block(block),
        Node::Promise(owed) => Some(of_promise(owed)),
        Node::Child(child) => of_child(child),
        Node::Restart(body) => Some(outcomes(body)?.into_iter().map(at_the_end).collect()),
        Node::Race(all) => {
            let mut first = Outcomes::new();
            for (branch, at) in all.iter().zip(1..) {
                first.extend(outcomes(branch)?.into_iter().map(|out| winner(at, out)));
            }
            few(first)
        }
        Node::Timeout(_, body) => {
            let mut either = outcomes(body)?;
            either.insert(Out::Go(OUT_OF_TIME));
            few(either)
        }
        Node::Catch(body) => Some(outcomes(body)?.into_iter().map(caught).collect()),
    }
}

/// What the last generation comes to is what the run comes to.
pub(super) fn at_the_end(out: Out) -> Out {
    match out {
        Out::Go(value) => Out::Return(value),
        other => other,
    }
}

fn of_promise(owed: &Owed) -> Outcomes {
    let kept = match owed.how {
        Kept::Resolves => Some(Out::Go(owed.value)),
        Kept::Rejects => Some(Out::Fail(REJECTED)),
        Kept::Never => None,
    };
    kept.into_iter().chain(owed.expires_ms.map(|_| Out::Fail(EXPIRED))).collect()
}

/// What a child comes to for its parent.
fn of_child(child: &Offspring) -> Option<Outcomes> {
    let mut own = match child.awaited {
        false => Outcomes::from([Out::Go(3)]),
        true => outcomes(&child.program)?
            .into_iter()
            .map(|out| match out {
                Out::Return(value) => Out::Go(value),
                other => other,
            })
            .collect(),
    };
    if child.awaited && child.cancelled {
        own.insert(Out::Fail(CANCELLED));
    }
    few(one_after_the_other(outcomes(&child.meanwhile)?, &own))
}

fn of_map(map: &Mapping) -> Option<Outcomes> {
    let ends = combined(&map.items)?;
    let is_error = |out: &&Out| matches!(out, Out::Fail(_));
    match map.goal {
        Goal::Each => each(ends, |items| all_of(&items.iter().copied().map(caught).collect::<Vec<_>>())),
        // Which of several errors comes first is open.
        Goal::All => few(ends
            .iter()
            .flat_map(|items| match items.iter().any(|out| is_error(&out)) {
                true => items.iter().filter(is_error).copied().collect(),
                false => vec![all_of(items)],
            })
            .collect()),
        Goal::AtLeast(n) => few(ends
            .iter()
            .flat_map(|items| match items.iter().filter(|out| !is_error(out)).count() >= n {
                true => vec![Out::Go(ENOUGH)],
                false => items.iter().filter(is_error).copied().collect(),
            })
            .collect()),
    }
}

fn of_block(block: &Block) -> Option<Outcomes> {
    let spent = block.fails >= block.attempts;
    let ends = outcomes(&block.body)?.into_iter().map(|out| match out {
        Out::Go(_) if spent => Out::Fail(block.value),
        other => other,
    });
    few(ends.collect())
}

/// What a race that branch `at` (from 1) has won comes to.
pub fn winner(at: i64, out: Out) -> Out {
    match out {
        Out::Go(value) => Out::Go(mix(at, value)),
        other => other,
    }
}

/// What `Catch` makes of it.
pub fn caught(out: Out) -> Out {
    match out {
        Out::Fail(code) => Out::Go(mix(99, code)),
        other => other,
    }
}

pub(super) fn of_step(step: &Step) -> Outcomes {
    let undisturbed = alone(step);
    let mut outcomes = Outcomes::from([undisturbed]);
    if step.limit_ms.is_some() {
        // A stopped worker or a clock that jumps uses up attempts: any of its ends may come.
        outcomes.extend([Out::Go(step.value), Out::Fail(TIMEOUT)]);
        if step.fails > 0 {
            outcomes.insert(Out::Fail(step.value));
        }
    }
    match step.doubt {
        Policy::Fail => drop(outcomes.insert(Out::Fail(IN_DOUBT))),
        Policy::Ask => drop(outcomes.insert(Out::Fail(ANSWERED))),
        Policy::Retry | Policy::Verify => {}
    }
    outcomes
}

/// What a step comes to when nothing disturbs it.
pub(super) fn alone(step: &Step) -> Out {
    let attempts = if step.terminal && step.fails > step.hangs { step.hangs + 1 } else { step.attempts };
    match attempts.min(step.attempts) {
        last if last > step.fails.max(step.hangs) => Out::Go(step.value),
        last if last <= step.hangs => Out::Fail(TIMEOUT),
        _ => Out::Fail(step.value),
    }
}

fn in_a_row<'n>(all: impl Iterator<Item = &'n Node>) -> Option<Outcomes> {
    let mut before = Outcomes::from([Out::Go(0)]);
    for node in all {
        before = few(one_after_the_other(before, &outcomes(node)?))?;
    }
    Some(before)
}

fn one_after_the_other(before: Outcomes, next: &Outcomes) -> Outcomes {
    let mut after = Outcomes::new();
    for out in before {
        match out {
            Out::Go(a) => after.extend(next.iter().map(|out| match out {
                Out::Go(b) => Out::Go(mix(a, *b)),
                other => *other,
            })),
            over => drop(after.insert(over)),
        }
    }
    after
}

/// Every way in which all of these may end.
fn combined(all: &[Node]) -> Option<BTreeSet<Vec<Out>>> {
    let mut combined: BTreeSet<Vec<Out>> = BTreeSet::from([Vec::new()]);
    for node in all {
        let next = outcomes(node)?;
        combined = combined
            .iter()
            .flat_map(|before| next.iter().map(|out| before.iter().copied().chain([*out]).collect()))
            .collect();
        if combined.len() > OUTCOMES_MAX {
            return None;
        }
    }
    Some(combined)
}

fn each(ends: BTreeSet<Vec<Out>>, of: impl Fn(&[Out]) -> Out) -> Option<Outcomes> {
    Some(ends.iter().map(|ends| of(ends)).collect())
}

/// What branches that all ran come to: the first error, else the first early return, else all values.
pub fn all_of(branches: &[Out]) -> Out {
    let error = branches.iter().find(|out| matches!(out, Out::Fail(_)));
    let over = error.or_else(|| branches.iter().find(|out| matches!(out, Out::Return(_))));
    over.copied().unwrap_or_else(|| {
        Out::Go(branches.iter().fold(1, |sum, out| match out {
            Out::Go(value) => mix(sum, *value),
            _ => sum,
        }))
    })
}

fn few(outcomes: Outcomes) -> Option<Outcomes> {
    (outcomes.len() <= OUTCOMES_MAX).then_some(outcomes)
}

/// The scope of branch `at` (from 1).
pub fn branch_name(at: i64) -> String {
    format!("branch{at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: i64) -> Node {
        Node::Step(Step::plain('a', value))
    }

    fn only(node: &Node) -> Vec<Out> {
        outcomes(node).expect("few").into_iter().collect()
    }

    #[test]
    fn a_row_is_all_of_its_values_and_ends_with_an_error_or_an_early_return() {
        assert_eq!(only(&Node::Sequence(vec![node(2), node(3)])), [Out::Go(mix(mix(0, 2), 3))]);
        assert_eq!(only(&Node::Sequence(vec![node(2), Node::Raise(5), node(3)])), [Out::Fail(5)]);
        assert_eq!(only(&Node::Sequence(vec![node(2), Node::Return(5), node(3)])), [Out::Return(5)]);
        assert_eq!(only(&Node::Loop(2, Box::new(node(4)))), [Out::Go(mix(mix(0, 4), 4))]);
        assert_eq!(only(&Node::Catch(Box::new(Node::Raise(5)))), [Out::Go(mix(99, 5))]);
    }

    #[test]
    fn branches_that_all_run_have_one_outcome_and_races_one_for_each_winner() {
        let branches = vec![Node::Return(1), node(2), Node::Raise(3)];
        assert_eq!(only(&Node::Join(branches.clone())), [Out::Fail(3)], "the error comes before the return");
        assert_eq!(only(&Node::Race(branches)), [Out::Go(mix(2, 2)), Out::Return(1), Out::Fail(3)]);
        assert_eq!(only(&Node::Timeout(1, Box::new(node(2)))), [Out::Go(2), Out::Go(OUT_OF_TIME)]);
    }

    #[test]
    fn a_step_succeeds_after_its_failures_or_fails_with_the_last_of_them() {
        let tries = |fails, hangs, attempts| alone(&Step { fails, hangs, attempts, ..Step::plain('a', 7) });
        assert_eq!(tries(0, 0, 1), Out::Go(7));
        assert_eq!(tries(2, 0, 3), Out::Go(7));
        assert_eq!(tries(2, 0, 2), Out::Fail(7));
        assert_eq!(tries(0, 2, 2), Out::Fail(TIMEOUT));
        assert_eq!(tries(2, 1, 2), Out::Fail(7));
        let terminal =
            |hangs| alone(&Step { fails: 3, hangs, attempts: 3, terminal: true, ..Step::plain('a', 7) });
        assert_eq!(terminal(0), Out::Fail(7));
        assert_eq!(terminal(3), Out::Fail(TIMEOUT));
    }

    #[test]
    fn what_others_owe_comes_to_what_they_do() {
        let owed = |how, expires_ms| only(&Node::Promise(Owed { value: 7, how, after_ms: 0, expires_ms }));
        assert_eq!(owed(Kept::Resolves, None), [Out::Go(7)]);
        assert_eq!(owed(Kept::Rejects, None), [Out::Fail(REJECTED)]);
        assert_eq!(owed(Kept::Resolves, Some(1)), [Out::Go(7), Out::Fail(EXPIRED)]);
        let child = |awaited, cancelled| {
            let (program, meanwhile) = (Node::Return(4), node(2));
            only(&Node::Child(Box::new(Offspring { program, left: false, awaited, cancelled, meanwhile })))
        };
        assert_eq!(child(true, false), [Out::Go(mix(2, 4))], "its early return is its own");
        assert_eq!(child(true, true), [Out::Go(mix(2, 4)), Out::Fail(CANCELLED)]);
        assert_eq!(child(false, true), [Out::Go(mix(2, 3))], "nobody asks");
    }

    #[test]
    fn maps_and_blocks_come_to_what_their_parts_allow() {
        let map = |goal| only(&Node::Map(Mapping { limit: 2, goal, items: vec![node(2), Node::Raise(5)] }));
        assert_eq!(map(Goal::All), [Out::Fail(5)]);
        assert_eq!(map(Goal::Each), [Out::Go(mix(mix(1, 2), mix(99, 5)))]);
        assert_eq!(
            (map(Goal::AtLeast(1)), map(Goal::AtLeast(2))),
            (vec![Out::Go(ENOUGH)], vec![Out::Fail(5)])
        );
        let block = |fails| {
            let body = Box::new(node(2));
            only(&Node::Block(Block { attempts: 2, fails, value: 8, pause_ms: 0, body }))
        };
        assert_eq!((block(1), block(2)), (vec![Out::Go(2)], vec![Out::Fail(8)]));
        assert_eq!(only(&Node::Restart(Box::new(node(2)))), [Out::Return(2)]);
    }

    #[test]
    fn too_many_possibilities_are_none() {
        let race = Node::Race(vec![node(1), node(2), node(3)]);
        assert!(expected(&Node::Sequence(vec![race.clone(); 3])).is_some());
        assert_eq!(expected(&Node::Sequence(vec![race; 9])), None);
    }
}
