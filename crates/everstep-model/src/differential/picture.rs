//! The whole content of a store, as its reads tell it.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Stuck, Timestamp,
    store::{Act, Filter, PublishedRow, RunId, RunRow, Store, StoreError, StreamRow, WorkerSeen},
};

use super::{
    draw::{NAMES, WORKFLOWS},
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
    said: Said,
}

/// What it has told readers.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    published: Vec<PublishedRow>,
    streams: Vec<(Arc<str>, Vec<StreamRow>)>,
    attributes: Vec<(Arc<str>, AttributeValue)>,
    /// What people have done to it.
    acts: Vec<Act>,
}

impl Said {
    async fn of(store: &Arc<dyn Store>, run: RunId) -> Result<Said, StoreError> {
        let mut streams = Vec::new();
        for name in (0..NAMES).map(sample::name) {
            streams.push((name.clone(), store.stream(run, name, 0, usize::MAX).await?));
        }
        let published = store.published_all(run, usize::MAX).await?;
        let acts = store.acts(run, usize::MAX).await?;
        Ok(Said { published, streams, attributes: store.attributes(run).await?, acts })
    }
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
                    let said = Said::of(store, row.run).await?;
                    runs.push(Pictured { row, whole, stuck, said });
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

    /// How many items a run's stream has.
    pub(super) fn items(&self, run: RunId, stream: &str) -> Option<u64> {
        let run = self.runs.iter().find(|pictured| pictured.row.run == run)?;
        let (_, items) = run.said.streams.iter().find(|(name, _)| **name == *stream)?;
        Some(items.len() as u64)
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
