//! Everything that was observed while one seed ran, in order: what the store committed, what bodies did, what the
//! functions were given, what people heard, what went wrong. The checkers look at nothing else.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Code,
    journal::{Entry, Failure, Kind, Payload, Reply, decode},
};
use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    program::{ANSWERED, CANCELLED, EXPIRED, IN_DOUBT, Node, Out, Policy, REJECTED, TIMEOUT},
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
    /// A signal is in the run's inbox.
    SignalPosted { run: usize, name: usize, value: i64 },
    /// Whoever sent it heard that it is durable.
    SignalHeard { run: usize, name: usize, value: i64 },
    /// A person has done something else to the run.
    Acted { run: usize, verb: &'static str },
    /// A person took the end of the run's journal back, from this entry on.
    CutBack { run: usize, from: u64 },
    /// A run has started another one; if it ends first, it closes that one, or leaves it.
    ChildStarted { run: usize, child: usize, key: Arc<str>, closes: bool },
    /// Whoever has the token of a promise was told what became of it: it is settled so, or it cannot be.
    Settled { run: usize, token: u64, told: Told },
    /// Whoever asked a run something was told the answer.
    Replied { run: usize, question: i64, made: Made },
    /// A reader saw what a run has published.
    ReadPublished { run: usize, value: i64 },
    /// A reader saw an item of a run's stream.
    ReadItem { run: usize, n: u64, value: i64 },
    /// The store made a worker.
    Enrolled { worker: i64 },
    /// The store renewed a worker.
    Beat { worker: i64 },
    /// The store fenced a worker for another one, `by`; or it left.
    Fenced { worker: i64, by: Option<i64> },
    /// The function is called: a life begins.
    Called { run: usize, worker: i64, life: u64, generation: u32 },
    /// The function was given a signal.
    Taken { run: usize, generation: u32, life: u64, name: usize, value: i64 },
    /// The function has said how a step is undone, or what is cleaned up.
    Undoable { run: usize, life: u64, key: Arc<str>, cleanup: bool },
    /// An undo, or a clean-up, had its effect.
    Undone { run: usize, key: Arc<str> },
    /// A body begins.
    Begun { run: usize, key: Arc<str>, attempt: u32, worker: i64, life: u64, by: u64, policy: Policy },
    /// A body had its effect.
    Effect { run: usize, key: Arc<str>, made: Made },
    /// `verify` looked.
    Looked { run: usize, key: Arc<str>, found: bool },
    /// The function was given the outcome of a step.
    Given { run: usize, key: Arc<str>, worker: i64, life: u64, got: Got },
    /// The function drew a free value.
    Drawn { run: usize, worker: i64, label: String, value: u64 },
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

/// What the holder of a promise's token was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is resolved with this value.
    Resolved(i64),
    /// It is rejected.
    Rejected,
    /// No promise has this token.
    Unknown,
    /// It was settled in another way, has expired, or its run is over.
    TooLate,
}

/// An entry, as far as the checkers care.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    pub seq: u64,
    pub kind: Kind,
    pub key: Option<Arc<str>>,
    pub attempt: u32,
    /// What it carries, of a step's outcome, of what reached the run, and of what the run said.
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
    /// Of an entry of this generation.
    ///
    /// # Panics
    /// If the entry is of no known kind, or carries what the simulation's programs never make.
    pub fn of(entry: &Entry, generation: u32) -> Noted {
        let kind = entry.known_kind().expect("a kind of this binary");
        let ended = match kind {
            Kind::Completed => Some(Ended::With(Out::Go(read(&entry.body)))),
            Kind::Failed => Some(Ended::With(Out::Fail(code_of(&read(&entry.body))))),
            Kind::Cancelled => Some(Ended::Cancelled),
            _ => None,
        };
        let key = entry.key.as_deref().map(|key| keyed(generation, key));
        Noted { seq: entry.seq, kind, key, attempt: entry.attempt, got: got_of(kind, entry), ended }
    }

    /// Whether it is the outcome of a step.
    pub fn is_outcome_of_step(&self) -> bool {
        matches!(self.kind, Kind::StepDone | Kind::StepFailed)
    }
}

/// What an entry carries.
fn got_of(kind: Kind, entry: &Entry) -> Option<Got> {
    let number = |v| Got::Value(Made { v, by: 0 });
    Some(match kind {
        // An undo, which returns nothing.
        Kind::StepDone if entry.body.bytes == b"null" => return None,
        Kind::StepDone => Got::Value(read(&entry.body)),
        Kind::StepFailed => Got::Error(code_of(&read(&entry.body))),
        Kind::SignalTaken | Kind::Published | Kind::Emitted => number(read(&entry.body)),
        Kind::AttributeSet => match read(&entry.body) {
            AttributeValue::Integer(value) => number(value),
            other => panic!("programs set numbers, and this is {other:?}"),
        },
        Kind::ChildEnded | Kind::PromiseSettled => match read(&entry.body) {
            Reply::Value(value) => number(read(&Payload::json(value.get()))),
            Reply::Failure(failure) => Got::Error(code_of(&failure)),
        },
        Kind::RequestAnswered => match read(&entry.body) {
            Reply::Value(value) => Got::Value(read(&Payload::json(value.get()))),
            Reply::Failure(failure) => Got::Error(code_of(&failure)),
        },
        _ => return None,
    })
}

/// The program that a generation begins with.
pub fn program_of(first: &Entry) -> Option<Node> {
    let start: everstep_core::journal::Start = decode(&first.body).ok()?;
    match serde_json::from_str(start.input.get()).ok()? {
        Node::Generation(_, program) => Some(*program),
        program => Some(program),
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &Payload) -> T {
    decode(body).expect("what the simulation's programs make")
}

/// A key of a generation. The checkers follow a run through all of them.
pub fn keyed(generation: u32, key: &str) -> Arc<str> {
    match generation {
        0 => key.into(),
        _ => format!("~{generation}/{key}").into(),
    }
}

/// The key as the engine has it.
pub fn plain(key: &str) -> &str {
    match key.strip_prefix('~') {
        Some(later) => later.split_once('/').map_or(key, |(_, key)| key),
        None => key,
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
        Code::CANCELLED => CANCELLED,
        Code::REJECTED => REJECTED,
        Code::EXPIRED => EXPIRED,
        _ => -99,
    }
}
