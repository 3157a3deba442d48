//! Deletions: a run and everything of it.

use super::{RunId, RunRow};
use crate::status::Status;

/// A run to be deleted, as it was seen: one that has moved since stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Which run.
    pub run: RunId,
    /// Its status.
    pub status: Status,
    /// Its generation: a used id may have another run by now.
    pub generation: u32,
    /// Messages it has received: one that came since was promised to be kept.
    pub inbox_n: u64,
    /// Whether a worker had taken it.
    pub began: bool,
}

impl Doomed {
    /// The run of this row.
    pub fn of(row: &RunRow) -> Doomed {
        let RunRow { run, status, generation, inbox_n, began_at, .. } = row;
        Doomed {
            run: *run,
            status: *status,
            generation: *generation,
            inbox_n: *inbox_n,
            began: began_at.is_some(),
        }
    }

    /// Whether a run is still like this, and no worker has it.
    pub fn is_still(&self, row: &RunRow) -> bool {
        row.owner.is_none() && Doomed::of(row) == *self
    }
}
