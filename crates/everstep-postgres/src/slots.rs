//! Under which number the writer has its row of each worker's fence.
//!
//! Every statement of the writer for a worker names that number. When a reply is lost, the number is changed before
//! anybody looks what became of the statement: a server that is still at it is waited for, because it has the row locked,
//! and what comes later finds no row of that number and writes nothing. What is seen then is final.

use everstep_core::store::WorkerId;
use foldhash::HashMap;

use crate::{
    conn::Conn,
    fault::{Class, Fault, class},
    sql::{Sql, args, sql},
    statement::fenced,
    write::worker::SLOTS,
};

/// The number that the row has until it is changed. Those below [`SLOTS`] are of connections for transactional steps.
const FIRST: i16 = 0;

/// Of each worker whose number was changed, those that it may have by now: all but the last one are there because no
/// reply came. The last one is the one that is used.
#[derive(Debug, Default)]
pub(crate) struct Slots(HashMap<WorkerId, Vec<i16>>);

impl Slots {
    /// The number that statements for this worker name.
    pub(crate) fn of(&self, worker: WorkerId) -> i16 {
        self.0.get(&worker).and_then(|numbers| numbers.last()).copied().unwrap_or(FIRST)
    }

    /// Gives the row another number: nothing that was sent for this worker before comes into effect any more. `false` if
    /// it is fenced. Cancel safe: a number that may have been given is known.
    pub(crate) async fn change(&mut self, conn: &Conn, worker: WorkerId) -> Result<bool, Fault> {
        const CHANGE: Sql = sql(
            "change the number of a fence",
            "UPDATE @slot SET slot = $2 WHERE worker = $1 AND slot = ANY($3) AND NOT fenced",
        );
        let new = following(self.of(worker));
        let numbers = self.0.entry(worker).or_insert_with(|| vec![FIRST]);
        let before = numbers.clone();
        numbers.push(new);
        let changed = conn.execute(&fenced(&CHANGE), args![worker.0, new, &before]).await;
        match &changed {
            Ok(0) => drop(self.0.remove(&worker)),
            Ok(_) => *numbers = vec![new],
            Err(Fault::Sql(_, error)) if class(error) == Class::Gone => {}
            // It was certainly not given.
            Err(_) => *numbers = before,
        }
        Ok(changed? > 0)
    }
}

/// A number comes again after 32,752 others, when nothing of its time is under way.
fn following(number: i16) -> i16 {
    number.max(SLOTS - 1).checked_add(1).unwrap_or(SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_that_of_a_step() {
        assert_eq!([FIRST, SLOTS, i16::MAX].map(following), [SLOTS, SLOTS + 1, SLOTS]);
    }
}
