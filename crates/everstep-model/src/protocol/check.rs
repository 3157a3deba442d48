//! Explores the model under all rules, and then without each of them.

use std::collections::BTreeSet;
use thousands::Separable as _;

use stateright::{Checker, HasDiscoveries, Model};

use super::{
    model::{Action, Bounds, Protocol, State},
    property::{ALWAYS, SOMETIMES},
    rules::Rules,
};
use crate::report::Report;

const NOTHING: Bounds =
    Bounds { members: 2, crashes: 0, beats: 0, letters: 0, blunders: 0, stucks: 0, leaves: 0, pipe: 1 };
const TAKEOVERS: Bounds = Bounds { crashes: 1, beats: 1, letters: 1, pipe: 2, ..NOTHING };
const LETTERS: Bounds = Bounds { letters: 2, leaves: 1, ..NOTHING };
const REFUSALS: Bounds = Bounds { letters: 1, blunders: 1, ..NOTHING };
const STUCK: Bounds = Bounds { letters: 2, stucks: 1, ..NOTHING };
const SUCCESSORS: Bounds = Bounds { members: 3, crashes: 1, ..NOTHING };

/// What is explored: each looks deeper into another corner, because everything at once is too much.
pub const CORNERS: [(&str, Bounds); 5] = [
    ("takeovers, with two calls of a worker on their way", TAKEOVERS),
    ("letters, and runs given back", LETTERS),
    ("turns that are refused", REFUSALS),
    ("stuck runs", STUCK),
    ("three workers", SUCCESSORS),
];

/// Deeper corners, for which CI has no time.
const DEEPER: [(&str, Bounds); 3] = [
    ("refused turns, with two calls of a worker on their way", Bounds { pipe: 2, ..REFUSALS }),
    ("stuck runs whose workers die", Bounds { crashes: 1, ..STUCK }),
    ("takeovers, and refused turns", Bounds { blunders: 1, letters: 0, ..TAKEOVERS }),
];

/// The protocol without one of its rules.
#[derive(Clone, Copy, Debug)]
pub struct Weakened {
    /// What is different.
    pub what: &'static str,
    /// Takes the rule away.
    weaken: fn(&mut Rules),
    /// Where that shows.
    bounds: Bounds,
    /// The property that breaks.
    pub breaks: &'static str,
}

/// The rules, each taken away.
pub const WEAKENED: [Weakened; 10] = [
    weakened("writes of fenced workers pass", |r| r.fences = false, TAKEOVERS, 0),
    weakened("the gate of loads lets every turn pass", |r| r.gates_loads = false, REFUSALS, 1),
    weakened("ends do not compare the inbox", |r| r.compares_inbox = false, LETTERS, 3),
    weakened("letters are taken before their entry", |r| r.takes_with_entry = false, LETTERS, 4),
    weakened("runs are claimed that have an owner", |r| r.asks_owner = false, TAKEOVERS, 5),
    weakened("runs of live workers are freed", |r| r.frees_the_fenced = false, TAKEOVERS, 5),
    weakened("letters wake nobody", |r| r.wakes = false, LETTERS, 6),
    weakened("a park is repeated without a look", |r| r.reads_before_parking = false, LETTERS, 6),
    weakened("fencing does not compare the beat", |r| r.compares_beat = false, TAKEOVERS, 7),
    weakened("bodies begin before their started row", |r| r.row_before_body = false, TAKEOVERS, 9),
];

const fn weakened(what: &'static str, weaken: fn(&mut Rules), bounds: Bounds, breaks: usize) -> Weakened {
    Weakened { what, weaken, bounds, breaks: ALWAYS[breaks].0 }
}

/// What one exploration found.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Different states.
    pub states: u64,
    /// Properties that do not hold, with the shortest way there.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// What must be reachable, and was.
    pub reached: Vec<&'static str>,
}

/// Explores everything within these bounds, or until something breaks.
pub fn explore(bounds: Bounds, rules: Rules) -> Explored {
    let model = Protocol { bounds, rules }.checker();
    let done = model.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = done.unique_state_count() as u64;
    let mut found = Explored { states, broken: Vec::new(), reached: Vec::new() };
    for (name, path) in done.discoveries() {
        match ALWAYS.iter().any(|(always, _)| *always == name) {
            true => found.broken.push((name, path.into_actions())),
            false => found.reached.push(name),
        }
    }
    found
}

impl Weakened {
    /// A way to a state in which its property does not hold, of which no step can be left out.
    pub fn counterexample(&self) -> Option<Vec<Action>> {
        let mut rules = Rules::ALL;
        (self.weaken)(&mut rules);
        let broken = explore(self.bounds, rules).broken;
        let (_, path) = broken.into_iter().find(|(name, _)| *name == self.breaks)?;
        Some(shorten(&Protocol { bounds: self.bounds, rules }, path, self.breaks))
    }
}

/// Leaves out whatever does not matter.
fn shorten(model: &Protocol, mut path: Vec<Action>, breaks: &str) -> Vec<Action> {
    let mut at = path.len();
    while at > 0 {
        at -= 1;
        let mut without = path.clone();
        without.remove(at);
        if is_broken_after(model, &without, breaks) {
            path = without;
            at = path.len();
        }
    }
    path
}

/// Whether this can happen, and leads to a state in which the property does not hold.
fn is_broken_after(model: &Protocol, path: &[Action], breaks: &str) -> bool {
    let mut state = State::new();
    for action in path {
        if !model.possible(&state).contains(action) {
            return false;
        }
        state.act(model.rules, *action);
    }
    ALWAYS.iter().any(|(name, holds)| *name == breaks && !holds(model, &state))
}

/// The part as a command.
///
/// # Errors
/// What does not hold under all rules, or what holds without one.
pub fn run(full: bool) -> Result<Report, String> {
    let states = explore_corners(full)?;
    for weakened in &WEAKENED {
        let Some(path) = weakened.counterexample() else {
            return Err(format!("{}, and still: {}", weakened.what, weakened.breaks));
        };
        println!("{}, and it breaks that {}, in {} steps:", weakened.what, weakened.breaks, path.len());
        println!("    {}", told(&path));
    }
    let line = format!(
        "{} states, {} properties hold, {} of {} weakened variants have a counterexample",
        states.separate_with_commas(),
        ALWAYS.len(),
        WEAKENED.len(),
        WEAKENED.len()
    );
    let named = [
        ("model_states", states.into()),
        ("model_properties", ALWAYS.len().into()),
        ("model_variants", WEAKENED.len().into()),
        ("model_counterexamples", WEAKENED.len().into()),
    ];
    Ok(Report::new(line, named))
}

/// How many states there are, if every property holds in all of them.
fn explore_corners(full: bool) -> Result<u64, String> {
    let (mut states, mut reached) = (0, BTreeSet::new());
    let deeper = DEEPER.iter().filter(|_| full);
    for (corner, bounds) in CORNERS.iter().chain(deeper) {
        let found = explore(*bounds, Rules::ALL);
        println!("{corner}: {} states", found.states.separate_with_commas());
        if let Some((name, path)) = found.broken.first() {
            return Err(format!("it does not hold that {name}:\n    {}", told(path)));
        }
        states += found.states;
        reached.extend(found.reached);
    }
    ALWAYS.iter().for_each(|(name, _)| println!("always: {name}"));
    for (name, _) in SOMETIMES {
        if !reached.contains(name) {
            return Err(format!("never reached: {name}"));
        }
        println!("reached: {name}");
    }
    Ok(states)
}

/// A way, as people read it.
pub fn told(path: &[Action]) -> String {
    path.iter().map(|action| format!("{action:?}")).collect::<Vec<_>>().join(", ")
}
