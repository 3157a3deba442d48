//! A run with everything that a store keeps of it, and the digest by which two stores' views of it are compared. Pure.

use std::{fmt, sync::Arc};

use hmac_sha256::Hash as Sha256;

use super::super::{
    Act, Archived, Kept, Letter, Loaded, Parent, PromiseRow, PublishedRow, Received, ReplyRow, RunRow,
    StartedRow, StreamRow,
};
use crate::{
    attribute::AttributeValue,
    journal::{Entry, Payload},
    stuck::Stuck,
    time::Timestamp,
};

/// How much of runs is read at once: what is in memory stays bounded, whatever the runs carry.
pub const PAGE_BYTES: usize = 8 << 20;

/// Begins what is digested. Another number for another form: digests of different versions are never equal.
const FORM: u8 = 1;

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

/// The SHA-256 of everything of a run but its worker, in one canonical form. Equal in two stores if and only if the run is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WholeDigest(pub [u8; 32]);

impl fmt::Display for WholeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WholeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WholeDigest({self})")
    }
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

    /// See [`WholeDigest`].
    pub fn digest(&self) -> WholeDigest {
        let mut feed = Feed(Sha256::new());
        feed.0.update([FORM]);
        feed.whole(self);
        WholeDigest(feed.0.finalize())
    }
}

fn bytes_of_entry(entry: &Entry) -> usize {
    128 + entry.body.bytes.len() + entry.input.as_ref().map_or(0, |input| input.bytes.len())
}

/// What is fed says where it ends, so that no two runs feed the same. Every struct is taken apart to its last field: a new
/// one cannot be forgotten.
struct Feed(Sha256);

impl Feed {
    fn number(&mut self, number: impl Into<i128>) {
        self.0.update(number.into().to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn at(&mut self, at: Timestamp) {
        self.number(at.0);
    }

    fn option<T>(&mut self, value: Option<T>, feed: impl FnOnce(&mut Feed, T)) {
        self.number(u8::from(value.is_some()));
        if let Some(value) = value {
            feed(self, value);
        }
    }

    fn each<T>(&mut self, items: &[T], mut feed: impl FnMut(&mut Feed, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| feed(self, item));
    }

    fn whole(&mut self, whole: &Whole) {
        let Whole { row, trace, parent, loaded, stuck, attributes, published, streams, acts, kept } = whole;
        self.row(row);
        self.option(trace.as_deref(), Feed::text);
        self.option(parent.as_ref(), Feed::parent);
        let Loaded { entries, inbox, started } = loaded;
        self.each(entries, Feed::entry);
        self.each(inbox, Feed::received);
        self.each(started, Feed::started);
        self.option(stuck.as_ref(), |feed, (stuck, at)| {
            feed.stuck(stuck);
            feed.at(*at);
        });
        self.each(attributes, |feed, (name, value)| {
            feed.text(name);
            feed.attribute(value);
        });
        self.each(published, Feed::published);
        self.each(streams, |feed, (name, items)| {
            feed.text(name);
            feed.each(items, Feed::item);
        });
        self.each(acts, Feed::act);
        let Kept { archive, promises, replies, seen } = kept;
        self.each(archive, Feed::archived);
        self.each(promises, Feed::promise);
        self.each(replies, Feed::reply);
        self.each(seen, |feed, id| feed.bytes(&id.0.to_be_bytes()));
    }

    fn row(&mut self, row: &RunRow) {
        let RunRow {
            run,
            id,
            workflow,
            status,
            owner: _,
            wake_at,
            inbox_n,
            generation,
            takeovers,
            created_at,
            began_at,
            finished_at,
        } = row;
        self.number(run.0);
        self.text(id);
        self.text(workflow);
        self.number(status.code());
        self.option(*wake_at, Feed::at);
        self.number(*inbox_n);
        self.number(*generation);
        self.number(*takeovers);
        self.at(*created_at);
        self.option(*began_at, Feed::at);
        self.option(*finished_at, Feed::at);
    }

    fn parent(&mut self, parent: &Parent) {
        let Parent { run, generation, key, closes, digest } = parent;
        self.number(run.0);
        self.number(*generation);
        self.text(key);
        self.number(u8::from(*closes));
        self.bytes(&digest.0.to_be_bytes());
    }

    fn entry(&mut self, entry: &Entry) {
        let Entry { seq, kind, key, attempt, input, body, site, build, fingerprint, at } = entry;
        self.number(*seq);
        self.number(*kind);
        self.option(key.as_deref(), Feed::text);
        self.number(*attempt);
        self.option(input.as_ref(), Feed::payload);
        self.payload(body);
        self.option(site.as_ref(), |feed, site| feed.text(&site.to_string()));
        self.text(build);
        self.number(*fingerprint);
        self.at(*at);
    }

    fn payload(&mut self, payload: &Payload) {
        let Payload { codec, bytes } = payload;
        self.number(*codec);
        self.bytes(bytes);
    }

    fn received(&mut self, received: &Received) {
        let Received { n, letter: Letter { id, kind, name, body, at } } = received;
        self.number(*n);
        self.bytes(&id.0.to_be_bytes());
        self.number(*kind);
        self.text(name);
        self.payload(body);
        self.at(*at);
    }

    fn started(&mut self, row: &StartedRow) {
        let StartedRow { key, attempt, at, abandoned, details } = row;
        self.text(key);
        self.number(*attempt);
        self.at(*at);
        self.number(u8::from(*abandoned));
        self.option(details.as_ref(), Feed::payload);
    }

    fn stuck(&mut self, stuck: &Stuck) {
        let Stuck { reason, key, detail } = stuck;
        self.number(reason.code());
        self.option(key.as_deref(), Feed::text);
        self.text(detail);
    }

    fn attribute(&mut self, value: &AttributeValue) {
        let (tag, bytes) = match value {
            AttributeValue::Text(text) => (0u8, text.as_bytes().to_vec()),
            AttributeValue::Integer(number) => (1, number.to_be_bytes().to_vec()),
            // The two zeros are equal, and not every store tells them apart.
            AttributeValue::Float(number) => (2, (number + 0.0).to_bits().to_be_bytes().to_vec()),
            AttributeValue::Bool(is) => (3, vec![u8::from(*is)]),
            AttributeValue::Time(at) => (4, at.0.to_be_bytes().to_vec()),
        };
        self.number(tag);
        self.bytes(&bytes);
    }

    fn published(&mut self, row: &PublishedRow) {
        let PublishedRow { name, body, seq, at } = row;
        self.text(name);
        self.payload(body);
        self.number(*seq);
        self.at(*at);
    }

    fn item(&mut self, item: &StreamRow) {
        let StreamRow { n, body, at } = item;
        self.number(*n);
        self.payload(body);
        self.at(*at);
    }

    fn act(&mut self, act: &Act) {
        let Act { verb, who, why, at, detail } = act;
        [verb, who, why, detail].into_iter().for_each(|text| self.text(text));
        self.at(*at);
    }

    fn archived(&mut self, archived: &Archived) {
        let Archived { generation, why, at, entries } = archived;
        self.number(*generation);
        self.text(why);
        self.at(*at);
        self.each(entries, Feed::entry);
    }

    fn promise(&mut self, row: &PromiseRow) {
        let PromiseRow { hash, key, generation, expires, settled } = row;
        self.bytes(hash);
        self.text(key);
        self.number(*generation);
        self.option(*expires, Feed::at);
        self.number(u8::from(*settled));
    }

    fn reply(&mut self, row: &ReplyRow) {
        let ReplyRow { id, body, at } = row;
        self.bytes(&id.0.to_be_bytes());
        self.payload(body);
        self.at(*at);
    }
}
