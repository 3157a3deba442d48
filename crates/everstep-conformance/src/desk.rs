//! Where a case sits: a store with nothing in it, and ways to look at it.

use std::sync::Arc;

use everstep_core::{
    Status,
    store::{Cut, Filter, Loaded, NewRun, Post, Posted, RunId, RunRow, Started, Store, StoreError},
};

use crate::{
    Bench,
    sample::{info, new_run},
    worker::Worker,
};

/// One opening of the store.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) bench: Arc<dyn Bench>,
    pub(crate) store: Arc<dyn Store>,
}

impl Desk {
    pub(crate) async fn of(bench: Arc<dyn Bench>) -> Desk {
        let store = bench.open().await;
        Desk { bench, store }
    }

    /// Another opening of the same content.
    pub(crate) async fn another(&self) -> Desk {
        Desk::of(self.bench.clone()).await
    }

    /// A fresh worker on this opening.
    pub(crate) async fn worker(&self) -> Worker {
        let fence = self.store.enroll(info()).await.expect("enrolls");
        Worker { desk: self.clone(), fence }
    }

    pub(crate) async fn start(&self, runs: Vec<NewRun>) -> Vec<Started> {
        self.store.start(runs, None).await.expect("starts")
    }

    /// Starts a pending run of workflow `flow`.
    pub(crate) async fn start_pending(&self, id: &str) -> RunId {
        self.start_one(new_run(id)).await
    }

    /// Starts a run of a fresh id.
    pub(crate) async fn start_one(&self, run: NewRun) -> RunId {
        match self.start(vec![run]).await[..] {
            [Started::New(run)] => run,
            ref other => panic!("it is not new: {other:?}"),
        }
    }

    pub(crate) async fn row(&self, id: &str) -> RunRow {
        self.store.run(id.into()).await.expect("reads").expect("is there")
    }

    pub(crate) async fn loaded(&self, run: RunId) -> Loaded {
        self.store.load(run).await.expect("reads")
    }

    /// The numbers of a run's entries.
    pub(crate) async fn seqs(&self, run: RunId) -> Vec<u64> {
        self.loaded(run).await.entries.iter().map(|entry| entry.seq).collect()
    }

    /// The numbers of a run's letters.
    pub(crate) async fn letters(&self, run: RunId) -> Vec<u64> {
        self.store.inbox(run, 0).await.expect("reads").iter().map(|received| received.n).collect()
    }

    pub(crate) async fn post(&self, post: Post) -> Posted {
        self.store.post(post).await.expect("posts")
    }

    pub(crate) async fn cut(&self, cut: Cut) -> Result<bool, StoreError> {
        self.store.cut(cut).await
    }

    /// The ids of the runs that match, in the order they are found.
    pub(crate) async fn found(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Vec<String> {
        let rows = self.store.find(filter, before, limit).await.expect("finds");
        rows.iter().map(|row| row.id.to_string()).collect()
    }

    /// The counts, sorted.
    pub(crate) async fn counts(&self) -> Vec<(String, Status, u64)> {
        let counts = self.store.counts().await.expect("counts");
        let mut counts: Vec<_> = counts.iter().map(|(w, s, n)| (w.to_string(), *s, *n)).collect();
        counts.sort();
        counts
    }

    pub(crate) async fn rows(&self) -> Vec<String> {
        self.bench.rows().await
    }
}
