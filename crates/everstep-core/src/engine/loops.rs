//! The background duties of a worker: renew the lease, claim what is due, pass on messages, take over from the dead.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::worker::Worker;
use crate::{
    failpoint::{Failpoint, fails, pass},
    store::{Claim, StoreError, WorkerId},
};

/// Runs taken with one claim, at most, and with the first of several: who looks a moment later shall find some too.
const CLAIM_BATCH: usize = 1000;
const CLAIM_FIRST: usize = 50;
/// Runs of a dead worker freed in one transaction.
const FREE_BATCH: usize = 1000;
/// After an error that may pass.
const LOOK_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Without any wake-up a worker looks for due runs this often: the truth, should a hint be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Runs that are due and that nobody got (somebody has their rows locked, or this worker's clock is ahead of the store's) are
/// tried again so soon, and ever later.
const VAIN_MIN: Duration = Duration::from_millis(10);
const VAIN_MAX: Duration = Duration::from_millis(250);

/// Room that has become free is used once more of it has: a claim of one run costs a commit like one of a thousand.
const GATHER: Duration = Duration::from_millis(2);

/// A store may know of a death at once (`WorkerSeen::gone`): the lease is the bound on silence, not on this.
const LOOK_FOR_DEAD: Duration = Duration::from_secs(2);

/// Spawns all of them; they end with the worker's token.
pub(super) fn spawn(worker: &Arc<Worker>) {
    for duty in [Duty::Wake, Duty::Claim, Duty::Nudge, Duty::TakeOver] {
        if matches!(duty, Duty::TakeOver) && worker.rehearsal.is_alone() {
            continue;
        }
        let worker = worker.clone();
        let (tasks, process) = (worker.tasks.clone(), worker.process.clone());
        tasks.spawn(process.host(async move {
            let stopped = worker.stopped.clone();
            let work = async {
                match duty {
                    Duty::Wake => worker.wakes.pass_on(worker.store.bell().settled()).await,
                    Duty::Claim => claim(&worker).await,
                    Duty::Nudge => nudge(&worker).await,
                    Duty::TakeOver => take_over(&worker).await,
                }
            };
            tokio::select! { biased; () = stopped.cancelled() => {}, () = work => {} }
        }));
    }
}

#[derive(Clone, Copy)]
enum Duty {
    Wake,
    Claim,
    Nudge,
    TakeOver,
}

/// Renews the lease until the store says that it is lost or nothing of the worker runs any more.
pub(super) async fn beat(worker: Arc<Worker>) {
    let pause = worker.settings.lease / 4;
    loop {
        let began = worker.clock.instant();
        let renewed = renew(&worker);
        // Whoever leaves does not wait for a store that cannot write.
        let renewed = tokio::select! { biased; () = worker.silent.cancelled() => return, it = renewed => it };
        match renewed {
            Ok(()) => worker.renewed_at(began),
            Err(StoreError::Fenced(_)) => return worker.lost(),
            // Nothing can be written any more: only a new opening can go on with the runs.
            Err(error @ StoreError::Closed(_)) => return worker.end(error),
            Err(error) => tracing::warn!(%error, "the lease was not renewed"),
        }
        tokio::select! { biased; () = worker.silent.cancelled() => return, () = worker.clock.sleep(pause) => {} }
    }
}

async fn renew(worker: &Worker) -> Result<(), StoreError> {
    let failed = || Err(StoreError::Full("a failpoint failed".into()));
    if fails(Failpoint::BeatSent) {
        return failed();
    }
    worker.store.beat(worker.fence).await?;
    if fails(Failpoint::BeatDurable) { failed() } else { Ok(()) }
}

/// Claims due runs when one may have become claimable: listen, look, wait. A claim writes, and so none is made without a reason:
/// somebody rang, a time has come, or a look says that runs are due.
async fn claim(worker: &Arc<Worker>) {
    let (mut claimable, mut foreign) = (worker.store.bell().claimable(), worker.store.bell().foreign_due());
    if worker.workflows.is_empty() {
        return;
    }
    let (mut is_due, mut vain, mut wanted) = (true, VAIN_MIN, CLAIM_FIRST);
    loop {
        claimable.mark_unchanged();
        foreign.mark_unchanged();
        let room_is_free = worker.room.notified();
        let taken = match is_due {
            false => Some(0),
            true => match claim_once(worker, wanted).await {
                Ok(taken) => taken,
                // Nothing will ever be claimed here again, and whoever must know has been told.
                Err(StoreError::Fenced(_) | StoreError::Closed(_)) => return,
                Err(error) => {
                    tracing::warn!(%error, "no runs could be claimed");
                    Some(0)
                }
            },
        };
        if taken == Some(wanted) {
            wanted = (wanted * 2).min(CLAIM_BATCH);
            continue;
        }
        wanted = CLAIM_FIRST;
        let next = worker.store.next_due(worker.workflows.clone()).await.ok().flatten();
        let now = worker.clock.now();
        let more = next.is_some_and(|at| at <= now);
        if more && !is_due {
            is_due = true;
            continue;
        }
        // Nobody else makes runs due, and what this process does rings.
        let look_again = if worker.rehearsal.is_alone() { Duration::MAX } else { LOOK_AGAIN };
        let is_crowded = taken.is_none() && more;
        worker.set_crowded(is_crowded.then_some(CLAIM_BATCH));
        let is_vain = more && taken == Some(0);
        let pause = if is_vain { vain } else { VAIN_MIN };
        vain = (pause * 2).min(VAIN_MAX);
        let wait = match next {
            Some(at) if at > now => (at.since(now) + worker.head_start_of_others()).min(look_again),
            Some(_) if taken.is_some() => pause,
            _ => look_again,
        };
        is_due = tokio::select! {
            biased;
            _ = claimable.changed(), if !is_crowded => true,
            _ = foreign.changed(), if !is_crowded => true,
            () = room_is_free, if is_crowded => { worker.clock.sleep(GATHER).await; true }
            () = worker.clock.sleep(wait) => wait < look_again,
        }
    }
}

/// How many runs were taken; `None` if there was no room.
async fn claim_once(worker: &Arc<Worker>, wanted: usize) -> Result<Option<usize>, StoreError> {
    let limit = worker.reserve(wanted);
    if limit == 0 {
        return Ok(None);
    }
    let claim = Claim { workflows: worker.workflows.clone(), due: worker.clock.now(), limit };
    let claimed = worker.store.claim(worker.fence, claim).await;
    let taken = claimed.as_ref().map_or(0, Vec::len);
    worker.residents.unreserve(limit - taken);
    worker.load(claimed?);
    Ok(Some(taken))
}

/// Passes messages on to the drivers of the runs they are for.
async fn nudge(worker: &Arc<Worker>) {
    let (mut inbox, mut foreign) = (worker.store.bell().inbox(), worker.store.bell().foreign_letters());
    loop {
        inbox.mark_unchanged();
        foreign.mark_unchanged();
        match worker.store.nudged(worker.fence).await {
            Ok(runs) => {
                pass(Failpoint::LettersSeen);
                worker.residents.nudge(runs);
            }
            Err(StoreError::Fenced(_) | StoreError::Closed(_)) => return,
            Err(error) => {
                tracing::warn!(%error, "messages could not be looked for");
                worker.clock.sleep(LOOK_AFTER_ERROR).await;
                continue;
            }
        }
        tokio::select! { biased; _ = inbox.changed() => {}, _ = foreign.changed() => {} }
    }
}

/// Fences workers that are dead and frees their runs.
async fn take_over(worker: &Arc<Worker>) {
    // Beats as they were first seen, by our own monotonic clock: no two clocks are ever compared.
    let mut seen: HashMap<WorkerId, (u64, tokio::time::Instant)> = HashMap::new();
    loop {
        if !worker.may_start() {
            // Whatever keeps us from renewing may keep the others too: silence counts from when it is over.
            seen.clear();
        } else if let Ok(workers) = worker.store.workers().await {
            let now = worker.clock.instant();
            seen.retain(|id, _| workers.iter().any(|other| other.worker == *id));
            for other in workers.into_iter().filter(|other| other.worker != worker.fence.worker) {
                let first = seen.entry(other.worker).or_insert((other.beat, now));
                if first.0 != other.beat {
                    *first = (other.beat, now);
                }
                let silent = now.duration_since(first.1) >= worker.settings.lease;
                if other.fenced || ((other.gone || silent) && fence(worker, other.worker, other.beat).await) {
                    free(worker, other.worker).await;
                }
            }
        }
        worker.clock.sleep((worker.settings.lease / 4).min(LOOK_FOR_DEAD)).await;
    }
}

async fn fence(worker: &Arc<Worker>, other: WorkerId, beat: u64) -> bool {
    !fails(Failpoint::TakeoverBegins) && worker.store.fence(worker.fence, other, beat).await.unwrap_or(false)
}

async fn free(worker: &Arc<Worker>, other: WorkerId) {
    pass(Failpoint::TakeoverFenced);
    while let Ok(freed) = worker.store.free(worker.fence, other, FREE_BATCH).await {
        pass(Failpoint::TakeoverDone);
        if freed < FREE_BATCH {
            return;
        }
    }
}
