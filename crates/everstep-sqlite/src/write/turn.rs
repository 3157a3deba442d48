//! Turns: what a load adds to its run, and how it ends.

use std::sync::Arc;

use everstep_core::{
    Status, Stuck, Timestamp,
    failpoint::{Guard, broken},
    journal::Outcome,
    store::{End, Ended, Fence, Mark, Receipt, RunId, Say, Settled, StoreError, Turn},
};
use rusqlite::{Connection, params};

use super::{claim::illegal, entry, renew, say};
use crate::{
    batch::{Batch, Held},
    fault::Fault,
    hot::Hot,
    op::{After, Op, Weight},
    row::{signed, unsigned, value},
};

/// Frees a run whose load ends, if it is still the worker's and has the messages that the driver knows of.
pub(crate) const END_LOAD: &str =
    "UPDATE everstep_run SET owner = 0, status = ?3, wake_at = ?4, finished_at = ?5
     WHERE id = ?1 AND owner = ?2 AND (?6 IS NULL OR inbox_n = ?6)";

/// A turn on its way. Its receipt hears exactly once what became of it.
pub(crate) struct Commit {
    pub(crate) fence: Fence,
    pub(crate) turn: Turn,
    receipt: Option<Arc<dyn Receipt>>,
    settled: Option<Settled>,
    /// Its load is open and its sender's: what is wrong with the turn ends it.
    own: bool,
}

/// The row's change when a load ends.
struct RowChange {
    status: Status,
    wake_at: Option<Timestamp>,
    /// Compared with the row's.
    inbox_n: Option<u64>,
    finished_at: Option<Timestamp>,
}

impl Commit {
    pub(crate) fn new(fence: Fence, turn: Turn, receipt: Arc<dyn Receipt>) -> Commit {
        Commit { fence, turn, receipt: Some(receipt), settled: None, own: false }
    }

    fn write(&mut self, batch: &mut Batch<'_>) -> Result<Settled, Fault> {
        let turn = &self.turn;
        batch.check(self.fence)?;
        let held = batch.held(turn.load, turn.run, self.fence)?;
        self.own = true;
        let next = batch.admit(turn.load, turn.run, turn.entries.iter().map(|entry| entry.seq))?;
        let items = say::item_numbers(batch.conn, turn.run, &turn.says)?;
        if let Some(end) = &turn.end {
            // The row first: if it has moved, nothing else may be written.
            if let Some(inbox_n) = end_load(batch, self.fence, turn, end, held)? {
                batch.unadmit();
                return Ok(Settled::Moved { inbox_n });
            }
        }
        for entry in &turn.entries {
            entry::insert(batch, turn.run, entry)?;
        }
        for mark in &turn.marks {
            set_mark(batch.conn, turn.run, mark)?;
        }
        for n in turn.takes.iter().filter(|_| !broken(Guard::Take)) {
            batch
                .conn
                .prepare_cached("DELETE FROM everstep_inbox WHERE run = ?1 AND n = ?2")?
                .execute([turn.run.0, signed(*n)])?;
        }
        say::add(batch, turn.run, &turn.says, items)?;
        if let Some(End::Restarted { first }) = &turn.end {
            renew::restart(batch, turn.run, first)?;
        }
        Ok(Settled::Durable { next })
    }

    fn answer(&mut self, settled: Settled) {
        if let Some(receipt) = self.receipt.take() {
            receipt.settled(settled);
        }
    }

    fn ring_ended(&self, after: &After<'_>) {
        let status = match &self.turn.end {
            Some(End::Finished { status, .. }) => *status,
            Some(End::Stuck { .. }) => Status::Stuck,
            _ => return,
        };
        let last = self.turn.entries.last();
        let outcome = || last.and_then(Outcome::told_by);
        after.bell.ring_ended(self.turn.run, || Ended { status, outcome: outcome() });
    }
}

impl Op for Commit {
    fn weight(&self) -> Weight {
        Weight::Turn(self.turn.run)
    }

    fn bytes(&self) -> Option<usize> {
        let entries = self.turn.entries.iter().map(entry::bytes).sum::<usize>();
        Some(entries + self.turn.says.iter().map(Say::bytes).sum::<usize>())
    }

    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        let written = self.write(batch);
        if self.own && matches!(written, Err(Fault::Refuse(_))) {
            batch.close(self.turn.load);
        }
        self.settled = Some(written?);
        Ok(())
    }

    fn settle(mut self: Box<Self>, after: &mut After<'_>) {
        let settled = self.settled.take().expect("settled after it was applied");
        if matches!(settled, Settled::Durable { .. }) {
            if !self.turn.says.is_empty() {
                after.bell.ring_said(self.turn.run);
            }
            self.ring_ended(after);
        }
        self.answer(settled);
        // Without its receipt, which may hold the store that would hold it.
        after.spent.push(self);
    }

    fn fail(mut self: Box<Self>, error: StoreError, after: &mut After<'_>) {
        if self.own {
            after.loads.close(self.turn.load);
        }
        self.answer(Settled::Refused(error));
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.answer(Settled::Refused(StoreError::Closed("its writer has ended".into())));
    }
}

/// Changes the run's row; `Some` with its inbox count if that is not what the driver thinks, and nothing was changed.
fn end_load(
    batch: &mut Batch<'_>,
    fence: Fence,
    turn: &Turn,
    end: &End,
    held: Held,
) -> Result<Option<u64>, Fault> {
    let change = row_change(turn.run, end, held.status)?;
    if matches!(end, End::Restarted { .. }) {
        return match batch.owner_and_inbox(turn.run)? {
            Some((owner, _)) if owner == fence.worker.0 => {
                batch.close(turn.load);
                Ok(None)
            }
            _ => Err(no_longer_ours(turn.run)),
        };
    }
    let changed = batch.hot.execute(
        Hot::EndLoad,
        params![
            turn.run.0,
            fence.worker.0,
            change.status.code(),
            change.wake_at.map(|at| at.0),
            change.finished_at.map(|at| at.0),
            change.inbox_n.map(signed),
        ],
    )?;
    if changed == 0 {
        return match batch.owner_and_inbox(turn.run)? {
            Some((owner, inbox_n)) if owner == fence.worker.0 => Ok(Some(unsigned(inbox_n))),
            _ => Err(no_longer_ours(turn.run)),
        };
    }
    batch.count(held.workflow, Some(held.status), change.status);
    match end {
        End::Stuck { stuck, at, .. } => set_stuck(batch.conn, turn.run, stuck, *at)?,
        End::Finished { .. } | End::Paused { .. } if held.status == Status::Stuck => {
            clear_stuck(batch.conn, turn.run)?;
        }
        End::Finished { .. }
        | End::Parked { .. }
        | End::Paused { .. }
        | End::GivenBack { .. }
        | End::Restarted { .. } => {}
    }
    batch.rings.claimable |= change.wake_at.is_some();
    batch.close(turn.load);
    Ok(None)
}

fn no_longer_ours(run: RunId) -> Fault {
    StoreError::Refused(format!("run {} is no longer this worker's", run.0).into()).into()
}

fn row_change(run: RunId, end: &End, from: Status) -> Result<RowChange, StoreError> {
    let no_end = || StoreError::Refused(format!("run {} cannot end like this: {end:?}", run.0).into());
    let status = from.after(end.change().ok_or_else(no_end)?).map_err(|e| illegal(run, e))?;
    let (wake_at, finished_at) = match end {
        End::Finished { at, .. } => (None, Some(*at)),
        End::Parked { wake_at, .. } => (*wake_at, None),
        End::GivenBack { wake_at } => (Some(*wake_at), None),
        End::Stuck { .. } | End::Paused { .. } | End::Restarted { .. } => (None, None),
    };
    Ok(RowChange { status, wake_at, inbox_n: end.inbox_n(), finished_at })
}

pub(super) fn set_mark(conn: &Connection, run: RunId, mark: &Mark) -> rusqlite::Result<()> {
    match mark {
        Mark::Started(row) => conn
            .prepare_cached(
                "INSERT INTO everstep_started (run, key, attempt, at, abandoned, details, details_codec)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (run, key) DO UPDATE
                 SET attempt = excluded.attempt, at = excluded.at, abandoned = excluded.abandoned,
                     details = excluded.details, details_codec = excluded.details_codec",
            )?
            .execute(params![
                run.0,
                &*row.key,
                row.attempt,
                row.at.0,
                row.abandoned,
                row.details.as_ref().map(value),
                row.details.as_ref().map(|details| details.codec),
            ]),
        Mark::Cleared(key) => conn
            .prepare_cached("DELETE FROM everstep_started WHERE run = ?1 AND key = ?2")?
            .execute(params![run.0, &**key]),
    }
    .map(drop)
}

pub(super) fn set_stuck(conn: &Connection, run: RunId, stuck: &Stuck, at: Timestamp) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO everstep_stuck (run, reason, key, detail, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (run) DO UPDATE
         SET reason = excluded.reason, key = excluded.key, detail = excluded.detail, at = excluded.at",
    )?
    .execute(params![run.0, stuck.reason.code(), stuck.key.as_deref(), stuck.detail, at.0])
    .map(drop)
}

/// The run needs nobody any more.
pub(crate) fn clear_stuck(conn: &Connection, run: RunId) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM everstep_stuck WHERE run = ?1")?.execute([run.0]).map(drop)
}
