//! Workers: made, renewed, fenced, their runs freed.

use std::{collections::BTreeSet, sync::Arc};

use super::{content::Content, refused};
use crate::{
    failpoint::{Guard, broken},
    status::Change,
    store::{Fence, RunId, StoreError, WorkerId, WorkerSeen, takeovers_after},
    time::Timestamp,
};

#[derive(Debug)]
pub(super) struct Worker {
    build: Arc<str>,
    beat: u64,
    pub(super) fenced: bool,
    pub(super) gone: bool,
    pub(super) owns: BTreeSet<RunId>,
}

impl Content {
    pub(super) fn enroll(&mut self, build: Arc<str>) -> Fence {
        self.last_worker += 1;
        let worker = WorkerId(self.last_worker);
        let enrolled = Worker { build, beat: 0, fenced: false, gone: false, owns: BTreeSet::new() };
        self.workers.insert(worker, enrolled);
        self.rings.changed = true;
        Fence { worker }
    }

    /// This worker, if it may write.
    fn live(&mut self, fence: Fence) -> Result<&mut Worker, StoreError> {
        self.check(fence)?;
        self.rings.changed = true;
        self.workers.get_mut(&fence.worker).ok_or(StoreError::Fenced(fence.worker))
    }

    pub(super) fn beat(&mut self, fence: Fence) -> Result<(), StoreError> {
        self.live(fence)?.beat += 1;
        Ok(())
    }

    pub(super) fn seen_workers(&self) -> Vec<WorkerSeen> {
        let seen = self.workers.iter().filter(|(_, worker)| !worker.fenced || !worker.owns.is_empty());
        seen.map(|(id, worker)| WorkerSeen {
            worker: *id,
            build: worker.build.clone(),
            beat: worker.beat,
            fenced: worker.fenced,
            gone: worker.gone,
        })
        .collect()
    }

    pub(super) fn fence(&mut self, by: Fence, other: WorkerId, beat: u64) -> Result<bool, StoreError> {
        self.check(by)?;
        // A missing worker counts as fenced: whoever removed it knew.
        let Some(worker) = self.workers.get_mut(&other) else { return Ok(true) };
        worker.fenced |= worker.beat == beat;
        let fenced = worker.fenced;
        self.rings.changed = true;
        if fenced {
            self.end_loads(other);
        }
        Ok(fenced)
    }

    /// Nothing of a fenced worker's loads is accepted any more, and nobody will end them one by one.
    fn end_loads(&mut self, worker: WorkerId) {
        if broken(Guard::Fence) {
            return;
        }
        for load in self.loads.like(|held| held.worker == worker) {
            self.loads.close(load);
        }
    }

    /// Frees some runs of a fenced worker and counts its death against them.
    pub(super) fn free(&mut self, by: Fence, other: WorkerId, limit: usize) -> Result<usize, StoreError> {
        self.check(by)?;
        if self.workers.get(&other).is_some_and(|worker| !worker.fenced) {
            return Err(refused(format!("worker {} is not fenced: its runs are its own", other.0)));
        }
        let owned = self.owned(other, limit);
        for id in &owned {
            self.give_back(*id)?;
            let run = self.run(*id)?;
            let in_step = run.started.values().any(|row| !row.abandoned);
            run.row.takeovers = takeovers_after(run.row.takeovers, run.has_progressed(), in_step);
            run.seq_at_crash = run.last_seq();
        }
        Ok(owned.len())
    }

    pub(super) fn leave(&mut self, fence: Fence) -> Result<(), StoreError> {
        self.live(fence)?.fenced = true;
        self.end_loads(fence.worker);
        self.owned(fence.worker, usize::MAX).into_iter().try_for_each(|run| self.give_back(run))
    }

    fn owned(&self, worker: WorkerId, limit: usize) -> Vec<RunId> {
        let owns = self.workers.get(&worker).map(|worker| &worker.owns);
        owns.into_iter().flatten().copied().take(limit).collect()
    }

    fn give_back(&mut self, id: RunId) -> Result<(), StoreError> {
        let run = self.run(id)?;
        run.row.status = run.after(Change::GivenBack)?;
        self.disown(id);
        self.set_due(id, Some(Timestamp(0)));
        self.rings.claimable = true;
        self.rings.changed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        journal::{Entry, Kind, Payload},
        store::{Adopt, Claimed, Memory, NewRun, Store, WorkerInfo},
    };

    struct Nobody;

    impl Adopt for Nobody {
        fn adopt(&self, _: Claimed, _: Entry) {}
    }

    fn enroll(store: &Memory) -> Fence {
        let info = WorkerInfo { name: "here".into(), build: "b".into(), at: Timestamp(0) };
        store.enroll(info).now_or_never().expect("is ready").expect("enrolls")
    }

    fn start(store: &Memory, id: &str, fence: Fence) {
        let first = Entry {
            seq: 0,
            kind: Kind::Started.code(),
            key: None,
            attempt: 0,
            input: None,
            body: Payload::json("{}"),
            site: None,
            build: "b".into(),
            fingerprint: 0,
            at: Timestamp(1),
        };
        let (id, workflow) = (id.into(), "flow".into());
        let run = NewRun { due: Timestamp(0), claim: true, ..NewRun::of(id, workflow, first) };
        let started = store.start(vec![run], Some((fence, std::sync::Arc::new(Nobody))));
        started.now_or_never().expect("is ready").expect("starts");
    }

    /// The symptom: each engine that was dropped left the loads of its runs behind.
    #[test]
    fn the_loads_of_a_worker_that_is_over_are_forgotten() {
        let store = Memory::default();
        let (dies, leaves, stays) = (enroll(&store), enroll(&store), enroll(&store));
        for (id, fence) in [("a", dies), ("b", leaves), ("c", stays)] {
            start(&store, id, fence);
        }
        let open_loads = || store.content().loads.like(|_| true).len();
        assert_eq!(open_loads(), 3);
        let fenced = store.fence(stays, dies.worker, 0).now_or_never().expect("is ready");
        assert!(fenced.expect("fences"));
        assert_eq!(open_loads(), 2);
        store.leave(leaves).now_or_never().expect("is ready").expect("leaves");
        assert_eq!(open_loads(), 1);
    }
}
