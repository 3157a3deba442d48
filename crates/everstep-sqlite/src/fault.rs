//! What SQLite's errors mean for the writer: repeat, give up one operation, or close the store.

use everstep_core::store::StoreError;
use rusqlite::ErrorCode as C;

/// Why an operation was not applied.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Decided by us. Concerns this operation alone if it has written nothing yet.
    Refuse(StoreError),
    /// SQLite said so, perhaps in the middle of it.
    Sql(rusqlite::Error),
    /// The operation itself ended the transaction it was in. It has its answer.
    TransactionGone,
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Refuse(error)
    }
}

/// What the writer has to do about an error of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It certainly did not happen and may happen later: no space, no memory, no file handle, somebody else writes.
    Later,
    /// The disk or the file cannot be trusted any more: this opening is over.
    Fatal,
    /// A constraint, a wrong statement: it will fail again.
    Refused,
}

/// Sorts an error of SQLite.
pub(crate) fn class(error: &rusqlite::Error) -> Class {
    use rusqlite::ffi::{SQLITE_IOERR_NOMEM, SQLITE_IOERR_SHMSIZE};
    // No space for `-shm`, no memory: called an I/O error, but nothing of the file was touched.
    if let Some(SQLITE_IOERR_SHMSIZE | SQLITE_IOERR_NOMEM) = error.sqlite_error().map(|e| e.extended_code) {
        return Class::Later;
    }
    match error.sqlite_error_code() {
        Some(
            C::DiskFull
            | C::OutOfMemory
            | C::CannotOpen
            | C::DatabaseBusy
            | C::DatabaseLocked
            | C::FileLockingProtocolFailed
            | C::OperationInterrupted,
        ) => Class::Later,
        // After a failed fsync nobody knows what is on the disk; SQLite itself says "reopen".
        Some(C::SystemIoFailure | C::DatabaseCorrupt | C::NotADatabase | C::ReadOnly) => Class::Fatal,
        _ => Class::Refused,
    }
}

/// An error of SQLite for a caller.
pub(crate) fn store_error(error: rusqlite::Error) -> StoreError {
    let text = error.to_string().into();
    match (class(&error), error.sqlite_error_code()) {
        (Class::Later, _) => StoreError::Full(text),
        (Class::Fatal, Some(C::DatabaseCorrupt | C::NotADatabase)) => StoreError::Damaged(text),
        _ => StoreError::Failed(text),
    }
}

/// Whether somebody else holds the lock that was asked for.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(C::DatabaseBusy | C::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32) -> Class {
        class(&rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
    }

    #[test]
    fn errors_are_sorted_by_what_follows() {
        use rusqlite::ffi;
        assert_eq!(of(ffi::SQLITE_FULL), Class::Later);
        for busy in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_BUSY_RECOVERY] {
            assert_eq!(of(busy), Class::Later);
            assert!(is_busy(&rusqlite::Error::SqliteFailure(ffi::Error::new(busy), None)));
        }
        for passes in
            [ffi::SQLITE_PROTOCOL, ffi::SQLITE_INTERRUPT, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_NOMEM]
        {
            assert_eq!(of(passes), Class::Later, "{passes}");
        }
        assert_eq!(of(ffi::SQLITE_IOERR_WRITE), Class::Fatal);
        assert_eq!(of(ffi::SQLITE_IOERR_FSYNC), Class::Fatal);
        assert_eq!(of(ffi::SQLITE_CORRUPT_INDEX), Class::Fatal);
        assert_eq!(of(ffi::SQLITE_CONSTRAINT_FOREIGNKEY), Class::Refused);
    }
}
