//! Starts: each by itself, decided by the id.

use std::sync::Arc;

use super::{Memory, OpeningId, content::Content, run::Run};
use crate::{
    journal::Entry,
    store::{Adopt, Answer, Claimed, Fence, LetterId, NewRun, RunId, Started, StoreError, Used},
};

impl Memory {
    /// See [`crate::store::Store::start`].
    pub(super) fn start_all(
        &self,
        runs: Vec<NewRun>,
        claim: Option<(Fence, Arc<dyn Adopt>)>,
    ) -> Answer<Vec<Started>> {
        let (fence, adopt) = claim.unzip();
        let mut claimed = Vec::new();
        let (answer, rings) = self.apply(|content| {
            fence.map_or_else(|| content.check_mark(), |fence| content.check(fence))?;
            runs.iter().try_for_each(NewRun::check)?;
            let each = |new| content.start_one(self.0.number, new, fence, &mut claimed);
            runs.into_iter().map(each).collect()
        });
        self.ring(rings);
        if let Some(adopt) = adopt {
            claimed.into_iter().for_each(|(run, first)| adopt.adopt(run, first));
        }
        Box::pin(std::future::ready(answer))
    }
}

impl Content {
    fn start_one(
        &mut self,
        opening: OpeningId,
        new: NewRun,
        fence: Option<Fence>,
        claimed: &mut Vec<(Claimed, Entry)>,
    ) -> Result<Started, StoreError> {
        let run = match self.enter(&new)? {
            Entered::New(run) => run,
            Entered::Known(run) => return self.known(run),
        };
        match fence.filter(|_| new.claim) {
            Some(fence) => claimed.push((self.take(opening, run, fence, Some(new.first.at))?, new.first)),
            None => {
                self.set_due(run, Some(new.due));
                self.rings.claimable = true;
            }
        }
        Ok(Started::New(run))
    }

    /// A new run, or one in the place of another; it is due at no time yet.
    fn enter(&mut self, new: &NewRun) -> Result<Entered, StoreError> {
        let run = match self.ids.get(&new.id).copied() {
            None => {
                self.last_run += 1;
                let run = RunId(self.last_run);
                self.runs.insert(run, Run::pending(run, new));
                self.ids.insert(new.id.clone(), run);
                run
            }
            Some(known) if new.replaces(self.run(known)?.row.status) => {
                self.run(known)?.give_place(new)?;
                self.promises.retain(|_, promise| promise.run != known);
                known
            }
            Some(known) => return Ok(Entered::Known(known)),
        };
        self.rings.changed = true;
        if let Some(parent) = &new.parent {
            self.children.entry(parent.run).or_default().push(run);
        }
        Ok(Entered::New(run))
    }

    /// Starts a child, or tells its parent what its id is used for.
    pub(super) fn start_child(&mut self, new: &NewRun, answer: LetterId) -> Result<(), StoreError> {
        let known = match self.enter(new)? {
            Entered::Known(known) => known,
            Entered::New(run) => {
                self.set_due(run, Some(new.due));
                self.rings.claimable = true;
                return Ok(());
            }
        };
        let run = self.run(known)?;
        let used = new.used(&run.seen_row(), run.parent.as_ref(), run.entries.last(), answer);
        match (used, &new.parent) {
            (Used::Heard(letter), Some(parent)) => self.tell_run(parent.run, parent.generation, letter),
            _ => Ok(()),
        }
    }

    fn known(&mut self, run: RunId) -> Result<Started, StoreError> {
        let run = self.run(run)?;
        let damaged = || StoreError::Damaged(format!("run `{}` has no first entry", run.row.id).into());
        let first = run.entries.first().cloned().ok_or_else(damaged)?;
        Ok(Started::Known(Box::new(run.seen_row()), Box::new(first)))
    }
}

enum Entered {
    New(RunId),
    /// Its id is in use.
    Known(RunId),
}
