//! What PostgreSQL's errors mean for the writer: repeat, give up one operation, or connect anew.

use everstep_core::store::StoreError;
use tokio_postgres::error::SqlState as S;

/// Why an operation was not applied.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Decided by us. Concerns this operation alone if it has written nothing yet.
    Refuse(StoreError),
    /// The database said so, of this statement.
    Sql(&'static str, tokio_postgres::Error),
}

impl Fault {
    /// It has not happened, and may at once: see [`Class::Again`].
    pub(crate) fn is_again(&self) -> bool {
        matches!(self, Fault::Sql(_, error) if class(error) == Class::Again)
    }

    /// See [`Class::Blocked`].
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self, Fault::Sql(_, error) if class(error) == Class::Blocked)
    }
}

/// What the database cannot put in an order with others is tried again so often, before somebody hears of it.
pub(crate) const TRIES_MAX: u32 = 10;

/// Does again what the database cannot put in an order with others, or what waited for a lock in vain. For whatever may be done
/// twice.
pub(crate) async fn in_order<T>(work: impl AsyncFn() -> Result<T, Fault>) -> Result<T, Fault> {
    let mut tries = 1;
    loop {
        match work().await {
            Err(fault) if (fault.is_again() || fault.is_blocked()) && tries < TRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Refuse(error)
    }
}

/// What the writer has to do about an error of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The transaction was rolled back and may succeed at once: a deadlock, a serialization failure.
    Again,
    /// The transaction was rolled back: somebody's lock, or too much work, was in the way for longer than the limit. Whoever
    /// waits for it has waited long enough to hear of it.
    Blocked,
    /// It certainly did not happen and may happen later: no space, no memory, too many connections.
    Later,
    /// The connection is gone: what was under way may have happened.
    Gone,
    /// A constraint, a wrong statement: it will fail again.
    Refused,
}

/// Sorts an error of the database.
pub(crate) fn class(error: &tokio_postgres::Error) -> Class {
    let Some(state) = error.code() else {
        // Ours, of a value that cannot be sent or read; everything else without a state is the connection's end.
        return if is_of_a_value(error) { Class::Refused } else { Class::Gone };
    };
    match *state {
        S::T_R_SERIALIZATION_FAILURE | S::T_R_DEADLOCK_DETECTED => Class::Again,
        S::LOCK_NOT_AVAILABLE | S::QUERY_CANCELED => Class::Blocked,
        // Some databases say that they do not know.
        S::T_R_STATEMENT_COMPLETION_UNKNOWN
        | S::ADMIN_SHUTDOWN
        | S::CRASH_SHUTDOWN
        | S::CANNOT_CONNECT_NOW
        | S::DATABASE_DROPPED
        | S::IDLE_SESSION_TIMEOUT
        | S::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        // A pooler that was not told of, or an older one: the connection is another than the one that was prepared on.
        | S::INVALID_SQL_STATEMENT_NAME
        | S::DUPLICATE_PSTATEMENT
        // A primary that became a standby: another connection may find the new primary.
        | S::READ_ONLY_SQL_TRANSACTION => Class::Gone,
        _ => match &state.code()[..2] {
            "08" => Class::Gone,
            // `transaction_timeout`, since PostgreSQL 17.
            _ if state.code() == "25P04" => Class::Gone,
            // The disk, or too many transactions since a vacuum.
            "53" | "58" => Class::Later,
            _ if *state == S::PROGRAM_LIMIT_EXCEEDED && says_wraparound(error) => Class::Later,
            _ => Class::Refused,
        },
    }
}

fn says_wraparound(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| db.message().contains("wraparound"))
}

fn is_of_a_value(error: &tokio_postgres::Error) -> bool {
    let said = error.to_string();
    said.starts_with("error serializing")
        || said.starts_with("error deserializing")
        || said.contains("column")
}

/// Whether a key was there already.
pub(crate) fn is_duplicate(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&S::UNIQUE_VIOLATION)
}

/// An error of the database in words: its state, the statement's name, what to look at.
pub(crate) fn said(statement: &str, error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!(
                "PostgreSQL refused `{statement}` with SQLSTATE {}: {}{detail}",
                db.code().code(),
                db.message()
            )
        }
        None => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("PostgreSQL did not answer `{statement}`: {error}{cause}")
        }
    }
}

/// An error of the database for a caller.
pub(crate) fn store_error(statement: &str, error: &tokio_postgres::Error) -> StoreError {
    let text = said(statement, error).into();
    match class(error) {
        Class::Again | Class::Blocked | Class::Later | Class::Gone => StoreError::Full(text),
        Class::Refused => StoreError::Failed(text),
    }
}

/// What whoever reads hears.
pub(crate) fn told(fault: Fault) -> StoreError {
    match fault {
        Fault::Refuse(error) => error,
        Fault::Sql(statement, error) => store_error(statement, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_never_there_is_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let nowhere = "host=/nowhere/at/all user=nobody";
        let error = runtime.block_on(tokio_postgres::connect(nowhere, tokio_postgres::NoTls)).map(drop);
        let error = error.expect_err("there is no server");
        assert_eq!(class(&error), Class::Gone, "{error}");
        assert!(said("x", &error).contains("did not answer `x`"), "{}", said("x", &error));
    }
}
