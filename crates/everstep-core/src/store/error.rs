//! What a store fails with, sorted by what the engine has to do next.

use std::sync::Arc;

use super::WorkerId;

/// What a store fails with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// This worker may not write any more: another one took its runs over. Drop them.
    #[error("worker {} was fenced: another worker has taken over its runs", .0.0)]
    Fenced(WorkerId),
    /// This opening of the store is over. Only a new opening, which reads everything anew, can go on.
    #[error("the store is closed: {0}")]
    Closed(Arc<str>),
    /// Nothing can be written at the moment; what was asked for did not happen.
    #[error("the store cannot write now: {0}")]
    Full(Arc<str>),
    /// A turn of a load that has ended, or out of order: an error of the engine, never of the user.
    #[error("refused: {0}")]
    Refused(Arc<str>),
    /// What was read is damaged or was written by a newer version.
    #[error("{0}")]
    Damaged(Arc<str>),
    /// The store cannot be opened or used like this; says what to do.
    #[error("{0}")]
    Unusable(Arc<str>),
    /// Its runs are at another store, or on their way there or here: see [`Transfer`](super::Transfer).
    #[error("{0}")]
    Moved(Arc<str>),
    /// Anything else that the database said.
    #[error("{0}")]
    Failed(Arc<str>),
}
