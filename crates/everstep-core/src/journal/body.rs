//! What entries and messages carry, as JSON. These shapes are read by every later version: fields are added, never
//! renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Entry, Kind, Payload};
use crate::{
    digest::{Digest, Incarnation},
    error::{Code, ErrorKind},
};

/// Entry 0.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The random identity of this started run.
    pub incarnation: Incarnation,
    /// Of the first generation's input as a JSON value: what a second start under the same id is compared with.
    pub digest: Digest,
    /// The input as the caller encoded it.
    pub input: Box<RawValue>,
    /// When it fails unless it has ended, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// Signals that the generation before had taken, and nobody got.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
    /// The run whose child it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<StartedBy>,
    /// Of a fork: what it shares with the run that it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
}

/// Which run has started another one as its child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedBy {
    /// Its number inside the store.
    pub run: i64,
    /// Its random identity.
    pub incarnation: Incarnation,
    /// Its generation.
    pub generation: u32,
    /// The key under which it started the child.
    pub key: String,
}

/// The start of a child, as its parent keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStarted {
    /// The child's run id.
    pub id: String,
    /// Its workflow.
    pub workflow: String,
}

/// The part of a fork's journal that another run wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// Free values are drawn as the other run drew them, until an entry says otherwise.
    pub incarnation: Incarnation,
    /// The other run's generation.
    pub generation: u32,
    /// When the other run's journal began, in microseconds since 1970: the new run's time begins there.
    pub at: i64,
    /// Entries before this number are the other run's. What they did is that run's to undo.
    pub entries: u64,
}

/// What a person's going back leaves behind: of the end of a journal that was taken off, and for what comes instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reseeded {
    /// Free values draw from this from here on; `None` if they go on as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Incarnation>,
    /// How often steps were rewound, by key: it changes their idempotency keys. All that is known, not only what is new.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewinds: BTreeMap<String, u32>,
    /// Signals that were taken in the part that is gone: their senders were promised that a wait gets them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
}

/// A signal on its way from one generation to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The signal's name.
    pub name: String,
    /// What it carries.
    pub value: Payload,
    /// Why it is none that its wait could take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Failure>,
}

/// An error as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of error.
    pub kind: ErrorKind,
    /// Its stable code.
    pub code: Code,
    /// Its message.
    pub message: String,
    /// Its sources, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Where user code raised it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raised_at: String,
    /// Whether it stopped the retries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The name that `typed` gave its type, and the error itself as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typed: Option<(String, String)>,
    /// Of a run's failure: the number of the entry whose failure ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
}

/// A failed attempt that is followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// What went wrong.
    pub error: Failure,
    /// When the next attempt may begin, in microseconds since 1970.
    pub retry_at: i64,
    /// What it said last by a heartbeat, for the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Payload>,
}

/// What a person says about a step that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// It happened, with this value as JSON text.
    Done {
        /// The step's value.
        value: String,
    },
    /// It did not happen (or may happen again): make it again.
    Retry,
    /// Treat it as failed.
    Fail {
        /// The error's message.
        message: String,
    },
}

/// What came of something that a run waits for by its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A value, as its sender encoded it.
    Value(Box<RawValue>),
    /// An error.
    Failure(Failure),
}

impl Reply {
    /// What a parent hears of its child `id`.
    pub(crate) fn of(outcome: &Outcome, id: &str) -> Reply {
        match outcome {
            Outcome::Completed(value) => match decode(value) {
                Ok(value) => Reply::Value(value),
                Err(why) => {
                    let message = format!("the result of run `{id}` cannot be read: {why}");
                    Reply::Failure(Failure::of(ErrorKind::Decode, Code::UNDECODABLE, message))
                }
            },
            // The entry that ended it is one of the child's own journal.
            Outcome::Failed(failure) => Reply::Failure(Failure { cause: None, ..failure.clone() }),
            Outcome::Cancelled(why) => {
                let because = if why.is_empty() { String::new() } else { format!(": {why}") };
                let message = format!("run `{id}` was cancelled{because}");
                Reply::Failure(Failure::of(ErrorKind::Cancelled, Code::CANCELLED, message))
            }
        }
    }
}

/// A request, on its way and taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Its asker's name for it, by which the answer is found.
    pub id: Digest,
    /// The question, as its asker encoded it.
    pub question: Box<RawValue>,
    /// Why it is none that its wait could take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Failure>,
}

/// A promise as its entry keeps it: whoever reads the entry cannot make its token of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The SHA-256 of the token, in hexadecimal digits.
    pub hash: String,
    /// The token, under a pad that follows from the run's incarnation and the key.
    pub sealed: Digest,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a value.
    Completed(Payload),
    /// With an error.
    Failed(Failure),
    /// Cancelled, for a reason that a person gave (perhaps an empty one).
    Cancelled(String),
}

impl Outcome {
    /// The outcome that the last entry of a journal tells; `None` if it is no outcome, or one that this binary cannot
    /// read.
    pub fn told_by(last: &Entry) -> Option<Outcome> {
        match last.known_kind()? {
            Kind::Completed => Some(Outcome::Completed(last.body.clone())),
            Kind::Failed => decode(&last.body).ok().map(Outcome::Failed),
            Kind::Cancelled => decode(&last.body).ok().map(Outcome::Cancelled),
            _ => None,
        }
    }
}

/// The JSON of one of our own bodies.
pub fn encode(body: &impl Serialize) -> Payload {
    Payload::json(serde_json::to_vec(body).expect("our own bodies have text keys and no floats"))
}

/// One of our own bodies from its JSON.
///
/// # Errors
/// A text that says what did not decode.
pub fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T, String> {
    if payload.codec != 0 {
        return Err(format!("codec {} is not known to this binary", payload.codec));
    }
    serde_json::from_slice(&payload.bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its parent would take the number for one of its own entries, and be rewound to it.
    #[test]
    fn what_a_parent_hears_names_no_entry_of_its_childs_journal() {
        let failure = Failure { cause: Some(4), ..Failure::of(ErrorKind::Raised, Code::RAISED, "declined") };
        let Reply::Failure(heard) = Reply::of(&Outcome::Failed(failure), "child") else {
            panic!("a failure is told as one")
        };
        assert_eq!((&*heard.message, heard.cause), ("declined", None));
    }
}
