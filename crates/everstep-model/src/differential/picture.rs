//! The whole content of a store, as its reads tell it.

use std::sync::Arc;

use everstep_core::{
    Stuck, Timestamp,
    store::{Filter, RunId, RunRow, Store, StoreError, WorkerSeen},
};

use super::{
    draw::WORKFLOWS,
    reply::{Reply, Whole},
    sample,
};

/// Everything that can be read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Picture {
    pub(super) runs: Vec<Pictured>,
    pub(super) workers: Vec<WorkerSeen>,
    counts: Reply,
    due: Vec<Option<Timestamp>>,
    /// The rows of users.
    rows: Vec<String>,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pictured {
    pub(super) row: RunRow,
    pub(super) whole: Whole,
    pub(super) stuck: Option<Stuck>,
}

/// What is looked at again.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// Everything.
    Whole,
    /// All rows, and these runs whole, and those whose row has changed.
    At(Vec<RunId>),
}

impl Picture {
    /// Looks at a store; what is not looked at again is as it was `before`.
    pub(super) async fn of(
        store: &Arc<dyn Store>,
        rows: Vec<String>,
        look: &Look,
        before: Option<&Picture>,
    ) -> Result<Picture, StoreError> {
        let mut runs = Vec::new();
        // By number, which is the order of starts.
        for row in store.find(Filter::default(), None, usize::MAX).await?.into_iter().rev() {
            let same = before.iter().flat_map(|before| &before.runs).find(|run| run.row == row);
            match (look, same) {
                (Look::At(runs_at), Some(same)) if !runs_at.contains(&row.run) => runs.push(same.clone()),
                _ => {
                    let whole = Whole::of(store.load(row.run).await?);
                    let stuck = store.stuck(row.run).await?;
                    runs.push(Pictured { row, whole, stuck });
                }
            }
        }
        let workers = match Reply::workers(store.workers().await?) {
            Reply::Workers(workers) => workers,
            _ => Vec::new(),
        };
        let counts = Reply::counts(store.counts().await?);
        let mut due = Vec::new();
        let all: Vec<_> = (0..WORKFLOWS).collect();
        let together = if matches!(look, Look::Whole) { 1 } else { WORKFLOWS };
        for workflows in all.chunks(together) {
            due.push(store.next_due(sample::workflows(workflows)).await?);
        }
        Ok(Picture { runs, workers, counts, due, rows })
    }

    /// The first thing in which two differ, as both have it.
    pub(super) fn difference(&self, other: &Picture) -> Option<(String, String)> {
        let runs = self.runs.iter().zip(&other.runs).find(|(a, b)| a != b);
        if let Some((a, b)) = runs {
            return Some((format!("{a:#?}"), format!("{b:#?}")));
        }
        (self != other).then(|| {
            let rest = |of: &Picture| {
                let ids: Vec<_> = of.runs.iter().map(|run| run.row.id.clone()).collect();
                format!("runs {ids:?}\n{:#?}", (&of.workers, &of.counts, &of.due, &of.rows))
            };
            (rest(self), rest(other))
        })
    }
}
