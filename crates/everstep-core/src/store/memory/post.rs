//! Letters into inboxes.

use super::content::Content;
use crate::{
    status::{Change, Status},
    store::{Post, Posted, RunId, StoreError},
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
        // Of an owned run the owner decides; of a free one a person's letter may set it going again.
        let can_be_revived = matches!(run.row.status, Status::Stuck | Status::Paused);
        if post.revive && run.row.owner.is_none() && can_be_revived {
            run.row.status = run.after(Change::Revived)?;
            run.row.takeovers = 0;
            run.stuck = None;
        }
        let wakes = post.letter.wakes(run.row.status, run.row.began_at.is_some());
        run.receive(post.letter);
        if let Some(key) = key {
            self.set_settled(id, &key, true);
        }
        self.rings.changed = true;
        self.wake(id, wakes)?;
        Ok(Posted::Added)
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
