//! Locks, atomics and waits under shuttle's control, under the names of the standard library and `futures-util`.

use std::{sync::Arc, task::Waker, time::Duration};

pub use std::sync::{LockResult, PoisonError};

use shuttle::sync::atomic::{AtomicBool, Ordering};
pub use shuttle::sync::{Mutex, MutexGuard, atomic};

/// A wait that is longer than any play: it never times out, so that whoever relies on the time hangs and is found.
pub const FOR_EVER: Duration = Duration::MAX;

/// A condition variable whose waits time out at any moment, unless they are for ever.
#[derive(Debug, Default)]
pub struct Condvar(Arc<shuttle::sync::Condvar>);

impl Condvar {
    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Waits while `condition` holds, at most for a while.
    ///
    /// # Errors
    /// Never; the type is the standard library's.
    pub fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        at_most: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        if at_most == FOR_EVER {
            return Ok((self.0.wait_while(guard, condition).expect("nobody panics with it"), false));
        }
        // The time is a thread of its own: it runs out when the scheduler says so.
        let (over, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (condvar, is_over, is_heard) = (self.0.clone(), over.clone(), heard.clone());
        let time = shuttle::thread::spawn(move || {
            is_over.store(true, Ordering::SeqCst);
            while !is_heard.load(Ordering::SeqCst) {
                condvar.notify_all();
                shuttle::thread::yield_now();
            }
        });
        let is_to_wait = |state: &mut T| condition(state) && !over.load(Ordering::SeqCst);
        let guard = self.0.wait_while(guard, is_to_wait).expect("nobody panics with it");
        heard.store(true, Ordering::SeqCst);
        drop(time);
        let timed_out = over.load(Ordering::SeqCst);
        Ok((guard, timed_out))
    }
}

/// The contract of `futures_util::task::AtomicWaker`: who registers and then looks misses no wake.
#[derive(Debug, Default)]
pub struct AtomicWaker(Mutex<Option<Waker>>);

impl AtomicWaker {
    /// From now on this one is woken.
    pub fn register(&self, waker: &Waker) {
        *self.0.lock().expect("no panic with it") = Some(waker.clone());
    }

    /// The one to wake, who is forgotten.
    pub fn take(&self) -> Option<Waker> {
        self.0.lock().expect("no panic with it").take()
    }

    /// Wakes it.
    pub fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}
