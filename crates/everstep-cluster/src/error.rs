//! Why there is no server: for a person, who reads it in the output of a test.

use std::{error, fmt};

/// What was tried and what came of it.
#[derive(Debug)]
pub struct Error {
    what: String,
    why: Option<Box<dyn error::Error + Send + Sync>>,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(what: impl Into<String>) -> Error {
        Error { what: what.into(), why: None }
    }
}

/// Says what was tried when it fails.
pub(crate) trait While<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn error::Error + Send + Sync>>> While<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|why| Error { what: what(), why: Some(why.into()) })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        let mut why = error::Error::source(self);
        while let Some(reason) = why {
            write!(f, ": {reason}")?;
            why = reason.source();
        }
        Ok(())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.why.as_deref().map(|why| why as _)
    }
}
