//! The way to the writer: who pushes has taken his place. Its length is bounded by what is in memory at all: a
//! resident run has few turns on their way, and a caller waits for his answer.

use std::time::Duration;

use crate::{
    op::{Op, Weight},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// At most so many operations in one transaction: more gain nothing and make the first of them wait.
const BATCH_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    ops: Vec<Box<dyn Op>>,
    /// Operations that are done with. Freeing what other threads have made is a tenth of the writer's work: those who
    /// push drop one each instead. Never more than one transaction's.
    spent: Vec<Box<dyn Op>>,
    /// The writer sleeps until so many are queued.
    wanted: usize,
    stop: bool,
    /// The writer is gone: nobody will ever take anything.
    ended: bool,
}

/// What the writer gets.
pub(crate) enum Taken {
    Ops(Vec<Box<dyn Op>>),
    /// Nothing came for a while.
    Idle,
    /// The last handle is gone, and everything that was queued is done.
    Stop,
}

/// How long the writer may wait for company after the first operation has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linger {
    pub(crate) until: usize,
    pub(crate) at_most: Duration,
}

impl Queue {
    /// Takes a place in the queue.
    pub(crate) fn push(&self, op: Box<dyn Op>) {
        let mut state = self.lock();
        if state.ended {
            // Dropping an operation answers it: closed.
            drop(state);
            return drop(op);
        }
        state.ops.push(op);
        let wake = state.wanted != 0 && state.ops.len() >= state.wanted;
        let spent = state.spent.pop();
        drop(state);
        if wake {
            self.more.notify_one();
        }
        drop(spent);
    }

    /// Leaves operations that are done with to those who push.
    pub(crate) fn leave(&self, spent: Vec<Box<dyn Op>>) {
        let before = std::mem::replace(&mut self.lock().spent, spent);
        drop(before);
    }

    /// What is queued; waits up to `idle` for it.
    pub(crate) fn take(&self, idle: Duration, linger: Linger) -> Taken {
        let mut state = self.lock();
        if state.ops.is_empty() && !state.stop {
            state = self.wait(state, 1, idle);
        }
        if state.ops.is_empty() {
            return if state.stop { Taken::Stop } else { Taken::Idle };
        }
        if state.ops.len() < linger.until && !linger.at_most.is_zero() && !state.stop {
            state = self.wait(state, linger.until, linger.at_most);
        }
        if state.ops.len() <= BATCH_MAX {
            return Taken::Ops(std::mem::take(&mut state.ops));
        }
        Taken::Ops(state.ops.drain(..BATCH_MAX).collect())
    }

    /// Waits while nothing can be written; takes out what is not to wait that long.
    pub(crate) fn take_impatient(&self, wait: Duration) -> Vec<Box<dyn Op>> {
        let mut state = self.lock();
        let queued = state.ops.len();
        if !state.stop && !state.ops.iter().any(|op| op.weight() == Weight::Client) {
            state = self.wait(state, queued + 1, wait);
        }
        state.ops.extract_if(.., |op| op.weight() == Weight::Client).collect()
    }

    /// Asks the writer to finish what is queued and end.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.more.notify_one();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stop
    }

    /// The writer takes nothing any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let left = (std::mem::take(&mut state.ops), std::mem::take(&mut state.spent));
        drop(state);
        drop(left);
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        wanted: usize,
        at_most: Duration,
    ) -> MutexGuard<'a, State> {
        state.wanted = wanted;
        let (mut state, _) = self
            .more
            .wait_timeout_while(state, at_most, |state| state.ops.len() < wanted && !state.stop)
            .unwrap_or_else(PoisonError::into_inner);
        state.wanted = 0;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
