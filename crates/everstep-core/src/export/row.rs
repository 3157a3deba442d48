//! What an export has of a run's row, journal, inbox, started rows and readers: the shapes of the file, from the store's
//! rows and back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bad;
use crate::{
    error::EngineError,
    journal::{Entry, Kind, Payload, Site},
    status::Status,
    store::{Letter, LetterId, Received, RunId, RunRow, StartedRow},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) workflow: String,
    status: String,
    wake_at: Option<i64>,
    inbox_n: u64,
    generation: u32,
    takeovers: u32,
    created_at: i64,
    began_at: Option<i64>,
    finished_at: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Reason {
    reason: u8,
    key: Option<String>,
    detail: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Fact {
    pub(super) seq: u64,
    kind: u16,
    /// For people; the number counts.
    #[serde(default)]
    word: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default)]
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Payload>,
    body: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    build: String,
    fingerprint: u32,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    n: u64,
    /// 128 bits as hexadecimal digits.
    id: String,
    kind: u16,
    name: String,
    body: Payload,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    key: String,
    attempt: u32,
    at: i64,
    #[serde(default)]
    abandoned: bool,
    /// What its heartbeats saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Payload>,
}

/// A published value, with the number of its entry; an item of a stream, with its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Value {
    pub(super) n: u64,
    pub(super) body: Payload,
    pub(super) at: i64,
}

impl Row {
    pub(super) fn of(row: &RunRow) -> Row {
        Row {
            id: row.id.to_string(),
            workflow: row.workflow.to_string(),
            status: row.status.word().to_string(),
            wake_at: row.wake_at.map(|at| at.0),
            inbox_n: row.inbox_n,
            generation: row.generation,
            takeovers: row.takeovers,
            created_at: row.created_at.0,
            began_at: row.began_at.map(|at| at.0),
            finished_at: row.finished_at.map(|at| at.0),
        }
    }

    pub(super) fn row(&self) -> Result<RunRow, EngineError> {
        let status: Status = self.status.parse().map_err(bad)?;
        let is_driven = status == Status::Running;
        Ok(RunRow {
            run: RunId(0),
            id: self.id.as_str().into(),
            workflow: self.workflow.as_str().into(),
            status: if is_driven { Status::Pending } else { status },
            owner: None,
            wake_at: if is_driven { Some(Timestamp(0)) } else { self.wake_at.map(Timestamp) },
            inbox_n: self.inbox_n,
            generation: self.generation,
            takeovers: self.takeovers,
            created_at: Timestamp(self.created_at),
            began_at: self.began_at.map(Timestamp),
            finished_at: self.finished_at.map(Timestamp),
        })
    }
}

impl Reason {
    pub(super) fn stuck(&self) -> Result<Stuck, EngineError> {
        let unknown = || bad(format!("{} is no reason that this version knows", self.reason));
        let reason = StuckReason::from_code(self.reason).ok_or_else(unknown)?;
        Ok(Stuck { reason, key: self.key.as_deref().map(Arc::from), detail: self.detail.clone() })
    }
}

impl Fact {
    pub(super) fn of(entry: Entry) -> Fact {
        Fact {
            seq: entry.seq,
            kind: entry.kind,
            word: entry.known_kind().map_or("", Kind::word).to_string(),
            key: entry.key.as_deref().map(str::to_string),
            attempt: entry.attempt,
            input: entry.input,
            body: entry.body,
            site: entry.site.map(|site| site.to_string()),
            build: entry.build.to_string(),
            fingerprint: entry.fingerprint,
            at: entry.at.0,
        }
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            seq: self.seq,
            kind: self.kind,
            key: self.key.as_deref().map(Arc::from),
            attempt: self.attempt,
            input: self.input.clone(),
            body: self.body.clone(),
            site: self.site.as_deref().map(|site| Site::Recorded(site.into())),
            build: self.build.as_str().into(),
            fingerprint: self.fingerprint,
            at: Timestamp(self.at),
        }
    }
}

impl Message {
    pub(super) fn of(received: Received) -> Message {
        let Letter { id, kind, name, body, at } = received.letter;
        Message { n: received.n, id: format!("{:032x}", id.0), kind, name: name.to_string(), body, at: at.0 }
    }

    pub(super) fn received(&self) -> Result<Received, EngineError> {
        let id = letter_id(&self.id)?;
        let (name, at) = (self.name.as_str().into(), Timestamp(self.at));
        let letter = Letter { id, kind: self.kind, name, body: self.body.clone(), at };
        Ok(Received { n: self.n, letter })
    }
}

/// A message's name, from its 32 digits.
pub(super) fn letter_id(digits: &str) -> Result<LetterId, EngineError> {
    let id = u128::from_str_radix(digits, 16);
    id.map(LetterId).map_err(|why| bad(format!("`{digits}` is no message's name: {why}")))
}

impl Attempt {
    pub(super) fn of(row: StartedRow) -> Attempt {
        let StartedRow { key, attempt, at, abandoned, details } = row;
        Attempt { key: key.to_string(), attempt, at: at.0, abandoned, details }
    }

    pub(super) fn row(&self) -> StartedRow {
        StartedRow {
            key: self.key.as_str().into(),
            attempt: self.attempt,
            at: Timestamp(self.at),
            abandoned: self.abandoned,
            details: self.details.clone(),
        }
    }
}

impl Reason {
    pub(super) fn of(stuck: Stuck) -> Reason {
        let Stuck { reason, key, detail } = stuck;
        Reason { reason: reason.code(), key: key.as_deref().map(str::to_string), detail }
    }
}
