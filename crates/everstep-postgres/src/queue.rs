//! The way to the writer: who pushes has taken his place. Its length is bounded by what is in memory at all: a
//! resident run has few turns on their way, and a caller waits for his answer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{op::Op, stopwatch::within};

/// At most so many operations in one transaction: more gain nothing and make the first of them wait.
const BATCH_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    more: Notify,
    stopping: Notify,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    /// The writer sleeps until so many are queued.
    wanted: usize,
    stop: bool,
    /// The writer is gone: nobody will ever take anything.
    ended: bool,
}

/// What the writer gets.
pub(crate) enum Taken {
    Ops(Vec<Op>),
    Stop,
}

/// For whom the writer waits a moment before it writes, because they come back together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Linger {
    pub(crate) until: usize,
    pub(crate) at_most: Duration,
}

impl Queue {
    /// Takes the last place. What comes after the writer's end is dropped, which tells whoever waits for it.
    pub(crate) fn push(&self, op: Op) {
        let mut state = self.lock();
        if state.ended {
            drop(state);
            return drop(op);
        }
        state.ops.push(op);
        let wakes = state.ops.len() >= state.wanted;
        drop(state);
        if wakes {
            self.more.notify_one();
        }
    }

    /// What is queued, when there is something and `linger` is over.
    pub(crate) async fn take(&self, linger: Linger) -> Taken {
        loop {
            let (queued, stop) = self.want(1);
            match (queued, stop) {
                (0, true) => return Taken::Stop,
                (0, false) => self.more.notified().await,
                _ => break,
            }
        }
        if linger.until > 1 {
            let all_came = async {
                while let (queued, false) = self.want(linger.until)
                    && queued < linger.until
                {
                    self.more.notified().await;
                }
            };
            within(linger.at_most, all_came).await;
        }
        let mut state = self.lock();
        if state.ops.len() <= BATCH_MAX {
            return Taken::Ops(std::mem::take(&mut state.ops));
        }
        Taken::Ops(state.ops.drain(..BATCH_MAX).collect())
    }

    /// How many are queued, and whether the writer is to end; it is woken when `wanted` are.
    fn want(&self, wanted: usize) -> (usize, bool) {
        let mut state = self.lock();
        state.wanted = wanted;
        (state.ops.len(), state.stop)
    }

    /// Waits while nothing can be written; takes out what is not to wait that long.
    pub(crate) async fn take_impatient(&self, wait: Duration) -> Vec<Op> {
        let has_some = || self.lock().ops.iter().any(|op| !op.is_patient());
        let one_came = async {
            while !has_some() && !self.is_stopping() {
                let (queued, _) = self.want(0);
                self.want(queued + 1);
                self.more.notified().await;
            }
        };
        within(wait, one_came).await;
        self.lock().ops.extract_if(.., |op| !op.is_patient()).collect()
    }

    /// Asks the writer to finish what is queued and end.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.more.notify_one();
        self.stopping.notify_one();
    }

    /// Waits until the writer was asked to end. For one.
    pub(crate) async fn stopped(&self) {
        while !self.is_stopping() {
            self.stopping.notified().await;
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stop
    }

    /// The writer takes nothing any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let left = std::mem::take(&mut state.ops);
        drop(state);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
