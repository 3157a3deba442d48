//! The in-memory store: for tests, and as the strict reference of what a store does.
//!
//! Every call is applied at once, under one lock, and answered with a ready future: no thread, no chance. It counts as
//! power-safe, because it survives the crashes that it simulates: an engine dropped without ceremony, and another one
//! started on a clone or a second opening.

mod content;
mod run;

mod act;
mod claim;
mod cut;
mod post;
mod promise;
mod say;
mod start;
mod transact;
mod transfer;
mod turn;
mod worker;

mod inspect;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize};

pub use transact::{MemoryBody, MemoryJob, Rows};

use self::{content::Content, turn::Held};
use super::{Answer, Bell, Ended, Letter, LetterId, RunId, StoreError, WorkerId, taken_by};
use crate::{
    Export,
    error::{Code, EngineError, ErrorKind},
    journal::{Entry, Outcome},
    status::Status,
    time::Timestamp,
};

/// The in-memory store. Clones are the same opening; [`Memory::reopen`] makes another of the same content.
#[derive(Clone)]
pub struct Memory(Arc<Opening>);

struct Opening {
    number: OpeningId,
    bell: Arc<Bell>,
    /// Claims so far: each begins with another workflow.
    claims: AtomicUsize,
    content: Arc<Mutex<Content>>,
}

/// The number of an opening of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpeningId(usize);

/// Whom to ring for once the lock is released.
#[derive(Default)]
struct Rings {
    claimable: bool,
    inbox: bool,
    said: Vec<RunId>,
    ended: Vec<(RunId, Status, Option<Outcome>)>,
    /// Something was changed, which the other openings are to hear.
    changed: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::open(Arc::default())
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("runs", &self.content().runs.len()).finish_non_exhaustive()
    }
}

impl Memory {
    fn open(content: Arc<Mutex<Content>>) -> Memory {
        let bell = Arc::new(Bell::default());
        let number = lock(&content).opened(&bell);
        Memory(Arc::new(Opening { number, bell, claims: AtomicUsize::new(0), content }))
    }

    /// Opens the same content once more, as another process would: with a bell and loads of its own.
    pub fn reopen(&self) -> Memory {
        Memory::open(self.0.content.clone())
    }

    /// The user's rows, as committed.
    pub fn rows(&self) -> Rows {
        self.content().rows.clone()
    }

    /// Marks a worker's process as dead, as a free lock file does.
    pub fn vanish(&self, worker: WorkerId) {
        if let Some(worker) = self.content().workers.get_mut(&worker) {
            worker.gone = true;
        }
    }

    /// While set, every turn and transactional step is refused with this error.
    pub fn fail_commits(&self, with: Option<StoreError>) {
        self.content().failing = with;
    }

    /// Turns and transactional steps queue up and are not applied, as if the disk were slow, until
    /// [`Memory::release_commits`].
    pub fn hold_commits(&self) {
        self.content().waiting.get_or_insert_default();
    }

    /// Applies what [`Memory::hold_commits`] held, in order; how much there was.
    pub fn release_commits(&self) -> usize {
        let waiting = self.content().waiting.take().unwrap_or_default();
        let count = waiting.len();
        waiting.into_iter().for_each(|held| self.release(held));
        count
    }

    /// A store of its own with the same runs, as a copy of the file would be. No worker of this one is known there, and
    /// every run is free.
    pub fn fork(&self) -> Memory {
        let copy = self.content().fork();
        Memory::open(Arc::new(Mutex::new(copy)))
    }

    /// Puts a run into this store as it was exported, under its id: free, due if a worker had it, stuck if it was.
    ///
    /// Letters that had reached it are known, tokens of its promises settle them here, and a child is nobody's child. Of an
    /// export of a version that did not write these, letters and tokens are unknown.
    ///
    /// # Errors
    /// A conflict if the id is in use; an export that this version cannot read.
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
    /// # engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// # let export = engine.export("ada").await?;
    /// # engine.shutdown().await?;
    /// let store = Memory::default();
    /// store.import(&export)?;
    /// let engine = Engine::builder(store).register(GREET, greet).start().await?;
    /// assert_eq!(engine.get(GREET, "ada").await?.result().await?, "hello Ada");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub fn import(&self, export: &Export) -> Result<(), EngineError> {
        let whole = export.imported()?;
        let (is_new, rings) = self.apply(|content| content.import(whole));
        self.ring(rings);
        match is_new {
            true => Ok(()),
            false => {
                let message = format!("run `{}` is in this store already", export.id());
                Err(EngineError::new(ErrorKind::Conflict, Code::CONFLICT, message))
            }
        }
    }

    /// Changes a run's journal behind the engine's back, as damage to a file would.
    pub fn rewrite(&self, id: &str, damage: impl FnOnce(&mut Vec<Entry>)) {
        let content = &mut *self.content();
        if let Some(run) = content.ids.get(id).and_then(|run| content.runs.get_mut(run)) {
            damage(&mut run.entries);
        }
    }

    /// Cuts a run's journal to its first `entries` entries and makes the run claimable, as if its worker had died then.
    /// Its inbox and started rows stay as they are, and what it has published; items of streams go with their entries, and
    /// what these took of promises comes back into the inbox.
    pub fn truncate(&self, id: &str, entries: usize) {
        let content = &mut *self.content();
        let Some(run) = content.ids.get(id).copied() else { return };
        content.disown(run);
        let Some(entry) = content.runs.get_mut(&run) else { return };
        let gone = entry.entries.split_off(entries.min(entry.entries.len()));
        entry.said.forget(&gone);
        for (kind, name, body) in gone.iter().filter_map(taken_by) {
            let (id, at) = (LetterId(u128::from(entry.row.inbox_n)), Timestamp(0));
            entry.add(Letter { id, kind: kind as u16, name, body, at });
        }
        entry.stuck = None;
        entry.row.status = Status::Pending;
        entry.row.finished_at = None;
        content.set_due(run, Some(Timestamp(0)));
        self.0.bell.ring_claimable();
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.0.content)
    }

    fn read<T: Send + 'static>(&self, look: impl FnOnce(&Content) -> T) -> Answer<T> {
        let answer = look(&self.content());
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn write<T: Send + 'static>(&self, act: impl FnOnce(&mut Content) -> Result<T, StoreError>) -> Answer<T> {
        let (answer, rings) = self.apply(act);
        self.ring(rings);
        Box::pin(std::future::ready(answer))
    }

    /// Applies a write; what it rings for is left to the caller.
    fn apply<T>(&self, act: impl FnOnce(&mut Content) -> T) -> (T, Rings) {
        let mut content = self.content();
        let answer = act(&mut content);
        (answer, std::mem::take(&mut content.rings))
    }

    fn ring(&self, rings: Rings) {
        let bell = &self.0.bell;
        if rings.claimable {
            bell.ring_claimable();
        }
        if rings.inbox {
            bell.ring_inbox();
        }
        for run in rings.said {
            bell.ring_said(run);
        }
        for (run, status, outcome) in rings.ended {
            bell.ring_ended(run, || Ended { status, outcome });
        }
        if rings.changed {
            let others = self.content().bells_but(self.0.number);
            others.iter().for_each(|bell| bell.ring_foreign());
        }
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A rule was broken, and nothing was changed.
fn refused(why: String) -> StoreError {
    StoreError::Refused(why.into())
}
