//! What an engine can be told about limits and times. Every default is a named constant.

use std::time::Duration;

use crate::retry::Retry;

/// A worker that did not renew its lease for so long may be taken over.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long `shutdown` waits for running steps.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long running steps may take to end when their run is cancelled.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// Runs in memory at once.
pub const RESIDENT_RUNS_MAX: usize = 100_000;
/// A run that had nothing to do for so long, and has nothing due sooner than as long again, leaves memory. Short enough
/// that what waits for people costs no memory; long enough that a pause of a second costs no replay.
pub const PARK_AFTER: Duration = Duration::from_secs(1);
/// Steps whose bodies run at once on one worker. A body holds its sockets, memory and rows elsewhere; ten thousand is
/// what a process with default limits of the system may still hold open.
pub const RUNNING_STEPS_MAX: usize = 10_000;
/// Entries of one generation of a run.
pub const ENTRIES_MAX: u64 = 1_000_000;
/// Bytes of one encoded value.
pub const PAYLOAD_BYTES_MAX: usize = 2 << 20;
/// A run whose workers died so often inside a step, without a new entry between, becomes stuck.
pub const TAKEOVERS_MAX: u32 = 5;

/// An engine's limits and times.
///
/// ```
/// use everstep_core::{Retry, Settings, seconds};
/// let settings = Settings { grace: seconds(3), retry: Retry::exponential(5), ..Settings::default() };
/// assert_eq!(settings.lease, seconds(10));
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a worker may be silent before others take over its runs. It renews every quarter of it.
    pub lease: Duration,
    /// How long `shutdown` waits for running steps.
    pub grace: Duration,
    /// How long running steps may take to end when their run is cancelled, before they are dropped where they stand.
    pub cancel_grace: Duration,
    /// Runs in memory at once; others wait in the store.
    pub resident_runs_max: usize,
    /// A run that only waits (for timers, signals, promises, children, a retry) leaves memory after so long, unless
    /// something of it is due within as long again; at once when memory is full and others are due. It is read and
    /// replayed when what it waits for comes. [`Duration::MAX`]: only when memory is full.
    pub park_after: Duration,
    /// Steps whose bodies run at once; others begin when one of them has ended.
    pub running_steps_max: usize,
    /// Entries of one generation of a run.
    pub entries_max: u64,
    /// Bytes of one encoded value: an input, a step's result, an outcome.
    pub payload_bytes_max: usize,
    /// For steps that do not say otherwise.
    pub retry: Retry,
    /// A run that begins later than this after its start records when it began, so that its `now()` is not in the
    /// past.
    pub began_after: Duration,
    /// A run whose workers died so often inside a step, without a new entry between, becomes stuck.
    pub takeovers_max: u32,
    /// The name of this code; runs record it. Without it: derived from the running executable.
    pub build: Option<String>,
    /// What an await on something that is not durable is. Without it: [`NotDurable::Warn`], and in a
    /// simulation [`NotDurable::Fail`].
    pub not_durable: Option<NotDurable>,
}

/// What becomes of a run whose function was woken by something that replay will not have: a channel that another task
/// sends to, a timer of the runtime. Told as [`Event::NotDurable`](crate::Event::NotDurable) either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDurable {
    /// It goes on, with a warning.
    Warn,
    /// It is stuck: it waits for something not durable.
    Fail,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lease: LEASE,
            grace: GRACE,
            cancel_grace: CANCEL_GRACE,
            resident_runs_max: RESIDENT_RUNS_MAX,
            park_after: PARK_AFTER,
            running_steps_max: RUNNING_STEPS_MAX,
            entries_max: ENTRIES_MAX,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            retry: Retry::none(),
            began_after: Duration::from_secs(1),
            takeovers_max: TAKEOVERS_MAX,
            build: None,
            not_durable: None,
        }
    }
}

/// `n` seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
/// `n` minutes.
pub const fn minutes(n: u64) -> Duration {
    seconds(n * 60)
}
/// `n` hours.
pub const fn hours(n: u64) -> Duration {
    minutes(n * 60)
}
/// `n` days of 24 hours.
pub const fn days(n: u64) -> Duration {
    hours(n * 24)
}
