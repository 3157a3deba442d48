//! The two stores, each with nothing in it: the in-memory one, which is the oracle, and SQLite in a directory of its
//! own.

mod memory;
mod sqlite;

pub use memory::MemoryBench;
pub use sqlite::SqliteBench;
