//! A run as one JSON file: everything that a store keeps of it, to be looked at, kept, or replayed in a test.
//!
//! The format is numbered ([`EXPORT_FORMAT`]) and of its own: what stores and the engine hold may change beside it. Within
//! a number fields are added and never renamed: what an old file has not, the run has not. `row` has the shapes of what
//! drives a run, `history` those of what is kept of it besides.

mod history;
mod row;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use self::{
    history::{Doing, Removed, Replied, Token},
    row::{Attempt, Fact, Message, Reason, Row, Value, letter_id},
};
use crate::{
    Client,
    attribute::AttributeValue,
    error::{Code, EngineError, ErrorKind},
    journal::{Entry, Kind},
    scope::name_in,
    store::{Act, Kept, Loaded, PublishedRow, RunRow, Store, StreamRow},
    stuck::Stuck,
    time::Timestamp,
};

/// The number of the format that this version writes, and the newest that it reads.
pub const EXPORT_FORMAT: u32 = 1;
/// A run that moves while it is read is read so often.
const READS_MAX: usize = 10;

/// Everything that a store keeps of one run: its journal with payloads, its row, inbox, started rows, attributes,
/// published values and streams; what people did to it, what it promised and answered, and the archive of what was taken
/// out of its journal (earlier generations, edited results). Of tokens it has the hashes. Made by [`Client::export`], read by [`Export::from_json`], put into a store of tests by
/// [`Memory::import`](crate::store::Memory::import), replayed by [`Builder::replay`](crate::Builder::replay).
///
/// As JSON it is one object: `everstep_export` (the number of the format), `run`, `stuck`, `journal`, `inbox`, `started`,
/// `attributes`, `published`, `streams`, `acts`, `promises`, `replies`, `seen`, `archive`. Times are microseconds since 1970, statuses and kinds are words or numbers as
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    acts: Vec<Doing>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    promises: Vec<Token>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replies: Vec<Replied>,
    /// Names of letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    seen: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    archive: Vec<Removed>,
}

/// An export as a store's own types.
pub(crate) struct Imported {
    pub(crate) row: RunRow,
    pub(crate) loaded: Loaded,
    pub(crate) stuck: Option<Stuck>,
    pub(crate) attributes: BTreeMap<Arc<str>, AttributeValue>,
    pub(crate) published: BTreeMap<Arc<str>, PublishedRow>,
    pub(crate) streams: BTreeMap<Arc<str>, Vec<StreamRow>>,
    pub(crate) acts: Vec<Act>,
    pub(crate) kept: Kept,
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
        let (acts, kept) = (store.acts(run, usize::MAX).await?, store.kept(run).await?);
        let mut streams = BTreeMap::new();
        for name in store.stream_names(run).await? {
            let items = store.stream(run, name.clone(), 0, usize::MAX).await?;
            let items = items.into_iter().map(|item| Value { n: item.n, body: item.body, at: item.at.0 });
            streams.insert(name.to_string(), items.collect());
        }
        Ok(Export {
            everstep_export: EXPORT_FORMAT,
            run: Row::of(&row),
            stuck: stuck.map(Reason::of),
            journal: loaded.entries.into_iter().map(Fact::of).collect(),
            inbox: loaded.inbox.into_iter().map(Message::of).collect(),
            started: loaded.started.into_iter().map(Attempt::of).collect(),
            attributes: attributes.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            published: published
                .into_iter()
                .map(|row| (row.name.to_string(), Value { n: row.seq, body: row.body, at: row.at.0 }))
                .collect(),
            streams,
            acts: acts.into_iter().map(Doing::of).collect(),
            promises: kept.promises.into_iter().map(Token::of).collect(),
            replies: kept.replies.into_iter().map(Replied::of).collect(),
            seen: kept.seen.into_iter().map(|id| format!("{:032x}", id.0)).collect(),
            archive: kept.archive.into_iter().map(Removed::of).collect(),
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
            acts: self.acts.iter().map(Doing::act).collect(),
            kept: self.kept()?,
        })
    }

    fn kept(&self) -> Result<Kept, EngineError> {
        Ok(Kept {
            archive: self.archive.iter().map(Removed::archived).collect(),
            promises: self.promises.iter().map(Token::row).collect::<Result<_, _>>()?,
            replies: self.replies.iter().map(Replied::row).collect::<Result<_, _>>()?,
            seen: self.seen.iter().map(|id| letter_id(id)).collect::<Result<_, _>>()?,
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
