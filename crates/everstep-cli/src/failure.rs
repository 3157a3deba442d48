//! Why a command did not do what it was asked for: the text with its stable code, and the exit code.

use std::{fmt, process::ExitCode};

use everstep_core::{Code, EngineError, store::StoreError};

use crate::print::plain;

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Option<Code>,
    message: String,
    exit: u8,
}

/// A store failed, or the system.
const FAILED: u8 = 1;
/// The command line is wrong; clap ends with it, too.
const WRONG: u8 = 2;
/// What is asked for is not there.
const NOT_THERE: u8 = 3;
/// It is refused as things stand.
const REFUSED: u8 = 4;

impl Failure {
    /// Of the system.
    pub(crate) fn failed(message: String) -> Failure {
        Failure { code: None, message, exit: FAILED }
    }

    /// The command line asks for something that cannot be.
    pub(crate) fn wrong(message: String) -> Failure {
        Failure { code: None, message, exit: WRONG }
    }

    /// There is no such thing.
    pub(crate) fn not_there(message: String) -> Failure {
        Failure { code: None, message, exit: NOT_THERE }
    }

    /// There is no such run.
    pub(crate) fn no_run(id: &str) -> Failure {
        let message = format!("there is no run `{}`", plain(id));
        Failure { code: Some(Code::NOT_FOUND), message, exit: NOT_THERE }
    }

    /// The same with advice.
    pub(crate) fn with(self, advice: &str) -> Failure {
        Failure { message: format!("{}. {advice}", self.message), ..self }
    }

    /// Whether the store's runs have moved, or are moving.
    pub(crate) fn is_moved(&self) -> bool {
        self.code == Some(Code::MOVED)
    }

    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let exit = match error.code() {
            Code::NOT_FOUND => NOT_THERE,
            Code::BAD_FILTER | Code::BAD_CURSOR | Code::BAD_NAME | Code::TOO_LONG => WRONG,
            Code::MOVED | Code::CANNOT_COPY => REFUSED,
            _ => FAILED,
        };
        Failure { code: Some(error.code()), message: error.to_string(), exit }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        EngineError::from(error).into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
