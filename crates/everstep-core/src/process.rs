//! The process that an engine's tasks run in. It is the program's own, and this file does nothing then; in a simulation
//! it can be stopped, go on, and die.

use std::future::Future;
#[cfg(any(test, feature = "testing"))]
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

#[cfg(any(test, feature = "testing"))]
use crate::BoxFuture;

/// Where tasks run.
#[cfg(not(any(test, feature = "testing")))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Process(());

#[cfg(not(any(test, feature = "testing")))]
impl Process {
    /// `work` as a part of the process.
    pub(crate) fn host<F: Future<Output = ()> + Send + 'static>(&self, work: F) -> F {
        work
    }
}

/// Where tasks run: the program itself, or a simulated process.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Process(Option<Arc<Mutex<State>>>);

#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
struct State {
    life: Life,
    last: u64,
    /// Those who were polled, by number: by it they are woken in an order that chance has no part in.
    tasks: BTreeMap<u64, Waker>,
}

#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Runs,
    Stopped,
    Dead,
}

#[cfg(any(test, feature = "testing"))]
impl Process {
    pub(crate) fn simulated() -> Process {
        Process(Some(Arc::default()))
    }

    /// `work` as a part of the process.
    pub(crate) fn host(&self, work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        let work: BoxFuture<'static, ()> = Box::pin(work);
        let Some(state) = &self.0 else { return work };
        let mut locked = lock(state);
        locked.last += 1;
        Box::pin(Hosted { state: state.clone(), number: locked.last, work: Some(work) })
    }

    pub(crate) fn stop(&self) {
        self.change(|life| if life == Life::Runs { Life::Stopped } else { life });
    }

    pub(crate) fn resume(&self) {
        self.change(|life| if life == Life::Stopped { Life::Runs } else { life });
    }

    pub(crate) fn kill(&self) {
        self.change(|_| Life::Dead);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life() == Life::Dead
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.life() == Life::Stopped
    }

    pub(crate) fn rouse(&self, nth: usize) {
        let Some(state) = &self.0 else { return };
        let state = lock(state);
        let waker = state.tasks.values().nth(nth % state.tasks.len().max(1)).cloned();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn life(&self) -> Life {
        self.0.as_ref().map_or(Life::Runs, |state| lock(state).life)
    }

    /// Everybody looks what has become of the process.
    fn change(&self, change: impl FnOnce(Life) -> Life) {
        let Some(state) = &self.0 else { return };
        let mut state = lock(state);
        state.life = change(state.life);
        let wakers: Vec<_> = state.tasks.values().cloned().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(any(test, feature = "testing"))]
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task of a simulated process.
#[cfg(any(test, feature = "testing"))]
struct Hosted {
    state: Arc<Mutex<State>>,
    number: u64,
    work: Option<BoxFuture<'static, ()>>,
}

#[cfg(any(test, feature = "testing"))]
impl Future for Hosted {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let life = {
            let mut state = lock(&this.state);
            state.tasks.entry(this.number).or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            state.life
        };
        let polled = match (life, &mut this.work) {
            (Life::Stopped, Some(_)) => return Poll::Pending,
            (Life::Runs, Some(work)) => work.as_mut().poll(cx),
            _ => Poll::Ready(()),
        };
        // It may have died in this very poll.
        if polled.is_ready() || lock(&this.state).life == Life::Dead {
            this.work = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(any(test, feature = "testing"))]
impl Drop for Hosted {
    fn drop(&mut self) {
        lock(&self.state).tasks.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    async fn ticks(count: Arc<AtomicU64>) {
        loop {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stopped_process_goes_on_where_it_stood_and_a_dead_one_drops_what_it_holds() {
        let (process, count) = (Process::simulated(), Arc::new(AtomicU64::new(0)));
        let seen = || count.load(Ordering::SeqCst);
        let task = tokio::spawn(process.host(ticks(count.clone())));
        settle().await;
        assert!(seen() > 0);
        process.stop();
        let before = seen();
        settle().await;
        assert_eq!(seen(), before, "stopped");
        process.resume();
        settle().await;
        assert!(seen() > before, "resumed");
        process.kill();
        task.await.expect("it ends, and is not dropped by the runtime");
        assert_eq!(Arc::strong_count(&count), 1, "nothing of it is left");
        process.resume();
        process.host(ticks(count.clone())).await;
        assert!(process.is_dead(), "for good");
    }
}
