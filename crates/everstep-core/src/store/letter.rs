//! Letters: what reaches a run from outside.

use std::sync::Arc;

use super::StoreError;
use crate::{
    journal::Payload,
    status::{Status, StatusSet},
    time::Timestamp,
};

/// The name of a message, made by its sender: sent twice, it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LetterId(pub u128);

/// The kinds of messages: numbered like entries, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum LetterKind {
    /// A signal.
    Signal = 1,
    /// A request that wants an answer.
    Request = 2,
    /// A child run ended.
    ChildEnded = 3,
    /// A promise was resolved or rejected.
    PromiseSettled = 4,
    /// A transactional step committed this record; nobody else may send one.
    Recorded = 5,
    /// A person asks to cancel.
    Cancel = 6,
    /// A person answers for a step.
    Answer = 7,
    /// A person ends the run at once.
    Kill = 8,
    /// A person sets the run aside.
    Pause = 9,
    /// A person lets a timer fire, or a backoff end, now.
    Skip = 10,
    /// A person lets the run go on that was set aside.
    Resume = 11,
    /// A person took the end of the journal back: what is to be remembered of it.
    Reseed = 12,
}

impl LetterKind {
    /// What tells about a key of one generation: a restart forgets it, or the next generation would take it for its own.
    pub const OF_A_KEY: [LetterKind; 2] = [LetterKind::ChildEnded, LetterKind::PromiseSettled];

    /// The kind of a stored number; `None` if this binary does not know it.
    pub fn from_code(code: u16) -> Option<LetterKind> {
        use LetterKind as K;
        [
            K::Signal,
            K::Request,
            K::ChildEnded,
            K::PromiseSettled,
            K::Recorded,
            K::Cancel,
            K::Answer,
            K::Kill,
            K::Pause,
            K::Skip,
            K::Resume,
            K::Reseed,
        ]
        .into_iter()
        .find(|k| *k as u16 == code)
    }

    /// Its word, for people.
    pub fn word(self) -> &'static str {
        match self {
            LetterKind::Signal => "signal",
            LetterKind::Request => "request",
            LetterKind::ChildEnded => "child ended",
            LetterKind::PromiseSettled => "promise settled",
            LetterKind::Recorded => "recorded",
            LetterKind::Cancel => "cancel",
            LetterKind::Answer => "answer",
            LetterKind::Kill => "kill",
            LetterKind::Pause => "pause",
            LetterKind::Skip => "skip",
            LetterKind::Resume => "resume",
            LetterKind::Reseed => "reseed",
        }
    }
}

/// Something that is to reach a run from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its sender's name for it.
    pub id: LetterId,
    /// [`LetterKind`] as its number.
    pub kind: u16,
    /// The signal's name, the step's key, ...
    pub name: Arc<str>,
    /// What it carries.
    pub body: Payload,
    /// When it was sent.
    pub at: Timestamp,
}

impl Letter {
    /// Whether anybody may send it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is the record of a transactional step, which only
    /// [`Store::transact`](super::Store::transact) writes.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.kind == LetterKind::Recorded as u16 {
            true => {
                Err(StoreError::Refused(format!("a record of step `{}` cannot be sent", self.name).into()))
            }
            false => Ok(()),
        }
    }

    /// Whether it makes a free run claimable that is like this. What is over hears nothing more, what a person set aside
    /// is left alone, a stuck run goes on only to be cancelled or killed, and one that has not begun is begun when it is due.
    pub fn wakes(&self, status: Status, has_begun: bool) -> bool {
        let cancels = [LetterKind::Cancel as u16, LetterKind::Kill as u16].contains(&self.kind);
        let resumes = self.kind == LetterKind::Resume as u16;
        match status {
            Status::Completed | Status::Failed | Status::Cancelled | Status::Paused => false,
            Status::Stuck => cancels,
            Status::Pending => cancels || resumes || has_begun,
            Status::Running | Status::Waiting => true,
        }
    }
}

/// A letter that reached its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number in this run's inbox, from 1.
    pub n: u64,
    /// The letter.
    pub letter: Letter,
}

/// Whom a letter is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The run with this id, as its caller chose it.
    Run(Arc<str>),
    /// The promise whose token has this SHA-256; the letter gets its key as name, and goes to its run. Its first letter
    /// settles it.
    Promise([u8; 32]),
}

impl To {
    /// The run's id, if it is named.
    pub fn run(&self) -> Option<&Arc<str>> {
        match self {
            To::Run(id) => Some(id),
            To::Promise(_) => None,
        }
    }
}

impl From<Arc<str>> for To {
    fn from(id: Arc<str>) -> To {
        To::Run(id)
    }
}

impl From<&str> for To {
    fn from(id: &str) -> To {
        To::Run(id.into())
    }
}

impl From<String> for To {
    fn from(id: String) -> To {
        To::Run(id.into())
    }
}

/// A letter and whom it is for.
#[derive(Clone, Debug)]
pub struct Post {
    /// The run or the promise.
    pub to: To,
    /// The letter.
    pub letter: Letter,
    /// It is taken only in these statuses.
    pub only: StatusSet,
    /// Whether a stuck or paused run becomes `pending` by it ([`Change::Revived`](crate::Change::Revived)): a person has
    /// looked at it, so why it was stuck and its takeovers are forgotten. Else it keeps its status. A run that a worker
    /// has keeps it in any case: its worker decides.
    pub revive: bool,
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is in the inbox.
    Added,
    /// A letter of this id reached the run before, perhaps long ago: also if it was taken, and if the run's status
    /// would not take it any more.
    Known,
    /// No run has that id, and no promise that hash.
    NoSuchRun,
    /// The run's status does not take it.
    Refused(Status),
    /// The promise was settled before, by another letter.
    Settled,
    /// The promise's time was over when the letter was sent.
    Expired,
}
