//! The error outside workflows.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::de::DeserializeOwned;

use super::{
    Code, Error, ErrorKind,
    record::{Record, in_full, type_tag},
};
use crate::{journal::Failure, store::StoreError, stuck::Stuck};

/// What a verb of `Engine`, `Client` or `Run` fails with: a std error, so it goes into `anyhow` and its like.
#[derive(Clone)]
pub struct EngineError(pub(super) Arc<Record>);

impl EngineError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.failure.kind
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        self.0.failure.code
    }

    /// Whether the run id is in use for something else.
    pub fn is_conflict(&self) -> bool {
        self.kind() == ErrorKind::Conflict
    }

    /// The typed error that the run ended with, if a [`typed`](crate::Step::typed) step raised it.
    pub fn downcast<E: DeserializeOwned + 'static>(&self) -> Option<E> {
        self.0.failure.downcast(type_tag::<E>())
    }

    /// As [`EngineError::downcast`], by the name given to [`typed_as`](crate::Step::typed_as).
    pub fn downcast_as<E: DeserializeOwned>(&self, tag: &str) -> Option<E> {
        self.0.failure.downcast(tag)
    }

    /// Where user code raised it; empty for errors of the engine.
    pub fn raised_at(&self) -> &str {
        &self.0.failure.raised_at
    }

    pub(crate) fn new(kind: ErrorKind, code: Code, message: impl Into<String>) -> Self {
        EngineError::from_failure(Failure::of(kind, code, message))
    }

    pub(crate) fn from_failure(failure: Failure) -> Self {
        EngineError(Arc::new(Record::new(failure)))
    }

    pub(crate) fn stuck(id: &str, stuck: &Stuck) -> Self {
        EngineError::new(ErrorKind::Stuck, Code::STUCK, format!("run `{id}` is stuck: {stuck}"))
    }

    /// An error of a store crate, for its extension traits.
    #[doc(hidden)]
    pub fn of_store(error: StoreError) -> Self {
        error.into()
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        EngineError::from_failure(error.to_failure(None))
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Fenced(_) => Code::FENCED,
            StoreError::Closed(_) => Code::STORE_CLOSED,
            StoreError::Full(_) => Code::STORE_FULL,
            StoreError::Damaged(_) => Code::DAMAGED,
            StoreError::Moved(_) => Code::MOVED,
            StoreError::Refused(_) | StoreError::Unusable(_) | StoreError::Failed(_) => Code::STORE,
        };
        EngineError::new(ErrorKind::Store, code, error.to_string())
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.failure.message)
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_full(f, self, (self.code(), self.kind()), self.raised_at(), &self.0.failure.causes)
    }
}

impl StdError for EngineError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.causes.as_deref().map(|cause| cause as _)
    }
}
