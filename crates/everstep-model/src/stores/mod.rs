//! The stores, each with nothing in it: the in-memory one, which is the oracle, SQLite in a directory of its own, and
//! PostgreSQL in a schema of its own.

mod memory;
mod postgres;
mod sqlite;

use std::sync::Arc;

use everstep_conformance::Bench;

pub use memory::MemoryBench;
pub use postgres::PostgresBench;
pub use sqlite::SqliteBench;

/// A store that is compared with the oracle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compared {
    /// SQLite.
    #[default]
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// PostgreSQL in a hostile mood.
    Hostile,
}

impl Compared {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Compared> {
        let all = [Compared::Sqlite, Compared::Postgres, Compared::Hostile];
        all.into_iter().find(|store| store.name() == name)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Compared::Sqlite => "sqlite",
            Compared::Postgres => "postgres",
            Compared::Hostile => "hostile",
        }
    }

    pub(crate) fn bench(self) -> Arc<dyn Bench> {
        match self {
            Compared::Sqlite => Arc::new(SqliteBench::new()),
            Compared::Postgres => Arc::new(PostgresBench::new()),
            Compared::Hostile => Arc::new(PostgresBench::hostile()),
        }
    }
}
