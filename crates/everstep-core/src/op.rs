//! Durable operations that are no steps: a timer, and whatever is built from other operations.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use crate::{
    BoxFuture,
    driver::{
        run::{RunCore, Told, Wants},
        stack::{self, Frame},
    },
    scope::Claim,
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

/// A timer: ready when the driver grants that it fired.
pub(crate) struct Timer {
    core: Arc<RunCore>,
    claim: Claim,
    op: usize,
    deadline: Timestamp,
    over: bool,
}

impl Timer {
    pub(crate) fn new(core: Arc<RunCore>, claim: Claim, op: usize, deadline: Timestamp) -> Timer {
        Timer { core, claim, op, deadline, over: false }
    }
}

impl Future for Timer {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        assert_here(&self.core);
        self.claim.polled();
        let deadline = Some(self.deadline);
        match self.core.poll(self.op, cx.waker(), || Wants { deadline, ..Wants::default() }) {
            Told::Take(_) => {
                self.close();
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

impl Timer {
    fn close(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.core.close(self.op);
            self.claim.over();
        }
    }
}

impl Drop for Timer {
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
