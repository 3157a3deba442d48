//! The one door to time. In simulation time is tokio's paused clock and 1970 lies at a fixed distance; nothing else
//! in the engine reads a clock or waits.
#![allow(clippy::disallowed_methods, reason = "this is the replacement that the ban names")]

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::time::Timestamp;

/// Reads and waits for time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Simulated: the instant that counts as `EPOCH`.
    origin: Option<Instant>,
}

/// What a simulated clock shows when it starts: 2026-01-01T00:00:00Z.
const EPOCH: Timestamp = Timestamp(1_767_225_600_000_000);
/// tokio's timers reach about two years; whoever waits longer wakes in between and waits again.
const WAIT_MAX: Duration = Duration::from_secs(86_400 * 300);
/// How long a wait for a time of day trusts the monotonic clock, which knows neither of a machine's sleep nor of a clock
/// that is set.
const TRUST: Duration = Duration::from_secs(60);

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock { origin: None }
    }

    /// A clock that moves with tokio's, paused or not.
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated() -> Clock {
        Clock { origin: Some(Instant::now()) }
    }

    /// The time of day. May jump either way.
    pub fn now(&self) -> Timestamp {
        match self.origin {
            None => Timestamp::from_system(SystemTime::now()),
            Some(origin) => EPOCH.after(origin.elapsed()),
        }
    }

    /// Monotonic time, for leases and durations.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Waits until the time of day is `at`, or for a minute (simulated: 300 days): look again after it.
    pub fn until(&self, at: Timestamp) -> tokio::time::Sleep {
        let most = if self.origin.is_some() { WAIT_MAX } else { TRUST };
        tokio::time::sleep(at.since(self.now()).min(most))
    }

    /// Waits.
    pub fn sleep(&self, wait: Duration) -> tokio::time::Sleep {
        tokio::time::sleep(wait.min(WAIT_MAX))
    }

    /// `work`, or `None` when it took longer than `limit`.
    pub async fn limit<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(limit, work).await.ok()
    }
}
