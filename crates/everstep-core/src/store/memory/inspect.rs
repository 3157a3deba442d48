//! Reads.

use std::{collections::BTreeMap, sync::Arc};

use super::{Memory, run::Run, say::Said};
use crate::{
    attribute::AttributeValue,
    journal::{Entry, Payload},
    status::Status,
    store::{
        Act, Answer, Filter, Inspect, Kept, LetterId, Loaded, PATCHED, PatchRow, PublishedRow, Received,
        RunId, RunRow, StreamRow,
    },
    stuck::Stuck,
    time::Timestamp,
};

impl Memory {
    /// Looks at what a run has said; one that does not exist has said nothing.
    fn said<T: Default + Send + 'static>(&self, run: RunId, look: impl FnOnce(&Said) -> T) -> Answer<T> {
        self.read(|content| content.runs.get(&run).map(|run| look(&run.said)).unwrap_or_default())
    }
}

impl Inspect for Memory {
    fn run(&self, id: Arc<str>) -> Answer<Option<RunRow>> {
        self.read(|content| content.ids.get(&id).and_then(|run| content.runs.get(run)).map(Run::seen_row))
    }

    fn find(&self, filter: Filter, before: Option<RunId>, limit: usize) -> Answer<Vec<RunRow>> {
        self.read(|content| {
            let end = before.unwrap_or(RunId(i64::MAX));
            let newest_first = content.runs.range(..end).rev().map(|(_, run)| (run.seen_row(), run));
            let matches = newest_first.filter(|(row, run)| filter.matches(row, &run.said.attributes));
            matches.map(|(row, _)| row).take(limit).collect()
        })
    }

    fn count(&self, filter: Filter, at_most: u64) -> Answer<u64> {
        self.read(|content| {
            let runs = content.runs.values();
            let matching = runs.filter(|run| filter.matches(&run.seen_row(), &run.said.attributes));
            (matching.count() as u64).min(at_most)
        })
    }

    fn load(&self, run: RunId) -> Answer<Loaded> {
        self.read(|content| match content.runs.get(&run) {
            Some(run) => run.loaded(),
            None => Loaded { entries: Vec::new(), inbox: Vec::new(), started: Vec::new() },
        })
    }

    fn inbox(&self, run: RunId, after: u64) -> Answer<Vec<Received>> {
        self.read(|content| {
            let mut letters = content.runs.get(&run).map(Run::received).unwrap_or_default();
            letters.retain(|letter| letter.n > after);
            letters
        })
    }

    fn last(&self, run: RunId) -> Answer<Option<Entry>> {
        self.read(|content| content.runs.get(&run).and_then(|run| run.entries.last().cloned()))
    }

    fn stuck(&self, run: RunId) -> Answer<Option<Stuck>> {
        self.read(|content| {
            content.runs.get(&run).and_then(|run| run.stuck.as_ref().map(|(stuck, _)| stuck.clone()))
        })
    }

    fn counts(&self) -> Answer<Vec<(Arc<str>, Status, u64)>> {
        self.read(|content| {
            let mut counts = BTreeMap::new();
            for run in content.runs.values() {
                *counts.entry((run.row.workflow.clone(), run.row.status)).or_insert(0) += 1;
            }
            counts.into_iter().map(|((workflow, status), n)| (workflow, status, n)).collect()
        })
    }

    fn published(&self, run: RunId, name: Arc<str>) -> Answer<Option<PublishedRow>> {
        self.said(run, |said| said.published.get(&name).cloned())
    }

    fn published_all(&self, run: RunId, limit: usize) -> Answer<Vec<PublishedRow>> {
        self.said(run, |said| said.published.values().take(limit).cloned().collect())
    }

    fn stream(&self, run: RunId, name: Arc<str>, from: u64, limit: usize) -> Answer<Vec<StreamRow>> {
        self.said(run, |said| {
            let items = said.streams.get(&name).into_iter().flatten();
            items.skip_while(|item| item.n < from).take(limit).cloned().collect()
        })
    }

    fn reply(&self, run: RunId, id: LetterId) -> Answer<Option<Payload>> {
        self.said(run, |said| said.replies.get(&id.0).map(|reply| reply.body.clone()))
    }

    fn stream_names(&self, run: RunId) -> Answer<Vec<Arc<str>>> {
        self.said(run, |said| {
            let streams = said.streams.iter().filter(|(_, items)| !items.is_empty());
            streams.map(|(name, _)| name.clone()).collect()
        })
    }

    fn acts(&self, run: RunId, limit: usize) -> Answer<Vec<Act>> {
        self.read(|content| {
            let acts = content.runs.get(&run).map(|run| &run.acts[..]).unwrap_or_default();
            acts[acts.len().saturating_sub(limit)..].to_vec()
        })
    }

    fn kept(&self, run: RunId) -> Answer<Kept> {
        self.read(|content| content.runs.get(&run).map(|_| content.kept(run)).unwrap_or_default())
    }

    fn attributes(&self, run: RunId) -> Answer<Vec<(Arc<str>, AttributeValue)>> {
        self.said(run, |said| said.attributes.clone().into_iter().collect())
    }

    fn patches(&self) -> Answer<Vec<PatchRow>> {
        self.read(|content| {
            let mut patches: BTreeMap<(Arc<str>, Arc<str>), PatchRow> = BTreeMap::new();
            let patched = content.runs.values().flat_map(|run| patched(run).map(move |patch| (run, patch)));
            for (run, (patch, at)) in patched {
                let workflow = run.row.workflow.clone();
                let row = patches.entry((patch.into(), workflow.clone())).or_insert_with(|| PatchRow {
                    patch: patch.into(),
                    workflow,
                    first: at,
                    open: 0,
                    over: 0,
                    old_open: 0,
                    old_over: 0,
                });
                row.first = row.first.min(at);
                *if run.row.status.is_over() { &mut row.over } else { &mut row.open } += 1;
            }
            for row in patches.values_mut() {
                let old = content.runs.values().filter(|run| needs_old(run, row)).collect::<Vec<_>>();
                row.old_over = old.iter().filter(|run| run.row.status.is_over()).count() as u64;
                row.old_open = old.len() as u64 - row.old_over;
            }
            patches.into_values().collect()
        })
    }
}

/// The patches that a run has, and when they were recorded.
fn patched(run: &Run) -> impl Iterator<Item = (&str, Timestamp)> {
    run.said.attributes.iter().filter_map(|(name, value)| match value {
        AttributeValue::Time(at) => Some((name.strip_prefix(PATCHED)?, *at)),
        _ => None,
    })
}

fn needs_old(run: &Run, patch: &PatchRow) -> bool {
    run.row.workflow == patch.workflow
        && run.row.created_at < patch.first
        && patched(run).all(|(has, _)| *has != *patch.patch)
}
