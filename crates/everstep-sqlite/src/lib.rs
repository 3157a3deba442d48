//! Everstep on one SQLite file: group commit near the speed of the disk.
//!
//! One thread owns the only connection that writes; it drains a queue into one transaction and answers everybody
//! after its commit. Readers are connections of their own. Other processes, and the user's own tables, may use the
//! same file: everything of ours begins with `everstep_`.
//!
//! Absent on purpose: what may follow what (the engine and `everstep-core`'s rules decide), and any other database.
#![deny(missing_docs)]

mod open;
mod store;
mod transfer;
mod workflow;

mod find;
mod kept;
mod migrate;
mod read;
mod tx;
mod whole;
mod write;

mod batch;
mod hot;
mod op;
mod queue;
mod writer;

#[cfg(feature = "testing")]
mod inline;

mod attribute;
mod checkpoint;
mod fault;
mod lockfile;
mod names;
mod row;
mod stopwatch;
mod sync;
mod wal;

#[cfg(feature = "testing")]
pub use inline::Inline;
pub use open::{Options, Sqlite};
pub use rusqlite;
pub use tx::{JobBody, SqliteJob, Tx};
pub use workflow::{SignalIn, StartIn, Transaction};
pub use write::{post::insert_letter, start::insert_start};
