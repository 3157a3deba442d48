//! What runs have said: published values, streams, attributes. Read at any time, also after the end and without a worker.

use std::{collections::VecDeque, marker::PhantomData, sync::Arc};

use super::Client;
use crate::{
    AttributeValue,
    body::Data,
    error::{Code, EngineError, ErrorKind},
    journal::{Payload, decode},
    name::{check_name, check_run_id},
    publish::{Published, Stream},
    store::{Heard, PatchRow, RunId, RunRow, Store, StreamRow},
    time::Timestamp,
};

/// Items that [`Items::next`] reads at once.
const PAGE: usize = 100;

/// An item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item<T> {
    /// Its number in its stream, from 0 without a gap, kept for good.
    pub n: u64,
    /// When it was emitted.
    pub at: Timestamp,
    /// The item.
    pub value: T,
}

/// The items of a stream of one run, from a number on: those that are there with [`Items::page`], or one after the other
/// until the run is over with [`Items::next`].
///
/// # What survives a crash
/// An item that was read is durable, and keeps its number for good: who stops after item `n` goes on with `from(n + 1)`,
/// in whatever process. `retry` takes the end of a journal back, but no item: what the run emits then comes behind what
/// it had emitted before. So a reader finds all items, and those that a run emits again twice, under two numbers.
///
/// ```
/// # use everstep_core::{Ctx, Engine, EngineError, Result, Stream, Workflow, store::Memory};
/// # const GREET: Workflow<String, String> = Workflow::new("greet");
/// const LINES: Stream<String> = Stream::new("lines");
///
/// async fn greet(ctx: Ctx, name: String) -> Result<String> {
///     ctx.emit(LINES, &format!("looks for {name}"));
///     let greeting = ctx.step("greet", async || Ok(format!("hello {name}"))).await?;
///     ctx.emit(LINES, &"has greeted".to_string());
///     Ok(greeting)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), EngineError> {
/// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
/// engine.start(GREET, "ada", "Ada".to_string()).await?;
/// let (mut lines, mut told) = (engine.stream("ada", LINES), String::new());
/// while let Some(line) = lines.next().await? {
///     told += &format!("{}: {}\n", line.n, line.value);
/// }
/// // The run is over, and these were all.
/// assert_eq!(told, "0: looks for Ada\n1: has greeted\n");
/// // Who had read item 0 goes on from 1.
/// assert_eq!(engine.stream("ada", LINES).from(1).page(100).await?[0].value, "has greeted");
/// # engine.shutdown().await
/// # }
/// ```
pub struct Items<T> {
    store: Arc<dyn Store>,
    id: Arc<str>,
    name: Arc<str>,
    /// The run's number, once it is known.
    number: Option<RunId>,
    /// The number of the item that comes next.
    next: u64,
    /// Read, and not given yet.
    read: VecDeque<StreamRow>,
    items: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = f.debug_struct("Items");
        told.field("id", &self.id).field("name", &self.name).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<T> Items<T> {
    /// Goes on with item `n`.
    pub fn from(mut self, n: u64) -> Self {
        self.next = n;
        self.read.clear();
        self
    }
}

impl<T: Data> Items<T> {
    /// The next items that are there already, at most `limit` of them; none if there are no more yet.
    ///
    /// # Errors
    /// Not found; an item that does not decode, with its number: go on behind it with [`Items::from`]; the store's.
    pub async fn page(&mut self, limit: usize) -> Result<Vec<Item<T>>, EngineError> {
        let run = self.run().await?;
        let rows = self.store.stream(run, self.name.clone(), self.next, limit).await?;
        let items = rows.iter().map(|row| self.item(row)).collect::<Result<Vec<_>, _>>()?;
        self.read.clear();
        self.next = items.last().map_or(self.next, |last| last.n + 1);
        Ok(items)
    }

    /// The next item, as soon as it is durable, whichever process drives the run; `None` once the run is over and all of
    /// its items were given. A run that is stuck or paused is not over: what a person does may make it emit more.
    /// Cancel-safe: dropped, it takes nothing.
    ///
    /// # Errors
    /// Not found; an item that does not decode: the next call gives the one behind it; the store's.
    pub async fn next(&mut self) -> Result<Option<Item<T>>, EngineError> {
        let run = self.run().await?;
        while self.read.is_empty() {
            // Listen, then look, then wait: nothing rings unheard in between.
            let (mut listener, mut said) = (self.store.bell().listen(run), self.store.bell().read(run));
            // Before the items: a run that is over then emits no more.
            let is_over = self.row().await?.status.is_over();
            let rows = self.store.stream(run, self.name.clone(), self.next, PAGE).await?;
            self.read.extend(rows);
            if self.read.is_empty() {
                if is_over {
                    return Ok(None);
                }
                tokio::select! {
                    biased;
                    () = said.said() => {}
                    Heard::Ended(_) | Heard::Foreign = listener.next() => {}
                }
            }
        }
        let Some(row) = self.read.pop_front() else { return Ok(None) };
        self.next = row.n + 1;
        self.item(&row).map(Some)
    }

    /// The same as a `Stream` of the crate `futures`, which ends with the first error.
    pub fn into_stream(
        self,
    ) -> impl futures_util::Stream<Item = Result<Item<T>, EngineError>> + Send + 'static {
        futures_util::stream::unfold(Some(self), async |items| {
            let mut items = items?;
            match items.next().await.transpose()? {
                Ok(item) => Some((Ok(item), Some(items))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn run(&mut self) -> Result<RunId, EngineError> {
        match self.number {
            Some(run) => Ok(run),
            None => {
                check_run_id(&self.id)?;
                check_name("stream", &self.name)?;
                let run = self.row().await?.run;
                Ok(*self.number.insert(run))
            }
        }
    }

    async fn row(&self) -> Result<RunRow, EngineError> {
        self.store.run(self.id.clone()).await?.ok_or_else(|| super::not_found(&self.id))
    }

    fn item(&self, row: &StreamRow) -> Result<Item<T>, EngineError> {
        let what = || format!("item {} of stream `{}`", row.n, self.name);
        Ok(Item { n: row.n, at: row.at, value: read(&row.body, &self.id, what)? })
    }
}

/// A value as the type that is asked for.
fn read<T: Data>(body: &Payload, run: &str, what: impl FnOnce() -> String) -> Result<T, EngineError> {
    decode(body).map_err(|why| {
        let message =
            format!("{} of run `{run}` does not decode as `{}`: {why}", what(), std::any::type_name::<T>());
        EngineError::new(ErrorKind::Decode, Code::UNDECODABLE, message)
    })
}

impl Client {
    /// What a run has published last under a name; `None` if it has published nothing there. Also of a run that is over,
    /// and without a worker.
    ///
    /// # What survives a crash
    /// What is read is durable. It stands until the run publishes another value, also when `retry` takes back the part of
    /// the journal that published it.
    ///
    /// # Errors
    /// Not found; a value that does not decode as `T`; a name that is none; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Published, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// const PROGRESS: Published<u32> = Published::new("progress");
    ///
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.publish(PROGRESS, &50);
    ///     let greeting = ctx.step("greet", async || Ok(format!("hello {name}"))).await?;
    ///     ctx.publish(PROGRESS, &100);
    ///     Ok(greeting)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// assert_eq!(engine.published("ada", PROGRESS).await?, Some(100));
    /// assert_eq!(engine.published::<u32>("ada", "progress").await?, Some(100)); // the same
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn published<T: Data>(
        &self,
        id: &str,
        name: impl Into<Published<T>> + Send,
    ) -> Result<Option<T>, EngineError> {
        let name = name.into().name();
        check_name("published value", name)?;
        let run = self.row(id).await?.run;
        let row = self.store.published(run, name.into()).await?;
        row.map(|row| read(&row.body, id, || format!("published value `{name}`"))).transpose()
    }

    /// The items of a stream that a run has emitted or is going to: see [`Items`].
    pub fn stream<T: Data>(&self, id: &str, name: impl Into<Stream<T>>) -> Items<T> {
        Items {
            store: self.store.clone(),
            id: id.into(),
            name: name.into().name().into(),
            number: None,
            next: 0,
            read: VecDeque::new(),
            items: PhantomData,
        }
    }

    /// A run's attributes, by name: what filters like `team = "platform"` find it by. Without the engine's own, whose names
    /// begin with `$`.
    ///
    /// # Errors
    /// Not found; the store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.set_attribute("letters", name.len() as i64);
    ///     ctx.step("greet", async || Ok(format!("hello {name}"))).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// assert_eq!(engine.attributes("ada").await?, [("letters".into(), 3.into())]);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn attributes(&self, id: &str) -> Result<Vec<(Arc<str>, AttributeValue)>, EngineError> {
        let run = self.row(id).await?.run;
        let attributes = self.store.attributes(run).await?;
        Ok(attributes.into_iter().filter(|(name, _)| !name.starts_with('$')).collect())
    }

    /// Which patches there are, by patch and workflow: how many runs have each, and how many still need the old way, so
    /// that people know when the old code can go. A run needs the old way if it was started before the patch was first
    /// recorded and has not recorded it itself. It may take the new way yet, if it has not come to the place: then it is
    /// counted too early as one of the old, never too late.
    ///
    /// `old_open` at 0 says that no open run needs the old code; `old_over` counts runs that are over and are kept: nothing
    /// of them runs any more, unless a person sends one back. Ask when no worker with the old code is left, which might
    /// start runs that go the old way.
    ///
    /// # Errors
    /// The store's.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # async fn ship(ctx: Ctx, item: String) -> Result<String> {
    /// #     if ctx.patched("insured") { ctx.step("insure", async || Ok(())).await?; }
    /// #     Ok(item)
    /// # }
    /// # const SHIP: Workflow<String, String> = Workflow::new("ship");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(SHIP, ship).start().await?;
    /// engine.run(SHIP, "desk-7", "a desk".to_string()).await?;
    /// let patch = &engine.patches().await?[0];
    /// assert_eq!((&*patch.patch, &*patch.workflow), ("insured", "ship"));
    /// assert_eq!((patch.over, patch.old_open, patch.old_over), (1, 0, 0)); // the old code can go
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn patches(&self) -> Result<Vec<PatchRow>, EngineError> {
        Ok(self.store.patches().await?)
    }
}
