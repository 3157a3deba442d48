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
    store::{Kept, LetterId, LetterKind, Loaded, PublishedRow, Received, RunRow, Store, StreamRow, Whole},
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

    fn of(whole: Whole) -> Export {
        // Whose child it is and who traced it are of its store, and no file's.
        let Whole { row, trace: _, parent: _, loaded, stuck, attributes, published, streams, acts, kept } =
            whole;
        let value = |n, body, at: Timestamp| Value { n, body, at: at.0 };
        let items = |items: Vec<StreamRow>| items.into_iter().map(|item| value(item.n, item.body, item.at));
        Export {
            everstep_export: EXPORT_FORMAT,
            run: Row::of(&row),
            stuck: stuck.map(|(stuck, _)| Reason::of(stuck)),
            journal: loaded.entries.into_iter().map(Fact::of).collect(),
            inbox: loaded.inbox.into_iter().map(Message::of).collect(),
            started: loaded.started.into_iter().map(Attempt::of).collect(),
            attributes: attributes.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            published: published
                .into_iter()
                .map(|row| (row.name.to_string(), value(row.seq, row.body, row.at)))
                .collect(),
            streams: streams
                .into_iter()
                .map(|(name, all)| (name.to_string(), items(all).collect()))
                .collect(),
            acts: acts.into_iter().map(Doing::of).collect(),
            promises: kept.promises.into_iter().map(Token::of).collect(),
            replies: kept.replies.into_iter().map(Replied::of).collect(),
            seen: kept.seen.into_iter().map(|id| format!("{:032x}", id.0)).collect(),
            archive: kept.archive.into_iter().map(Removed::of).collect(),
        }
    }

    /// As a store has it. The run has no number and no parent, no worker has it, and it is due if one had.
    pub(crate) fn imported(&self) -> Result<Whole, EngineError> {
        let streams = self.streams.iter().map(|(name, items)| {
            let row = |item: &Value| StreamRow { n: item.n, body: item.body.clone(), at: Timestamp(item.at) };
            (Arc::from(&**name), items.iter().map(row).collect())
        });
        let published = self.published.iter().map(|(name, value)| {
            let (name, at) = (Arc::from(&**name), Timestamp(value.at));
            PublishedRow { name, body: value.body.clone(), seq: value.n, at }
        });
        let loaded = Loaded {
            entries: self.journal.iter().map(Fact::entry).collect(),
            inbox: self.inbox.iter().map(Message::received).collect::<Result<_, _>>()?,
            started: self.started.iter().map(Attempt::row).collect(),
        };
        // The file does not say since when: since its last entry, about.
        let since = loaded.entries.last().map_or(Timestamp(0), |last| last.at);
        let stuck = self.stuck.as_ref().map(Reason::stuck).transpose()?;
        Ok(Whole {
            row: self.run.row()?,
            trace: None,
            parent: None,
            stuck: stuck.map(|stuck| (stuck, since)),
            attributes: self
                .attributes
                .iter()
                .map(|(name, value)| (Arc::from(&**name), value.clone()))
                .collect(),
            published: published.collect(),
            streams: streams.collect(),
            acts: self.acts.iter().map(Doing::act).collect(),
            kept: self.kept(&loaded.inbox)?,
            loaded,
        })
    }

    fn kept(&self, inbox: &[Received]) -> Result<Kept, EngineError> {
        let mut seen: Vec<LetterId> = self.seen.iter().map(|id| letter_id(id)).collect::<Result<_, _>>()?;
        // A version that did not write known letters had those of the inbox all the same.
        let is_sent = |received: &&Received| received.letter.kind != LetterKind::Recorded as u16;
        seen.extend(inbox.iter().filter(is_sent).map(|received| received.letter.id));
        seen.sort_unstable_by_key(|id| id.0);
        seen.dedup();
        Ok(Kept {
            archive: self.archive.iter().map(Removed::archived).collect(),
            promises: self.promises.iter().map(Token::row).collect::<Result<_, _>>()?,
            replies: self.replies.iter().map(Replied::row).collect::<Result<_, _>>()?,
            seen,
        })
    }
}

/// A run whole, as the verbs tell it one after the other: it may move meanwhile.
async fn read(store: &dyn Store, row: RunRow) -> Result<Whole, EngineError> {
    let run = row.run;
    let loaded = store.load(run).await?;
    let since = loaded.entries.last().map_or(Timestamp(0), |last| last.at);
    let mut streams = Vec::new();
    for name in store.stream_names(run).await? {
        let items = store.stream(run, name.clone(), 0, usize::MAX).await?;
        streams.push((name, items));
    }
    Ok(Whole {
        row,
        trace: None,
        parent: None,
        loaded,
        stuck: store.stuck(run).await?.map(|stuck| (stuck, since)),
        attributes: store.attributes(run).await?,
        published: store.published_all(run, usize::MAX).await?,
        streams,
        acts: store.acts(run, usize::MAX).await?,
        kept: store.kept(run).await?,
    })
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
            let export = Export::of(read(&*self.store, row.clone()).await?);
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
