//! How long something takes. The one place of this crate that reads a clock; no time of it is ever stored.
#![allow(clippy::disallowed_methods, reason = "this is the place that the lint points to")]

use std::time::{Duration, Instant};

/// Runs since its start.
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

/// Waits, on the store's own runtime.
pub(crate) async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// What comes within that time, on the store's own runtime; `None` if nothing does.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}
