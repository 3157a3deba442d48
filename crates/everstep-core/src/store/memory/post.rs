//! Letters into inboxes.

use super::{content::Content, run::Run};
use crate::{
    status::{Change, Status},
    store::{Letter, Parent, Post, Posted, RunId, StoreError},
    time::Timestamp,
};

impl Content {
    pub(super) fn post(&mut self, mut post: Post) -> Result<Posted, StoreError> {
        post.letter.check()?;
        let Some((id, key)) = self.addressee(&post.to) else { return Ok(Posted::NoSuchRun) };
        let unsettling = self.unsettling(&post.to, post.letter.at);
        let run = self.run(id)?;
        // Known before refused: a letter sent again is the same letter, whatever has become of the run.
        if run.known.contains(&post.letter.id) {
            return Ok(Posted::Known);
        }
        if !post.only.contains(run.row.status) {
            return Ok(Posted::Refused(run.row.status));
        }
        if let Some(unsettling) = unsettling {
            return Ok(unsettling);
        }
        if let Some(key) = &key {
            post.letter.name = key.clone();
        }
        if post.revive {
            run.revive()?;
        }
        if let Some(key) = key {
            self.set_settled(id, &key, true);
        }
        self.deliver(id, post.letter)?;
        Ok(Posted::Added)
    }

    /// A letter to a run of this generation, whatever its status.
    pub(super) fn tell_run(&mut self, id: RunId, generation: u32, letter: Letter) -> Result<(), StoreError> {
        match self.runs.get(&id).is_some_and(|run| run.row.generation == generation) {
            true => self.deliver(id, letter),
            false => Ok(()),
        }
    }

    /// The letter to the children of `parent` that are open: to the one of this key and of this generation, whose keys begin
    /// anew, or to all that close with it.
    pub(super) fn cancel_children(
        &mut self,
        parent: RunId,
        key: Option<&str>,
        letter: &Letter,
    ) -> Result<(), StoreError> {
        let generation = self.run(parent)?.row.generation;
        for child in self.children.get(&parent).cloned().unwrap_or_default() {
            let Some(run) = self.runs.get_mut(&child) else { continue };
            let of_it = run.parent.as_ref().filter(|own| own.run == parent);
            let is_named = |own: &Parent, key: &str| *own.key == *key && own.generation == generation;
            let meant = of_it.is_some_and(|own| key.map_or(own.closes, |key| is_named(own, key)));
            if meant && !run.row.status.is_over() && !run.known.contains(&letter.id) {
                run.revive()?;
                self.deliver(child, letter.clone())?;
            }
        }
        Ok(())
    }

    /// Puts a letter into an inbox, unless it is known there, and wakes the run.
    fn deliver(&mut self, id: RunId, letter: Letter) -> Result<(), StoreError> {
        let run = self.run(id)?;
        let wakes = letter.wakes(run.row.status, run.row.began_at.is_some());
        if run.receive(letter).is_some() {
            self.rings.changed = true;
            self.wake(id, wakes)?;
        }
        Ok(())
    }

    fn wake(&mut self, id: RunId, wakes: bool) -> Result<(), StoreError> {
        let run = self.run(id)?;
        if run.row.owner.is_some() {
            run.nudged = true;
            self.rings.inbox = true;
        } else if wakes {
            self.set_due(id, Some(Timestamp(0)));
            self.rings.claimable = true;
        }
        Ok(())
    }
}

impl Run {
    /// Of an owned run the owner decides; of a free one somebody's letter may set it going again.
    fn revive(&mut self) -> Result<(), StoreError> {
        if self.row.owner.is_none() && matches!(self.row.status, Status::Stuck | Status::Paused) {
            self.row.status = self.after(Change::Revived)?;
            self.row.takeovers = 0;
            self.stuck = None;
        }
        Ok(())
    }
}
