//! A value and those who wait for its changes, woken in the order in which they wait. (tokio's `watch` wakes them in an
//! order that it draws by chance of its own; a simulation must go the same way again.)

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// Changes the value.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<T>,
    version: AtomicU64,
    is_gone: AtomicBool,
    waiting: Notify,
}

impl<T> Shared<T> {
    fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Sender<T> {
        Sender(Arc::new(Shared {
            value: Mutex::new(value),
            version: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            waiting: Notify::new(),
        }))
    }

    /// Whoever subscribes has seen what is there.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        Receiver { seen: self.0.version.load(Ordering::Acquire), shared: self.0.clone() }
    }

    /// Whether anybody would hear of a change.
    pub(crate) fn is_heard(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Changes it, and wakes those who wait.
    pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.0.value());
        self.0.version.fetch_add(1, Ordering::AcqRel);
        self.0.waiting.notify_waiters();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.is_gone.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }
}

/// Hears of one kind of ring of a [`Bell`](crate::store::Bell), from the moment on when it was asked for.
#[derive(Clone, Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The bell is gone: it will never ring again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store's bell is gone")]
pub struct Gone;

impl<T> Receiver<T> {
    /// Resolves when it has rung since it was last heard. Cancel-safe.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn changed(&mut self) -> Result<(), Gone> {
        let shared = self.shared.clone();
        loop {
            // Before the look: whoever rings after it wakes this.
            let rung = shared.waiting.notified();
            if self.has_changed()? {
                self.mark_unchanged();
                return Ok(());
            }
            rung.await;
        }
    }

    /// Whether it has rung since it was last heard.
    ///
    /// # Errors
    /// [`Gone`], if it has not and never will.
    pub fn has_changed(&self) -> Result<bool, Gone> {
        let is_gone = self.shared.is_gone.load(Ordering::Acquire);
        match self.shared.version.load(Ordering::Acquire) != self.seen {
            true => Ok(true),
            false if is_gone => Err(Gone),
            false => Ok(false),
        }
    }

    /// Whatever has rung until now counts as heard.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version.load(Ordering::Acquire);
    }

    /// The value: how often it has rung, ever.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        self.shared.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simulation of several workers went another way each time.
    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_wait() {
        let (rings, woken) = (Sender::new(0), Arc::new(Mutex::new(Vec::new())));
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (mut hearer, woken) = (rings.subscribe(), woken.clone());
                tokio::spawn(async move {
                    hearer.changed().await.expect("it rings");
                    woken.lock().expect("nobody panicked").push(n);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        rings.send_modify(|n| *n += 1);
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*woken.lock().expect("nobody panicked"), Vec::from_iter(0..40));
    }

    #[tokio::test]
    async fn each_ring_is_heard_once_and_the_end_is_heard_too() {
        let rings = Sender::new(0);
        let ring = || rings.send_modify(|n| *n += 1);
        ring();
        let mut hearer = rings.subscribe();
        assert_eq!(hearer.has_changed(), Ok(false), "what rang before");
        ring();
        ring();
        assert_eq!((hearer.changed().await, *hearer.borrow()), (Ok(()), 3));
        assert_eq!(hearer.has_changed(), Ok(false));
        ring();
        hearer.mark_unchanged();
        assert_eq!(hearer.has_changed(), Ok(false));
        ring();
        assert!(rings.is_heard() && !Sender::new(0).is_heard());
        drop(rings);
        assert_eq!((hearer.changed().await, hearer.changed().await), (Ok(()), Err(Gone)));
    }
}
