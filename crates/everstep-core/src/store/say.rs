//! What runs tell others: their readers (published values, items of streams, attributes), whoever has the token of a
//! promise, their children and their parent. Beside the journal.
//!
//! **What was said stays said.** A [`Cut`](super::Cut) takes entries back and nothing of this: somebody may have read it.
//! A published value or an attribute stands until the run says another; an item of a stream keeps its number for good,
//! and what a run emits after a cut comes behind what it had emitted before. So no reader ever finds another item under
//! a number that it knows, and none misses one; it may find an item twice, under two numbers, as it was emitted twice.

use std::sync::Arc;

use super::{Letter, LetterId, NewRun, RunId, StoreError};
use crate::{attribute::AttributeValue, journal::Payload, time::Timestamp};

/// Begins the name of the attribute that says of a run that it goes the new way of a patch; its value is the time at
/// which that was recorded. No name of a user's begins with `$`.
pub const PATCHED: &str = "$patched/";

/// One thing that a turn tells the readers of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// The value of this name is this one from now on.
    Published {
        /// Its name.
        name: Arc<str>,
        /// The value.
        body: Payload,
        /// The number of the entry that says so.
        seq: u64,
        /// When.
        at: Timestamp,
    },
    /// One more item of a stream.
    Emitted {
        /// The stream's name.
        name: Arc<str>,
        /// How many items of this stream the run's journal has before it; see [`item_number`].
        n: u64,
        /// The item.
        body: Payload,
        /// When.
        at: Timestamp,
    },
    /// The attribute has this value from now on; `None` takes it away, also if it is not there.
    Attribute {
        /// Its name.
        name: Arc<str>,
        /// The value.
        value: Option<AttributeValue>,
    },
    /// Whoever has the token with this hash may settle the promise of this key, once: see [`To::Promise`](super::To). A hash
    /// that is known changes nothing; a key may have several, and they are settled together.
    Promised {
        /// The SHA-256 of its token.
        hash: [u8; 32],
        /// Its key.
        key: Arc<str>,
        /// From then on it cannot be settled.
        expires: Option<Timestamp>,
    },
    /// Starts a child of this run: see [`NewRun::used`] for an id that is in use. It is pending, whatever
    /// [`NewRun::claim`] says.
    Child {
        /// The child; its parent is this run.
        run: Box<NewRun>,
        /// The name of the letter by which this run may hear of it at once.
        answer: LetterId,
    },
    /// A letter to the run that started this one, whatever its status; to nobody if that run is gone or has begun another
    /// generation.
    Tell {
        /// That run.
        run: RunId,
        /// Its generation when it started this one.
        generation: u32,
        /// The letter.
        letter: Letter,
    },
    /// The answer to a request of this name; the first one counts.
    Answered {
        /// The asker's name for it.
        id: LetterId,
        /// The answer.
        body: Payload,
        /// When.
        at: Timestamp,
    },
    /// The letter goes to children of this run that are not over. As a person's ([`Post::revive`](super::Post)): a stuck or
    /// paused one goes on.
    Cancel {
        /// To the one of this key; `None`: to all that are to be closed with this run.
        child: Option<Arc<str>>,
        /// The letter.
        letter: Letter,
    },
}

impl Say {
    /// Whether every store can keep it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is an attribute that is none (see [`AttributeValue::check`]), a run that is no child or
    /// cannot begin ([`NewRun::check`]), a letter that nobody may send ([`Letter::check`]).
    pub fn check(&self) -> Result<(), StoreError> {
        match self {
            Say::Attribute { name, value: Some(value) } => value
                .check()
                .map_err(|error| StoreError::Refused(format!("attribute `{name}`: {error}").into())),
            Say::Attribute { value: None, .. }
            | Say::Published { .. }
            | Say::Emitted { .. }
            | Say::Promised { .. }
            | Say::Answered { .. } => Ok(()),
            Say::Child { run, .. } if run.parent.is_none() => {
                Err(StoreError::Refused(format!("run `{}` is nobody's child", run.id).into()))
            }
            Say::Child { run, .. } => run.check(),
            Say::Tell { letter, .. } | Say::Cancel { letter, .. } => letter.check(),
        }
    }

    /// The bytes of the value or item that it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Say::Published { body, .. } | Say::Emitted { body, .. } | Say::Answered { body, .. } => {
                body.bytes.len()
            }
            Say::Child { run, .. } => run.first.body.bytes.len(),
            Say::Tell { letter, .. } | Say::Cancel { letter, .. } => letter.body.bytes.len(),
            Say::Attribute { .. } | Say::Promised { .. } => 0,
        }
    }
}

/// The number that a stream with `held` items gives to the one that its run counts as `n`. They are the same until the
/// end of the run's journal is taken back (`was_cut`): then the run counts again what the stream still has.
///
/// # Errors
/// [`StoreError::Refused`] if an item is missing before it, or if it is there already.
pub fn item_number(stream: &str, n: u64, held: u64, was_cut: bool) -> Result<u64, StoreError> {
    match n == held || (n < held && was_cut) {
        true => Ok(held),
        false => Err(StoreError::Refused(format!("stream `{stream}`: item {n} where {held} is next").into())),
    }
}

/// What a run has published last under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedRow {
    /// Its name.
    pub name: Arc<str>,
    /// The value.
    pub body: Payload,
    /// The number of the entry that said so; a cut may have taken that entry back.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
}

/// An item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its number in its stream, from 0 without a gap, kept for good.
    pub n: u64,
    /// The item.
    pub body: Payload,
    /// When it was emitted.
    pub at: Timestamp,
}

/// A patch in the runs of one workflow. A run *has* it if it went the new way, and *needs the old way* if it was started
/// before the first of them did, and has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchRow {
    /// The patch, without [`PATCHED`].
    pub patch: Arc<str>,
    /// The workflow.
    pub workflow: Arc<str>,
    /// When it was first recorded, as far as there are runs that tell.
    pub first: Timestamp,
    /// Open runs that have it.
    pub open: u64,
    /// Runs that have it and are over.
    pub over: u64,
    /// Open runs that need the old way.
    pub old_open: u64,
    /// Runs that needed the old way and are over.
    pub old_over: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_one_after_the_other() {
        let number = |n, held, was_cut| item_number("s", n, held, was_cut).ok();
        assert_eq!((number(0, 0, false), number(3, 3, false)), (Some(0), Some(3)));
        assert_eq!((number(2, 3, false), number(4, 3, false)), (None, None), "there already; one is missing");
        assert_eq!((number(3, 3, true), number(0, 3, true)), (Some(3), Some(3)), "behind what stays");
        assert_eq!(number(4, 3, true), None, "a cut adds nothing");
        let error = item_number("s", 4, 3, true).expect_err("one is missing");
        assert_eq!(error.to_string(), "refused: stream `s`: item 4 where 3 is next");
    }
}
