//! Runs that a worker takes, and messages for those it has.

use std::sync::Arc;

use super::{OpeningId, content::Content, turn::Held};
use crate::{
    status::Change,
    store::{Claim, Claimed, Fence, RunId, RunRow, StoreError},
    time::Timestamp,
};

impl Content {
    /// `turn` says with which workflow to begin.
    pub(super) fn claim(
        &mut self,
        opening: OpeningId,
        fence: Fence,
        claim: &Claim,
        turn: usize,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.check(fence)?;
        let mut workflows = claim.workflows.to_vec();
        if workflows.is_empty() {
            return Ok(Vec::new());
        }
        let first = turn % workflows.len();
        workflows.rotate_left(first);
        let mut taken = Vec::new();
        // First everybody's fair share, then what is left over.
        for share in [claim.limit.div_ceil(workflows.len()), claim.limit] {
            for workflow in &workflows {
                let limit = share.min(claim.limit - taken.len());
                for run in self.due_first(workflow, claim.due, limit) {
                    taken.push(self.take(opening, run, fence, Some(claim.due))?);
                }
            }
        }
        Ok(taken)
    }

    fn due_first(&self, workflow: &Arc<str>, due: Timestamp, limit: usize) -> Vec<RunId> {
        let runs = self.due.get(workflow).into_iter().flatten();
        runs.take_while(|(at, _)| *at <= due).map(|(_, run)| *run).take(limit).collect()
    }

    /// Makes a run this worker's; it begins at `now`, unless it has begun.
    pub(super) fn take(
        &mut self,
        opening: OpeningId,
        run: RunId,
        fence: Fence,
        now: Option<Timestamp>,
    ) -> Result<Claimed, StoreError> {
        let entry = self.run(run)?;
        entry.row.began_at = entry.row.began_at.or(now);
        let row = RunRow { owner: Some(fence.worker), wake_at: None, ..entry.seen_row() };
        entry.row.status = entry.after(Change::Claimed)?;
        // Whoever takes it reads its inbox.
        entry.nudged = false;
        let next = entry.entries.last().map_or(0, |last| last.seq + 1);
        self.own(run, fence.worker);
        self.rings.changed = true;
        let load = self.loads.open(run, next, Held { worker: fence.worker, opening });
        Ok(Claimed { row, load })
    }

    pub(super) fn reload(
        &mut self,
        opening: OpeningId,
        fence: Fence,
        run: RunId,
    ) -> Result<Option<Claimed>, StoreError> {
        self.check(fence)?;
        if self.runs.get(&run).is_none_or(|entry| entry.row.owner != Some(fence.worker)) {
            return Ok(None);
        }
        for load in self.loads.of(run) {
            self.loads.close(load);
        }
        self.take(opening, run, fence, None).map(Some)
    }

    pub(super) fn next_due(&self, workflows: &[Arc<str>]) -> Option<Timestamp> {
        let first = |workflow| self.due.get(workflow)?.first().map(|(at, _)| *at);
        workflows.iter().filter_map(first).min()
    }

    pub(super) fn nudged(&mut self, fence: Fence) -> Result<Vec<RunId>, StoreError> {
        self.check(fence)?;
        let owned = self.runs.values_mut().filter(|run| run.row.owner == Some(fence.worker));
        let nudged = owned.filter_map(|run| std::mem::take(&mut run.nudged).then_some(run.row.run));
        let nudged: Vec<_> = nudged.collect();
        // Who only looked has changed nothing: two workers must not wake each other for ever.
        self.rings.changed |= !nudged.is_empty();
        Ok(nudged)
    }
}
