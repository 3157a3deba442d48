//! The checkers: one file for each guarantee of the design. Each is a pure function of a history, and its tests show
//! that it finds what it is there for.

mod answers;
mod doubt;
mod durable;
mod family;
mod generations;
mod idempotent;
mod journal;
mod kept;
mod lives;
mod once;
mod outcome;
mod owner;
mod promises;
mod recorded;
mod said;
mod signals;
mod undone;

use std::collections::BTreeMap;

use everstep_core::AttributeValue;

use crate::{
    history::{Fact, Noted, What},
    plan::Plan,
    program::Node,
};

/// What the store holds in the end.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Of each run its status, or why it is stuck, and its journal.
    pub runs: BTreeMap<usize, (String, Vec<Noted>)>,
    /// The user's rows, and how often each was written.
    pub rows: BTreeMap<String, u64>,
    /// How often each run began anew.
    pub generations: BTreeMap<usize, u32>,
    /// The program of each run's last generation.
    pub programs: BTreeMap<usize, Node>,
    /// What each run has said, and what it has left.
    pub said: BTreeMap<usize, Said>,
}

/// What a run has said, and what it has left.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Signals that no wait took, by name and value.
    pub undelivered: Vec<(usize, i64)>,
    /// What it has published.
    pub published: Option<i64>,
    /// The items of its stream.
    pub items: Vec<i64>,
    /// Its attribute.
    pub stand: Option<AttributeValue>,
}

/// Everything that all checkers find.
pub fn all(plan: &Plan, history: &[Fact], content: &Content) -> Vec<String> {
    let mut found = recorded::check(history);
    found.extend(doubt::check(history));
    found.extend(once::check(history, content));
    found.extend(durable::check(history));
    found.extend(owner::check(history, plan.lease_ms * 1_000));
    found.extend(kept::check(history, content));
    found.extend(idempotent::check(history));
    found.extend(journal::check(history, content));
    found.extend(outcome::check(plan, history, content));
    found.extend(signals::check(plan, history, content));
    found.extend(promises::check(history));
    found.extend(family::check(history, content));
    found.extend(answers::check(history));
    found.extend(said::check(history, content));
    found.extend(undone::check(history, content));
    found.extend(generations::check(history, content));
    found
}

/// Runs that did not end though everything had healed: guarantee 6.
pub fn not_ended(content: &Content) -> Vec<String> {
    let open =
        content.runs.iter().filter(|(_, (_, entries))| entries.last().is_none_or(|e| e.ended.is_none()));
    let told: Vec<_> = open.map(|(run, (status, _))| format!("run-{run} has not ended: {status}")).collect();
    match told.is_empty() {
        true => vec!["somebody was never told that a run has ended".to_string()],
        false => told,
    }
}

/// Whether everybody has heard that his start is durable, and how his run has ended.
pub fn all_heard(plan: &Plan, history: &[Fact]) -> bool {
    let count = |is: fn(&What) -> bool| history.iter().filter(|fact| is(&fact.what)).count();
    let starts = plan.runs.len() + plan.runs.iter().filter(|run| run.again_ms.is_some()).count();
    count(|what| matches!(what, What::StartHeard { .. })) >= starts
        && count(|what| matches!(what, What::Heard { .. })) >= plan.runs.len()
}

/// Facts for the checkers' tests.
#[cfg(test)]
mod made_up {
    use std::sync::Arc;

    use everstep_core::journal::Kind;

    use crate::{
        history::{Ending, Fact, Got, Made, Noted, What},
        program::Policy,
    };

    pub fn history(facts: Vec<What>) -> Vec<Fact> {
        facts.into_iter().zip(0..).map(|(what, at)| Fact { at, what }).collect()
    }

    pub fn owned(worker: i64) -> What {
        What::Owned { run: 0, worker }
    }

    pub fn turn(worker: i64, entries: Vec<Noted>) -> What {
        What::Turn { run: 0, worker, entries, end: None }
    }

    pub fn last_turn(worker: i64, entries: Vec<Noted>) -> What {
        What::Turn { run: 0, worker, entries, end: Some(Ending::Finished) }
    }

    pub fn entry(seq: u64, kind: Kind) -> Noted {
        Noted { seq, kind, key: None, attempt: 0, got: None, ended: None }
    }

    pub fn value(by: u64) -> Got {
        Got::Value(Made { v: 1, by })
    }

    pub fn done(seq: u64, by: u64) -> Noted {
        Noted { key: Some(key()), attempt: 1, got: Some(value(by)), ..entry(seq, Kind::StepDone) }
    }

    pub fn attempt_failed(seq: u64, attempt: u32) -> Noted {
        Noted { key: Some(key()), attempt, ..entry(seq, Kind::AttemptFailed) }
    }

    pub fn key() -> Arc<str> {
        "a".into()
    }

    pub fn begun(worker: i64, life: u64, attempt: u32, policy: Policy) -> What {
        What::Begun { run: 0, key: key(), attempt, worker, life, by: life, policy }
    }

    pub fn given(worker: i64, life: u64, by: u64) -> What {
        What::Given { run: 0, key: key(), worker, life, got: value(by) }
    }
}
