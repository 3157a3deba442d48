//! Forks: another run that begins with a part of a run's journal.

use std::{collections::HashMap, future::IntoFuture, marker::PhantomData, panic::Location, sync::Arc};

use serde_json::value::RawValue;

use super::{
    Client, Verb,
    act::not_possible,
    back::{check_undone, first_of, outcome_of, unreadable, with_result},
    json_of,
    start::in_use,
};
use crate::{
    AttributeValue, Op, Workflow,
    body::Data,
    digest::{Digest, Incarnation},
    error::{Code, EngineError, ErrorKind},
    journal::{Entry, Kind, Payload, Prefix, Reseeded, Site, Start as First, decode, encode},
    name::check_run_id,
    run::Run,
    scope::name_in,
    store::{Forked, NewRun, Say, Started},
};

/// A fork to be made: set its options, then await it; that gives the new run's handle once it is durable.
#[must_use = "nothing is forked until this is awaited"]
pub struct Fork<O> {
    client: Client,
    workflow: &'static str,
    of: String,
    id: String,
    from: Option<String>,
    input: Option<Result<Box<RawValue>, EngineError>>,
    results: Vec<(String, Result<Box<RawValue>, EngineError>)>,
    site: &'static Location<'static>,
    ends: PhantomData<fn() -> O>,
}

impl<O> Fork<O> {
    /// Keeps what the run did before the first entry of this key: those steps are not made again. Without it the new run
    /// begins at the beginning.
    pub fn from(mut self, key: &str) -> Self {
        self.from = Some(key.to_string());
        self
    }

    /// Another result of a step that is kept.
    pub fn result<T: Data>(mut self, key: &str, value: T) -> Self {
        let limit = self.client.payload_bytes_max();
        self.results.push((key.to_string(), json_of(&format!("the result of `{key}`"), &value, limit)));
        self
    }

    /// Another input. Only at the beginning: what is kept was done for the input that the run had.
    pub fn input<I: Data>(mut self, input: I) -> Self {
        let limit = self.client.payload_bytes_max();
        self.input = Some(json_of(&format!("the input of run `{}`", self.id), &input, limit));
        self
    }
}

impl<O> std::fmt::Debug for Fork<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fork").field("of", &self.of).field("id", &self.id).finish_non_exhaustive()
    }
}

impl<O: 'static> IntoFuture for Fork<O> {
    type Output = Result<Run<O>, EngineError>;
    type IntoFuture = Op<'static, Self::Output>;
    fn into_future(self) -> Self::IntoFuture {
        Op::new(async move { self.client.clone().make_fork(self).await })
    }
}

impl Client {
    /// Starts another run, under `new_id`, with a copy of what the run `id` did before a step. It is a run of its own: its
    /// steps have other idempotency keys, its free values are others from the step on, and it has none of the letters that
    /// wait for the other run. What it keeps it does not undo: that stays the other run's. It has no deadline, and is
    /// nobody's child.
    ///
    /// # Errors
    /// Not found; another workflow's; a used `new_id`; a key without an entry; a kept step whose undo has begun; a child or a
    /// promise that is kept and not over, because only the other run hears of it; an input for a fork that does not begin at
    /// the beginning; the store's.
    ///
    /// # What survives a crash
    /// It is one transaction.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// # const GREET: Workflow<String, String> = Workflow::new("greet");
    /// async fn greet(ctx: Ctx, name: String) -> Result<String> {
    ///     let words = ctx.step("words", async || Ok("hello".to_string())).await?;
    ///     ctx.step("greet", async || Ok(format!("{words} {name}"))).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(GREET, greet).start().await?;
    /// engine.run(GREET, "ada", "Ada".to_string()).await?;
    /// let polite = engine.fork(GREET, "ada", "ada-2").from("greet").result("words", "good morning".to_string());
    /// assert_eq!(polite.await?.result().await?, "good morning Ada");
    /// let other = engine.fork(GREET, "ada", "grace").input("Grace".to_string()).await?;
    /// assert_eq!(other.result().await?, "hello Grace");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn fork<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        id: impl Into<String>,
        new_id: impl Into<String>,
    ) -> Fork<O> {
        self.fork_at(workflow, id.into(), new_id.into(), Location::caller())
    }

    /// A fork that was asked for in this line.
    pub(super) fn fork_at<I: Data, O: Data>(
        &self,
        workflow: Workflow<I, O>,
        of: String,
        id: String,
        site: &'static Location<'static>,
    ) -> Fork<O> {
        Fork {
            client: self.clone(),
            workflow: workflow.name(),
            of,
            id,
            from: None,
            input: None,
            results: Vec::new(),
            site,
            ends: PhantomData,
        }
    }

    async fn make_fork<O>(&self, fork: Fork<O>) -> Result<Run<O>, EngineError> {
        let Fork { workflow, of, id, from, input, results, site, .. } = fork;
        check_run_id(&id)?;
        let row = self.row_for(Verb::Fork, &of).await?;
        if &*row.workflow != workflow {
            let message = format!("run `{of}` belongs to workflow `{}`, not `{workflow}`", row.workflow);
            return Err(EngineError::new(ErrorKind::Misuse, Code::WRONG_WORKFLOW, message));
        }
        let entries = self.store.load(row.run).await?.entries;
        let old = entries.first().ok_or_else(|| unreadable(&of, "it is empty"))?;
        let start: First = decode(&old.body).map_err(|why| unreadable(&of, &why))?;
        let end = from.as_deref().map_or(Ok(1), |key| first_of(Verb::Fork, &of, &entries, key))?;
        if input.is_some() && end > 1 {
            let why = "what is kept was done for the input that the run had: fork from the beginning";
            return Err(not_possible(Verb::Fork, why));
        }
        check_undone(Verb::Fork, &of, &entries, end)?;
        let mut kept: Vec<Entry> = entries.iter().filter(|e| (1..end).contains(&e.seq)).cloned().collect();
        check_kept(&of, &kept)?;
        for (key, value) in results {
            let entry = with_result(outcome_of(Verb::Fork, &of, &kept, &key)?, Payload::json(value?.get()));
            let place = kept.iter_mut().find(|kept| kept.seq == entry.seq).expect("just found");
            *place = entry;
        }
        let input = input.transpose()?.unwrap_or(start.input);
        let digest = Digest::of_json(input.get().as_bytes()).map_err(|why| unreadable(&of, &why))?;
        let incarnation = Incarnation(self.entropy.draw());
        let own = (start.incarnation, row.generation, old.at.0);
        let (drawn_by, generation, at) = start.prefix.map_or(own, |p| (p.incarnation, p.generation, p.at));
        let prefix = (end > 1).then_some(Prefix { incarnation: drawn_by, generation, at, entries: end });
        let first = First {
            incarnation,
            digest,
            input,
            deadline: None,
            carried: start.carried,
            parent: None,
            prefix,
        };
        let now = self.clock.now();
        let first = Entry { body: encode(&first), site: Some(Site::Here(site)), at: now, ..old.clone() };
        let detail = from.map_or_else(|| of.clone(), |key| format!("{of} from {key}"));
        let forked = Forked { says: says_of(&kept), act: self.act(Verb::Fork, "", &detail)?, entries: kept };
        let mut run = NewRun::of(id.into(), row.workflow, first);
        if end > 1 {
            let left = Reseeded { seed: Some(incarnation), ..Reseeded::default() };
            run.letters.push(self.reseed(&left));
        }
        run.forked = Some(Box::new(forked));
        let (started, adoption) = self.submit(vec![run.clone()]).await?;
        match started.into_iter().next().expect("one answer for one start") {
            Started::New(number) => Ok(self.new_handle(number, run.id, adoption.as_deref())),
            Started::Known(row, _) => Err(in_use(&row.id, "a fork wants an id of its own")),
        }
    }
}

/// What only the other run hears of cannot be waited for.
fn check_kept(of: &str, kept: &[Entry]) -> Result<(), EngineError> {
    let has = |kind: Kind, key: &Option<Arc<str>>| {
        kept.iter().any(|entry| entry.known_kind() == Some(kind) && entry.key == *key)
    };
    for entry in kept {
        let open = match entry.known_kind() {
            Some(Kind::CancelAsked | Kind::KillAsked | Kind::DeadlinePassed | Kind::Failing) => true,
            Some(Kind::ChildStarted) => !has(Kind::ChildEnded, &entry.key),
            Some(Kind::PromiseMade) => !has(Kind::PromiseSettled, &entry.key),
            _ => false,
        };
        if open {
            let what = entry.key.as_deref().unwrap_or("its end");
            let why =
                format!("`{what}` is open there, and only run `{of}` hears of its end: fork from before it");
            return Err(not_possible(Verb::Fork, &why));
        }
    }
    Ok(())
}

/// What the kept entries told the readers of the other run.
fn says_of(kept: &[Entry]) -> Vec<Say> {
    let mut emitted: HashMap<Arc<str>, u64> = HashMap::new();
    let say = |entry: &Entry| {
        let (key, body, at) = (entry.key.as_deref()?, entry.body.clone(), entry.at);
        let name: Arc<str> = name_in(key).into();
        Some(match entry.known_kind()? {
            Kind::Published => Say::Published { name, body, seq: entry.seq, at },
            Kind::Emitted => {
                let next = emitted.entry(name.clone()).or_default();
                *next += 1;
                Say::Emitted { name, n: *next - 1, body, at }
            }
            Kind::AttributeSet => Say::Attribute { name, value: decode(&body).ok()? },
            Kind::Patched => Say::Attribute {
                name: crate::driver::commands::patched_attribute(key),
                value: Some(AttributeValue::Time(at)),
            },
            _ => return None,
        })
    };
    kept.iter().filter_map(say).collect()
}
