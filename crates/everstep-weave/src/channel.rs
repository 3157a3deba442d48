//! tokio's `watch` and `oneshot` as far as the sources use them, with the same contract, on shuttle's locks.

/// A value, and a count that receivers compare.
pub mod watch {
    use std::{
        fmt,
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use shuttle::sync::{Mutex, MutexGuard};

    struct Shared<T> {
        value: T,
        version: u64,
        is_open: bool,
        waiting: Vec<Waker>,
    }

    /// Changes the value.
    pub struct Sender<T>(Arc<Mutex<Shared<T>>>);

    /// Waits for changes.
    pub struct Receiver<T> {
        shared: Arc<Mutex<Shared<T>>>,
        seen: u64,
    }

    fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
        shared.lock().expect("nobody panics with it")
    }

    impl<T> Sender<T> {
        /// With a first value.
        pub fn new(value: T) -> Sender<T> {
            Sender(Arc::new(Mutex::new(Shared { value, version: 0, is_open: true, waiting: Vec::new() })))
        }

        /// Whoever subscribes has seen what is there.
        pub fn subscribe(&self) -> Receiver<T> {
            let seen = lock(&self.0).version;
            Receiver { shared: self.0.clone(), seen }
        }

        /// Whether anybody would hear of a change.
        pub fn is_heard(&self) -> bool {
            Arc::strong_count(&self.0) > 1
        }

        /// Changes it, and wakes those who wait.
        pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
            let mut shared = lock(&self.0);
            change(&mut shared.value);
            shared.version += 1;
            let waiting = std::mem::take(&mut shared.waiting);
            drop(shared);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                return;
            }
            let mut shared = lock(&self.0);
            shared.is_open = false;
            let waiting = std::mem::take(&mut shared.waiting);
            drop(shared);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Sender")
        }
    }

    impl<T> Receiver<T> {
        /// Whether it was changed since it was last seen.
        pub fn has_changed(&self) -> Result<bool, Closed> {
            Ok(lock(&self.shared).version != self.seen)
        }

        /// What is there counts as seen.
        pub fn mark_unchanged(&mut self) {
            self.seen = lock(&self.shared).version;
        }

        /// Waits for what was not seen. Cancel-safe.
        ///
        /// # Errors
        /// When the sender is gone and everything was seen.
        pub async fn changed(&mut self) -> Result<(), Closed> {
            std::future::poll_fn(|cx| self.poll_changed(cx)).await
        }

        fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
            let mut shared = lock(&self.shared);
            if shared.version != self.seen {
                self.seen = shared.version;
                return Poll::Ready(Ok(()));
            }
            if !shared.is_open {
                return Poll::Ready(Err(Closed));
            }
            shared.waiting.push(cx.waker().clone());
            Poll::Pending
        }
    }

    impl<T> fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Receiver")
        }
    }

    /// The sender is gone.
    #[derive(Debug)]
    pub struct Closed;
}

/// One value, once.
pub mod oneshot {
    use std::{
        fmt,
        future::Future,
        pin::Pin,
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use shuttle::sync::Mutex;

    enum State<T> {
        Empty(Option<Waker>),
        Sent(T),
        Closed,
    }

    /// Gives it.
    pub struct Sender<T>(Arc<Mutex<State<T>>>);

    /// Gets it.
    pub struct Receiver<T>(Arc<Mutex<State<T>>>);

    /// Both ends.
    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Mutex::new(State::Empty(None)));
        (Sender(shared.clone()), Receiver(shared))
    }

    impl<T> Sender<T> {
        fn set(&self, next: State<T>) {
            let mut state = self.0.lock().expect("nobody panics with it");
            if let State::Empty(waker) = &mut *state {
                let waker = waker.take();
                *state = next;
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
        }

        /// Gives it; whether anybody still listens is not told here.
        ///
        /// # Errors
        /// Never.
        pub fn send(self, value: T) -> Result<(), T> {
            self.set(State::Sent(value));
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                self.set(State::Closed);
            }
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, Gone>;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Gone>> {
            let mut state = self.0.lock().expect("nobody panics with it");
            if let State::Empty(waker) = &mut *state {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            match std::mem::replace(&mut *state, State::Closed) {
                State::Sent(value) => Poll::Ready(Ok(value)),
                _ => Poll::Ready(Err(Gone)),
            }
        }
    }

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Sender")
        }
    }

    impl<T> fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Receiver")
        }
    }

    /// It was dropped without a value.
    #[derive(Debug)]
    pub struct Gone;
}
