//! Cuts: a person takes the end of a journal back.

use std::sync::Arc;

use super::{Letter, LetterKind, RunId};
use crate::{
    error::Code,
    journal::{Entry, Kind, Payload, Reply, decode},
    scope::name_in,
    status::StatusSet,
    time::Timestamp,
};

/// A person takes the end of a journal back: the run goes on before it, at once. A failed, stuck or paused one becomes
/// `pending` ([`Change::Revived`](crate::Change::Revived)), a pending or waiting one keeps its status, and of a completed
/// or cancelled one it is refused. Why it was stuck, when it was over and its takeovers are forgotten.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Which run.
    pub run: RunId,
    /// It must still have one of these statuses and this many messages.
    pub only: StatusSet,
    /// [`RunRow::inbox_n`](super::RunRow::inbox_n) as it was when the cut was decided.
    pub inbox_n: u64,
    /// The number of its last entry as it was then, if what is cut off was read: what came since was not seen.
    pub last: Option<u64>,
    /// Entries from this number on go to the archive; at least 1, because every run has entry 0.
    pub from: u64,
    /// What is put into its inbox in the same transaction, unless it is known there.
    pub letters: Vec<Letter>,
    /// Keys of promises that may be settled anew, by every token that they ever had.
    pub reopens: Vec<Arc<str>>,
    /// For people: the verb and the reason.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// The letter that an entry took: it goes back into the inbox when the entry goes to the archive, or what somebody was
/// told is kept would be lost.
pub(crate) fn taken_by(entry: &Entry) -> Option<(LetterKind, Arc<str>, Payload)> {
    let key = entry.key.clone()?;
    // What was refused is there as it was sent.
    let sent = || entry.input.as_ref().unwrap_or(&entry.body).clone();
    match entry.known_kind()? {
        Kind::PromiseSettled if !is_expiry(entry) => Some((LetterKind::PromiseSettled, key, sent())),
        // It has its name inside.
        Kind::RequestTaken => Some((LetterKind::Request, name_in(&key).into(), entry.body.clone())),
        Kind::ChildEnded => Some((LetterKind::ChildEnded, key, sent())),
        _ => None,
    }
}

fn is_expiry(entry: &Entry) -> bool {
    matches!(decode(&entry.body), Ok(Reply::Failure(failure)) if failure.code == Code::EXPIRED)
}
