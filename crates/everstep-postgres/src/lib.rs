//! Everstep on PostgreSQL: the same workflows on many machines.
//!
//! One thread of the store's own talks to the database. It drains a queue into one transaction, mostly a single statement,
//! and answers everybody after its commit; reads and users' transactions have connections of their own. Every write of a
//! worker holds a row of its fence locked, so that a takeover waits for what is under way and nothing of a stale worker
//! comes after it. A commit whose reply is lost is asked for, never repeated blindly.
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
mod bounds;
mod fold;
mod guest;
mod jobs;
mod op;
mod purse;
mod queue;
mod recall;
mod rings;
mod segment;
mod slots;
mod statement;
mod writer;

mod address;
mod alone;
mod attribute;
mod back;
mod conn;
mod dialect;
mod fault;
mod hints;
mod hostile;
mod ids;
mod link;
mod listen;
mod names;
mod packed;
mod pool;
mod row;
mod shape;
mod sql;
mod stopwatch;
mod text;
mod tls;

pub use guest::OpenTransaction;
pub use open::{Options, Postgres};
pub use tokio_postgres;
pub use tx::{JobBody, PostgresJob, Tx};
pub use workflow::{SignalIn, StartIn, Transaction};
