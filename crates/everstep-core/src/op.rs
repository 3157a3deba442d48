//! Durable operations that are no steps: a timer, and whatever is built from other operations.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use crate::{
    BoxFuture,
    body::Data,
    driver::{
        run::{RunCore, Told, Wants},
        stack::{self, Frame},
        table::Arrived,
    },
    error::{Error, Result},
    journal::decode,
    scope::Claim,
    stuck::StuckReason,
    time::Timestamp,
};

/// Any durable operation but a step, inside a workflow and outside. `Output` is exactly `T`: `()` for a sleep, a
/// `Result` where it can fail.
///
/// # Cancel safety
/// Does nothing before it is polled. Dropped, it takes nothing with it: a timer that fired and was not taken has left
/// no entry. It is `Unpin`: `&mut op` waits on in a `select!` loop.
#[must_use = "a durable operation does nothing until it is awaited"]
// The mutex is never locked: it makes `Op` `Sync`, so that a step may borrow a handle while it waits.
pub struct Op<'a, T>(Mutex<BoxFuture<'a, T>>);

impl<'a, T> Op<'a, T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'a) -> Self {
        Op(Mutex::new(Box::pin(work)))
    }
}

impl<T> Future for Op<'_, T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}

impl<T> std::fmt::Debug for Op<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Op")
    }
}

/// An open operation that is no step: it does nothing of its own, and is ready when the driver grants what arrived.
pub(crate) struct Wait {
    core: Arc<RunCore>,
    key: Arc<str>,
    /// None of a wait for what was claimed before.
    claim: Option<Claim>,
    op: usize,
    /// Told at the first poll.
    wants: Option<Wants>,
    over: bool,
}

impl Wait {
    pub(crate) fn new(core: Arc<RunCore>, claim: Claim, op: usize, wants: Wants) -> Wait {
        Wait { core, key: claim.key.clone(), claim: Some(claim), op, wants: Some(wants), over: false }
    }

    /// For a key that is claimed already.
    pub(crate) fn again(core: Arc<RunCore>, key: Arc<str>, op: usize, wants: Wants) -> Wait {
        Wait { core, key, claim: None, op, wants: Some(wants), over: false }
    }

    /// It is out of time then.
    pub(crate) fn ends(&mut self, at: Option<Timestamp>) {
        if let Some(wants) = &mut self.wants {
            wants.deadline = at;
        }
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The value that arrived. One that does not decode is the run's own record: a person has to look.
    pub(crate) async fn value<T: Data>(mut self, what: &str) -> Result<T> {
        let Arrived { seq, what: arrived } = (&mut self).await;
        let payload = arrived.map_err(|failure| Error::from_failure(failure, Some(seq)))?;
        match decode(&payload.expect("what is waited for has a value")) {
            Ok(value) => Ok(value),
            Err(why) => {
                let detail = format!(
                    "entry {seq} of {what} `{}` does not decode as `{}`: {why}",
                    self.key(),
                    std::any::type_name::<T>()
                );
                self.core.be_stuck(StuckReason::Undecodable, self.key(), detail);
                std::future::pending().await
            }
        }
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.core.close(self.op);
            if let Some(claim) = &mut self.claim {
                claim.over();
            }
        }
    }
}

impl Future for Wait {
    type Output = Arrived;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Arrived> {
        assert_here(&self.core);
        if let Some(claim) = &mut self.claim {
            claim.polled();
        }
        let this = &mut *self;
        match this.core.poll(this.op, cx.waker(), || this.wants.take().unwrap_or_default()) {
            Told::Take(arrived) => {
                self.close();
                Poll::Ready(arrived)
            }
            _ => Poll::Pending,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.close();
    }
}

/// Panics, with advice, when an operation without an error is polled where it cannot be.
fn assert_here(core: &RunCore) {
    if stack::top() != Frame::Function(core.address())
        && let Err(error) = core.check_place("awaiting a durable operation")
    {
        panic!("{error}");
    }
}
