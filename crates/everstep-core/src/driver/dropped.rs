//! Operations that are over: taken, or dropped by the function. What happened to a dropped one and is no entry yet
//! vanishes, but for a step's: its effect is there and must be recorded, and its started row must tell the truth.

use std::{panic::Location, sync::Arc};

use super::table::{Happened, Slot, Sort, Stage, Table};
use crate::{
    journal::Payload,
    store::{Mark, StartedRow},
    time::Timestamp,
};

/// A step that the function dropped.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub(crate) key: Arc<str>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) attempt: u32,
    pub(crate) input: Option<Box<Payload>>,
}

/// A dropped step's outcome: recorded, delivered to nobody.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) step: Dropped,
    pub(crate) what: Happened,
    /// The inbox number of the letter that told it.
    pub(crate) takes: Option<u64>,
}

impl Table {
    /// The operation is over.
    pub(crate) fn close(&mut self, op: usize, now: Timestamp) -> Arc<str> {
        let stage = self.get(op).stage;
        if let Stage::Delivered { seq } = stage {
            self.untaken -= 1;
            self.asked.remove(&(seq, op));
        }
        self.rest(op, Stage::Claimed);
        let slot = self.slots[op].take().expect("closed once");
        self.deadlines.remove(slot.deadline, op);
        self.deadlines.remove(slot.retry_at, op);
        if let Some(index) = self.has_aside().and_then(|aside| aside.by_key.as_mut()) {
            index.remove(&slot.key);
        }
        if self.granted == Some(op) {
            self.granted = None;
        }
        self.free.push(op);
        let key = slot.key.clone();
        if slot.sort == Sort::Step {
            self.leave(op, slot, stage, now);
        }
        key
    }

    /// What a step leaves behind: its outcome if it is no entry yet, and the truth about its started row.
    fn leave(&mut self, op: usize, slot: Slot, stage: Stage, now: Timestamp) {
        let happened = slot.happened.then(|| self.forget(op)).flatten();
        let ended = matches!(stage, Stage::Delivered { .. }) || happened.is_some();
        if let Some(mark) = self.mark_of(&slot, ended, now) {
            self.aside().marks.push(mark);
        }
        let step = Dropped { attempt: slot.attempt(), key: slot.key, site: slot.site, input: slot.input };
        match happened {
            Some((what, takes)) => self.aside().orphans.push_back(Orphan { step, what, takes }),
            None if slot.transacts && !ended && !matches!(stage, Stage::Claimed) => {
                self.aside().left.insert(step.key.clone(), step);
            }
            None => {}
        }
    }

    /// Takes back what happened to an operation; what asks a person has not ended.
    fn forget(&mut self, op: usize) -> Option<(Happened, Option<u64>)> {
        if let Some(aside) = self.has_aside() {
            aside.asking.retain(|(asks, _)| *asks != op);
        }
        let at = self.candidates.iter().position(|candidate| candidate.op == op)?;
        let candidate = self.candidates.remove(at).expect("just found");
        Some((candidate.what, candidate.takes))
    }

    /// A row whose attempt ended, or never began, goes; one whose attempt was cut off says so.
    fn mark_of(&mut self, slot: &Slot, ended: bool, now: Timestamp) -> Option<Mark> {
        let row = slot.row?;
        if ended || !row.began {
            return Some(Mark::Cleared(slot.key.clone()));
        }
        let before = self
            .has_aside()
            .and_then(|aside| aside.rows.get(&slot.key))
            .filter(|before| before.attempt == row.attempt);
        if before.is_some_and(|before| before.abandoned) {
            return None;
        }
        let at = before.map_or(now, |before| before.at);
        Some(Mark::Started(StartedRow { key: slot.key.clone(), attempt: row.attempt, at, abandoned: true }))
    }
}
