//! The statements of the hot path, prepared once. Looking one up by its text, as rusqlite's cache does, costs as much
//! as binding a row.

use rusqlite::{Connection, Statement, ToSql};

use crate::write::{entry, start, turn};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hot {
    Begin,
    Commit,
    InsertEntry,
    InsertRun,
    EndLoad,
}

impl Hot {
    const ALL: [Hot; 5] = [Hot::Begin, Hot::Commit, Hot::InsertEntry, Hot::InsertRun, Hot::EndLoad];

    pub(crate) fn sql(self) -> &'static str {
        match self {
            Hot::Begin => "BEGIN IMMEDIATE",
            Hot::Commit => "COMMIT",
            Hot::InsertEntry => entry::INSERT,
            Hot::InsertRun => start::INSERT_RUN,
            Hot::EndLoad => turn::END_LOAD,
        }
    }
}

/// Runs them. A trait, because a batch must not know for how long the connection lives.
pub(crate) trait Execute {
    /// Runs one; how many rows it changed.
    fn execute(&mut self, which: Hot, params: &[&dyn ToSql]) -> rusqlite::Result<usize>;
}

/// All of them, on the writer's connection.
pub(crate) struct Prepared<'c>(Vec<Statement<'c>>);

impl<'c> Prepared<'c> {
    pub(crate) fn new(conn: &'c Connection) -> rusqlite::Result<Prepared<'c>> {
        Hot::ALL.iter().map(|which| conn.prepare(which.sql())).collect::<Result<_, _>>().map(Prepared)
    }
}

impl Execute for Prepared<'_> {
    fn execute(&mut self, which: Hot, params: &[&dyn ToSql]) -> rusqlite::Result<usize> {
        self.0[which as usize].execute(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_in_its_own_place() {
        for (at, which) in Hot::ALL.into_iter().enumerate() {
            assert_eq!(which as usize, at);
        }
    }
}
