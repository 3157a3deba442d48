//! What users hand in: step bodies, outcomes, data. Three traits that nobody names; each exists for its message.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::Result,
    journal::{Payload, decode},
    step_ctx::StepCtx,
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

/// Whether a payload is a `T`.
pub(crate) fn decodes_as<T: Data>(payload: &Payload) -> Result<(), String> {
    decode::<T>(payload).map(drop)
}
