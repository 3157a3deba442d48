//! The seam by which all runs move from one store to another: read whole, written whole under the same numbers, and a
//! mark on both stores that keeps everybody else out meanwhile. [`Copying`](crate::Copying) does it.
//!
//! **Numbers stay.** A child knows its parent by its number, and services outside know workers by theirs
//! ([`Fence`](super::Fence)): runs keep their numbers, and what is given next at the destination is higher than what the
//! source ever gave.
//!
//! **A mark closes a store.** While there is one, [`Store::enroll`](super::Store::enroll) and every call that writes
//! without a fence are refused with [`StoreError::Moved`](super::StoreError::Moved), on every opening, also on those that are older than the mark;
//! and there is no worker whose fence would let anything through. So what is read under a mark is what there is. Reads go
//! on. A store can be opened in spite of its mark only by whoever says so to the store's own options.

mod digest;
mod mark;
mod whole;

pub use digest::WholeDigest;
pub use mark::{CopyId, CopyMark, CopyStage, Needs};
pub use whole::{PAGE_BYTES, Whole};

use super::{Answer, RunId};

/// The highest numbers that a store ever gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// To a run.
    pub run: i64,
    /// To a worker.
    pub worker: i64,
}

/// What a store does so that its runs can move to another one, or come from one.
pub trait Transfer: Send + Sync {
    /// What a copy says about this store, if one does.
    fn copy_mark(&self) -> Answer<Option<CopyMark>>;

    /// Changes what a copy says about this store, if that is `from` now and [`CopyMark::needs`] allows it.
    ///
    /// When it is answered, whatever was written without knowing of the new mark is durable and can be read.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if another mark is there, [`StoreError::Unusable`] if none is, or if something is in the way:
    /// a worker that is not fenced, a run that a worker has, and for [`CopyStage::Arriving`] any run.
    fn set_copy_mark(&self, from: Option<CopyMark>, to: Option<CopyMark>) -> Answer<()>;

    /// The highest numbers that were ever given.
    fn numbers(&self) -> Answer<Numbers>;

    /// Runs whole, each in one consistent read, by number, those above `after`: at least one if there is one, at most
    /// `limit`, and no more once they have [`PAGE_BYTES`] together.
    fn wholes(&self, after: RunId, limit: usize) -> Answer<Vec<Whole>>;

    /// Writes runs that no worker has, with everything of them, under their own numbers, in one transaction; how many were
    /// new. One that is there and equal is left as it is. What is given from now on is above `numbers`, too.
    ///
    /// # Errors
    /// [`StoreError::Refused`], and nothing is written, if one is there and differs, or its number or id belongs to another
    /// one: the message names it. [`StoreError::Moved`] or [`StoreError::Unusable`] unless this copy has marked the store
    /// as [`CopyStage::Arriving`].
    fn place(&self, copy: CopyId, numbers: Numbers, runs: Vec<Whole>) -> Answer<usize>;
}
