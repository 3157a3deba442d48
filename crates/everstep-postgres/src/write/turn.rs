//! Turns: what a load adds to its run, and how it ends.

use std::sync::Arc;

use everstep_core::{
    Status, Stuck, Timestamp,
    failpoint::{Guard, broken},
    journal::Outcome,
    store::{End, Ended, Fence, Mark, Receipt, RunId, Say, Settled, StoreError, Turn},
};

use super::{claim::illegal, entry, renew, say};
use crate::{
    batch::{Batch, Held},
    fault::Fault,
    fold,
    guest::Writes,
    op::After,
    row::codec,
    sql::{Sql, args, sql},
    text::kept,
};

/// A turn on its way. Its receipt hears exactly once what became of it.
pub(crate) struct Commit {
    pub(crate) fence: Fence,
    pub(crate) turn: Turn,
    receipt: Option<Arc<dyn Receipt>>,
    /// What became of it, once it was written or refused.
    pub(crate) settled: Option<Settled>,
    /// Its load is open and its sender's: what is wrong with the turn ends it.
    pub(crate) own: bool,
    /// It was sent to the database, and no reply came: it may have happened.
    pub(crate) unsure: bool,
}

/// The row's change when a load ends.
pub(crate) struct RowChange {
    pub(crate) status: Status,
    pub(crate) wake_at: Option<Timestamp>,
    /// Compared with the row's.
    pub(crate) inbox_n: Option<u64>,
    pub(crate) finished_at: Option<Timestamp>,
}

impl Commit {
    pub(crate) fn new(fence: Fence, turn: Turn, receipt: Arc<dyn Receipt>) -> Commit {
        Commit { fence, turn, receipt: Some(receipt), settled: None, own: false, unsure: false }
    }

    pub(crate) fn bytes(&self) -> usize {
        let entries = self.turn.entries.iter().map(entry::bytes).sum::<usize>();
        entries + self.turn.says.iter().map(Say::bytes).sum::<usize>()
    }

    /// Whether one statement can write it together with others.
    pub(crate) fn is_plain(&self) -> bool {
        let is_plain_end = matches!(
            self.turn.end,
            None | Some(End::Finished { .. } | End::Parked { .. } | End::GivenBack { .. })
        );
        is_plain_end && self.turn.says.is_empty() && self.turn.marks.is_empty()
    }

    /// Whether somebody may wait for what it says, or for how it ends.
    pub(crate) fn is_waited_for(&self) -> bool {
        let ends =
            matches!(self.turn.end, Some(End::Finished { .. } | End::Stuck { .. } | End::Paused { .. }));
        ends || !self.turn.says.is_empty()
    }

    /// Asks whether it may be written, before anything is: what is remembered of its load, and the number after it.
    pub(crate) fn admit(&mut self, batch: &mut Batch<'_>) -> Result<(Held, u64), StoreError> {
        let turn = &self.turn;
        let held = batch.held(turn.load, turn.run, self.fence)?;
        self.own = true;
        let next = batch.admit(turn.load, turn.run, turn.entries.iter().map(|entry| entry.seq))?;
        if let Some(end) = &turn.end {
            row_change(turn.run, end, held.status)?;
        }
        Ok((held, next))
    }

    /// Writes it with all that it says.
    pub(crate) async fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        self.settled = None;
        let items = match self.turn.says.is_empty() {
            true => Vec::new(),
            false => self.number_items(batch).await?,
        };
        fold::write(batch, &mut [self], &mut []).await?;
        match &self.settled {
            Some(Settled::Durable { .. }) => {}
            Some(Settled::Refused(error)) => return Err(error.clone().into()),
            _ => return Ok(()),
        }
        let turn = &self.turn;
        for mark in &turn.marks {
            set_mark(batch, turn.run, mark).await?;
        }
        match &turn.end {
            Some(End::Stuck { stuck, at, .. }) => set_stuck(batch, turn.run, stuck, *at).await?,
            Some(End::Finished { .. } | End::Paused { .. }) => clear_stuck(batch, turn.run).await?,
            _ => {}
        }
        say::add(batch, turn.run, &turn.says, items).await?;
        if let Some(End::Restarted { first }) = &turn.end {
            renew::restart(batch, turn.run, first).await?;
        }
        Ok(())
    }

    /// What is wrong with an item concerns a load that is open, and comes before what is written.
    async fn number_items(&mut self, batch: &mut Batch<'_>) -> Result<Vec<u64>, Fault> {
        batch.check(self.fence).await?;
        batch.held(self.turn.load, self.turn.run, self.fence)?;
        self.own = true;
        let numbered = say::item_numbers(batch, self.turn.run, &self.turn.says).await;
        if matches!(numbered, Err(Fault::Refuse(_))) {
            batch.close(self.turn.load);
        }
        numbered
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

    pub(crate) fn settle(mut self, after: &mut After<'_>) {
        let settled = self.settled.take().expect("settled after it was applied");
        if matches!(settled, Settled::Durable { .. }) {
            if !self.turn.says.is_empty() {
                after.bell.ring_said(self.turn.run);
            }
            self.ring_ended(after);
        }
        self.answer(settled);
    }

    pub(crate) fn fail(mut self, error: StoreError, after: &mut After<'_>) {
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

pub(crate) fn no_longer_ours(run: RunId) -> StoreError {
    StoreError::Refused(format!("run {} is no longer this worker's", run.0).into())
}

pub(crate) fn row_change(run: RunId, end: &End, from: Status) -> Result<RowChange, StoreError> {
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

pub(super) async fn set_mark(batch: &mut Batch<'_>, run: RunId, mark: &Mark) -> Result<(), Fault> {
    const SET: Sql = sql(
        "write a started row",
        "INSERT INTO @started (run, key, attempt, at, abandoned, details, details_codec)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (run, key) DO UPDATE
         SET attempt = excluded.attempt, at = excluded.at, abandoned = excluded.abandoned,
             details = excluded.details, details_codec = excluded.details_codec",
    );
    const CLEAR: Sql = sql("clear a started row", "DELETE FROM @started WHERE run = $1 AND key = $2");
    match mark {
        Mark::Started(row) => {
            let details = row.details.as_ref().map(|details| &*details.bytes);
            let details_codec = row.details.as_ref().map(codec);
            let attempt = row.attempt.cast_signed();
            let args = args![run.0, kept(&row.key), attempt, row.at.0, row.abandoned, details, details_codec];
            batch.execute(&SET, args).await
        }
        Mark::Cleared(key) => batch.execute(&CLEAR, args![run.0, kept(key)]).await,
    }
    .map(drop)
}

pub(crate) async fn set_stuck(
    batch: &mut Batch<'_>,
    run: RunId,
    stuck: &Stuck,
    at: Timestamp,
) -> Result<(), Fault> {
    const SET: Sql = sql(
        "say why a run is stuck",
        "INSERT INTO @stuck (run, reason, key, detail, at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (run) DO UPDATE
         SET reason = excluded.reason, key = excluded.key, detail = excluded.detail, at = excluded.at",
    );
    let reason = i16::from(stuck.reason.code());
    let args = args![run.0, reason, stuck.key.as_deref().map(kept), kept(&stuck.detail), at.0];
    batch.execute(&SET, args).await.map(drop)
}

/// The run needs nobody any more.
pub(crate) async fn clear_stuck(batch: &mut impl Writes, run: RunId) -> Result<(), Fault> {
    const CLEAR: Sql = sql("forget why a run was stuck", "DELETE FROM @stuck WHERE run = $1");
    batch.execute(&CLEAR, args![run.0]).await.map(drop)
}

/// Whether what a turn took out of the inbox is to stay there: a guard of tests that is switched off.
pub(crate) fn keeps_what_it_took() -> bool {
    broken(Guard::Take)
}
