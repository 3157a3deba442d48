//! The two errors. [`Error`] lives inside workflows: made by `?` from anything, recorded, equal on replay.
//! [`EngineError`] lives outside: what a verb of `Engine`, `Client` or `Run` fails with. A type that `?` makes from
//! anything cannot itself be a `std::error::Error` (coherence), hence two. `record` is what both keep.

mod outside;
mod record;

use std::{
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::outside::EngineError;
use self::record::Said;
use self::record::{Record, chain, in_full, sources, type_tag};
pub(crate) use self::record::{Typed, panic_message};
pub use crate::code::Code;
use crate::journal::Failure;

type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What step bodies, scopes and workflows return, and what operations answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of error it is: what a program may want to decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// User code raised it.
    Raised,
    /// Time ran out.
    Timeout,
    /// A step body panicked.
    Panic,
    /// An attempt was started and its end is unknown.
    InDoubt,
    /// A promise was rejected.
    Rejected,
    /// A value does not decode.
    Decode,
    /// The run was cancelled.
    Cancelled,
    /// Something is over its limit.
    Limit,
    /// The library was used in a way that cannot work; the message says how it can.
    Misuse,
    /// The run id is in use for something else.
    Conflict,
    /// There is no such run.
    NotFound,
    /// The run's status does not allow it.
    NotAllowed,
    /// The run needs a person.
    Stuck,
    /// The store failed.
    Store,
}

/// What goes wrong inside a workflow.
///
/// `?` makes it from every std error, `anyhow::Error`, boxed error and text. After its retries a step's failure is
/// recorded, and the function gets the recorded error, live and on replay alike: code, message, kind, sources, and
/// with [`Step::typed`](crate::Step::typed) the error itself.
pub struct Error {
    what: What,
    terminal: bool,
    retry_after: Option<Duration>,
    /// The number of the entry that recorded it, if it was recorded as a step's failure.
    entry: Option<u64>,
}

enum What {
    Raised(BoxError, &'static Location<'static>),
    Recorded(Arc<Record>),
}

impl Error {
    /// No retry will help: stops the retries of the step that returns it.
    ///
    /// ```
    /// # use everstep_core::{Error, Result};
    /// fn pay(cents: i64) -> Result<()> {
    ///     if cents < 0 { return Err(Error::terminal("negative amount")); }
    ///     Ok(())
    /// }
    /// assert!(pay(-1).unwrap_err().is_terminal());
    /// ```
    #[track_caller]
    pub fn terminal(error: impl Into<BoxError>) -> Self {
        Error { terminal: true, ..Error::raised(error.into()) }
    }

    /// The step's next attempt begins no sooner than after `delay`: what a server's `Retry-After` asks for. The
    /// delay is recorded and survives a crash.
    ///
    /// ```
    /// # use everstep_core::Error;
    /// # use std::time::Duration;
    /// let error = Error::retry_after("too many requests", Duration::from_secs(30));
    /// assert_eq!(error.to_string(), "too many requests");
    /// ```
    #[track_caller]
    pub fn retry_after(error: impl Into<BoxError>, delay: Duration) -> Self {
        Error { retry_after: Some(delay), ..Error::raised(error.into()) }
    }

    #[track_caller]
    fn raised(error: BoxError) -> Self {
        Error {
            what: What::Raised(error, Location::caller()),
            terminal: false,
            retry_after: None,
            entry: None,
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.failure().map_or(ErrorKind::Raised, |f| f.kind)
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        self.failure().map_or(Code::RAISED, |f| f.code)
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Whether it stops retries.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether it is an `E`, or has one among its sources: of an error just raised always known, of a recorded one if
    /// its step was [`typed`](crate::Step::typed) with that type.
    pub fn is<E: StdError + 'static>(&self) -> bool {
        match &self.what {
            What::Raised(error, _) => chain(&**error).any(|error| error.is::<E>()),
            What::Recorded(record) => {
                record.failure.typed.as_ref().is_some_and(|(tag, _)| tag == type_tag::<E>())
            }
        }
    }

    /// The typed error of a step that asked for it with [`typed`](crate::Step::typed): equal live and after replay.
    /// Only of a recorded error; of one just raised [`Error::is`] tells the type.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, Result, Workflow, store::Memory};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Debug, Serialize, Deserialize)]
    /// struct Declined { missing: u64 }
    /// # impl std::fmt::Display for Declined {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
    /// # }
    /// impl std::error::Error for Declined {}
    ///
    /// async fn charge(cents: u64) -> Result<u64, Declined> {
    ///     Err(Declined { missing: cents })
    /// }
    ///
    /// async fn pay(ctx: Ctx, cents: u64) -> Result<u64> {
    ///     match ctx.step("charge", async || Ok(charge(cents).await?)).typed::<Declined>().await {
    ///         Ok(charged) => Ok(charged),
    ///         Err(error) => error.downcast::<Declined>().map(|declined| declined.missing).ok_or(error),
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), everstep_core::EngineError> {
    /// # const PAY: Workflow<u64, u64> = Workflow::new("pay");
    /// # let engine = Engine::builder(Memory::default()).register(PAY, pay).start().await?;
    /// assert_eq!(engine.run(PAY, "order-1", 7).await?, 7);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn downcast<E: DeserializeOwned + 'static>(&self) -> Option<E> {
        self.failure()?.downcast(type_tag::<E>())
    }

    /// As [`Error::downcast`], by the name given to [`typed_as`](crate::Step::typed_as), which survives that the
    /// type is renamed or moved.
    pub fn downcast_as<E: DeserializeOwned>(&self, tag: &str) -> Option<E> {
        self.failure()?.downcast(tag)
    }

    /// Where user code raised it (`src/hr.rs:42:9`), also after replay; empty for errors of the engine.
    pub fn raised_at(&self) -> String {
        match &self.what {
            What::Raised(_, at) => at.to_string(),
            What::Recorded(record) => record.failure.raised_at.clone(),
        }
    }

    /// The messages of its sources, nearest first: equal live and after replay.
    pub fn causes(&self) -> Vec<String> {
        match &self.what {
            What::Raised(error, _) => sources(&**error),
            What::Recorded(record) => record.failure.causes.clone(),
        }
    }

    /// The `E` that it is or has among its sources, of an error just raised: for store crates, which know their database's.
    #[doc(hidden)]
    pub fn raised_as<E: StdError + 'static>(&self) -> Option<&E> {
        match &self.what {
            What::Raised(error, _) => chain(&**error).find_map(|error| error.downcast_ref()),
            What::Recorded(_) => None,
        }
    }

    /// The same error in other words, with itself as the source: for store crates, whose database says little at first.
    #[doc(hidden)]
    pub fn saying(self, message: String) -> Self {
        match self.what {
            What::Raised(error, at) => {
                Error { what: What::Raised(Box::new(Said { message, error }), at), ..self }
            }
            What::Recorded(_) => self,
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.what {
            What::Raised(..) => None,
            What::Recorded(record) => Some(&record.failure),
        }
    }

    /// An error of the engine itself.
    pub(crate) fn engine(kind: ErrorKind, code: Code, message: impl Into<String>) -> Self {
        Error::from_failure(Failure::of(kind, code, message), None)
    }

    /// A misuse: never cured by a retry.
    pub(crate) fn misuse(code: Code, message: impl Into<String>) -> Self {
        let mut failure = Failure::of(ErrorKind::Misuse, code, message);
        failure.terminal = true;
        Error::from_failure(failure, None)
    }

    /// The error as the journal holds it, in entry `entry`.
    pub(crate) fn from_failure(failure: Failure, entry: Option<u64>) -> Self {
        let terminal = failure.terminal;
        Error { what: What::Recorded(Arc::new(Record::new(failure))), terminal, retry_after: None, entry }
    }

    /// The same error, stopping the retries.
    pub(crate) fn and_stop(self) -> Self {
        Error { terminal: true, ..self }
    }

    /// The delay that it asks for.
    pub(crate) fn asked_delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What the journal keeps of it. Live code sees the same, so that it cannot tell the first time from a replay.
    pub(crate) fn to_failure(&self, typed: Option<&Typed>) -> Failure {
        match &self.what {
            What::Recorded(record) => {
                Failure { terminal: self.terminal, cause: self.entry, ..record.failure.clone() }
            }
            What::Raised(error, at) => {
                // The texts are the user's code; where this is called, a panic of theirs would take the driver along.
                let told = catch_unwind(AssertUnwindSafe(|| {
                    let typed = typed.and_then(|typed| typed.encode(&**error));
                    (error.to_string(), sources(&**error), typed)
                }));
                let plain = |message| Failure {
                    raised_at: at.to_string(),
                    terminal: self.terminal,
                    ..Failure::of(ErrorKind::Raised, Code::RAISED, message)
                };
                match told {
                    Ok((message, causes, typed)) => Failure { causes, typed, ..plain(message) },
                    Err(panic) => {
                        plain(format!("an error whose own text panicked: {}", panic_message(&*panic)))
                    }
                }
            }
        }
    }
}

/// An error and its sources.
impl<E: Into<BoxError> + 'static> From<E> for Error {
    #[track_caller]
    fn from(error: E) -> Self {
        match boxed(error).downcast::<EngineError>() {
            Ok(outside) => {
                let terminal = outside.0.failure.terminal;
                Error { what: What::Recorded(outside.0), terminal, retry_after: None, entry: None }
            }
            Err(error) => Error::raised(error),
        }
    }
}

// anyhow's own conversion hides the type it carries, and `downcast` would not find it.
#[cfg(feature = "anyhow")]
fn boxed<E: Into<BoxError> + 'static>(error: E) -> BoxError {
    let mut error = Some(error);
    let inner =
        (&mut error as &mut dyn std::any::Any).downcast_mut::<Option<anyhow::Error>>().and_then(Option::take);
    match inner {
        Some(inner) => inner.reallocate_into_boxed_dyn_error_without_backtrace(),
        None => error.expect("only an anyhow error was taken out").into(),
    }
}

#[cfg(not(feature = "anyhow"))]
fn boxed<E: Into<BoxError> + 'static>(error: E) -> BoxError {
    error.into()
}

// The way out of helpers that return `anyhow::Result`.
#[cfg(feature = "anyhow")]
impl From<Error> for anyhow::Error {
    fn from(error: Error) -> Self {
        EngineError::from(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Raised(error, _) => error.fmt(f),
            What::Recorded(record) => f.write_str(&record.failure.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_full(f, self, (self.code(), self.kind()), &self.raised_at(), &self.causes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
    #[error("declined, {missing} missing")]
    struct Declined {
        missing: u64,
    }

    fn raise() -> Result<()> {
        Err(Declined { missing: 3 })?;
        Ok(())
    }

    #[test]
    fn a_recorded_error_equals_the_raised_one() {
        let live = raise().expect_err("it raises");
        assert!(live.is::<Declined>());
        let failure = live.to_failure(Some(&Typed::of::<Declined>(None)));
        let text = serde_json::to_string(&failure).expect("plain data");
        let back = Error::from_failure(serde_json::from_str(&text).expect("what was written"), Some(4));
        assert_eq!(format!("{live:?}"), format!("{back:?}"));
        assert!(live.raised_at().contains("error/mod.rs:"), "{}", live.raised_at());
        assert_eq!(back.downcast::<Declined>(), Some(Declined { missing: 3 }));
        assert!(back.is::<Declined>());
        assert_eq!(back.downcast::<String>(), None);
        assert_eq!(back.to_failure(None).cause, Some(4), "a run's failure names the entry that ended it");
    }

    #[test]
    fn sources_survive_and_outside_errors_come_back_in() {
        let io = std::io::Error::other(Declined { missing: 1 });
        let outside = EngineError::from(Error::from(io));
        assert_eq!(outside.to_string(), "declined, 1 missing");
        let inside = Error::from(outside.clone());
        assert_eq!(inside.raised_at(), outside.raised_at());
        let text: Error = "nothing there".into();
        assert_eq!((text.to_string().as_str(), text.is_terminal()), ("nothing there", false));
        assert!(Error::terminal("no").is_terminal());
    }
}
