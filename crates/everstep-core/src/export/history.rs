//! What an export has of a run besides what drives it: what people did, what it promised and answered, and what was taken
//! out of its journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    bad,
    row::{Fact, letter_id},
};
use crate::{
    error::EngineError,
    journal::Payload,
    store::{Act, Archived, PromiseRow, ReplyRow},
    time::Timestamp,
};

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Doing {
    verb: String,
    who: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    why: String,
    at: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// A token of a promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Token {
    /// Its SHA-256, as hexadecimal digits.
    hash: String,
    key: String,
    #[serde(default)]
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(default)]
    settled: bool,
}

/// An answer to the request with this name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Replied {
    id: String,
    body: Payload,
    /// When; files of a version that did not tell it have 0.
    #[serde(default)]
    at: i64,
}

/// Entries that were taken out of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Removed {
    generation: u32,
    why: String,
    at: i64,
    entries: Vec<Fact>,
}

impl Doing {
    pub(super) fn of(act: Act) -> Doing {
        let Act { verb, who, why, at, detail } = act;
        let [verb, who, why, detail] = [verb, who, why, detail].map(|text| text.to_string());
        Doing { verb, who, why, at: at.0, detail }
    }

    pub(super) fn act(&self) -> Act {
        let [verb, who, why, detail] =
            [&self.verb, &self.who, &self.why, &self.detail].map(|text| Arc::from(&**text));
        Act { verb, who, why, at: Timestamp(self.at), detail }
    }
}

impl Token {
    pub(super) fn of(row: PromiseRow) -> Token {
        let PromiseRow { hash, key, generation, expires, settled } = row;
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Token { hash, key: key.to_string(), generation, expires: expires.map(|at| at.0), settled }
    }

    pub(super) fn row(&self) -> Result<PromiseRow, EngineError> {
        let mut hash = [0; 32];
        let is_hash = self.hash.len() == 64 && self.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        for (byte, digits) in hash.iter_mut().zip(self.hash.as_bytes().chunks(2).filter(|_| is_hash)) {
            let digits = str::from_utf8(digits).expect("hexadecimal digits");
            *byte = u8::from_str_radix(digits, 16).expect("two hexadecimal digits");
        }
        match is_hash {
            true => Ok(PromiseRow {
                hash,
                key: self.key.as_str().into(),
                generation: self.generation,
                expires: self.expires.map(Timestamp),
                settled: self.settled,
            }),
            false => Err(bad(format!("`{}` is no hash of a token", self.hash))),
        }
    }
}

impl Replied {
    pub(super) fn of(row: ReplyRow) -> Replied {
        let ReplyRow { id, body, at } = row;
        Replied { id: format!("{:032x}", id.0), body, at: at.0 }
    }

    pub(super) fn row(&self) -> Result<ReplyRow, EngineError> {
        Ok(ReplyRow { id: letter_id(&self.id)?, body: self.body.clone(), at: Timestamp(self.at) })
    }
}

impl Removed {
    pub(super) fn of(archived: Archived) -> Removed {
        let Archived { generation, why, at, entries } = archived;
        let entries = entries.into_iter().map(Fact::of).collect();
        Removed { generation, why: why.to_string(), at: at.0, entries }
    }

    pub(super) fn archived(&self) -> Archived {
        Archived {
            generation: self.generation,
            why: self.why.as_str().into(),
            at: Timestamp(self.at),
            entries: self.entries.iter().map(Fact::entry).collect(),
        }
    }
}
