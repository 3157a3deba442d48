//! A run as one JSON file: everything that a store keeps of it, to be looked at, kept, or replayed in a test.
//!
//! The format is numbered ([`EXPORT_FORMAT`]) and of its own: what stores and the engine hold may change beside it. Within
//! a number fields are added and never renamed. Absent on purpose: the archive of earlier generations, which no replay
//! reads.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Client,
    attribute::AttributeValue,
    error::{Code, EngineError, ErrorKind},
    journal::{Entry, Kind, Payload, Site},
    scope::name_in,
    status::Status,
    store::{Letter, LetterId, Loaded, PublishedRow, Received, RunId, RunRow, StartedRow, Store, StreamRow},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// The number of the format that this version writes, and the newest that it reads.
pub const EXPORT_FORMAT: u32 = 1;
/// A run that moves while it is read is read so often.
const READS_MAX: usize = 10;

/// Everything that a store keeps of one run: its journal with payloads, its row, inbox, started rows, attributes,
/// published values and streams. Made by [`Client::export`], read by [`Export::from_json`], put into a store of tests by
/// [`Memory::import`](crate::store::Memory::import), replayed by [`Builder::replay`](crate::Builder::replay).
///
/// As JSON it is one object: `everstep_export` (the number of the format), `run`, `stuck`, `journal`, `inbox`, `started`,
/// `attributes`, `published`, `streams`. Times are microseconds since 1970, statuses and kinds are words or numbers as
/// everywhere, a payload is its codec's number and its text (`\x` and digits if it is none).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    everstep_export: u32,
    run: Row,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stuck: Option<Reason>,
    journal: Vec<Fact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inbox: Vec<Message>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    started: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, AttributeValue>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    published: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    streams: BTreeMap<String, Vec<Value>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    id: String,
    workflow: String,
    status: String,
    wake_at: Option<i64>,
    inbox_n: u64,
    generation: u32,
    takeovers: u32,
    created_at: i64,
    began_at: Option<i64>,
    finished_at: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reason {
    reason: u8,
    key: Option<String>,
    detail: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fact {
    seq: u64,
    kind: u16,
    /// For people; the number counts.
    #[serde(default)]
    word: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default)]
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Payload>,
    body: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    build: String,
    fingerprint: u32,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    n: u64,
    /// 128 bits as hexadecimal digits.
    id: String,
    kind: u16,
    name: String,
    body: Payload,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Attempt {
    key: String,
    attempt: u32,
    at: i64,
    #[serde(default)]
    abandoned: bool,
    /// What its heartbeats saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Payload>,
}

/// A published value, with the number of its entry; an item of a stream, with its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Value {
    n: u64,
    body: Payload,
    at: i64,
}

/// An export as a store's own types.
pub(crate) struct Imported {
    pub(crate) row: RunRow,
    pub(crate) loaded: Loaded,
    pub(crate) stuck: Option<Stuck>,
    pub(crate) attributes: BTreeMap<Arc<str>, AttributeValue>,
    pub(crate) published: BTreeMap<Arc<str>, PublishedRow>,
    pub(crate) streams: BTreeMap<Arc<str>, Vec<StreamRow>>,
}

impl Export {
    /// The run's id.
    pub fn id(&self) -> &str {
        &self.run.id
    }

    /// The run's workflow.
    pub fn workflow(&self) -> &str {
        &self.run.workflow
    }

    /// How many entries its journal has.
    pub fn journal_len(&self) -> usize {
        self.journal.len()
    }

    /// As the text of a file, with a line for each value.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text keys, and no float that is not finite")
    }

    /// From the text of a file.
    ///
    /// # Errors
    /// [`Code::BAD_EXPORT`]: no export, or one of a later version.
    pub fn from_json(text: &str) -> Result<Export, EngineError> {
        #[derive(Deserialize)]
        struct Format {
            everstep_export: u32,
        }
        let unreadable = |why: serde_json::Error| bad(format!("this is no export of a run: {why}"));
        let Format { everstep_export } = serde_json::from_str(text).map_err(unreadable)?;
        if everstep_export > EXPORT_FORMAT {
            return Err(bad(format!(
                "the export has format {everstep_export}, and this version reads formats up to {EXPORT_FORMAT}: use a newer one"
            )));
        }
        let export: Export = serde_json::from_str(text).map_err(unreadable)?;
        export.imported()?;
        Ok(export)
    }

    async fn read(store: &dyn Store, row: RunRow) -> Result<Export, EngineError> {
        let run = row.run;
        let loaded = store.load(run).await?;
        let stuck = store.stuck(run).await?;
        let attributes = store.attributes(run).await?;
        let published = store.published_all(run, usize::MAX).await?;
        let mut streams = BTreeMap::new();
        for name in store.stream_names(run).await? {
            let items = store.stream(run, name.clone(), 0, usize::MAX).await?;
            let items = items.into_iter().map(|item| Value { n: item.n, body: item.body, at: item.at.0 });
            streams.insert(name.to_string(), items.collect());
        }
        Ok(Export {
            everstep_export: EXPORT_FORMAT,
            run: Row::of(&row),
            stuck: stuck.map(|stuck| Reason {
                reason: stuck.reason.code(),
                key: stuck.key.as_deref().map(str::to_string),
                detail: stuck.detail,
            }),
            journal: loaded.entries.into_iter().map(Fact::of).collect(),
            inbox: loaded.inbox.into_iter().map(Message::of).collect(),
            started: loaded.started.into_iter().map(Attempt::of).collect(),
            attributes: attributes.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            published: published
                .into_iter()
                .map(|row| (row.name.to_string(), Value { n: row.seq, body: row.body, at: row.at.0 }))
                .collect(),
            streams,
        })
    }

    /// As a store has it. The run has no number, no worker has it, and it is due if one had.
    pub(crate) fn imported(&self) -> Result<Imported, EngineError> {
        let started = self.started.iter().map(Attempt::row).collect();
        let streams = self.streams.iter().map(|(name, items)| {
            let row = |item: &Value| StreamRow { n: item.n, body: item.body.clone(), at: Timestamp(item.at) };
            (Arc::from(&**name), items.iter().map(row).collect())
        });
        let published = self.published.iter().map(|(name, value)| {
            let (name, at): (Arc<str>, _) = (Arc::from(&**name), Timestamp(value.at));
            (name.clone(), PublishedRow { name, body: value.body.clone(), seq: value.n, at })
        });
        Ok(Imported {
            row: self.run.row()?,
            loaded: Loaded {
                entries: self.journal.iter().map(Fact::entry).collect(),
                inbox: self.inbox.iter().map(Message::received).collect::<Result<_, _>>()?,
                started,
            },
            stuck: self.stuck.as_ref().map(Reason::stuck).transpose()?,
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| (Arc::from(&**name), value.clone()))
                .collect(),
            published: published.collect(),
            streams: streams.collect(),
        })
    }
}

impl Imported {
    /// The streams of all items in an order in which they may have been emitted: those of the journal last, as it has them.
    pub(crate) fn emitted(&self) -> Vec<Arc<str>> {
        let emits = |entry: &&Entry| entry.known_kind() == Some(Kind::Emitted);
        let names = self.loaded.entries.iter().filter(emits).filter_map(|entry| entry.key.as_deref());
        let last: Vec<Arc<str>> = names.map(|key| name_in(key).into()).collect();
        let mut all = Vec::new();
        for (name, items) in &self.streams {
            let of_journal = last.iter().filter(|emitted| *emitted == name).count();
            all.extend(std::iter::repeat_n(name.clone(), items.len().saturating_sub(of_journal)));
        }
        all.extend(last);
        all
    }
}

impl Row {
    fn of(row: &RunRow) -> Row {
        Row {
            id: row.id.to_string(),
            workflow: row.workflow.to_string(),
            status: row.status.word().to_string(),
            wake_at: row.wake_at.map(|at| at.0),
            inbox_n: row.inbox_n,
            generation: row.generation,
            takeovers: row.takeovers,
            created_at: row.created_at.0,
            began_at: row.began_at.map(|at| at.0),
            finished_at: row.finished_at.map(|at| at.0),
        }
    }

    fn row(&self) -> Result<RunRow, EngineError> {
        let status: Status = self.status.parse().map_err(bad)?;
        let is_driven = status == Status::Running;
        Ok(RunRow {
            run: RunId(0),
            id: self.id.as_str().into(),
            workflow: self.workflow.as_str().into(),
            status: if is_driven { Status::Pending } else { status },
            owner: None,
            wake_at: if is_driven { Some(Timestamp(0)) } else { self.wake_at.map(Timestamp) },
            inbox_n: self.inbox_n,
            generation: self.generation,
            takeovers: self.takeovers,
            created_at: Timestamp(self.created_at),
            began_at: self.began_at.map(Timestamp),
            finished_at: self.finished_at.map(Timestamp),
        })
    }
}

impl Reason {
    fn stuck(&self) -> Result<Stuck, EngineError> {
        let unknown = || bad(format!("{} is no reason that this version knows", self.reason));
        let reason = StuckReason::from_code(self.reason).ok_or_else(unknown)?;
        Ok(Stuck { reason, key: self.key.as_deref().map(Arc::from), detail: self.detail.clone() })
    }
}

impl Fact {
    fn of(entry: Entry) -> Fact {
        Fact {
            seq: entry.seq,
            kind: entry.kind,
            word: entry.known_kind().map_or("", Kind::word).to_string(),
            key: entry.key.as_deref().map(str::to_string),
            attempt: entry.attempt,
            input: entry.input,
            body: entry.body,
            site: entry.site.map(|site| site.to_string()),
            build: entry.build.to_string(),
            fingerprint: entry.fingerprint,
            at: entry.at.0,
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            seq: self.seq,
            kind: self.kind,
            key: self.key.as_deref().map(Arc::from),
            attempt: self.attempt,
            input: self.input.clone(),
            body: self.body.clone(),
            site: self.site.as_deref().map(|site| Site::Recorded(site.into())),
            build: self.build.as_str().into(),
            fingerprint: self.fingerprint,
            at: Timestamp(self.at),
        }
    }
}

impl Message {
    fn of(received: Received) -> Message {
        let Letter { id, kind, name, body, at } = received.letter;
        Message { n: received.n, id: format!("{:032x}", id.0), kind, name: name.to_string(), body, at: at.0 }
    }

    fn received(&self) -> Result<Received, EngineError> {
        let id = u128::from_str_radix(&self.id, 16)
            .map_err(|why| bad(format!("`{}` is no message's name: {why}", self.id)))?;
        let (name, at) = (self.name.as_str().into(), Timestamp(self.at));
        let letter = Letter { id: LetterId(id), kind: self.kind, name, body: self.body.clone(), at };
        Ok(Received { n: self.n, letter })
    }
}

fn bad(message: String) -> EngineError {
    EngineError::new(ErrorKind::Misuse, Code::BAD_EXPORT, message)
}

impl Client {
    /// Everything that the store keeps of a run, to be written into a file: see [`Export`].
    ///
    /// # Errors
    /// Not found; the store's; a run that moves so fast that no moment of it could be read.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Export, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # async fn greet(ctx: Ctx, name: String) -> Result<String> {
    /// #     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// let text = engine.export("ada").await?.to_json(); // into a file
    /// let export = Export::from_json(&text)?;
    /// assert_eq!((export.id(), export.journal_len()), ("ada", 3));
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn export(&self, id: &str) -> Result<Export, EngineError> {
        let mut row = self.row(id).await?;
        for _ in 0..READS_MAX {
            let export = Export::read(&*self.store, row.clone()).await?;
            let now = self.row(id).await?;
            let last = self.store.last(now.run).await?.map(|last| last.seq);
            if now == row && last == export.journal.last().map(|last| last.seq) {
                return Ok(export);
            }
            row = now;
        }
        let message =
            format!("run `{id}` moved {READS_MAX} times while it was read: export it when it rests");
        Err(EngineError::new(ErrorKind::Store, Code::STORE, message))
    }
}

impl Attempt {
    fn of(row: StartedRow) -> Attempt {
        let StartedRow { key, attempt, at, abandoned, details } = row;
        Attempt { key: key.to_string(), attempt, at: at.0, abandoned, details }
    }

    fn row(&self) -> StartedRow {
        StartedRow {
            key: self.key.as_str().into(),
            attempt: self.attempt,
            at: Timestamp(self.at),
            abandoned: self.abandoned,
            details: self.details.clone(),
        }
    }
}
