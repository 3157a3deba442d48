//! Transactional steps: the user's rows and the record of the step in one commit.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{LoadId, RunId};
use crate::{Code, Error, ErrorKind, journal::Payload, time::Timestamp};

/// A transactional step: the store's own kind of job, and where its record goes.
pub struct Transact {
    /// Which run.
    pub run: RunId,
    /// Which load.
    pub load: LoadId,
    /// The step's key: its record is unique in its run and generation. While the record is in the inbox, the same step
    /// asked for again is answered with it, and its job does not run.
    pub key: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Nobody wants it any more. The store looks right before it runs the job, and answers a withdrawn one with
    /// [`Transact::withdrawn`] instead; one that it has begun goes on to its end.
    pub withdrawn: Arc<AtomicBool>,
    /// What the store's own extension trait made; another store answers
    /// [`StoreError::Unusable`](super::StoreError::Unusable).
    pub job: Box<dyn Any + Send>,
}

impl Transact {
    /// The answer to a job that was withdrawn; `None` while it is wanted.
    pub fn withdrawn(&self) -> Option<Transacted> {
        self.withdrawn.load(Ordering::Acquire).then(|| {
            let message = format!("transaction `{}` was withdrawn before it began", self.key);
            Transacted::RolledBack(Error::engine(ErrorKind::Timeout, Code::TIMEOUT, message))
        })
    }
}

impl std::fmt::Debug for Transact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transact").field("run", &self.run).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What became of a transactional step.
#[derive(Debug)]
pub enum Transacted {
    /// The user's rows and the record are committed; the record is letter `n` of the inbox
    /// ([`LetterKind::Recorded`](super::LetterKind::Recorded), its body the step's value).
    Committed {
        /// Its number in the inbox.
        n: u64,
        /// The step's value.
        body: Payload,
    },
    /// Nothing is committed: the body returned this error, panicked, or its SQL could not be committed.
    RolledBack(Error),
}
