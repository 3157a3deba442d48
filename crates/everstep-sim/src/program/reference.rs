//! What a program may end with, computed from its text alone: no engine, no time, no faults but the ones that a
//! guarantee lets show. Pure.
//!
//! Steps are functions of their text, so a program without races has one outcome, whatever happened to its workers.
//! Who wins a race, and whether time runs out, is open: then there are several.

use std::collections::{BTreeMap, BTreeSet};

use super::{ANSWERED, IN_DOUBT, Node, OUT_OF_TIME, Policy, Step, TIMEOUT, mix};

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
    let steps = is_exact(program).then(|| {
        let mut walk = Walk { scope: String::new(), used: BTreeMap::new(), steps: BTreeSet::new() };
        walk.node(program);
        walk.steps
    });
    Some(Expected { outcomes, steps })
}

type Outcomes = BTreeSet<Out>;

fn one(out: Out) -> Option<Outcomes> {
    Some(BTreeSet::from([out]))
}

fn outcomes(node: &Node) -> Option<Outcomes> {
    match node {
        Node::Step(step) => Some(of_step(step)),
        Node::Transact(_, value) => one(Out::Go(*value)),
        Node::Sleep(_) | Node::Yield(_) | Node::Draw => one(Out::Go(1)),
        Node::Raise(code) => one(Out::Fail(*code)),
        Node::Return(value) => one(Out::Return(*value)),
        Node::Sequence(all) => in_a_row(all.iter()),
        Node::Loop(times, body) => in_a_row((0..*times).map(|_| &**body)),
        Node::Scope(body) => outcomes(body),
        Node::Join(all) | Node::Stream(all) => together(all),
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

fn of_step(step: &Step) -> Outcomes {
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
fn alone(step: &Step) -> Out {
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
        let next = outcomes(node)?;
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
        before = few(after)?;
    }
    Some(before)
}

fn together(all: &[Node]) -> Option<Outcomes> {
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
    Some(combined.into_iter().map(|branches| all_of(&branches)).collect())
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

/// Whether each step's outcome is known: no races, no time that may run out, nobody who answers.
fn is_exact(node: &Node) -> bool {
    let itself = match node {
        Node::Race(_) | Node::Timeout(..) => false,
        Node::Step(step) => of_step(step).len() == 1,
        _ => true,
    };
    itself && node.parts().into_iter().all(is_exact)
}

/// Walks a program of one outcome, and names its steps as the engine does.
struct Walk {
    scope: String,
    used: BTreeMap<String, u32>,
    steps: BTreeSet<String>,
}

impl Walk {
    fn claim(&mut self, name: &str) -> String {
        let plain = format!("{}{name}", self.scope);
        let used = self.used.entry(plain.clone()).or_default();
        *used += 1;
        if *used == 1 { plain } else { format!("{plain}#{used}") }
    }

    fn inside(&mut self, name: &str, body: &Node) -> Out {
        let inner = format!("{}/", self.claim(name));
        let outer = std::mem::replace(&mut self.scope, inner);
        let out = self.node(body);
        self.scope = outer;
        out
    }

    fn row<'n>(&mut self, all: impl Iterator<Item = &'n Node>) -> Out {
        let mut sum = 0;
        for node in all {
            match self.node(node) {
                Out::Go(value) => sum = mix(sum, value),
                over => return over,
            }
        }
        Out::Go(sum)
    }

    fn node(&mut self, node: &Node) -> Out {
        match node {
            Node::Step(step) => {
                let key = self.claim(&step.name.to_string());
                self.steps.insert(key);
                alone(step)
            }
            Node::Transact(name, value) => {
                let key = self.claim(&name.to_string());
                self.steps.insert(key);
                Out::Go(*value)
            }
            Node::Sequence(all) => self.row(all.iter()),
            Node::Loop(times, body) => self.row((0..*times).map(|_| &**body)),
            Node::Scope(body) => self.inside("scope", body),
            Node::Join(all) | Node::Stream(all) => {
                let branches: Vec<_> =
                    all.iter().zip(1..).map(|(node, at)| self.inside(&branch_name(at), node)).collect();
                all_of(&branches)
            }
            Node::Catch(body) => caught(self.node(body)),
            other => outcomes(other).and_then(|all| all.first().copied()).unwrap_or(Out::Go(1)),
        }
    }
}

/// The scope of branch `at` (from 1).
pub fn branch_name(at: i64) -> String {
    format!("branch{at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: char, value: i64) -> Step {
        Step {
            name,
            value,
            ms: 0,
            fails: 0,
            hangs: 0,
            terminal: false,
            attempts: 1,
            pause_ms: 0,
            limit_ms: None,
            typed: false,
            input: false,
            doubt: Policy::Retry,
        }
    }

    fn node(value: i64) -> Node {
        Node::Step(step('a', value))
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
        let tries = |fails, hangs, attempts| alone(&Step { fails, hangs, attempts, ..step('a', 7) });
        assert_eq!(tries(0, 0, 1), Out::Go(7));
        assert_eq!(tries(2, 0, 3), Out::Go(7));
        assert_eq!(tries(2, 0, 2), Out::Fail(7));
        assert_eq!(tries(0, 2, 2), Out::Fail(TIMEOUT));
        assert_eq!(tries(2, 1, 2), Out::Fail(7));
        let terminal = |hangs| alone(&Step { fails: 3, hangs, attempts: 3, terminal: true, ..step('a', 7) });
        assert_eq!(terminal(0), Out::Fail(7));
        assert_eq!(terminal(3), Out::Fail(TIMEOUT));
    }

    #[test]
    fn keys_are_counted_as_the_engine_counts_them() {
        let program = Node::Sequence(vec![
            node(1),
            Node::Loop(2, Box::new(Node::Join(vec![node(2), Node::Transact('b', 3)]))),
            Node::Scope(Box::new(node(4))),
            node(5),
        ]);
        let steps = expected(&program).expect("few").steps.expect("exact");
        let keys: Vec<_> = steps.iter().map(String::as_str).collect();
        assert_eq!(keys, ["a", "a#2", "branch1#2/a", "branch1/a", "branch2#2/b", "branch2/b", "scope/a"]);
        let doubtful = Node::Step(Step { doubt: Policy::Fail, ..step('a', 1) });
        assert_eq!(expected(&doubtful).expect("few").steps, None, "a crash may fail it");
    }

    #[test]
    fn too_many_possibilities_are_none() {
        let race = Node::Race(vec![node(1), node(2), node(3)]);
        assert!(expected(&Node::Sequence(vec![race.clone(); 3])).is_some());
        assert_eq!(expected(&Node::Sequence(vec![race; 9])), None);
    }
}
