//! Operations that are over: taken, or dropped by the function. What happened to a dropped one and is no entry yet
//! vanishes, but for a step's: its effect is there and must be recorded, and its started row must tell the truth.

use std::{panic::Location, sync::Arc};

use super::table::{Arrived, Happened, Slot, Sort, Stage, Table};
use crate::{
    journal::Payload,
    scope::name_in,
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
        self.free.push(op);
        let key = slot.key.clone();
        match slot.sort {
            Sort::Step => self.leave(op, slot, stage, now),
            Sort::Signal | Sort::Request => self.give_back(op, slot),
            Sort::Promise => {
                // One wait, and it is over.
                self.aside().links.leave(&key, op);
                self.aside().links.forget(&key);
            }
            Sort::Child => self.aside().links.leave(&key, op),
            Sort::Timer | Sort::Scope => {}
        }
        if let Some(aside) = self.has_aside() {
            aside.details.remove(&key);
        }
        key
    }

    /// A wait takes nothing with it that it has not returned.
    fn give_back(&mut self, op: usize, slot: Slot) {
        let name = name_in(&slot.key);
        let is_request = slot.sort == Sort::Request;
        let aside = self.aside();
        let mail = if is_request { &mut aside.requests } else { &mut aside.mail };
        mail.leave(name, op);
        if let Some(Arrived { seq, what }) = slot.arrived.map(|arrived| *arrived) {
            mail.put(name, seq, what.map(|payload| payload.expect("a signal has a payload")));
        }
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

    /// What becomes of the row of a step whose body is dropped with the whole function.
    pub(super) fn abandon(&mut self, op: usize, now: Timestamp) -> Option<Mark> {
        let slot = self.slots[op].take()?;
        let mark = self.mark_of(&slot, false, now);
        self.slots[op] = Some(slot);
        mark
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
        let details = self.has_aside().and_then(|aside| aside.details.get(&slot.key).cloned());
        let (key, attempt) = (slot.key.clone(), row.attempt);
        Some(Mark::Started(StartedRow { key, attempt, at, abandoned: true, details }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::table::{Candidate, Row},
        stuck::{Stuck, StuckReason},
    };

    const NOW: Timestamp = Timestamp(9);

    /// A table with one step, and what `close` leaves of it.
    fn left(prepare: impl FnOnce(&mut Table, usize)) -> Table {
        let mut table = Table::default();
        let op = table.claim("pay".into(), Sort::Step, Location::caller());
        prepare(&mut table, op);
        table.close(op, NOW);
        table
    }

    fn registered(table: &mut Table, op: usize, transacts: bool) {
        table.get(op).transacts = transacts;
        table.register(op);
    }

    fn may_have_committed(mut table: Table) -> bool {
        !table.aside().left.is_empty()
    }

    #[test]
    fn only_an_open_transaction_may_have_committed_unheard() {
        assert!(may_have_committed(left(|table, op| registered(table, op, true))));
        assert!(!may_have_committed(left(|table, op| registered(table, op, false))), "no transaction");
        assert!(!may_have_committed(left(|table, op| table.get(op).transacts = true)), "never polled");
        let delivered = |table: &mut Table, op: usize| {
            registered(table, op, true);
            table.rest(op, Stage::Delivered { seq: 1 });
            table.untaken += 1;
        };
        assert!(!may_have_committed(left(delivered)), "its outcome is an entry");
    }

    #[test]
    fn what_happened_to_a_dropped_step_leaves_the_queue_as_an_orphan() {
        let mut table = left(|table, op| {
            let other = table.claim("other".into(), Sort::Step, Location::caller());
            for op in [other, op] {
                registered(table, op, true);
                table.rest(op, Stage::Idle);
                table.get(op).happened = true;
                let what = Happened::Done(Payload::json("1"));
                table.candidates.push_back(Box::new(Candidate { op, what, takes: None }));
            }
        });
        assert_eq!(table.candidates.len(), 1, "the other one stays");
        let orphans = &table.aside().orphans;
        assert_eq!(orphans.iter().map(|orphan| &*orphan.step.key).collect::<Vec<_>>(), ["pay"]);
        assert!(!may_have_committed(table), "it is known what became of it");
    }

    #[test]
    fn a_dropped_step_asks_nobody_and_the_others_still_do() {
        let mut table = left(|table, op| {
            let other = table.claim("other".into(), Sort::Step, Location::caller());
            for op in [op, other] {
                table.get(op).happened = true;
                let stuck = Stuck { reason: StuckReason::InDoubt, key: None, detail: String::new() };
                table.aside().asking.push_back((op, stuck));
            }
        });
        assert_eq!(table.aside().asking.iter().map(|(op, _)| *op).collect::<Vec<_>>(), [1]);
    }

    fn row(attempt: u32, at: i64, abandoned: bool) -> StartedRow {
        StartedRow { key: "pay".into(), attempt, at: Timestamp(at), abandoned, details: None }
    }

    /// The marks of a dropped step whose row is of attempt 2, when an earlier load left `before`.
    fn marks(began: bool, before: Option<StartedRow>) -> Vec<Mark> {
        let mut table = left(|table, op| {
            registered(table, op, false);
            table.get(op).row = Some(Row { attempt: 2, began });
            table.aside().rows.extend(before.map(|row| (row.key.clone(), row)));
        });
        std::mem::take(&mut table.aside().marks)
    }

    #[test]
    fn the_row_of_a_dropped_step_tells_the_truth() {
        assert_eq!(marks(false, None), [Mark::Cleared("pay".into())], "no body began");
        assert_eq!(marks(true, None), [Mark::Started(row(2, NOW.0, true))], "it was cut off");
        assert_eq!(marks(true, Some(row(2, 5, false))), [Mark::Started(row(2, 5, true))], "since then");
        assert_eq!(marks(true, Some(row(2, 5, true))), [], "the row says so already");
        let other = marks(true, Some(row(1, 5, true)));
        assert_eq!(other, [Mark::Started(row(2, NOW.0, true))], "that row is of another attempt");
    }
}
