//! The one door to time. In simulation time is tokio's paused clock and 1970 lies at a fixed distance; nothing else
//! in the engine reads a clock or waits.
#![allow(clippy::disallowed_methods, reason = "this is the replacement that the ban names")]

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::time::Timestamp;

/// Reads and waits for time.
#[derive(Clone, Debug)]
pub struct Clock(Option<Simulated>);

#[derive(Clone, Debug)]
struct Simulated {
    /// The instant that counts as `EPOCH`.
    origin: Instant,
    /// By how many microseconds this machine's clock is wrong at the moment, if it can be.
    error: Option<Arc<AtomicI64>>,
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
        Clock(None)
    }

    /// A clock that moves with tokio's, paused or not.
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated() -> Clock {
        Clock(Some(Simulated { origin: Instant::now(), error: None }))
    }

    /// The simulated clock of another machine: right at first.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of_machine(&self) -> Clock {
        let error = Some(Arc::default());
        Clock(self.0.as_ref().map(|Simulated { origin, .. }| Simulated { origin: *origin, error }))
    }

    /// From now on it is wrong by so many microseconds.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn set_error(&self, micros: i64) {
        if let Some(error) = self.0.as_ref().and_then(|simulated| simulated.error.as_ref()) {
            error.store(micros, Ordering::Relaxed);
        }
    }

    /// The time of day. May jump either way.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::from_system(SystemTime::now()),
            Some(Simulated { origin, error }) => {
                let right = EPOCH.after(origin.elapsed());
                let error = error.as_ref().map_or(0, |error| error.load(Ordering::Relaxed));
                Timestamp(right.0.saturating_add(error))
            }
        }
    }

    /// Monotonic time, for leases and durations.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Waits until the time of day is `at`, or for a minute (simulated, with a clock that is never set: 300 days): look
    /// again after it.
    pub fn until(&self, at: Timestamp) -> tokio::time::Sleep {
        let is_never_set = self.0.as_ref().is_some_and(|simulated| simulated.error.is_none());
        let most = if is_never_set { WAIT_MAX } else { TRUST };
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
