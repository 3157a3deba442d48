//! The wakes of drivers whose turns were settled. A store settles hundreds of turns after one commit, on its own
//! thread; waking each task from there costs it as much as writing a row. So the wakes gather here, and one task of
//! the runtime passes them on when the store says that it is through: from inside, a wake is a push to a queue of its
//! own thread.

use std::task::Waker;

use crate::sync::{Mutex, MutexGuard, PoisonError, watch};

/// Wakes on their way.
#[derive(Default)]
pub(crate) struct Wakes(Mutex<State>);

#[derive(Default)]
struct State {
    gathered: Vec<Waker>,
    /// Somebody passes them on; else whoever brings a wake makes it himself.
    passed_on: bool,
}

impl Wakes {
    /// Wakes a task, soon.
    pub(crate) fn push(&self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        let mut state = self.state();
        if state.passed_on {
            return state.gathered.push(waker);
        }
        drop(state);
        waker.wake();
    }

    /// Passes wakes on whenever `settled` changes, until it is dropped; those that come later are made at once.
    pub(crate) async fn pass_on(&self, mut settled: watch::Receiver<u64>) {
        self.state().passed_on = true;
        let _end = AtOnce(self);
        let mut batch = Vec::new();
        // What was gathered before a change was seen is passed on after it: none is lost in between.
        while settled.changed().await.is_ok() {
            std::mem::swap(&mut batch, &mut self.state().gathered);
            batch.drain(..).for_each(Waker::wake);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the wakes that were gathered when the passer ends.
struct AtOnce<'a>(&'a Wakes);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.passed_on = false;
        let left = std::mem::take(&mut state.gathered);
        drop(state);
        left.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn no_wake_is_lost_before_during_or_after_the_passer() {
        let (wakes, count) = (Arc::new(Wakes::default()), Arc::new(Count(AtomicUsize::new(0))));
        let settled = watch::Sender::new(0);
        let seen = || count.0.load(Ordering::SeqCst);
        wakes.push(Some(count.clone().into()));
        assert_eq!(seen(), 1, "before");
        let passer = {
            let (wakes, settled) = (wakes.clone(), settled.subscribe());
            tokio::spawn(async move { wakes.pass_on(settled).await })
        };
        while !wakes.state().passed_on {
            tokio::task::yield_now().await;
        }
        wakes.push(Some(count.clone().into()));
        wakes.push(Some(count.clone().into()));
        assert_eq!(seen(), 1, "gathered");
        settled.send_modify(|n| *n += 1);
        while seen() < 3 {
            tokio::task::yield_now().await;
        }
        wakes.push(Some(count.clone().into()));
        passer.abort();
        let _ = passer.await;
        assert_eq!(seen(), 4, "gathered when the passer ended");
        wakes.push(Some(count.clone().into()));
        assert_eq!(seen(), 5, "after");
    }
}
