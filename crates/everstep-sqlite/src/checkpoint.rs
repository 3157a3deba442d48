//! When the WAL goes into the database. SQLite does that by itself, inside a commit, and throws its errors away: a
//! failed sync of the database would be noticed by nobody. So the writer does it, after it has answered.

use std::time::Duration;

use everstep_core::failpoint::{Failpoint, pass};
use rusqlite::Connection;

use crate::row::unsigned;

/// Pages between two checkpoints, as SQLite itself would have it: 4 MB.
pub(crate) const EVERY: u64 = 1000;
/// Commits between two checkpoints, unless the WAL gets `MASS` times as long before. Where a thousand runs wake together a
/// commit has hundreds of pages, many of them those of the one before: each is to be written into the database once, not
/// after every third commit.
const COMMITS: u64 = 64;
const MASS: u64 = 8;
/// Pages from which on the WAL is too long: 64 MB. Somebody reads without end, and it cannot begin anew.
const TOO_LONG: u64 = 16_000;
/// How long everybody who writes waits then for those who read.
const WAIT: Duration = Duration::from_millis(100);

/// The writer's checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    every: u64,
    too_long: u64,
    /// Commits since the last one.
    commits: u64,
    /// What may be written before the next look at the length of the WAL: a look costs a hundredth of a commit.
    left: u64,
    /// The WAL is too long, and has been tried to begin anew at this length.
    tried_at: Option<u64>,
}

/// Pages of the WAL, and how many of them are in the database.
struct Wal {
    pages: u64,
    done: u64,
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints::every(EVERY)
    }
}

impl Checkpoints {
    /// One about every so many pages.
    pub(crate) fn every(pages: u64) -> Checkpoints {
        Checkpoints { every: pages, too_long: TOO_LONG, commits: 0, left: 0, tried_at: None }
    }

    /// A commit is done and answered; it changed about so many rows, or pages if they are long.
    pub(crate) fn after_commit(&mut self, conn: &Connection, changes: u64) -> rusqlite::Result<()> {
        self.left = self.left.saturating_sub(changes);
        self.commits = self.commits.saturating_add(1);
        if self.left > 0 {
            return Ok(());
        }
        // Asked again soon, should this fail.
        self.left = self.every / 64;
        let wal = self.advance(conn, run(conn, "NOOP")?)?;
        // A WAL that is in the database as a whole begins anew with the next commit. A row may change some pages.
        let pages = if wal.pages == wal.done { 0 } else { wal.pages };
        self.left = self.left.max(self.every.saturating_sub(pages) / 4);
        Ok(())
    }

    fn advance(&mut self, conn: &Connection, wal: Wal) -> rusqlite::Result<Wal> {
        if wal.pages < self.too_long {
            self.tried_at = None;
        }
        let are_large = self.commits < COMMITS * self.every / EVERY;
        if wal.pages < self.every || (are_large && wal.pages < self.every * MASS) {
            return Ok(wal);
        }
        self.commits = 0;
        if wal.pages < self.tried_at.map_or(self.too_long, |at| at + self.every) {
            return run(conn, "PASSIVE");
        }
        if self.tried_at.replace(wal.pages).is_none() {
            tracing::warn!(
                wal.pages,
                "the WAL grows and grows: another program keeps a read transaction open, or reads without a pause"
            );
        }
        conn.busy_timeout(WAIT)?;
        let begun_anew = run(conn, "RESTART");
        conn.busy_timeout(Duration::ZERO)?;
        begun_anew
    }
}

/// Does as much as can be done; that somebody is in the way is no error.
pub(crate) fn checkpoint(conn: &Connection, how: &str) -> rusqlite::Result<()> {
    run(conn, how).map(drop)
}

fn run(conn: &Connection, how: &str) -> rusqlite::Result<Wal> {
    let looks_only = how == "NOOP";
    if !looks_only {
        pass(Failpoint::CheckpointBegins);
    }
    let wal = conn
        .prepare_cached(&format!("PRAGMA wal_checkpoint({how})"))?
        .query_row([], |row| Ok(Wal { pages: unsigned(row.get(1)?), done: unsigned(row.get(2)?) }))?;
    if !looks_only {
        pass(Failpoint::CheckpointDone);
    }
    Ok(wal)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Desk {
        dir: tempfile::TempDir,
        conn: Connection,
        checkpoints: Checkpoints,
    }

    impl Desk {
        fn new() -> Desk {
            let dir = tempfile::tempdir().expect("a directory");
            let conn = Connection::open(dir.path().join("a.db")).expect("opens");
            conn.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)",
            )
            .expect("makes");
            Desk { dir, conn, checkpoints: Checkpoints { too_long: 20, ..Checkpoints::every(10) } }
        }

        /// Writes pages, two a commit; how many the WAL has then.
        fn write(&mut self, commits: usize) -> u64 {
            for _ in 0..commits {
                self.conn.execute_batch("INSERT INTO t VALUES (zeroblob(4000))").expect("writes");
                self.checkpoints.after_commit(&self.conn, 1).expect("checkpoints");
            }
            run(&self.conn, "NOOP").expect("looks").pages
        }

        fn reader(&self) -> Connection {
            let reader = Connection::open(self.dir.path().join("a.db")).expect("opens");
            reader.execute_batch("BEGIN; SELECT * FROM t").expect("reads");
            reader
        }
    }

    /// faults.md row 39: a WAL that readers hold up is bounded again once they leave.
    #[test]
    fn the_wal_begins_anew_as_soon_as_nobody_is_in_the_way() {
        let mut desk = Desk::new();
        assert!(desk.write(50) <= 20, "nobody is in the way");
        let reader = desk.reader();
        assert!(desk.write(50) > 50);
        assert!(desk.checkpoints.tried_at.is_some());
        drop(reader);
        assert!(desk.write(20) <= 20);
        assert!(desk.checkpoints.tried_at.is_none());
    }

    #[test]
    fn large_commits_are_gathered_up_to_a_bound() {
        let mut desk = Desk::new();
        desk.checkpoints = Checkpoints::default();
        let mut write = |commits: usize| {
            for _ in 0..commits {
                desk.conn.execute_batch("INSERT INTO t VALUES (zeroblob(1200000))").expect("writes");
                desk.checkpoints.after_commit(&desk.conn, 300).expect("checkpoints");
            }
            run(&desk.conn, "NOOP").expect("looks")
        };
        let wal = write(10);
        assert!(wal.pages > 2 * EVERY && wal.done == 0, "{} of {}", wal.done, wal.pages);
        let wal = write(30);
        assert!(wal.pages < EVERY * (MASS + 1), "{} of {}", wal.done, wal.pages);
    }

    #[test]
    fn errors_are_seen() {
        let mut desk = Desk::new();
        desk.conn.execute_batch("BEGIN; INSERT INTO t VALUES (1)").expect("begins");
        desk.checkpoints.every = 0;
        desk.checkpoints.after_commit(&desk.conn, 1).expect_err("not inside a transaction");
    }
}
