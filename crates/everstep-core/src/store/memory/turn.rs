//! Turns: what a load adds to its run, and how it ends.

use super::{OpeningId, content::Content, refused, run::Run};
use crate::{
    journal::{Entry, Outcome},
    status::Status,
    store::{End, Fence, Mark, RunId, Say, Settled, StoreError, Turn, WorkerId},
};

/// What is remembered of an open load: who has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) worker: WorkerId,
    pub(super) opening: OpeningId,
}

impl Content {
    pub(super) fn turn(&mut self, opening: OpeningId, fence: Fence, turn: &Turn) -> Settled {
        // A load is ended by a wrong turn of its own, not by somebody else's.
        if let Err(error) = self.check_load(opening, fence, (turn.load, turn.run)) {
            return Settled::Refused(error);
        }
        self.try_turn(turn).unwrap_or_else(|error| {
            self.loads.close(turn.load);
            Settled::Refused(error)
        })
    }

    fn try_turn(&mut self, turn: &Turn) -> Result<Settled, StoreError> {
        if let Some(error) = &self.failing {
            return Err(error.clone());
        }
        let admitted = self.loads.admit(turn.load, turn.run, turn.entries.iter().map(|entry| entry.seq))?;
        let run = self.run(turn.run)?;
        let status = turn.end.as_ref().map(|end| status_after(run, end)).transpose()?;
        let items = run.item_numbers(&turn.says)?;
        let inbox_n = run.row.inbox_n;
        if turn.end.as_ref().and_then(End::inbox_n).is_some_and(|expected| expected != inbox_n) {
            self.loads.rewind(turn.load, admitted.before);
            return Ok(Settled::Moved { inbox_n });
        }
        run.add_turn(turn);
        run.said.add(&turn.says, items);
        self.rings.said.extend((!turn.says.is_empty()).then_some(turn.run));
        self.rings.changed = true;
        self.tell(turn.run, &turn.says)?;
        if let (Some(end), Some(status)) = (&turn.end, status) {
            self.loads.close(turn.load);
            self.end(turn.run, end, status, turn.entries.last())?;
        }
        Ok(Settled::Durable { next: admitted.next })
    }

    /// Tells what concerns others than the run's readers.
    fn tell(&mut self, id: RunId, says: &[Say]) -> Result<(), StoreError> {
        for say in says.iter().cloned() {
            match say {
                Say::Promised { hash, key, expires } => self.add_promise(id, hash, key, expires),
                Say::Child { run, answer } => self.start_child(&run, answer)?,
                Say::Tell { run, generation, letter } => self.tell_run(run, generation, letter)?,
                Say::Cancel { child, letter } => self.cancel_children(id, child.as_deref(), &letter)?,
                Say::Published { .. }
                | Say::Emitted { .. }
                | Say::Attribute { .. }
                | Say::Answered { .. } => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, id: RunId, end: &End, status: Status, last: Option<&Entry>) -> Result<(), StoreError> {
        if let End::Restarted { first } = end {
            let run = self.run(id)?;
            run.renew(first, "restart");
            run.row.began_at = Some(first.at);
            return Ok(());
        }
        self.disown(id);
        let run = self.run(id)?;
        run.row.status = status;
        let wake_at = match end {
            End::Finished { at, .. } => {
                run.row.finished_at = Some(*at);
                run.stuck = None;
                self.rings.ended.push((id, status, last.and_then(Outcome::told_by)));
                None
            }
            End::Stuck { stuck, at, .. } => {
                run.stuck = Some((stuck.clone(), *at));
                self.rings.ended.push((id, Status::Stuck, None));
                None
            }
            End::Parked { wake_at, .. } => *wake_at,
            End::GivenBack { wake_at } => Some(*wake_at),
            End::Paused { .. } => {
                run.stuck = None;
                None
            }
            End::Restarted { .. } => None,
        };
        self.set_due(id, wake_at);
        self.rings.claimable |= wake_at.is_some();
        Ok(())
    }
}

impl Run {
    fn add_turn(&mut self, turn: &Turn) {
        self.entries.extend(turn.entries.iter().cloned());
        for mark in &turn.marks {
            match mark {
                Mark::Started(row) => self.started.insert(row.key.clone(), row.clone()),
                Mark::Cleared(key) => self.started.remove(key),
            };
        }
        turn.takes.iter().for_each(|n| drop(self.inbox.remove(n)));
    }
}

fn status_after(run: &Run, end: &End) -> Result<Status, StoreError> {
    let no_end = || refused(format!("run {} cannot end like this: {end:?}", run.row.run.0));
    run.after(end.change().ok_or_else(no_end)?)
}
