//! What both errors keep, and what a step keeps of an error.

use std::{any::Any, error::Error as StdError, fmt};

use serde::{Serialize, de::DeserializeOwned};

use super::{Code, ErrorKind};
use crate::journal::Failure;

/// What both errors keep: the failure as it is recorded, and its sources as a chain.
pub(super) struct Record {
    pub(super) failure: Failure,
    pub(super) causes: Option<Box<Cause>>,
}

#[derive(Debug)]
pub(super) struct Cause {
    message: String,
    next: Option<Box<Cause>>,
}

/// What `{:?}` shows: `declined (EV0001 Raised, src/pay.rs:39:43), because of: no funds`.
pub(super) fn in_full(
    f: &mut fmt::Formatter<'_>,
    message: &dyn fmt::Display,
    (code, kind): (Code, ErrorKind),
    raised_at: &str,
    causes: &[String],
) -> fmt::Result {
    write!(f, "{message} ({code} {kind:?}")?;
    if !raised_at.is_empty() {
        write!(f, ", {raised_at}")?;
    }
    f.write_str(")")?;
    causes.iter().try_for_each(|cause| write!(f, ", because of: {cause}"))
}

/// An error in other words.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) error: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Said {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.error)
    }
}

pub(super) fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

pub(super) fn sources(error: &(dyn StdError + 'static)) -> Vec<String> {
    chain(error).skip(1).map(ToString::to_string).collect()
}

// The bound takes in everything that can be boxed, above all `anyhow::Error`, which `E: std::error::Error` would
// leave out.
impl Record {
    pub(super) fn new(failure: Failure) -> Self {
        let causes = failure
            .causes
            .iter()
            .rev()
            .fold(None, |next, message| Some(Box::new(Cause { message: message.clone(), next })));
        Record { failure, causes }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next.as_deref().map(|cause| cause as _)
    }
}

impl Failure {
    /// A failure without sources, line or type.
    pub(crate) fn of(kind: ErrorKind, code: Code, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            code,
            message: message.into(),
            causes: Vec::new(),
            raised_at: String::new(),
            terminal: false,
            typed: None,
            cause: None,
        }
    }

    /// Itself, if its record has at most `bytes_max` bytes; else an error that says so and how it began.
    pub(crate) fn within(self, bytes_max: usize) -> Failure {
        const SHOWN: usize = 200;
        let bytes = crate::journal::encode(&self).bytes.len();
        // Our own errors about limits are short enough, and say more.
        if bytes <= bytes_max || self.kind == ErrorKind::Limit {
            return self;
        }
        let begins: String = self.message.chars().take(SHOWN).collect();
        let message =
            format!("an error has at most {bytes_max} bytes; this one has {bytes}, and begins: {begins}");
        let terminal = self.terminal;
        Failure { terminal, ..Failure::of(ErrorKind::Limit, Code::TOO_LARGE, message) }
    }

    pub(super) fn downcast<E: DeserializeOwned>(&self, wanted: &str) -> Option<E> {
        let (tag, json) = self.typed.as_ref()?;
        (tag == wanted).then(|| serde_json::from_str(json).ok())?
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

pub(super) fn type_tag<E: 'static>() -> &'static str {
    std::any::type_name::<E>()
}

/// How a step keeps errors of one type whole.
#[derive(Clone)]
pub(crate) struct Typed {
    tag: &'static str,
    json: fn(&(dyn StdError + 'static)) -> Option<String>,
}

impl Typed {
    pub(crate) fn of<E: StdError + Serialize + 'static>(tag: Option<&'static str>) -> Typed {
        Typed {
            tag: tag.unwrap_or_else(type_tag::<E>),
            json: |error| serde_json::to_string(error.downcast_ref::<E>()?).ok(),
        }
    }

    pub(super) fn encode(&self, error: &(dyn StdError + 'static)) -> Option<(String, String)> {
        chain(error).find_map(self.json).map(|json| (self.tag.to_string(), json))
    }
}
