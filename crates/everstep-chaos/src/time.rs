//! Time, of which a play under chaos is made: faults come at their times and last for theirs.
#![allow(clippy::disallowed_methods, reason = "real processes and a real server live in real time")]

use std::time::{Duration, Instant};

/// Monotonic time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets time pass.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lets time pass until then.
pub(crate) async fn until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

/// `work`, or `None` when it took longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// So many milliseconds.
pub(crate) const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}
