//! Whether nobody works on a store: a live worker is an error, dead ones are fenced and their runs freed, as an engine does
//! when it takes over.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{CopyProgress, Copying, Side, cannot};
use crate::{
    error::EngineError,
    store::{Fence, Store, StoreError, WorkerId, WorkerInfo, WorkerSeen},
};

/// Runs of a dead worker freed in one transaction.
const FREE_BATCH: usize = 1000;

impl Copying {
    /// Returns when every worker of a store is fenced and has no runs any more.
    ///
    /// It takes a worker of its own, because only workers fence. If it dies with it, the next one finds that dead.
    pub(super) async fn quiet(
        &self,
        side: &Side,
        told: &mut impl FnMut(CopyProgress),
    ) -> Result<(), EngineError> {
        if side.store.workers().await?.is_empty() {
            return Ok(());
        }
        let info = WorkerInfo {
            name: format!("everstep copy:{}", std::process::id()),
            build: "everstep copy".into(),
            at: self.clock.now(),
        };
        let fence = side.store.enroll(info).await?;
        let looked = self.wait_for_quiet(side, fence, told).await;
        // Also after an error: nobody should have to wait for its lease.
        let left = side.store.leave(fence).await;
        looked?;
        Ok(left?)
    }

    async fn wait_for_quiet(
        &self,
        side: &Side,
        fence: Fence,
        told: &mut impl FnMut(CopyProgress),
    ) -> Result<(), EngineError> {
        // Beats as they were first seen, by our own monotonic clock: no two clocks are ever compared.
        let mut seen: HashMap<WorkerId, (u64, Instant)> = HashMap::new();
        let mut foreign = side.store.bell().foreign();
        loop {
            foreign.mark_unchanged();
            side.store.beat(fence).await?;
            let others = side.store.workers().await?;
            let mut is_quiet = true;
            for other in others.into_iter().filter(|other| other.worker != fence.worker) {
                let now = self.clock.instant();
                let (beat, since) = *seen.entry(other.worker).or_insert_with(|| {
                    if !other.fenced && !other.gone {
                        told(CopyProgress::Watching { worker: other.worker, lease: self.lease });
                    }
                    (other.beat, now)
                });
                if beat != other.beat && !other.fenced {
                    return Err(is_live(side, other.worker));
                }
                let silent = now.duration_since(since) >= self.lease;
                is_quiet &=
                    other.fenced || ((other.gone || silent) && is_fenced(side, fence, &other).await?);
                if is_quiet {
                    free(&*side.store, fence, other.worker).await?;
                }
            }
            if is_quiet {
                return Ok(());
            }
            let pause = self.clock.sleep(self.lease / 8);
            tokio::select! { biased; _ = foreign.changed() => {}, () = pause => {} }
        }
    }
}

/// Fences a worker whose beat has not changed.
async fn is_fenced(side: &Side, fence: Fence, other: &WorkerSeen) -> Result<bool, EngineError> {
    match side.store.fence(fence, other.worker, other.beat).await? {
        true => Ok(true),
        false => Err(is_live(side, other.worker)),
    }
}

async fn free(store: &dyn Store, fence: Fence, other: WorkerId) -> Result<(), StoreError> {
    while store.free(fence, other, FREE_BATCH).await? == FREE_BATCH {}
    Ok(())
}

fn is_live(side: &Side, worker: WorkerId) -> EngineError {
    cannot(format!(
        "worker {} is at work on `{}`: shut it down first. Then run the copy again",
        worker.0, side.name
    ))
}
