//! Numbers of runs, taken from the database in blocks: a start's number is its own before it is written, so that after
//! a lost reply it tells who wrote it.
//!
//! A block is as large as there is demand and is thrown away after a moment, so that numbers grow with the time over all
//! openings, but for about that moment.

use std::{ops::Range, time::Duration};

use crate::{
    conn::Conn,
    fault::Fault,
    row::damaged,
    sql::{Sql, args, get, sql},
    stopwatch::Stopwatch,
};

/// For so long a block is used.
const BLOCK_LASTS: Duration = Duration::from_secs(1);
const BLOCK_MIN: i64 = 16;
const BLOCK_MAX: i64 = 4096;

/// The block that is in use.
#[derive(Debug)]
pub(crate) struct Ids {
    block: Range<i64>,
    size: i64,
    taken: Option<Stopwatch>,
    /// Numbers are given one by one, in the transaction that uses them: without a gap, and all starts wait for each other.
    pub(crate) comparable: bool,
}

impl Default for Ids {
    fn default() -> Self {
        Ids { block: 0..0, size: BLOCK_MIN, taken: None, comparable: false }
    }
}

impl Ids {
    /// Numbers without a gap.
    pub(crate) fn comparable() -> Ids {
        Ids { comparable: true, ..Ids::default() }
    }

    /// Uses no more of what was taken.
    pub(crate) fn forget(&mut self) {
        self.taken = None;
    }

    /// The next number. `conn` must be in no transaction.
    pub(crate) async fn next(&mut self, conn: &Conn) -> Result<i64, Fault> {
        const TAKE: Sql =
            sql("take numbers", "UPDATE @meta SET value = value + $1 WHERE key = 'run' RETURNING value");
        let is_fresh = self.taken.is_some_and(|taken| taken.elapsed() < BLOCK_LASTS);
        if self.block.is_empty() || !is_fresh {
            self.size = if is_fresh { (self.size * 4).min(BLOCK_MAX) } else { BLOCK_MIN };
            let row = conn.one(&TAKE, args![self.size]).await?;
            let row = row.ok_or_else(|| damaged("the highest number of a run is not there"))?;
            let high: i64 = get(&row, 0)?;
            self.block = high - self.size + 1..high + 1;
            self.taken = Some(Stopwatch::start());
        }
        self.block.next().ok_or_else(|| damaged("a block of numbers is empty").into())
    }
}
