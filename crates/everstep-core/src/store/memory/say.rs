//! What runs tell their readers.

use std::{collections::BTreeMap, sync::Arc};

use super::run::Run;
use crate::{
    attribute::AttributeValue,
    journal::{Entry, Kind},
    scope::name_in,
    store::{PublishedRow, ReplyRow, Say, StoreError, StreamRow, Whole, item_number},
};

/// What a run has said.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) published: BTreeMap<Arc<str>, PublishedRow>,
    pub(super) streams: BTreeMap<Arc<str>, Vec<StreamRow>>,
    pub(super) attributes: BTreeMap<Arc<str>, AttributeValue>,
    /// Answers to requests.
    pub(super) replies: BTreeMap<u128, ReplyRow>,
    /// The streams of all items, as they were emitted.
    emitted: Vec<Arc<str>>,
}

impl Run {
    /// The numbers of the items among `says`, in their order.
    pub(super) fn item_numbers(&self, says: &[Say]) -> Result<Vec<u64>, StoreError> {
        let mut next = BTreeMap::new();
        let mut numbers = Vec::new();
        for say in says {
            say.check()?;
            if let Say::Emitted { name, n, .. } = say {
                let held = next.entry(name).or_insert_with(|| self.said.held(name));
                numbers.push(item_number(name, *n, *held, self.was_cut())?);
                *held += 1;
            }
        }
        Ok(numbers)
    }
}

impl Said {
    /// Of a run that another store had.
    pub(super) fn of(whole: &Whole) -> Said {
        Said {
            published: whole.published.iter().map(|row| (row.name.clone(), row.clone())).collect(),
            streams: whole.streams.iter().cloned().collect(),
            attributes: whole.attributes.iter().cloned().collect(),
            emitted: emitted(whole),
            replies: whole.kept.replies.iter().map(|reply| (reply.id.0, reply.clone())).collect(),
        }
    }

    fn held(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |items| items.len() as u64)
    }

    /// Adds what was said; `numbers` are those of the items.
    pub(super) fn add(&mut self, says: &[Say], numbers: Vec<u64>) {
        let mut numbers = numbers.into_iter();
        for say in says.iter().cloned() {
            match say {
                Say::Published { name, body, seq, at } => {
                    self.published.insert(name.clone(), PublishedRow { name, body, seq, at });
                }
                Say::Emitted { name, body, at, .. } => {
                    let n = numbers.next().expect("each item has a number");
                    self.streams.entry(name.clone()).or_default().push(StreamRow { n, body, at });
                    self.emitted.push(name);
                }
                Say::Attribute { name, value: Some(value) } => drop(self.attributes.insert(name, value)),
                Say::Attribute { name, value: None } => drop(self.attributes.remove(&name)),
                Say::Answered { id, body, at } => {
                    self.replies.entry(id.0).or_insert(ReplyRow { id, body, at });
                }
                // These are for others than its readers.
                Say::Promised { .. } | Say::Child { .. } | Say::Tell { .. } | Say::Cancel { .. } => {}
            }
        }
    }

    /// Forgets the items that these last entries have emitted, as if they had never been.
    pub(super) fn forget(&mut self, entries: &[Entry]) {
        let items = entries.iter().filter(|entry| entry.known_kind() == Some(Kind::Emitted)).count();
        for stream in self.emitted.split_off(self.emitted.len().saturating_sub(items)) {
            self.streams.get_mut(&stream).map(Vec::pop);
        }
    }
}

/// The streams of all items in an order in which they may have been emitted: those of the journal last, as it has them.
fn emitted(whole: &Whole) -> Vec<Arc<str>> {
    let emits = |entry: &&Entry| entry.known_kind() == Some(Kind::Emitted);
    let names = whole.loaded.entries.iter().filter(emits).filter_map(|entry| entry.key.as_deref());
    let last: Vec<Arc<str>> = names.map(|key| name_in(key).into()).collect();
    let mut all = Vec::new();
    for (name, items) in &whole.streams {
        let of_journal = last.iter().filter(|emitted| *emitted == name).count();
        all.extend(std::iter::repeat_n(name.clone(), items.len().saturating_sub(of_journal)));
    }
    all.extend(last);
    all
}
