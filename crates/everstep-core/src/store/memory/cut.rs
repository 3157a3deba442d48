//! The end of a journal, taken back by a person.

use super::{content::Content, refused};
use crate::{
    status::{Change, Status},
    store::{Cut, Letter, StoreError},
    time::Timestamp,
};

impl Content {
    pub(super) fn cut(&mut self, cut: Cut) -> Result<bool, StoreError> {
        cut.letters.iter().try_for_each(Letter::check)?;
        let Some(run) = self.runs.get_mut(&cut.run) else { return Ok(false) };
        let row = &run.row;
        if cut.last.is_some_and(|last| last != run.last_seq()) {
            return Ok(false);
        }
        if row.owner.is_some() || row.inbox_n != cut.inbox_n || !cut.only.contains(row.status) {
            return Ok(false);
        }
        if cut.from == 0 {
            return Err(refused(format!("run {}: its first entry cannot be cut off", cut.run.0)));
        }
        run.row.status = match run.row.status {
            // It goes on by itself anyway; it only goes on from an earlier entry.
            same @ (Status::Pending | Status::Waiting) => same,
            _ => run.after(Change::Revived)?,
        };
        let from = run.entries.partition_point(|entry| entry.seq < cut.from);
        let archived = run.entries.split_off(from);
        run.archive(&cut.why, cut.at, archived);
        run.row.finished_at = None;
        run.row.takeovers = 0;
        run.stuck = None;
        for letter in cut.letters {
            run.receive(letter);
        }
        cut.reopens.iter().for_each(|key| self.set_settled(cut.run, key, false));
        self.set_due(cut.run, Some(Timestamp(0)));
        self.rings.claimable = true;
        self.rings.changed = true;
        Ok(true)
    }
}
