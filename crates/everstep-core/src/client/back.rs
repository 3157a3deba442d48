//! Going back: to a step, with another result of a step, and what must not be forgotten of what is taken off. Pure but for
//! the reading; `cut` and `edit` of the store do it if the run is still as it was read.

use std::collections::BTreeMap;

use super::{Allowed, Client, Verb, act::not_possible, act::refused, json_of};
use crate::{
    body::Data,
    digest::Incarnation,
    error::{Code, EngineError, ErrorKind},
    journal::{Carried, Entry, Failure, Kind, Payload, Reseeded, decode, encode},
    scope::name_in,
    status::StatusSet,
    store::{Cut, Does, Edit, Letter, LetterKind, RunRow},
};

/// What is remembered when the entries from `from` on are taken off; `None` if there is nothing. `rewound` says whether a
/// person wants the steps there to be other ones: then their idempotency keys change.
pub(super) fn left(entries: &[Entry], from: u64, rewound: bool) -> Result<Option<Reseeded>, String> {
    let mut left = Reseeded::default();
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    let mut again: BTreeMap<String, u32> = BTreeMap::new();
    let mut was_reseeded = false;
    for entry in entries {
        let (is_off, kind) = (entry.seq >= from, entry.known_kind());
        if kind == Some(Kind::Reseeded) {
            let before: Reseeded = decode(&entry.body)?;
            known.extend(before.rewinds);
            if is_off {
                was_reseeded = true;
                left.seed = before.seed.or(left.seed);
                left.carried.extend(before.carried);
            }
        }
        let Some(key) = entry.key.as_deref().filter(|_| is_off) else { continue };
        match kind {
            Some(Kind::SignalTaken) => {
                left.carried.push(Carried {
                    name: name_in(key).to_string(),
                    value: entry.body.clone(),
                    refused: None,
                });
            }
            Some(Kind::SignalRefused) => {
                let refused: Failure = decode(&entry.body)?;
                left.carried.push(Carried {
                    name: name_in(key).to_string(),
                    value: entry.input.clone().unwrap_or_default(),
                    refused: Some(refused),
                });
            }
            Some(Kind::StepDone | Kind::StepFailed | Kind::AttemptFailed | Kind::Answered) if rewound => {
                again.insert(key.to_string(), 0);
            }
            _ => {}
        }
    }
    for key in again.into_keys() {
        *known.entry(key).or_default() += 1;
    }
    left.rewinds = known;
    Ok((rewound || was_reseeded || !left.carried.is_empty()).then_some(left))
}

/// The number of a step's first entry.
pub(super) fn first_of(verb: Verb, id: &str, entries: &[Entry], key: &str) -> Result<u64, EngineError> {
    let first = entries.iter().find(|entry| entry.key.as_deref() == Some(key));
    first.map(|entry| entry.seq).ok_or_else(|| {
        not_possible(
            verb,
            &format!("the journal of run `{id}` has no entry of `{key}`; the timeline shows its keys"),
        )
    })
}

/// The entry in which a step's outcome is recorded, its last one.
pub(super) fn outcome_of<'e>(
    verb: Verb,
    id: &str,
    entries: &'e [Entry],
    key: &str,
) -> Result<&'e Entry, EngineError> {
    let is_outcome = |entry: &&Entry| {
        let over = matches!(entry.known_kind(), Some(Kind::StepDone | Kind::StepFailed));
        over && entry.key.as_deref() == Some(key)
    };
    entries
        .iter()
        .rfind(is_outcome)
        .ok_or_else(|| not_possible(verb, &format!("run `{id}` has no recorded outcome of a step `{key}`")))
}

/// Refuses to keep a step whose undo has begun: what it did is not there any more.
pub(super) fn check_undone(verb: Verb, id: &str, entries: &[Entry], from: u64) -> Result<(), EngineError> {
    let undone = |key: &str| {
        let is =
            |entry: &Entry| entry.known_kind() == Some(Kind::UndoBegun) && entry.key.as_deref() == Some(key);
        entries.iter().any(is)
    };
    let kept = entries.iter().filter(|entry| entry.seq < from && entry.known_kind() == Some(Kind::StepDone));
    match kept.filter_map(|entry| entry.key.as_deref()).find(|key| undone(key)) {
        None => Ok(()),
        Some(key) => Err(not_possible(
            verb,
            &format!("the undo of step `{key}` of run `{id}` has begun: go back to `{key}` or before it"),
        )),
    }
}

/// The entry with another outcome: a value.
pub(super) fn with_result(entry: &Entry, value: Payload) -> Entry {
    Entry { kind: Kind::StepDone.code(), body: value, ..entry.clone() }
}

impl Client {
    /// Goes back to a step: the run goes on before the first entry of this key, at once, under the current code. That entry
    /// and all after it go to the archive; everything before it stays as it is recorded. Free values
    /// ([`Ctx::random`](crate::Ctx::random), `uuid`) that are drawn from there on are others, and so are the idempotency keys
    /// of the steps whose entries were taken off: whoever is called with them sees new calls. What was taken from
    /// outside there (signals, requests, what became of promises and children) is taken again; a promise of this very key
    /// may be settled anew.
    ///
    /// What the steps did is not undone, and children that were started there stay: a start that is made again with the same
    /// workflow and input is the same child, with the outcome that it has or will have; one with another input gets a
    /// conflict as its outcome, unless it has another id. They close with this run as before, also if it does not start them
    /// again. A request that was answered there is handled again, and whoever asked keeps the first answer.
    ///
    /// # Errors
    /// Not found; running (pause it first) or over with a value or cancelled (fork it); a key without an entry; a kept step
    /// whose undo has begun; the run has moved meanwhile; the store's.
    ///
    /// # What survives a crash
    /// It is one transaction.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// # static PRICE: AtomicU64 = AtomicU64::new(0);
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     let price = ctx.step("price", async || Ok(PRICE.load(SeqCst))).await?;
    ///     ctx.step("check", async || if price > 0 { Ok(()) } else { Err("no price".into()) }).await?;
    ///     Ok(format!("{name} pays {price}"))
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert!(run.result().await.is_err());
    /// PRICE.store(7, SeqCst);
    /// engine.rewind("ada", "price").await?; // `retry` would only check again
    /// assert_eq!(run.result().await?, "Ada pays 7");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn rewind(&self, id: &str, key: &str) -> Result<(), EngineError> {
        let row = self.row_for(Verb::Rewind, id).await?;
        let loaded = self.store.load(row.run).await?;
        let entries = &loaded.entries;
        let from = first_of(Verb::Rewind, id, entries, key)?;
        check_undone(Verb::Rewind, id, entries, from)?;
        // A promise of this key is to be kept anew; what became of the others stands.
        let is_anew = |entry: &Entry| {
            entry.known_kind() == Some(Kind::PromiseSettled) && entry.key.as_deref() == Some(key)
        };
        let kept = self.taken_again(&loaded, |entry| entry.seq >= from && !is_anew(entry));
        let reopens = entries.iter().any(is_anew).then(|| key.into());
        let mut left = left(entries, from, true).map_err(|why| unreadable(id, &why))?.unwrap_or_default();
        left.seed = Some(Incarnation(self.entropy.draw()));
        let cut = Cut {
            run: row.run,
            only: StatusSet::of(&[row.status]),
            inbox_n: row.inbox_n,
            last: entries.last().map(|last| last.seq),
            from,
            letters: kept.into_iter().chain([self.reseed(&left)]).collect(),
            reopens: reopens.into_iter().collect(),
            why: "rewind".to_string(),
            at: self.clock.now(),
        };
        self.done(Verb::Rewind, id, Does::Cut(cut), self.act(Verb::Rewind, "", key)?).await
    }

    /// Replaces the recorded outcome of a step, a value or a failure, by this value; the old one goes to the archive. The
    /// run stays as it is: `retry` (or `resume`) it, and its function is given the new value. Entries after it stay: code
    /// that does other things with another value diverges, and wants [`Client::rewind`] to what comes next.
    ///
    /// # Errors
    /// Not found; neither failed, stuck nor paused; no such outcome; a step whose undo has begun; a value over its limit or
    /// one that does not come back from its own JSON; the run has moved meanwhile; the store's.
    ///
    /// # What survives a crash
    /// It is one transaction.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     ctx.step("greet", async || -> Result<String> { Err(format!("{name} is not in").into()) }).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// let run = engine.start(GREET, "ada", "Ada".to_string()).await?;
    /// assert!(run.result().await.is_err());
    /// engine.edit("ada", "greet", "hello from a person".to_string()).await?;
    /// engine.retry("ada").await?;
    /// assert_eq!(run.result().await?, "hello from a person");
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn edit<T: Data>(&self, id: &str, key: &str, value: T) -> Result<(), EngineError> {
        let json = json_of(&format!("the result of `{key}`"), &value, self.payload_bytes_max())?;
        let row = self.row_for(Verb::Edit, id).await?;
        let entries = self.store.load(row.run).await?.entries;
        let old = outcome_of(Verb::Edit, id, &entries, key)?;
        // Only this step is looked at: it alone is to be believed from now on.
        check_undone(Verb::Edit, id, &undo_of(&entries, old), u64::MAX)?;
        let entry = with_result(old, Payload::json(json.get()));
        let edit = Edit { run: row.run, only: StatusSet::of(&[row.status]), inbox_n: row.inbox_n, entry };
        self.done(Verb::Edit, id, Does::Edit(edit), self.act(Verb::Edit, "", key)?).await
    }

    /// The run, if the verb is done directly in its status.
    pub(super) async fn row_for(&self, verb: Verb, id: &str) -> Result<RunRow, EngineError> {
        let row = self.row(id).await?;
        match verb.on(row.status) {
            Allowed::Directly => Ok(row),
            _ => Err(refused(verb, id, row.status)),
        }
    }

    /// The letter by which a run learns what was taken off its journal.
    pub(super) fn reseed(&self, left: &Reseeded) -> Letter {
        self.letter(LetterKind::Reseed, "reseed", encode(left))
    }
}

/// A step's outcome, and whatever is said of its undo.
fn undo_of(entries: &[Entry], step: &Entry) -> Vec<Entry> {
    let of_it = |entry: &&Entry| entry.key == step.key && entry.known_kind() == Some(Kind::UndoBegun);
    let step = Entry { kind: Kind::StepDone.code(), ..step.clone() };
    std::iter::once(step).chain(entries.iter().filter(of_it).cloned()).collect()
}

pub(super) fn unreadable(id: &str, why: &str) -> EngineError {
    EngineError::new(
        ErrorKind::Store,
        Code::DAMAGED,
        format!("the journal of run `{id}` cannot be read: {why}"),
    )
}
