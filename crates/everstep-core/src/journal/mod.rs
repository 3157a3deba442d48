//! The ordered record of a run. What an entry is, which kinds there are, what each may do. Pure.
//! Absent on purpose: how entries are stored (`store`) and when they are made (`driver`).

mod body;

use std::{fmt, panic::Location, sync::Arc};

pub use body::{
    Answer, Asked, AttemptFailed, Carried, ChildStarted, Failure, Made, Outcome, Prefix, Reply, Reseeded,
    Start, StartedBy, decode, encode,
};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The kinds of entries: closed, numbered. A kind keeps its number and its meaning for good; a retired number is
/// never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Entry 0: the input and the incarnation.
    Started = 0,
    /// The run was begun later than it was started; moves `now()`.
    Began = 1,
    /// The run was resumed after a pause; moves `now()`.
    Resumed = 2,
    /// Free values draw from another seed from here on.
    Reseeded = 3,

    /// A step returned a value.
    StepDone = 10,
    /// A step failed for good.
    StepFailed = 11,
    /// One attempt of a step failed; another follows.
    AttemptFailed = 12,
    /// A person answered for a step: retry it.
    Answered = 13,
    /// A timer's time came.
    TimerFired = 20,
    /// A signal was taken; the key is that of the wait which it was for then.
    SignalTaken = 21,
    /// A promise was resolved or rejected.
    PromiseSettled = 22,
    /// A child run ended.
    ChildEnded = 23,
    /// A signal was taken that does not decode as what its wait asked for; the body is the error, the input the signal.
    SignalRefused = 24,
    /// A request was taken; the key is that of the wait which it was for then.
    RequestTaken = 25,
    /// The run is to be cancelled: its function is dropped here.
    CancelAsked = 30,
    /// The run's deadline passed: its function is dropped here; the body is the error that it fails with.
    DeadlinePassed = 31,
    /// A person ended the run at once: nothing is undone.
    KillAsked = 32,
    /// The function returned an error, and there is something to undo; the body is the error. It is not called again.
    Failing = 33,

    /// `ctx.patched` decided for the new code.
    Patched = 40,
    /// A value was published.
    Published = 41,
    /// A stream item was emitted.
    Emitted = 42,
    /// An attribute was set.
    AttributeSet = 43,
    /// A child was started.
    ChildStarted = 44,
    /// A promise was made.
    PromiseMade = 45,
    /// The undo of a step began; the key is the step's.
    UndoBegun = 46,
    /// A request was answered.
    RequestAnswered = 47,
    /// A child was asked to cancel.
    ChildCancelAsked = 48,

    /// The function returned `Ok`.
    Completed = 60,
    /// The function returned an error.
    Failed = 61,
    /// The run was cancelled.
    Cancelled = 62,
    /// A new generation begins.
    Restarted = 63,
}

/// What an entry does on replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Entry 0.
    Start,
    /// Delivered to the function; order binds, `now()` moves.
    Arrival,
    /// Appended by a call of the function, matched by key and kind.
    Command,
    /// The last one.
    Outcome,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 31] = [
        Kind::Started,
        Kind::Began,
        Kind::Resumed,
        Kind::Reseeded,
        Kind::StepDone,
        Kind::StepFailed,
        Kind::AttemptFailed,
        Kind::Answered,
        Kind::TimerFired,
        Kind::SignalTaken,
        Kind::PromiseSettled,
        Kind::ChildEnded,
        Kind::SignalRefused,
        Kind::RequestTaken,
        Kind::CancelAsked,
        Kind::DeadlinePassed,
        Kind::KillAsked,
        Kind::Failing,
        Kind::Patched,
        Kind::Published,
        Kind::Emitted,
        Kind::AttributeSet,
        Kind::ChildStarted,
        Kind::PromiseMade,
        Kind::UndoBegun,
        Kind::RequestAnswered,
        Kind::ChildCancelAsked,
        Kind::Completed,
        Kind::Failed,
        Kind::Cancelled,
        Kind::Restarted,
    ];

    /// The number that stores keep.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The kind of a stored number; `None` if this binary does not know it.
    pub fn from_code(code: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.code() == code)
    }

    /// What an entry of this kind does on replay.
    pub fn role(self) -> Role {
        match self {
            Kind::Started => Role::Start,
            Kind::Began
            | Kind::Resumed
            | Kind::Reseeded
            | Kind::StepDone
            | Kind::StepFailed
            | Kind::AttemptFailed
            | Kind::Answered
            | Kind::TimerFired
            | Kind::SignalTaken
            | Kind::PromiseSettled
            | Kind::ChildEnded
            | Kind::SignalRefused
            | Kind::RequestTaken
            | Kind::CancelAsked
            | Kind::DeadlinePassed
            | Kind::KillAsked
            | Kind::Failing => Role::Arrival,
            Kind::Patched
            | Kind::Published
            | Kind::Emitted
            | Kind::AttributeSet
            | Kind::ChildStarted
            | Kind::PromiseMade
            | Kind::UndoBegun
            | Kind::RequestAnswered
            | Kind::ChildCancelAsked => Role::Command,
            Kind::Completed | Kind::Failed | Kind::Cancelled | Kind::Restarted => Role::Outcome,
        }
    }

    /// Its word, as the timeline shows it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Began => "began",
            Kind::Resumed => "resumed",
            Kind::Reseeded => "reseeded",
            Kind::StepDone => "done",
            Kind::StepFailed => "failed",
            Kind::AttemptFailed => "attempt failed",
            Kind::Answered => "answered",
            Kind::TimerFired => "fired",
            Kind::SignalTaken => "signal taken",
            Kind::PromiseSettled => "promise settled",
            Kind::ChildEnded => "child ended",
            Kind::SignalRefused => "signal refused",
            Kind::RequestTaken => "request taken",
            Kind::CancelAsked => "cancel asked",
            Kind::DeadlinePassed => "deadline passed",
            Kind::KillAsked => "kill asked",
            Kind::Failing => "failing",
            Kind::Patched => "patched",
            Kind::Published => "published",
            Kind::Emitted => "emitted",
            Kind::AttributeSet => "attribute set",
            Kind::ChildStarted => "child started",
            Kind::PromiseMade => "promise made",
            Kind::UndoBegun => "undo begun",
            Kind::RequestAnswered => "request answered",
            Kind::ChildCancelAsked => "child cancel asked",
            Kind::Completed => "run completed",
            Kind::Failed => "run failed",
            Kind::Cancelled => "run cancelled",
            Kind::Restarted => "restarted",
        }
    }
}

/// Bytes of a user's value and how they are encoded. Stores keep them and never look inside.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Payload {
    /// 0 is JSON text; other numbers are for encodings to come.
    pub codec: u8,
    /// The encoded value.
    #[serde(with = "as_text")]
    pub bytes: Vec<u8>,
}

/// Text where the bytes are text, hexadecimal digits after `\\x` where they are not.
mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.starts_with("\\x") => to.serialize_str(text),
            _ => to.collect_str(&format_args!(
                "\\x{}",
                bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            )),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let Some(hex) = text.strip_prefix("\\x") else { return Ok(text.into_bytes()) };
        let pairs = hex.as_bytes().chunks(2).map(|pair| {
            let is_byte = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(pair).ok().filter(|_| is_byte)?;
            u8::from_str_radix(digits, 16).ok()
        });
        pairs.collect::<Option<_>>().ok_or_else(|| D::Error::custom(format!("`{text}` is not hexadecimal")))
    }
}

impl Payload {
    /// JSON text.
    pub fn json(text: impl Into<Vec<u8>>) -> Payload {
        Payload { codec: 0, bytes: text.into() }
    }
}

/// The source line of a call: `src/onboarding.rs:42:9`.
#[derive(Clone, Debug)]
pub enum Site {
    /// Of this very program.
    Here(&'static Location<'static>),
    /// As it was recorded, perhaps by another build.
    Recorded(Arc<str>),
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Here(at) => at.fmt(f),
            Site::Recorded(at) => f.write_str(at),
        }
    }
}

impl PartialEq for Site {
    fn eq(&self, other: &Site) -> bool {
        // What is of this program is equal to its own record.
        self.to_string() == other.to_string()
    }
}
impl Eq for Site {}

/// One fact in a run's journal, as stores take and give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in its run and generation, from 0 without a gap.
    pub seq: u64,
    /// [`Kind::code`]; a number, because another binary may have written a kind that this one does not know.
    pub kind: u16,
    /// The key of the step, timer, ... it is about; `None` for what concerns the whole run.
    pub key: Option<Arc<str>>,
    /// Which attempt of its step; 0 for what has no attempts.
    pub attempt: u32,
    /// What the step said its input was, for people and for the comparison on replay; a refused signal as it was sent; of
    /// an outcome the numbers of entries that took signals which nobody has.
    pub input: Option<Payload>,
    /// What it carries; its shape follows from the kind.
    pub body: Payload,
    /// The line of the call it answers.
    pub site: Option<Site>,
    /// The build that wrote it.
    pub build: Arc<str>,
    /// A hash of what the function had done when it was written; 0 in a cancel or kill that was recorded without calling it.
    pub fingerprint: u32,
    /// When it was written; never before the entry before it, but for entry 0 of a fork, which comes after what it keeps.
    pub at: Timestamp,
}

impl Entry {
    /// Its kind, if this binary knows it.
    pub fn known_kind(&self) -> Option<Kind> {
        Kind::from_code(self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_numbers_roles_and_words() {
        let table: Vec<_> =
            Kind::ALL.map(|k| format!("{} {k:?} {:?}: {}", k.code(), k.role(), k.word())).into();
        assert_eq!(
            table.join("\n"),
            "\
0 Started Start: started
1 Began Arrival: began
2 Resumed Arrival: resumed
3 Reseeded Arrival: reseeded
10 StepDone Arrival: done
11 StepFailed Arrival: failed
12 AttemptFailed Arrival: attempt failed
13 Answered Arrival: answered
20 TimerFired Arrival: fired
21 SignalTaken Arrival: signal taken
22 PromiseSettled Arrival: promise settled
23 ChildEnded Arrival: child ended
24 SignalRefused Arrival: signal refused
25 RequestTaken Arrival: request taken
30 CancelAsked Arrival: cancel asked
31 DeadlinePassed Arrival: deadline passed
32 KillAsked Arrival: kill asked
33 Failing Arrival: failing
40 Patched Command: patched
41 Published Command: published
42 Emitted Command: emitted
43 AttributeSet Command: attribute set
44 ChildStarted Command: child started
45 PromiseMade Command: promise made
46 UndoBegun Command: undo begun
47 RequestAnswered Command: request answered
48 ChildCancelAsked Command: child cancel asked
60 Completed Outcome: run completed
61 Failed Outcome: run failed
62 Cancelled Outcome: run cancelled
63 Restarted Outcome: restarted"
        );
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(999), None);
    }

    #[test]
    fn any_payload_comes_back_from_json() {
        for bytes in [&b"{\"a\":1}"[..], b"", b"\\x00", b"\xff\x00", "\u{0}é".as_bytes()] {
            let payload = Payload { codec: 3, bytes: bytes.to_vec() };
            let text = serde_json::to_string(&payload).expect("text");
            assert_eq!(serde_json::from_str::<Payload>(&text).expect("comes back"), payload, "{text}");
        }
        let text = serde_json::to_string(&Payload::json("five")).expect("text");
        assert!(text.contains(r#""bytes":"five""#), "people can read what is text: {text}");
        for bad in [r#"{"codec":0,"bytes":"\\x0"}"#, r#"{"codec":0,"bytes":"\\x+1"}"#] {
            assert!(serde_json::from_str::<Payload>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_is_equal_to_its_record_and_to_no_other() {
        let here = Site::Here(Location::caller());
        let recorded = Site::Recorded(here.to_string().into());
        assert_eq!(here, recorded);
        assert_eq!(recorded, recorded.clone());
        assert_ne!(here, Site::Here(Location::caller()), "another line");
        assert_ne!(recorded, Site::Recorded("src/other.rs:1:1".into()));
    }
}
