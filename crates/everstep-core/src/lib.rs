//! The engine of Everstep: journal, replay, driver, workers, the store trait and the in-memory store.
//!
//! Applications use the crate `everstep`, which re-exports this one; store crates build on it. It knows no SQL, no
//! HTTP and no terminal.
#![deny(missing_docs)]

mod body;
mod branches;
mod child;
mod ctx;
mod job;
mod macros;
mod map;
mod op;
mod patch;
mod promise;
mod publish;
mod request;
mod restart;
mod retry;
mod retry_block;
mod scope;
mod signal;
#[cfg(any(test, feature = "testing"))]
mod simulation;
mod step;
mod step_ctx;

mod client;
mod copying;
mod engine;
mod export;
mod run;
mod settings;
mod undelivered;

pub mod failpoint;
pub mod journal;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod attribute;
mod clock;
mod code;
mod digest;
mod driver;
mod entropy;
mod error;
mod name;
mod process;
mod rehearsal;
mod status;
mod stuck;
mod sync;
mod time;
mod token;
mod watch;

pub use attribute::{ATTRIBUTE_BYTES_MAX, AttributeValue};
pub use body::{Body, Data, Doubt, Outcome, Repeat, Verdict};
pub use child::{Child, StartChild};
pub use client::{
    ACTS_MAX, Allowed, BULK_TOLD_MAX, Batch, Bulk, BulkDone, BulkEvent, COUNT_MAX, Client, Fork, Item, Items,
    LIST_LIMIT, List, OnOpen, PURGE_BATCH, Reuse, SendRequest, SendSignal, Start, Touches, Verb,
};
pub use copying::{Copied, CopyProgress, Copying};
pub use ctx::Ctx;
pub use digest::{Digest, Incarnation};
pub use engine::{
    Builder, CHECKED_AT_ONCE, Check, CheckReport, Engine, Event, Events, Finding, NoState, PROBLEMS_KEPT,
    Problem, Replayed, With,
};
pub use error::{Code, EngineError, Error, ErrorKind, Result};
pub use export::{EXPORT_FORMAT, Export};
#[doc(hidden)]
pub use job::{Recorder, Staged, said_by};
pub use map::Map;
pub use name::{NAME_BYTES_MAX, RUN_ID_BYTES_MAX, Workflow};
pub use op::Op;
pub use promise::Promise;
pub use publish::{Published, Stream};
pub use request::Request;
pub use retry::Retry;
pub use run::{Run, RunInfo};
pub use settings::{
    CANCEL_GRACE, ENTRIES_MAX, GRACE, LEASE, NotDurable, PARK_AFTER, PAYLOAD_BYTES_MAX, RESIDENT_RUNS_MAX,
    RUNNING_STEPS_MAX, Settings, TAKEOVERS_MAX, days, hours, minutes, seconds,
};
pub use signal::Signal;
#[cfg(any(test, feature = "testing"))]
pub use simulation::Simulation;
pub use status::{Change, IllegalChange, Status, StatusSet};
pub use step::Step;
pub use step_ctx::StepCtx;
pub use stuck::{Stuck, StuckReason};
pub use time::Timestamp;
pub use undelivered::Undelivered;

#[doc(hidden)]
pub use tokio as __tokio;

/// A boxed future that may cross threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
