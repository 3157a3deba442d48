//! What users hand in: step bodies, outcomes, data. Three traits that nobody names; each exists for its message.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    digest::{Incarnation, attempt_seed, draw, idempotency_key},
    entropy::Counter,
    error::Result,
    store::WorkerId,
};

/// What crosses the journal: serde both ways, owned.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept in the journal",
    label = "this value must survive a crash",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it (owned fields only, and `Send`)",
    note = "if it is a connection or a handle, make it outside the step: a step's result is data",
    note = "if it is `!`, the body never says what it would return: `async || -> Result<()> {{ .. }}`"
)]
pub trait Data: Serialize + DeserializeOwned + Send + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// What a step body, a scope or a workflow ends with: `everstep::Result<T>`, and nothing else, so that `Ok(x)` needs
/// no annotation.
#[diagnostic::on_unimplemented(
    message = "steps, scopes and workflows return `everstep::Result`, not `{Self}`",
    label = "expected `everstep::Result<{T}>`",
    note = "in a step, let `?` convert the error: `async || Ok(call().await?)` instead of `|| call()`",
    note = "`?` converts any std error, `anyhow::Error`, `Box<dyn Error + Send + Sync>` and text"
)]
pub trait Outcome<T> {
    /// The result itself.
    fn into_result(self) -> Result<T>;
}
impl<T> Outcome<T> for Result<T> {
    fn into_result(self) -> Result<T> {
        self
    }
}

/// The code of a step: `async || ..`, `|| async { .. }`, `async |s: StepCtx| ..`, `|s: StepCtx| async { .. }`.
#[diagnostic::on_unimplemented(
    message = "this is not a step body",
    label = "expected `async || {{ .. }}` or `async |s: StepCtx| {{ .. }}`",
    note = "a step body takes nothing or a `StepCtx` and returns a future: `async || Ok(call().await?)`"
)]
pub trait Body<Args> {
    /// What it returns.
    type Future: Future;
    /// Makes one attempt.
    fn call(self, s: StepCtx) -> Self::Future;
}
impl<F, Fut> Body<()> for F
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    type Future = Fut;
    fn call(self, _: StepCtx) -> Fut {
        self()
    }
}
impl<F, Fut> Body<(StepCtx,)> for F
where
    F: FnOnce(StepCtx) -> Fut,
    Fut: Future,
{
    type Future = Fut;
    fn call(self, s: StepCtx) -> Fut {
        self(s)
    }
}

/// Code that may run more than once: a body whose captures can be cloned. Shared borrows can; `&mut` cannot, on
/// purpose.
#[diagnostic::on_unimplemented(
    message = "this code may have to run again, and cannot",
    label = "it writes to a captured variable, or uses up one that is not `Clone`",
    note = "a body runs again after a failure and does not run at all on replay: return the value, do not write it to a variable outside",
    note = "what it uses up must be `Clone`"
)]
pub trait Repeat {
    /// Another one like it.
    fn again(&self) -> Self;
}
#[diagnostic::do_not_recommend]
impl<F: Clone> Repeat for F {
    fn again(&self) -> Self {
        self.clone()
    }
}

/// What a step body may know. Nothing durable: a body runs once and is not replayed.
#[derive(Clone, Debug)]
pub struct StepCtx(Arc<Attempt>);

#[derive(Debug)]
struct Attempt {
    incarnation: Incarnation,
    generation: u32,
    number: u32,
    key: Arc<str>,
    /// Made when it is asked for: most bodies ask for neither this nor the seed.
    idempotency_key: OnceLock<String>,
    fence: WorkerId,
    seed: OnceLock<u128>,
    draws: Counter,
}

impl StepCtx {
    pub(crate) fn new(
        incarnation: Incarnation,
        generation: u32,
        key: &Arc<str>,
        number: u32,
        fence: WorkerId,
    ) -> Self {
        StepCtx(Arc::new(Attempt {
            incarnation,
            generation,
            number,
            key: key.clone(),
            idempotency_key: OnceLock::new(),
            fence,
            seed: OnceLock::new(),
            draws: Counter::default(),
        }))
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.number
    }

    /// The step's key, as the journal shows it: `email#2`, `left/email`.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// A key for the outside service: 32 hexadecimal digits, the same for every attempt of this step, across crashes,
    /// takeovers and `retry`; another for any other step or run. Pass it on, and a repeated effect is seen as one.
    pub fn idempotency_key(&self) -> &str {
        let Attempt { incarnation, generation, key, .. } = &*self.0;
        self.0.idempotency_key.get_or_init(|| idempotency_key(*incarnation, *generation, key, 0))
    }

    /// Grows with every worker that drives the run: a service that remembers the highest it has seen can refuse a
    /// worker that was stopped, taken over and resumed in the middle of this body.
    pub fn fence_number(&self) -> i64 {
        self.0.fence.0
    }

    /// A random number: the same for the same attempt, another for another one.
    pub fn random(&self) -> u64 {
        self.bits() as u64
    }

    /// A random (version 4) UUID, drawn like [`StepCtx::random`].
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bits().to_le_bytes()).into_uuid()
    }

    fn bits(&self) -> u128 {
        let Attempt { incarnation, generation, key, number, .. } = &*self.0;
        let seed = self.0.seed.get_or_init(|| attempt_seed(*incarnation, *generation, key, *number));
        draw(*seed, self.0.draws.next())
    }
}

/// What becomes of an attempt that was started and did not return: its effect may or may not have happened. Given to
/// [`Step::on_doubt`](crate::Step::on_doubt), whose example shows it.
///
/// In doubt is what a crash, a shutdown, a timeout, a panic or a drop cut off. After a timeout or a panic the attempt
/// counts as failed under `Retry`, and the step's retries decide; after a crash or a shutdown it is made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// Make it again, with the same idempotency key.
    #[default]
    Retry,
    /// Fail the step. Costs one write before each attempt.
    Fail,
    /// The run is stuck until a person answers ([`Client::answer`](crate::Client::answer)). Costs one write before
    /// each attempt.
    Ask,
}

/// What a [`verify`](crate::Step::verify), whose example shows it, says about an attempt in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It happened, with this result.
    Done(T),
    /// It did not happen: make it again.
    NotDone,
}
