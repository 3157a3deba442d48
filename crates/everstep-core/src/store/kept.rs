//! What a store keeps of a run beside what drives it: for exports, and for people.

use std::sync::Arc;

use super::LetterId;
use crate::{
    journal::{Entry, Payload},
    time::Timestamp,
};

/// What is kept of a run beside its row, journal, inbox, started rows and what its readers see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What was taken out of its journal, in that order.
    pub archive: Vec<Archived>,
    /// The tokens of its promises, by hash: of every generation of which the store still knows some.
    pub promises: Vec<PromiseRow>,
    /// What it has answered to requests, by the requests' names.
    pub replies: Vec<ReplyRow>,
    /// The names of all letters that ever reached it, as numbers in their order: sent again, they are known.
    pub seen: Vec<LetterId>,
}

/// Entries that were taken out of a journal: by a restart, a start in the run's place, a person's going back or edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The generation whose entries they are.
    pub generation: u32,
    /// `restart`, `reuse`, `edit`, or the verb of a cut.
    pub why: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The entries, by number; perhaps none.
    pub entries: Vec<Entry>,
}

/// One token of a promise, and whether somebody has settled the promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromiseRow {
    /// The SHA-256 of the token.
    pub hash: [u8; 32],
    /// The promise's key.
    pub key: Arc<str>,
    /// The generation that made it.
    pub generation: u32,
    /// From then on it cannot be settled.
    pub expires: Option<Timestamp>,
    /// Whether it was.
    pub settled: bool,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyRow {
    /// The asker's name for the request.
    pub id: LetterId,
    /// The answer.
    pub body: Payload,
    /// When it was given.
    pub at: Timestamp,
}
