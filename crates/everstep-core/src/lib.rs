//! The engine of Everstep: journal, replay, driver, workers, the store trait and the in-memory store.
//!
//! Applications use the crate `everstep`, which re-exports this one; store crates build on it. It knows no SQL, no
//! HTTP and no terminal.
#![deny(missing_docs)]

pub mod journal;
pub mod store;

mod clock;
mod code;
mod digest;
mod entropy;
mod error;
mod name;
mod status;
mod stuck;
mod time;

pub use digest::{Digest, Incarnation};
pub use error::{Code, EngineError, Error, ErrorKind, Result};
pub use name::Workflow;
pub use status::{Change, IllegalChange, Status, StatusSet};
pub use stuck::{Stuck, StuckReason};
pub use time::Timestamp;
