//! Acts: what people do to one run from outside. The change and the record of who made it, when and why are one
//! transaction.

use std::sync::Arc;

use super::{Cut, Post, Posted, RunId};
use crate::{
    journal::Entry,
    status::{Status, StatusSet},
    time::Timestamp,
};

/// Who did what to a run, when and why. Kept beside the run for people; nothing else reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The verb: `cancel`, `retry`, ...
    pub verb: Arc<str>,
    /// Who did it.
    pub who: Arc<str>,
    /// The reason that was given; perhaps none.
    pub why: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// What the verb was told besides: the step's key, the other run's id.
    pub detail: Arc<str>,
}

/// What an act does to its run.
#[derive(Clone, Debug)]
pub enum Does {
    /// Sends a letter.
    Post(Post),
    /// Sets a free run aside ([`Change::Paused`](crate::Change::Paused)): it is not claimable, and the letter goes nowhere.
    /// To a run that a worker has it sends the letter, and that worker decides.
    Pause(Post),
    /// Takes the end of its journal back.
    Cut(Cut),
    /// Replaces an entry.
    Edit(Edit),
}

/// A person replaces one entry of a run that no worker has; the old one goes to the archive. The run's status stays.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Which run.
    pub run: RunId,
    /// It must still have one of these statuses and this many messages.
    pub only: StatusSet,
    /// [`RunRow::inbox_n`](super::RunRow::inbox_n) as it was when the edit was decided.
    pub inbox_n: u64,
    /// What stands there from now on, in the place of the entry of its number; not entry 0.
    pub entry: Entry,
}

/// What became of an act. Unless it is done, nothing has changed and nothing is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It is done, and recorded.
    Done,
    /// Its letter reached the run before.
    Known,
    /// There is no such run.
    NoSuchRun,
    /// The run's status does not take it.
    Refused(Status),
    /// The run has moved meanwhile, or a worker has it.
    Moved,
}

impl From<Posted> for Acted {
    fn from(posted: Posted) -> Acted {
        match posted {
            Posted::Added => Acted::Done,
            Posted::Known => Acted::Known,
            Posted::NoSuchRun => Acted::NoSuchRun,
            Posted::Refused(status) => Acted::Refused(status),
            Posted::Settled | Posted::Expired => Acted::Moved,
        }
    }
}

impl Acted {
    /// Of a change that is made only if the run is as it was seen.
    pub fn compared(done: bool) -> Acted {
        if done { Acted::Done } else { Acted::Moved }
    }
}
