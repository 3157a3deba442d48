//! A database that went back in time: a failover to a server that had not got the last commits, a restored backup.
//!
//! It cannot be seen in general, for then everything that is known of the lost commits is lost with them. What a live
//! opening still knows is compared when it connects anew (its number, its last transaction, the journals of the runs that
//! it has in memory) and with each renewal (the worker's own count). Runs that have lost entries become stuck, because
//! their steps would run a second time; and the opening is over, because what it remembers is no longer so.

use std::sync::{Mutex, PoisonError};

use everstep_core::{
    StuckReason,
    store::{RunId, StoreError, WorkerId},
};
use foldhash::HashMap;

use crate::{
    conn::{Conn, Sql, args, get, sql},
    fault::Fault,
    row::signed,
};

/// What is remembered of a run that is in memory: how its journal goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasts {
    pub(crate) run: RunId,
    pub(crate) worker: WorkerId,
    /// The number of the next entry: those below it are committed.
    pub(crate) next: u64,
    /// An end of it is under way, and may have happened: then others may have had it since.
    pub(crate) ends: bool,
}

/// Makes the runs stuck whose journals are shorter than they were; how many.
pub(crate) async fn set_aside(conn: &Conn, runs: &[Lasts]) -> Result<usize, Fault> {
    /// 3 to 5: over. A run that somebody else has got already is his; what a fenced worker remembers is old, and others may
    /// have done anything since. That a worker is not there at all is what a database that went back looks like.
    const LOST: Sql = sql(
        "set runs aside that lost entries",
        "WITH lost AS (
           UPDATE @run r SET owner = 0, wake_at = NULL, status = $5
           FROM unnest($1, $2, $3, $4) AS u(id, worker, next, ends)
           WHERE r.id = u.id AND (r.owner = u.worker OR (r.owner = 0 AND NOT u.ends)) AND r.status NOT BETWEEN 3 AND 5
             AND coalesce((SELECT max(seq) + 1 FROM @journal WHERE run = r.id), 0) < u.next
             AND NOT EXISTS (SELECT 1 FROM @worker w WHERE w.id = u.worker AND w.fenced)
           RETURNING r.id)
         INSERT INTO @stuck (run, at, reason, detail)
         SELECT id, :now, $6, $7 FROM lost
         ON CONFLICT (run) DO UPDATE SET at = excluded.at, reason = excluded.reason, key = NULL, detail = excluded.detail
         RETURNING run",
    );
    if runs.is_empty() {
        return Ok(0);
    }
    let (mut ids, mut workers, mut nexts, mut ends) = (vec![], vec![], vec![], vec![]);
    for run in runs {
        ids.push(run.run.0);
        workers.push(run.worker.0);
        nexts.push(signed(run.next));
        ends.push(run.ends);
    }
    let (stuck, reason) = (i16::from(everstep_core::Status::Stuck.code()), i16::from(JOURNAL.code()));
    let detail = "entries of its journal were committed and are not there any more: the database went back in time, by a \
                  failover or a backup. Their steps have run";
    let lost = conn.rows(&LOST, args![ids, workers, nexts, ends, stuck, reason, detail]).await?;
    for row in &lost {
        tracing::error!(run = get::<i64>(row, 0)?, detail, "a run is stuck");
    }
    Ok(lost.len())
}

const JOURNAL: StuckReason = StuckReason::JournalDamaged;

/// How often workers were renewed, as far as this opening knows.
#[derive(Debug, Default)]
pub(crate) struct Beats(Mutex<HashMap<WorkerId, i64>>);

impl Beats {
    /// A worker was renewed: it was the `beat`-th time. An error if there were as many before.
    pub(crate) fn counted(&self, worker: WorkerId, beat: i64) -> Result<(), StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(worker).or_insert(0);
        if beat <= *known {
            return Err(went_back(0));
        }
        *known = beat;
        Ok(())
    }
}

/// Why an opening is over.
pub(crate) fn went_back(lost: usize) -> StoreError {
    StoreError::Closed(
        format!(
            "the database went back in time: commits that it had acknowledged are not there any more, as after a failover to \
             a server that had not got them. {lost} of the runs in memory have lost entries and are stuck. Open it again to \
             go on with the others"
        )
        .into(),
    )
}
