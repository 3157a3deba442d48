//! Three runs whose every time is known.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Code, Digest, ErrorKind, Incarnation, Status, Stuck, StuckReason, Timestamp,
    journal::{AttemptFailed, Entry, Failure, Kind, Payload, Site, Start, encode},
    store::{
        Act, Kept, Letter, LetterId, LetterKind, Loaded, PublishedRow, Received, RunId, RunRow, StartedRow,
        Whole,
    },
};

/// So many milliseconds after the beginning of 2026.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp(1_767_225_600_000_000 + millis * 1000)
}

fn text(text: &str) -> Option<Arc<str>> {
    Some(text.into()).filter(|_| !text.is_empty())
}

/// An entry; one with a key was asked for at a line.
pub(crate) fn entry(seq: u64, kind: Kind, key: &str, body: Payload) -> Entry {
    let site = text(key).map(|_| Site::Recorded(format!("src/onboard.rs:{}:9", 10 + seq).into()));
    Entry {
        seq,
        kind: kind.code(),
        key: text(key),
        attempt: u32::from(site.is_some()),
        input: None,
        body,
        site,
        build: "build-1".into(),
        fingerprint: 7,
        at: at(seq as i64 * 1000),
    }
}

fn started(input: &str) -> Entry {
    let start = Start {
        incarnation: Incarnation(1),
        digest: Digest(1),
        input: serde_json::value::RawValue::from_string(input.to_string()).expect("JSON"),
        deadline: None,
        carried: vec![],
        parent: None,
        prefix: None,
    };
    entry(0, Kind::Started, "", encode(&start))
}

fn failure(message: &str) -> Failure {
    let (kind, code, message) = (ErrorKind::Raised, Code::RAISED, message.to_string());
    let (causes, raised_at) = (vec![], String::new());
    Failure { kind, code, message, causes, raised_at, terminal: false, typed: None, cause: None }
}

fn run(number: i64, id: &str, workflow: &str, status: Status, entries: Vec<Entry>) -> Whole {
    Whole {
        row: RunRow {
            run: RunId(number),
            id: id.into(),
            workflow: workflow.into(),
            status,
            owner: None,
            wake_at: None,
            inbox_n: 0,
            generation: 0,
            takeovers: 0,
            created_at: at(number * 1000),
            began_at: Some(at(number * 1000)),
            finished_at: status.is_over().then(|| at(number * 1000 + 500)),
        },
        trace: None,
        parent: None,
        loaded: Loaded { entries, inbox: vec![], started: vec![] },
        stuck: None,
        attributes: vec![],
        published: vec![],
        streams: vec![],
        acts: vec![],
        kept: Kept::default(),
    }
}

/// A run that is over, one that is stuck, and one that waits.
pub(crate) fn runs() -> Vec<Whole> {
    vec![done(), stuck(), waiting()]
}

fn done() -> Whole {
    let entries = vec![
        started(r#""Ada""#),
        entry(1, Kind::StepDone, "create_record", Payload::json(r#"{"id": 7}"#)),
        entry(2, Kind::Completed, "", Payload::json(r#""welcome""#)),
    ];
    run(1, "emp-1", "onboard", Status::Completed, entries)
}

fn stuck() -> Whole {
    let attempt = AttemptFailed { error: failure("no \x1b[31mroute"), retry_at: at(3000).0, details: None };
    let entries = vec![
        started(r#"{"name":"Grace"}"#),
        entry(1, Kind::SignalTaken, "approved", Payload::json("true")),
        entry(2, Kind::AttemptFailed, "provision", encode(&attempt)),
        Entry { attempt: 2, ..entry(3, Kind::StepFailed, "provision#2", encode(&failure("no room"))) },
        entry(4, Kind::Published, "progress", Payload { codec: 9, bytes: vec![1, 2] }),
        Entry { kind: 9999, ..entry(5, Kind::StepDone, "later", Payload::json("{}")) },
    ];
    let letter = |n, kind, name: &str, body: &str| Received {
        n,
        letter: Letter {
            id: LetterId(n.into()),
            kind,
            name: name.into(),
            body: Payload::json(body),
            at: at(7000),
        },
    };
    let base = run(2, "emp-2", "onboard", Status::Stuck, entries);
    Whole {
        row: RunRow { inbox_n: 3, generation: 1, takeovers: 2, ..base.row },
        loaded: Loaded {
            inbox: vec![
                letter(2, LetterKind::Signal as u16, "go", &format!("{:?}", "x".repeat(100))),
                letter(3, 999, "new", "1"),
            ],
            started: vec![StartedRow {
                key: "notify".into(),
                attempt: 2,
                at: at(6000),
                abandoned: false,
                details: Some(Payload::json("50")),
            }],
            ..base.loaded
        },
        stuck: Some((
            Stuck {
                reason: StuckReason::InDoubt,
                key: Some("notify".into()),
                detail: "attempt 2 did not return".into(),
            },
            at(6500),
        )),
        attributes: vec![
            ("amount".into(), AttributeValue::Float(1.5)),
            ("team".into(), AttributeValue::Text("core".into())),
        ],
        published: vec![PublishedRow {
            name: "progress".into(),
            body: Payload::json("50"),
            seq: 4,
            at: at(4000),
        }],
        acts: vec![Act {
            verb: "retry".into(),
            who: "ada@here".into(),
            why: "there is room now".into(),
            at: at(5000),
            detail: "".into(),
        }],
        ..base
    }
}

fn waiting() -> Whole {
    let base = run(3, "inv-1", "invoice", Status::Waiting, vec![started("1")]);
    Whole { row: RunRow { wake_at: Some(at(3_600_000)), ..base.row }, ..base }
}
