//! A run with everything that a store keeps of it. Pure.

use std::sync::Arc;

use super::{
    super::{Act, Kept, Loaded, Parent, PublishedRow, RunRow, StoreError, StreamRow},
    digest::WholeDigest,
};
use crate::{attribute::AttributeValue, journal::Entry, stuck::Stuck, time::Timestamp};

/// How much of runs is read at once: what is in memory stays bounded, whatever the runs carry.
pub const PAGE_BYTES: usize = 8 << 20;

/// Everything that a store keeps of one run, each list in the order of the verb of [`Inspect`](super::super::Inspect)
/// that tells it: names byte by byte.
///
/// Its worker is none of it: a run moves while nobody has it. Nor is how far it had come when its workers died: what is
/// left of that is `row.takeovers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Its row, with the number that it has in every store.
    pub row: RunRow,
    /// The trace context of whoever started it.
    pub trace: Option<Arc<str>>,
    /// Whose child it is.
    pub parent: Option<Parent>,
    /// Journal, inbox and started rows.
    pub loaded: Loaded,
    /// Why it is stuck, and since when.
    pub stuck: Option<(Stuck, Timestamp)>,
    /// By name.
    pub attributes: Vec<(Arc<str>, AttributeValue)>,
    /// By name.
    pub published: Vec<PublishedRow>,
    /// By name; those that have items.
    pub streams: Vec<(Arc<str>, Vec<StreamRow>)>,
    /// What people did to it.
    pub acts: Vec<Act>,
    /// Archive, promises, answers, known letters.
    pub kept: Kept,
}

impl Whole {
    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        const ROW: usize = 128;
        let Whole { loaded, published, streams, kept, .. } = self;
        let of_entries = |entries: &[Entry]| entries.iter().map(bytes_of_entry).sum::<usize>();
        let items = streams.iter().flat_map(|(_, items)| items);
        let bodies = (loaded.inbox.iter().map(|received| &received.letter.body))
            .chain(published.iter().map(|row| &row.body))
            .chain(items.map(|item| &item.body))
            .chain(kept.replies.iter().map(|reply| &reply.body))
            .chain(loaded.started.iter().filter_map(|row| row.details.as_ref()));
        let archived = kept.archive.iter().map(|archived| ROW + of_entries(&archived.entries));
        let small = 1 + self.attributes.len() + self.acts.len() + kept.promises.len() + kept.seen.len();
        of_entries(&loaded.entries)
            + bodies.map(|body| ROW + body.bytes.len()).sum::<usize>()
            + archived.sum::<usize>()
            + ROW * small
    }

    /// What [`Transfer::place`](super::Transfer::place) answers if it cannot be written there.
    pub fn refused(&self, why: &str) -> StoreError {
        StoreError::Refused(format!("run `{}` cannot be copied: {why}", self.row.id).into())
    }

    /// See [`WholeDigest`].
    pub fn digest(&self) -> WholeDigest {
        WholeDigest::of(self)
    }
}

fn bytes_of_entry(entry: &Entry) -> usize {
    128 + entry.body.bytes.len() + entry.input.as_ref().map_or(0, |input| input.bytes.len())
}
