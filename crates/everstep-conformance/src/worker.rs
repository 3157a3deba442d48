//! A worker, and what it does with runs.

use std::sync::Arc;

use everstep_core::{
    Status,
    journal::{Entry, Kind},
    store::{Adopt, Claim, Claimed, End, Fence, NewRun, RunId, Started, Turn, WorkerSeen},
};
use tokio::sync::mpsc;

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{claim, entry, finished, new_run, parked, stuck_end},
};

pub(crate) struct Worker {
    pub(crate) desk: Desk,
    pub(crate) fence: Fence,
}

/// Passes on what is adopted.
pub(crate) struct Taker(mpsc::UnboundedSender<(Claimed, Entry)>);

impl Taker {
    pub(crate) fn channel() -> (Arc<dyn Adopt>, mpsc::UnboundedReceiver<(Claimed, Entry)>) {
        let (send, adopted) = mpsc::unbounded_channel();
        (Arc::new(Taker(send)), adopted)
    }
}

impl Adopt for Taker {
    fn adopt(&self, run: Claimed, first: Entry) {
        let _ = self.0.send((run, first));
    }
}

impl Worker {
    /// Starts runs as this worker; what it was answered, and what it has now.
    pub(crate) async fn start_all(&self, runs: Vec<NewRun>) -> (Vec<Started>, Vec<Claimed>) {
        let (taker, mut adopted) = Taker::channel();
        let started = self.desk.store.start(runs, Some((self.fence, taker))).await.expect("starts");
        let mut claimed = Vec::new();
        while let Ok((run, _)) = adopted.try_recv() {
            claimed.push(run);
        }
        (started, claimed)
    }

    /// Starts a run of workflow `flow` and has it.
    pub(crate) async fn start(&self, id: &str) -> Load {
        let (_, claimed) = self.start_all(vec![new_run(id)]).await;
        self.load(claimed.first().expect("adopted"))
    }

    pub(crate) fn load(&self, claimed: &Claimed) -> Load {
        Load::new(self, claimed.row.run, claimed.load)
    }

    pub(crate) async fn claims(&self, claim: Claim) -> Vec<Claimed> {
        self.desk.store.claim(self.fence, claim).await.expect("claims")
    }

    /// The ids of the runs that a claim takes, in its order.
    pub(crate) async fn claims_ids(&self, claim: Claim) -> Vec<String> {
        self.claims(claim).await.iter().map(|claimed| claimed.row.id.to_string()).collect()
    }

    /// Claims the one run that is due.
    pub(crate) async fn claims_one(&self) -> (Claimed, Load) {
        let mut claimed = self.claims(claim()).await;
        assert_eq!(claimed.len(), 1, "one run is due: {claimed:?}");
        let claimed = claimed.remove(0);
        let load = self.load(&claimed);
        (claimed, load)
    }

    pub(crate) async fn nudged(&self) -> Vec<RunId> {
        self.desk.store.nudged(self.fence).await.expect("asks")
    }

    pub(crate) async fn sees(&self, other: &Worker) -> Option<WorkerSeen> {
        let seen = self.desk.store.workers().await.expect("sees");
        seen.into_iter().find(|seen| seen.worker == other.fence.worker)
    }

    pub(crate) async fn fences(&self, other: &Worker) {
        let beat = self.sees(other).await.expect("is there").beat;
        let fenced = self.desk.store.fence(self.fence, other.fence.worker, beat).await;
        assert!(fenced.expect("fences"), "its beat has not changed");
    }

    /// Fences `other` and frees what it had; how many runs.
    pub(crate) async fn takes_over(&self, other: &Worker) -> usize {
        self.fences(other).await;
        self.frees(other, usize::MAX).await
    }

    pub(crate) async fn frees(&self, other: &Worker, limit: usize) -> usize {
        self.desk.store.free(self.fence, other.fence.worker, limit).await.expect("frees")
    }

    /// A new run that is brought to this status.
    pub(crate) async fn brings(&self, id: &str, status: Status) -> RunId {
        if status == Status::Pending {
            return self.desk.start_pending(id).await;
        }
        let mut load = self.start(id).await;
        let (entries, end) = match status {
            Status::Running => (vec![], None),
            Status::Waiting => (vec![], parked(None, 0)),
            Status::Completed => (vec![entry(1, Kind::Completed, "1")], finished(status, 0)),
            Status::Failed => (vec![entry(1, Kind::Failed, "{}")], finished(status, 0)),
            Status::Cancelled => (vec![entry(1, Kind::Cancelled, "\"\"")], finished(status, 0)),
            Status::Stuck => (vec![], stuck_end(0)),
            Status::Paused => (vec![], Some(End::Paused { inbox_n: 0 })),
            other => panic!("no verb leads to {other}"),
        };
        let next = 1 + entries.len() as u64;
        assert_eq!(load.commit(Turn { entries, end, ..load.turn() }).await, Heard::Next(next));
        load.run
    }
}
