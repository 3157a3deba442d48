//! The store's door to monotonic time: how long a commit took, whether a job is over its limit. It never reads the
//! time of day; every time that is stored comes from the caller.
#![allow(
    clippy::disallowed_methods,
    reason = "durations of this thread only; nothing that is stored or replayed"
)]

use std::time::{Duration, Instant};

/// Measures from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits a moment without an event to wait for: another process holds the file, and it cannot tell us when it is done.
pub(crate) fn pause(wait: Duration) {
    std::thread::park_timeout(wait);
}
