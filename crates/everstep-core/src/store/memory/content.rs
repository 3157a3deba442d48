//! What all openings share: workers, runs, and which of them are due.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use super::{
    Held, OpeningId, Rings, Rows, promise::Promised, refused, run::Run, transact::Waiting, worker::Worker,
};
use crate::{
    failpoint::{Guard, broken},
    store::{Bell, CopyMark, Fence, LoadId, Loads, RunId, StoreError, Whole, WorkerId},
    time::Timestamp,
};

#[derive(Default)]
pub(super) struct Content {
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) ids: HashMap<Arc<str>, RunId>,
    /// By the run that started them: some may belong to nobody any more.
    pub(super) children: BTreeMap<RunId, Vec<RunId>>,
    /// By the hash of its token.
    pub(super) promises: BTreeMap<[u8; 32], Promised>,
    /// Free runs by workflow and time: what claims and deadlines are looked up in.
    pub(super) due: BTreeMap<Arc<str>, BTreeSet<(Timestamp, RunId)>>,
    pub(super) loads: Loads<Held>,
    pub(super) rows: Rows,
    pub(super) last_run: i64,
    pub(super) last_worker: i64,
    pub(super) failing: Option<StoreError>,
    pub(super) waiting: Option<Vec<Waiting>>,
    pub(super) rings: Rings,
    pub(super) copy_mark: Option<CopyMark>,
    openings: Vec<Weak<Bell>>,
}

impl Content {
    pub(super) fn opened(&mut self, bell: &Arc<Bell>) -> OpeningId {
        self.openings.push(Arc::downgrade(bell));
        OpeningId(self.openings.len())
    }

    pub(super) fn bells_but(&self, opening: OpeningId) -> Vec<Arc<Bell>> {
        let others = self.openings.iter().zip(1..).filter(|(_, number)| OpeningId(*number) != opening);
        others.filter_map(|(bell, _)| bell.upgrade()).collect()
    }

    /// Whether this worker may write.
    pub(super) fn check(&self, fence: Fence) -> Result<(), StoreError> {
        match self.workers.get(&fence.worker) {
            Some(worker) if !worker.fenced || broken(Guard::Fence) => Ok(()),
            _ => Err(StoreError::Fenced(fence.worker)),
        }
    }

    /// Whether `load` is an open load of `run` that this worker has in this opening.
    pub(super) fn check_load(
        &self,
        opening: OpeningId,
        fence: Fence,
        (load, run): (LoadId, RunId),
    ) -> Result<(), StoreError> {
        self.check(fence)?;
        let held = self.loads.get(load, run)?;
        match (held.worker, held.opening) == (fence.worker, opening) {
            true => Ok(()),
            false => {
                Err(refused(format!("load {} of run {} belongs to worker {}", load.0, run.0, held.worker.0)))
            }
        }
    }

    pub(super) fn run(&mut self, run: RunId) -> Result<&mut Run, StoreError> {
        self.runs.get_mut(&run).ok_or_else(|| refused(format!("run {} does not exist", run.0)))
    }

    /// Sets when a run is due; an owned run is in no due set.
    pub(super) fn set_due(&mut self, run: RunId, wake_at: Option<Timestamp>) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        let due = self.due.entry(entry.row.workflow.clone()).or_default();
        if let Some(before) = entry.row.wake_at {
            due.remove(&(before, run));
        }
        entry.row.wake_at = wake_at;
        if let (Some(at), None) = (wake_at, entry.row.owner) {
            due.insert((at, run));
        }
    }

    pub(super) fn own(&mut self, run: RunId, worker: WorkerId) {
        self.set_due(run, None);
        if let Some(run) = self.runs.get_mut(&run) {
            run.row.owner = Some(worker);
        }
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.owns.insert(run);
        }
    }

    pub(super) fn disown(&mut self, run: RunId) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        entry.nudged = false;
        if let Some(worker) = entry.row.owner.take().and_then(|owner| self.workers.get_mut(&owner)) {
            worker.owns.remove(&run);
        }
    }

    /// Takes a run in under a fresh number; `false` if its id is in use.
    pub(super) fn import(&mut self, mut whole: Whole) -> bool {
        if self.ids.contains_key(&whole.row.id) {
            return false;
        }
        whole.row.run = RunId(self.last_run + 1);
        let run = self.take_in(whole);
        // Its journal may have been cut where it comes from.
        if let Some(run) = self.runs.get_mut(&run) {
            run.is_imported = true;
        }
        true
    }

    /// Takes a run in under its own number, which is free like its id.
    pub(super) fn take_in(&mut self, whole: Whole) -> RunId {
        let (run, due) = (whole.row.run, whole.row.wake_at);
        self.last_run = self.last_run.max(run.0);
        self.ids.insert(whole.row.id.clone(), run);
        if let Some(parent) = &whole.parent {
            self.children.entry(parent.run).or_default().push(run);
        }
        let promises = whole.kept.promises.clone();
        self.runs.insert(run, Run::of(whole));
        promises.into_iter().for_each(|promise| self.import_promise(run, promise));
        self.set_due(run, due);
        self.rings.claimable = true;
        self.rings.changed = true;
        run
    }

    /// The same runs, free of the workers of this content.
    pub(super) fn fork(&self) -> Content {
        let mut copy = Content {
            last_run: self.last_run,
            last_worker: self.last_worker,
            ids: self.ids.clone(),
            promises: self.promises.clone(),
            children: self.children.clone(),
            rows: self.rows.clone(),
            copy_mark: self.copy_mark.clone(),
            ..Content::default()
        };
        for (id, run) in &self.runs {
            let mut run = run.clone();
            run.row.owner = None;
            let due = run.row.wake_at.take();
            copy.runs.insert(*id, run);
            copy.set_due(*id, due);
        }
        copy
    }
}
