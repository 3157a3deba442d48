//! Ordinary runs, entries and letters; a case changes in them what it is about.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Status, StatusSet, Stuck, StuckReason, Timestamp,
    journal::{Entry, Kind, Payload, Site},
    store::{
        Act, Claim, Cut, End, Letter, LetterId, LetterKind, Mark, NewRun, Post, RunId, Say, StartedRow,
        WorkerInfo,
    },
};

/// Texts that have broken somebody's store.
pub(crate) const TEXTS: [&str; 9] = [
    "",
    " ",
    "ü/日本#2",
    "'; DROP TABLE everstep_run; --",
    "\"quoted\\\"",
    "a\0b",
    "%_?*",
    "line\nbreak\r\t",
    "👩‍👩‍👧 \u{202e}",
];

/// Microseconds after the beginning of 2026.
pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp(1_767_225_600_000_000 + micros)
}

pub(crate) fn info() -> WorkerInfo {
    WorkerInfo { name: "here".into(), build: "b1".into(), at: at(0) }
}

pub(crate) fn entry(seq: u64, kind: Kind, body: &str) -> Entry {
    Entry {
        seq,
        kind: kind.code(),
        key: None,
        attempt: 0,
        input: None,
        body: Payload::json(body),
        site: Some(Site::Recorded("src/flow.rs:1:2".into())),
        build: "b1".into(),
        fingerprint: 7,
        at: at(i64::try_from(seq).unwrap_or(0)),
    }
}

/// A step that is done.
pub(crate) fn step(seq: u64) -> Entry {
    Entry { key: Some(format!("step#{seq}").into()), attempt: 1, ..entry(seq, Kind::StepDone, "1") }
}

/// Steps of these numbers that are done.
pub(crate) fn steps(seqs: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    seqs.into_iter().map(step).collect()
}

/// A run of workflow `flow`, due at [`at`]`(0)`, that a worker who starts it takes at once.
pub(crate) fn new_run(id: &str) -> NewRun {
    let first = entry(0, Kind::Started, "{}");
    NewRun { due: at(0), claim: true, ..NewRun::of(id.into(), "flow".into(), first) }
}

pub(crate) fn run_of(workflow: &str, id: &str, due: Timestamp) -> NewRun {
    NewRun { workflow: workflow.into(), due, ..new_run(id) }
}

/// Everything of workflow `flow` that is due by `at(1000)`.
pub(crate) fn claim() -> Claim {
    claim_of(&["flow"], 100)
}

pub(crate) fn claim_of(workflows: &[&str], limit: usize) -> Claim {
    Claim { workflows: names(workflows), due: at(1000), limit }
}

pub(crate) fn names(workflows: &[&str]) -> Arc<[Arc<str>]> {
    workflows.iter().map(|name| Arc::from(*name)).collect()
}

/// A signal of this id.
pub(crate) fn letter(id: u128) -> Letter {
    Letter {
        id: LetterId(id),
        kind: LetterKind::Signal as u16,
        name: "go".into(),
        body: Payload::json(id.to_string()),
        at: at(3),
    }
}

/// A signal of this id to a run that is not over.
pub(crate) fn post(to: &str, id: u128) -> Post {
    Post { to: to.into(), letter: letter(id), only: StatusSet::OPEN, revive: false }
}

/// A person's wish to cancel a run that is not over.
pub(crate) fn cancel(to: &str, id: u128) -> Post {
    let letter = Letter { kind: LetterKind::Cancel as u16, ..letter(id) };
    Post { letter, ..post(to, id) }
}

/// A person's letter: to a run in any status, which it sets going again.
pub(crate) fn revive(to: &str, id: u128) -> Post {
    Post { only: StatusSet::ANY, revive: true, ..post(to, id) }
}

/// Takes entries from `from` on back, whatever the run's status.
pub(crate) fn cut(run: RunId, inbox_n: u64, from: u64) -> Cut {
    let (only, why, at) = (StatusSet::ANY, "retry".into(), at(6));
    Cut { run, only, inbox_n, last: None, from, letters: vec![], reopens: vec![], why, at }
}

/// What a person did.
pub(crate) fn act(verb: &str) -> Act {
    Act { verb: verb.into(), who: "ada".into(), why: "so".into(), at: at(7), detail: "k".into() }
}

pub(crate) fn started(key: &str, attempt: u32) -> StartedRow {
    StartedRow { key: key.into(), attempt, at: at(2), abandoned: false, details: None }
}

/// A step that begins.
pub(crate) fn begins(key: &str) -> Mark {
    Mark::Started(started(key, 1))
}

/// Publishes JSON with entry `seq`.
pub(crate) fn publishes(name: &str, seq: u64, json: &str) -> Say {
    Say::Published {
        name: name.into(),
        body: Payload::json(json),
        seq,
        at: at(i64::try_from(seq).unwrap_or(0)),
    }
}

/// Emits item `n`, which says its number.
pub(crate) fn emits(stream: &str, n: u64) -> Say {
    let at = at(i64::try_from(n).unwrap_or(0));
    Say::Emitted { name: stream.into(), n, body: Payload::json(n.to_string()), at }
}

/// Sets an attribute, or takes it away.
pub(crate) fn sets(name: &str, value: Option<AttributeValue>) -> Say {
    Say::Attribute { name: name.into(), value }
}

/// An attribute as it is told.
pub(crate) fn attribute(name: &str, value: impl Into<AttributeValue>) -> (String, AttributeValue) {
    (name.to_string(), value.into())
}

pub(crate) fn stuck() -> Stuck {
    Stuck { reason: StuckReason::Panicked, key: Some("step".into()), detail: "boom".into() }
}

pub(crate) fn finished(status: Status, inbox_n: u64) -> Option<End> {
    Some(End::Finished { status, inbox_n, at: at(9) })
}

pub(crate) fn parked(wake_at: Option<Timestamp>, inbox_n: u64) -> Option<End> {
    Some(End::Parked { wake_at, inbox_n })
}

pub(crate) fn stuck_end(inbox_n: u64) -> Option<End> {
    Some(End::Stuck { stuck: stuck(), inbox_n, at: at(9) })
}

pub(crate) fn given_back(wake_at: Timestamp) -> Option<End> {
    Some(End::GivenBack { wake_at })
}
