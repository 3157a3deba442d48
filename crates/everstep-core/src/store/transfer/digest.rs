//! The digest by which two stores' views of one run are compared. Pure.

use std::fmt;

use hmac_sha256::Hash as Sha256;

use super::{
    super::{
        Act, Archived, Kept, Letter, Loaded, Parent, PromiseRow, PublishedRow, Received, ReplyRow, RunRow,
        StartedRow, StreamRow,
    },
    whole::Whole,
};
use crate::{
    attribute::AttributeValue,
    journal::{Entry, Payload},
    stuck::Stuck,
    time::Timestamp,
};

/// Begins what is digested. Another number for another form: digests of different versions are never equal.
const FORM: u8 = 1;

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

impl WholeDigest {
    /// Of this run.
    pub fn of(whole: &Whole) -> WholeDigest {
        let mut feed = Feed(Sha256::new());
        feed.0.update([FORM]);
        feed.whole(whole);
        WholeDigest(feed.0.finalize())
    }
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        digest::Digest,
        journal::Site,
        status::Status,
        store::{LetterId, RunId, WorkerId},
        stuck::StuckReason,
    };

    fn entry() -> Entry {
        Entry {
            seq: 1,
            kind: 10,
            key: Some("k".into()),
            attempt: 2,
            input: Some(Payload::json("1")),
            body: Payload::json("2"),
            site: Some(Site::Recorded("s".into())),
            build: "b".into(),
            fingerprint: 3,
            at: Timestamp(4),
        }
    }

    /// Something everywhere.
    fn sample() -> Whole {
        let (body, at) = (Payload::json("1"), Timestamp(1));
        let letter = Letter { id: LetterId(1), kind: 1, name: "n".into(), body: body.clone(), at };
        let details = Some(body.clone());
        let text: Arc<str> = "t".into();
        let act = Act { verb: text.clone(), who: text.clone(), why: text.clone(), at, detail: text.clone() };
        Whole {
            row: RunRow {
                run: RunId(1),
                id: "a".into(),
                workflow: "w".into(),
                status: Status::Waiting,
                owner: None,
                wake_at: Some(at),
                inbox_n: 1,
                generation: 1,
                takeovers: 1,
                created_at: at,
                began_at: Some(at),
                finished_at: Some(at),
            },
            trace: Some("00-".into()),
            parent: Some(Parent {
                run: RunId(1),
                generation: 1,
                key: text.clone(),
                closes: true,
                digest: Digest(1),
            }),
            loaded: Loaded {
                entries: vec![entry()],
                inbox: vec![Received { n: 1, letter }],
                started: vec![StartedRow { key: text.clone(), attempt: 1, at, abandoned: false, details }],
            },
            stuck: Some((Stuck { reason: StuckReason::Panicked, key: None, detail: "d".into() }, at)),
            attributes: vec![("a".into(), AttributeValue::Integer(1))],
            published: vec![PublishedRow { name: text.clone(), body: body.clone(), seq: 1, at }],
            streams: vec![(text.clone(), vec![StreamRow { n: 0, body: body.clone(), at }])],
            acts: vec![act],
            kept: Kept {
                archive: vec![Archived { generation: 0, why: text.clone(), at, entries: vec![entry()] }],
                promises: vec![PromiseRow {
                    hash: [1; 32],
                    key: text,
                    generation: 1,
                    expires: Some(at),
                    settled: false,
                }],
                replies: vec![ReplyRow { id: LetterId(1), body, at }],
                seen: vec![LetterId(1)],
            },
        }
    }

    type Change = fn(&mut Whole);

    /// A change of everything that can be changed by itself.
    const CHANGES: &[(&str, Change)] = &[
        ("run", |w| w.row.run.0 += 1),
        ("id", |w| w.row.id = "b".into()),
        ("workflow", |w| w.row.workflow = "x".into()),
        ("status", |w| w.row.status = Status::Stuck),
        ("wake_at", |w| w.row.wake_at = None),
        ("inbox_n", |w| w.row.inbox_n += 1),
        ("generation", |w| w.row.generation += 1),
        ("takeovers", |w| w.row.takeovers += 1),
        ("created_at", |w| w.row.created_at.0 += 1),
        ("began_at", |w| w.row.began_at = None),
        ("finished_at", |w| w.row.finished_at = None),
        ("trace", |w| w.trace = None),
        ("no parent", |w| w.parent = None),
        ("parent run", |w| w.parent.as_mut().expect("one").run.0 += 1),
        ("parent generation", |w| w.parent.as_mut().expect("one").generation += 1),
        ("parent key", |w| w.parent.as_mut().expect("one").key = "u".into()),
        ("parent closes", |w| w.parent.as_mut().expect("one").closes = false),
        ("parent digest", |w| w.parent.as_mut().expect("one").digest.0 += 1),
        ("no entry", |w| w.loaded.entries.clear()),
        ("seq", |w| w.loaded.entries[0].seq += 1),
        ("kind", |w| w.loaded.entries[0].kind += 1),
        ("key", |w| w.loaded.entries[0].key = None),
        ("attempt", |w| w.loaded.entries[0].attempt += 1),
        ("no input", |w| w.loaded.entries[0].input = None),
        ("input codec", |w| w.loaded.entries[0].input.as_mut().expect("one").codec += 1),
        ("body", |w| w.loaded.entries[0].body.bytes.push(0)),
        ("codec", |w| w.loaded.entries[0].body.codec += 1),
        ("site", |w| w.loaded.entries[0].site = None),
        ("build", |w| w.loaded.entries[0].build = "c".into()),
        ("fingerprint", |w| w.loaded.entries[0].fingerprint += 1),
        ("entry at", |w| w.loaded.entries[0].at.0 += 1),
        ("no letter", |w| w.loaded.inbox.clear()),
        ("n", |w| w.loaded.inbox[0].n += 1),
        ("letter id", |w| w.loaded.inbox[0].letter.id.0 += 1),
        ("letter kind", |w| w.loaded.inbox[0].letter.kind += 1),
        ("letter name", |w| w.loaded.inbox[0].letter.name = "m".into()),
        ("letter body", |w| w.loaded.inbox[0].letter.body.bytes.clear()),
        ("letter at", |w| w.loaded.inbox[0].letter.at.0 += 1),
        ("no started row", |w| w.loaded.started.clear()),
        ("started key", |w| w.loaded.started[0].key = "u".into()),
        ("started attempt", |w| w.loaded.started[0].attempt += 1),
        ("started at", |w| w.loaded.started[0].at.0 += 1),
        ("abandoned", |w| w.loaded.started[0].abandoned = true),
        ("details", |w| w.loaded.started[0].details = None),
        ("not stuck", |w| w.stuck = None),
        ("reason", |w| w.stuck.as_mut().expect("one").0.reason = StuckReason::InDoubt),
        ("stuck key", |w| w.stuck.as_mut().expect("one").0.key = Some("".into())),
        ("detail", |w| w.stuck.as_mut().expect("one").0.detail.push('!')),
        ("stuck at", |w| w.stuck.as_mut().expect("one").1.0 += 1),
        ("no attribute", |w| w.attributes.clear()),
        ("attribute", |w| w.attributes[0].0 = "b".into()),
        ("attribute value", |w| w.attributes[0].1 = AttributeValue::Integer(2)),
        ("attribute type", |w| w.attributes[0].1 = AttributeValue::Float(1.0)),
        ("no published value", |w| w.published.clear()),
        ("published name", |w| w.published[0].name = "u".into()),
        ("published body", |w| w.published[0].body.bytes.clear()),
        ("published seq", |w| w.published[0].seq += 1),
        ("published at", |w| w.published[0].at.0 += 1),
        ("no stream", |w| w.streams.clear()),
        ("stream name", |w| w.streams[0].0 = "u".into()),
        ("no item", |w| w.streams[0].1.clear()),
        ("item n", |w| w.streams[0].1[0].n += 1),
        ("item body", |w| w.streams[0].1[0].body.codec += 1),
        ("item at", |w| w.streams[0].1[0].at.0 += 1),
        ("no act", |w| w.acts.clear()),
        ("verb", |w| w.acts[0].verb = "u".into()),
        ("who", |w| w.acts[0].who = "u".into()),
        ("why", |w| w.acts[0].why = "u".into()),
        ("act detail", |w| w.acts[0].detail = "u".into()),
        ("act at", |w| w.acts[0].at.0 += 1),
        ("no archive", |w| w.kept.archive.clear()),
        ("archived generation", |w| w.kept.archive[0].generation += 1),
        ("archived why", |w| w.kept.archive[0].why = "u".into()),
        ("archived at", |w| w.kept.archive[0].at.0 += 1),
        ("archived entry", |w| w.kept.archive[0].entries[0].seq += 1),
        ("no promise", |w| w.kept.promises.clear()),
        ("hash", |w| w.kept.promises[0].hash[31] += 1),
        ("promise key", |w| w.kept.promises[0].key = "u".into()),
        ("promise generation", |w| w.kept.promises[0].generation += 1),
        ("expires", |w| w.kept.promises[0].expires = None),
        ("settled", |w| w.kept.promises[0].settled = true),
        ("no reply", |w| w.kept.replies.clear()),
        ("reply id", |w| w.kept.replies[0].id.0 += 1),
        ("reply body", |w| w.kept.replies[0].body.bytes.clear()),
        ("reply at", |w| w.kept.replies[0].at.0 += 1),
        ("no known letter", |w| w.kept.seen.clear()),
        ("known letter", |w| w.kept.seen[0].0 += 1),
    ];

    #[test]
    fn everything_is_in_the_digest_but_the_worker() {
        let sample = sample();
        let mut digests = BTreeMap::from([(sample.digest(), "nothing")]);
        for (what, change) in CHANGES {
            let mut changed = sample.clone();
            change(&mut changed);
            assert_ne!(changed, sample, "{what}");
            let same = digests.insert(changed.digest(), what);
            assert_eq!(same, None, "and {what}");
        }
        let mut owned = sample.clone();
        owned.row.owner = Some(WorkerId(7));
        assert_eq!(owned.digest(), sample.digest());
    }

    #[test]
    fn the_two_zeros_are_one() {
        let zero =
            |float: f64| Whole { attributes: vec![("z".into(), AttributeValue::Float(float))], ..sample() };
        assert_eq!(zero(0.0).digest(), zero(-0.0).digest());
    }

    /// Digests are compared between versions too: another form is another `FORM`.
    #[test]
    fn the_form_of_what_is_digested_stays() {
        assert_eq!(
            (FORM, sample().digest().to_string().as_str()),
            (1, "a12035fcf4cd1726799957b98c3aa00801bf8ce8fc551c04d94e511c11a7d791")
        );
    }
}
