//! Wakers: of a run's function, which notes where a wake comes from, and of a step's body, whose wakes are expected.

use std::{
    sync::Arc,
    task::{Wake, Waker},
};

use super::stack::{self, Frame};
use crate::sync::{
    AtomicWaker,
    atomic::{AtomicBool, Ordering},
};

/// The waker of a run's function, and of the task that drives it.
#[derive(Default)]
pub(crate) struct Root {
    task: AtomicWaker,
    woken: AtomicBool,
    foreign: AtomicBool,
}

impl Root {
    /// The task that drives the run: woken whenever the driver has something to look at.
    pub(crate) fn register_task(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Lets the driver look around; the function is not polled for it.
    pub(crate) fn wake_task(&self) {
        self.task.wake();
    }

    /// The task that drives the run, for somebody who wakes it soon.
    pub(crate) fn take_task(&self) -> Option<Waker> {
        self.task.take()
    }

    /// Whether the function was woken since it was last asked.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// Whether something that is not durable woke the function since it was last asked.
    pub(crate) fn take_foreign(&self) -> bool {
        self.foreign.load(Ordering::Relaxed) && self.foreign.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Root {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A wake from a body's poll is foreign too: on replay that body does not run, and nobody would wake.
        match stack::top() {
            Frame::Function(_) | Frame::Wake => {}
            Frame::Outside | Frame::Body(_) => self.foreign.store(true, Ordering::Release),
        }
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// The waker of one attempt's body, and what that was given (`C`): passes its wakes on to whoever awaits the step.
pub(crate) struct BodyWaker<C> {
    ctx: C,
    step: AtomicWaker,
    woken: AtomicBool,
}

impl<C> BodyWaker<C> {
    pub(crate) fn of(ctx: C) -> BodyWaker<C> {
        BodyWaker { ctx, step: AtomicWaker::default(), woken: AtomicBool::new(false) }
    }

    /// What the body was given.
    pub(crate) fn ctx(&self) -> &C {
        &self.ctx
    }

    /// Before each poll of the body: who awaits the step.
    pub(crate) fn polled_for(&self, waker: &Waker) {
        self.step.register(waker);
        self.woken.store(false, Ordering::Release);
    }

    /// Whether it was woken and not polled since.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

impl<C: Send + Sync + 'static> Wake for BodyWaker<C> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let _wake = stack::enter(Frame::Wake);
        self.step.wake();
    }
}
