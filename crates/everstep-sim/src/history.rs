//! Everything that was observed while one seed ran, in order: what the store committed, what bodies did, what the
//! functions were given, what people heard, what went wrong. The checkers look at nothing else.

use std::sync::Arc;

use everstep_core::{
    Code,
    journal::{Entry, Failure, Kind, decode},
};
use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    program::{ANSWERED, IN_DOUBT, Out, Policy, TIMEOUT},
};

/// One observation.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Microseconds of right time since the world began.
    pub at: u64,
    /// What.
    pub what: What,
}

/// What a step's body returns: its value, and which execution of a body made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The value that the program's text says.
    pub v: i64,
    /// The number of the body's execution; a step that ran twice has two.
    pub by: u64,
}

/// What an entry, or the function, was given of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A value.
    Value(Made),
    /// An error.
    Error(i64),
}

/// What was observed. Runs are numbered as the plan has them, workers as the store does.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The store has a start; `new` if it was the first.
    Started { run: usize, new: bool },
    /// A client heard that its start is durable.
    StartHeard { run: usize },
    /// A start with another input was accepted, which nobody may.
    ConflictMissed { run: usize },
    /// The store gave a run to a worker.
    Owned { run: usize, worker: i64 },
    /// The store committed a turn.
    Turn { run: usize, worker: i64, entries: Vec<Noted>, end: Option<Ending> },
    /// The store committed a transactional step.
    Transacted { run: usize, worker: i64, key: Arc<str> },
    /// A cancel is in the run's inbox.
    CancelPosted { run: usize },
    /// Whoever cancelled heard that it is durable.
    CancelHeard { run: usize },
    /// A person's answer about the run is in its inbox.
    AnswerPosted { run: usize },
    /// The store made a worker.
    Enrolled { worker: i64 },
    /// The store renewed a worker.
    Beat { worker: i64 },
    /// The store fenced a worker for another one, `by`; or it left.
    Fenced { worker: i64, by: Option<i64> },
    /// A body begins.
    Begun { run: usize, key: Arc<str>, attempt: u32, worker: i64, life: u64, by: u64, policy: Policy },
    /// A body had its effect.
    Effect { run: usize, key: Arc<str>, made: Made },
    /// `verify` looked.
    Looked { run: usize, key: Arc<str>, found: bool },
    /// The function was given the outcome of a step.
    Given { run: usize, key: Arc<str>, worker: i64, life: u64, got: Got },
    /// The function drew a free value.
    Drawn { run: usize, label: String, value: u64 },
    /// An engine told its audience of an outcome of a step.
    ToldStep { run: usize, key: Arc<str> },
    /// An engine told its audience how a run ended.
    ToldEnd { run: usize, word: &'static str },
    /// A client was told the run's outcome.
    Heard { run: usize, ended: Ended },
    /// A worker's process died.
    Died { worker: i64 },
    /// A worker's process was stopped, and goes on.
    Stopped { worker: i64, goes_on: bool },
    /// This happened, to whomever.
    Fault(Fault),
    /// From here on nothing goes wrong any more.
    Healed,
}

/// An entry, as far as the checkers care.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    pub seq: u64,
    pub kind: Kind,
    pub key: Option<Arc<str>>,
    pub attempt: u32,
    /// Of a step's outcome.
    pub got: Option<Got>,
    /// Of a run's outcome.
    pub ended: Option<Ended>,
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Finished,
    Parked,
    Stuck,
    /// A person set it aside.
    Paused,
    GivenBack,
    Restarted,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By its function.
    With(Out),
    /// By a cancel.
    Cancelled,
}

impl Noted {
    /// Of an entry.
    ///
    /// # Panics
    /// If the entry is of no known kind, or carries what the simulation's programs never make.
    pub fn of(entry: &Entry) -> Noted {
        let kind = entry.known_kind().expect("a kind of this binary");
        let got = match kind {
            Kind::StepDone => {
                Some(Got::Value(serde_json::from_slice(&entry.body.bytes).expect("a step returns `Made`")))
            }
            Kind::StepFailed => Some(Got::Error(code_of(&decode(&entry.body).expect("a failure")))),
            _ => None,
        };
        let ended = match kind {
            Kind::Completed => {
                Some(Ended::With(Out::Go(serde_json::from_slice(&entry.body.bytes).expect("a number"))))
            }
            Kind::Failed => Some(Ended::With(Out::Fail(code_of(&decode(&entry.body).expect("a failure"))))),
            Kind::Cancelled => Some(Ended::Cancelled),
            _ => None,
        };
        Noted { seq: entry.seq, kind, key: entry.key.clone(), attempt: entry.attempt, got, ended }
    }

    /// Whether it is the outcome of a step.
    pub fn is_outcome_of_step(&self) -> bool {
        matches!(self.kind, Kind::StepDone | Kind::StepFailed)
    }
}

/// The number of an error, as the programs count them.
pub fn code_of(failure: &Failure) -> i64 {
    code_of_parts(failure.code, &failure.message)
}

/// As [`code_of`], from the parts.
pub fn code_of_parts(code: Code, message: &str) -> i64 {
    match code {
        Code::RAISED => message.strip_prefix("declined ").and_then(|n| n.parse().ok()).unwrap_or(-99),
        Code::TIMEOUT => TIMEOUT,
        Code::IN_DOUBT => IN_DOUBT,
        Code::ANSWERED => ANSWERED,
        _ => -99,
    }
}
