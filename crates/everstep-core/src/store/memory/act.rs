//! Acts: a change that a person makes, and its record; and the end of all records.

use super::{content::Content, refused};
use crate::{
    status::Change,
    store::{Act, Acted, Does, Doomed, Edit, Post, Posted, StoreError},
    time::Timestamp,
};

impl Content {
    pub(super) fn act(&mut self, does: Does, act: Act) -> Result<Acted, StoreError> {
        let run = match &does {
            Does::Post(post) | Does::Pause(post) => post.to.run().and_then(|id| self.ids.get(id)).copied(),
            Does::Cut(cut) => Some(cut.run),
            Does::Edit(edit) => Some(edit.run),
        };
        let acted = match does {
            Does::Post(post) => self.post(post)?.into(),
            Does::Pause(post) => self.pause(post)?.into(),
            Does::Cut(cut) => Acted::compared(self.cut(cut)?),
            Does::Edit(edit) => Acted::compared(self.edit(edit, act.at)?),
        };
        if let (Acted::Done, Some(run)) = (&acted, run) {
            self.run(run)?.acts.push(act);
        }
        Ok(acted)
    }

    /// Sets a free run aside; the worker of another hears of it.
    fn pause(&mut self, post: Post) -> Result<Posted, StoreError> {
        post.letter.check()?;
        let Some(id) = post.to.run().and_then(|id| self.ids.get(id)).copied() else {
            return Ok(Posted::NoSuchRun);
        };
        let run = self.run(id)?;
        if run.row.owner.is_some() || run.known.contains(&post.letter.id) {
            return self.post(post);
        }
        if !post.only.contains(run.row.status) {
            return Ok(Posted::Refused(run.row.status));
        }
        run.row.status = run.after(Change::Paused)?;
        run.stuck = None;
        run.known.insert(post.letter.id);
        self.set_due(id, None);
        self.rings.changed = true;
        Ok(Posted::Added)
    }

    /// Whether the run is not there any more.
    pub(super) fn delete(&mut self, doomed: &Doomed) -> bool {
        let Some(run) = self.runs.get(&doomed.run) else { return true };
        if !doomed.is_still(&run.row) {
            return false;
        }
        self.set_due(doomed.run, None);
        if let Some(run) = self.runs.remove(&doomed.run) {
            self.ids.remove(&run.row.id);
            self.promises.retain(|_, promise| promise.run != doomed.run);
            // Who waits for its result would wait for ever.
            self.rings.ended.push((doomed.run, run.row.status, None));
        }
        self.rings.changed = true;
        true
    }

    fn edit(&mut self, edit: Edit, at: Timestamp) -> Result<bool, StoreError> {
        let Some(run) = self.runs.get_mut(&edit.run) else { return Ok(false) };
        let row = &run.row;
        if row.owner.is_some() || row.inbox_n != edit.inbox_n || !edit.only.contains(row.status) {
            return Ok(false);
        }
        let seq = edit.entry.seq;
        let place = run.entries.iter_mut().find(|entry| entry.seq == seq && seq > 0);
        let Some(place) = place else {
            return Err(refused(format!("run {}: there is no entry {seq} to be replaced", edit.run.0)));
        };
        let old = std::mem::replace(place, edit.entry);
        run.archive("edit", at, vec![old]);
        self.rings.changed = true;
        Ok(true)
    }
}
