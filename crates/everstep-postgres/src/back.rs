//! A database that went back in time: a failover to a server that had not got the last commits, a restored backup.
//!
//! It cannot be seen in general, for then everything that is known of the lost commits is lost with them. What a live
//! opening still knows is compared when it connects anew (its number, its last transaction, the journals of the runs that
//! it has in memory) and with each renewal (the worker's own count). Runs that have lost entries become stuck, because
//! their steps would run a second time; and the opening is over, because what it remembers is no longer so.

use std::sync::{Mutex, PoisonError};

use everstep_core::{
    Status, StuckReason,
    store::{RunId, StoreError, WorkerId},
};
use foldhash::HashMap;

use crate::{
    conn::Conn,
    fault::Fault,
    row::signed,
    sql::{Sql, args, get, sql},
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

/// What an opening remembers.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The runs in memory.
    pub(crate) runs: Vec<Lasts>,
    pub(crate) workers: Vec<WorkerId>,
}

/// Makes the runs stuck whose journals are shorter than they were. If there are any, or if it `went_back` for all that is known
/// otherwise, those too that an older state gives to workers that have let go of them since. How many, if it went back.
pub(crate) async fn set_aside(
    conn: &Conn,
    remembered: &Remembered,
    went_back: bool,
) -> Result<Option<usize>, Fault> {
    /// 3 to 5: over. A run is its worker's until that has let go of it: that it is nobody's, or another's, who had it before,
    /// is what a database that went back looks like, and that a worker has not come yet. What a fenced worker remembers is
    /// old, and others may have done anything since; so is what one remembers that was fenced long ago and is forgotten.
    const LOST: Sql = sql(
        "set runs aside that lost entries",
        "WITH shorter AS (
           SELECT r.id, r.owner FROM unnest($1, $2, $3, $4) AS u(id, worker, next, ends) JOIN @run r ON r.id = u.id
           WHERE (r.owner = u.worker OR NOT u.ends) AND r.status NOT BETWEEN 3 AND 5
             AND coalesce((SELECT max(seq) + 1 FROM @journal WHERE run = r.id), 0) < u.next
             AND NOT EXISTS (SELECT 1 FROM @worker w WHERE w.id = u.worker AND w.fenced)
             AND (u.worker > (SELECT value FROM @meta WHERE key = 'worker')
               OR EXISTS (SELECT 1 FROM @worker w WHERE w.id = u.worker))),
         older AS (
           SELECT r.id, r.owner FROM @run r
           WHERE r.owner = ANY($5) AND r.owner <> 0 AND r.wake_at IS NOT NULL AND r.status NOT BETWEEN 3 AND 5
             AND r.id <> ALL($1) AND NOT EXISTS (SELECT 1 FROM @worker w WHERE w.id = r.owner AND w.fenced)
             AND ($6 OR EXISTS (SELECT 1 FROM shorter))),
         lost AS (
           UPDATE @run r SET owner = 0, wake_at = NULL, status = $7
           FROM (SELECT id, owner, $9 AS detail FROM shorter UNION ALL SELECT id, owner, $10 FROM older) AS u
           WHERE r.id = u.id AND r.owner = u.owner
           RETURNING r.id, u.detail)
         INSERT INTO @stuck (run, at, reason, detail)
         SELECT id, :now, $8, detail FROM lost
         ON CONFLICT (run) DO UPDATE SET at = excluded.at, reason = excluded.reason, key = NULL, detail = excluded.detail
         RETURNING run, detail",
    );
    const SHORTER: &str = "entries of its journal were committed and are not there any more: the database went back in time, \
                           by a failover or a backup. Their steps have run";
    const OLDER: &str = "the database went back in time, by a failover or a backup, to when a worker had this run that has let \
                         go of it since: what it did until then is lost. Steps of it may have run";
    let (mut ids, mut workers, mut nexts, mut ends) = (vec![], vec![], vec![], vec![]);
    for run in &remembered.runs {
        ids.push(run.run.0);
        workers.push(run.worker.0);
        nexts.push(signed(run.next));
        ends.push(run.ends);
    }
    let all: Vec<_> = remembered.workers.iter().map(|worker| worker.0).collect();
    let (stuck, damaged) = (Status::Stuck as i16, StuckReason::JournalDamaged as i16);
    let args = args![ids, workers, nexts, ends, all, went_back, stuck, damaged, SHORTER, OLDER];
    let lost = conn.rows(&LOST, args).await?;
    for row in &lost {
        tracing::error!(run = get::<i64>(row, 0)?, detail = get::<String>(row, 1)?, "a run is stuck");
    }
    Ok((went_back || !lost.is_empty()).then_some(lost.len()))
}

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
