//! Runs, entries and letters by number: the ordinary one is number 0, the others are as odd as a store must bear.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Status, StatusSet, StuckReason, Timestamp,
    journal::{Entry, Kind, Payload, Site},
    store::{Act, Condition, Field, Filter, Forked, Letter, LetterId, Operator, PATCHED, Say},
};

use super::operation::When;

/// The beginning of 2026.
const EPOCH: i64 = 1_767_225_600_000_000;

/// A point in time.
pub(super) fn at(when: When) -> Timestamp {
    match when {
        When::At(step) => Timestamp(EPOCH + step),
        When::Zero => Timestamp(0),
        When::Before => Timestamp(-5),
        When::Never => Timestamp::NEVER,
    }
}

/// An id of a run.
pub(super) fn id(n: usize) -> Arc<str> {
    let ids = ["a", "b", "order 7", "naïve/ünïcode ☃", "quote'\";--", "%_like\\"];
    Arc::from(ids.get(n).copied().unwrap_or("nobody"))
}

/// A name of a workflow.
pub(super) fn workflow(n: usize) -> Arc<str> {
    let names = ["flow", "Flow", "flow\u{0}x"];
    Arc::from(names.get(n).copied().unwrap_or("unknown"))
}

/// Names of workflows.
pub(super) fn workflows(all: &[usize]) -> Arc<[Arc<str>]> {
    all.iter().map(|n| workflow(*n)).collect()
}

/// A key of a step.
pub(super) fn key(n: usize) -> Arc<str> {
    Arc::from(["email", "left/email#2", "a'\u{0}b"][n])
}

/// A payload.
pub(super) fn payload(flavour: usize) -> Payload {
    let bytes = |codec, bytes: &[u8]| Payload { codec, bytes: bytes.to_vec() };
    match flavour {
        1 => bytes(0, b""),
        2 => bytes(0, b"\xff\xfe\x00"),
        3 => bytes(200, b"{}"),
        4 => bytes(1, b""),
        5 => Payload::json("\"zero \u{0} inside\""),
        6 => Payload::json("7".repeat(9000)),
        7 => Payload::json("1e400"),
        _ => Payload::json("{\"a\":1}"),
    }
}

/// An entry.
pub(super) fn entry(seq: u64, flavour: usize) -> Entry {
    let odd = flavour > 3;
    Entry {
        seq,
        kind: if odd { 900 + flavour as u16 } else { Kind::StepDone.code() },
        key: (flavour != 1).then(|| key(flavour % 3)),
        attempt: if odd { u32::MAX } else { 1 },
        input: (flavour % 2 == 1).then(|| payload(flavour / 2)),
        body: payload(flavour),
        site: (flavour != 2).then(|| Site::Recorded("src/flow.rs:1:2".into())),
        build: if odd { "".into() } else { "b1".into() },
        fingerprint: if odd { u32::MAX } else { 7 },
        at: if odd { Timestamp(i64::MIN) } else { at(When::At(seq as i64)) },
    }
}

/// What a fork begins with, from this entry on.
pub(super) fn forked(entries: usize, from: u64) -> Forked {
    let act = Act {
        verb: "fork".into(),
        who: "".into(),
        why: "".into(),
        at: at(When::At(8)),
        detail: "order 7".into(),
    };
    let entries: Vec<_> = (0..entries as u64).map(|n| entry(from.saturating_add(n), 0)).collect();
    let says = entries.iter().take(1).map(|entry| Say::Published {
        name: name(0),
        body: payload(0),
        seq: entry.seq,
        at: entry.at,
    });
    Forked { says: says.collect(), entries, act }
}

/// A name of what is published, or of a stream.
pub(super) fn name(n: usize) -> Arc<str> {
    Arc::from(["total", "naïve's \"log\""].get(n).copied().unwrap_or("never said"))
}

/// A name of an attribute.
pub(super) fn attribute(n: usize) -> Arc<str> {
    Arc::from(["team", "due'; --", "a\u{0}b", "$patched/new way"].get(n).copied().unwrap_or("never set"))
}

/// A value of this attribute: of a patch the engine writes nothing but when it was taken.
pub(super) fn value_of(attribute: usize, n: usize) -> AttributeValue {
    match (self::attribute(attribute).starts_with(PATCHED), value(n)) {
        (true, value) if !matches!(value, AttributeValue::Time(_)) => at(When::At(n as i64)).into(),
        (_, value) => value,
    }
}

/// A value of an attribute; the last is none.
pub(super) fn value(n: usize) -> AttributeValue {
    match n {
        1 => 7.into(),
        2 => 7.0.into(),
        3 => 7.5.into(),
        4 => i64::MAX.into(),
        5 => 9_223_372_036_854_775_808.0.into(),
        6 => true.into(),
        7 => false.into(),
        8 => at(When::At(1)).into(),
        9 => at(When::Before).into(),
        10 => Timestamp::NEVER.into(),
        11 => "".into(),
        12 => "7".into(),
        13 => "true".into(),
        14 => i64::MIN.into(),
        15 => f64::NAN.into(),
        _ => "blue".into(),
    }
}

/// The hash of a promise's token.
pub(super) fn hash(n: usize) -> [u8; 32] {
    [[0; 32], [7; 32], [255; 32]][n % 3]
}

/// A letter.
pub(super) fn letter(id: usize, kind: u16, flavour: usize) -> Letter {
    let id = if id == 0 { u128::MAX } else { id as u128 };
    Letter { id: LetterId(id), kind, name: key(flavour % 3), body: payload(flavour), at: at(When::At(3)) }
}

/// The statuses of a mask.
pub(super) fn statuses(mask: u8) -> StatusSet {
    let of: Vec<_> = Status::ALL.into_iter().filter(|status| mask & (1 << status.code()) != 0).collect();
    StatusSet::of(&of)
}

/// A reason to be stuck.
pub(super) fn reason(n: usize) -> StuckReason {
    StuckReason::ALL[n % StuckReason::ALL.len()]
}

/// A filter.
pub(super) fn filter(n: usize) -> Filter {
    let status = |all: &[Status]| Condition::Status(StatusSet::of(all));
    let text = |field, not, values: &[&str]| Condition::Text {
        field,
        not,
        values: values.iter().map(ToString::to_string).collect(),
    };
    let time = |field, operator, step| Condition::Time { field, operator, at: at(When::At(step)) };
    let is = |name, not, values: &[usize]| Condition::AttributeIs {
        name: attribute(name),
        not,
        values: values.iter().map(|n| value(*n)).collect(),
    };
    let lies =
        |name, operator, n| Condition::AttributeLies { name: attribute(name), operator, value: value(n) };
    let over = [Status::Completed, Status::Failed, Status::Cancelled];
    let conditions = match n {
        1 => vec![status(&[Status::Stuck])],
        2 => vec![status(&[Status::Failed, Status::Cancelled, Status::Stuck, Status::Paused])],
        3 => vec![status(&[])],
        4 => vec![text(Field::Workflow, false, &["flow"])],
        5 => vec![text(Field::Workflow, true, &["flow", "unknown"])],
        6 => vec![text(Field::Id, false, &["a", "quote'\";--", "%"])],
        7 => vec![text(Field::Id, true, &["b"]), status(&[Status::Pending, Status::Running])],
        8 => vec![time(Field::Created, Operator::From, 0)],
        9 => vec![time(Field::Finished, Operator::UpTo, 9), status(&over)],
        10 => vec![time(Field::Finished, Operator::After, 2)],
        11 => vec![text(Field::Workflow, false, &[])],
        12 => vec![is(0, false, &[0])],
        13 => vec![is(0, false, &[1]), status(&[Status::Stuck, Status::Failed])],
        14 => vec![is(0, true, &[0]), is(1, true, &[])],
        15 => vec![is(1, false, &[2, 6, 8, 12])],
        16 => vec![is(2, true, &[1, 11, 7]), time(Field::Created, Operator::From, 0)],
        17 => vec![lies(0, Operator::UpTo, 2)],
        18 => vec![lies(1, Operator::After, 1), lies(1, Operator::Before, 5)],
        19 => vec![lies(2, Operator::From, 11)],
        20 => vec![lies(0, Operator::Before, 8), text(Field::Id, true, &["b"])],
        21 => vec![lies(1, Operator::From, 7), is(0, false, &[0])],
        22 => vec![is(9, true, &[0])],
        23 => vec![is(0, false, &[]), lies(0, Operator::From, 1)],
        _ => vec![],
    };
    Filter { conditions }
}
