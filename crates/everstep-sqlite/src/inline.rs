//! An opening without a thread of its own, for simulations: whoever has it says when what is queued is written, and reads
//! are made where they are asked for. In all else it is the writer that every opening has.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use everstep_core::store::Bell;
use rusqlite::{Connection, ToSql};

use crate::{
    hot::{Execute, Hot},
    lockfile::{OpenLock, WorkerLocks},
    open::close,
    queue::{Linger, Queue, Taken},
    read::Readers,
    writer::{State, Writer},
};

/// The writer of an opening, as somebody else's to run. Dropped, it ends as a process that dies: what is queued is lost.
pub struct Inline {
    pub(crate) conn: Option<Connection>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) locks: Arc<WorkerLocks>,
    pub(crate) closed: Arc<OnceLock<Arc<str>>>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) job_limit: Duration,
    pub(crate) state: State,
    pub(crate) path: PathBuf,
    pub(crate) lock: Option<OpenLock>,
}

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inline").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Inline {
    /// Writes what is queued, in one transaction if it can be, and answers everybody; `false` if nothing was.
    pub fn pump(&mut self) -> bool {
        let Taken::Ops(ops) = self.queue.take(Duration::ZERO, Linger::default()) else { return false };
        self.with_writer(|writer| {
            writer.write(ops);
            writer.look_for_others();
        });
        true
    }

    /// Rings if another opening has committed something since the last look.
    pub fn look(&mut self) {
        self.with_writer(|writer| writer.look_for_others());
    }

    fn with_writer(&mut self, work: impl FnOnce(&mut Writer<'_>)) {
        let Some(conn) = &self.conn else { return };
        let mut writer = Writer {
            conn,
            hot: Box::new(Cached(conn)),
            queue: self.queue.clone(),
            bell: self.bell.clone(),
            locks: self.locks.clone(),
            closed: self.closed.clone(),
            job_limit: self.job_limit,
            state: std::mem::take(&mut self.state),
        };
        work(&mut writer);
        self.state = writer.state;
        // Nobody is in a hurry to be let in: all of them take turns on this thread.
        self.state.is_alone();
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        self.queue.end();
        self.readers.close();
        if let (Some(conn), Some(lock)) = (self.conn.take(), self.lock.take()) {
            close(conn, &self.path, &lock, false);
        }
    }
}

/// The hot statements out of the connection's cache: a writer that lives for one transaction cannot keep them.
struct Cached<'c>(&'c Connection);

impl Execute for Cached<'_> {
    fn execute(&mut self, which: Hot, params: &[&dyn ToSql]) -> rusqlite::Result<usize> {
        self.0.prepare_cached(which.sql())?.execute(params)
    }
}
