//! Workers: their right to write, what is told and seen of them, their deaths.

use std::sync::Arc;

use crate::time::Timestamp;

/// A worker's number inside its store: fresh at each start of an engine, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub i64);

/// The right to write as a worker: given by [`Store::enroll`](super::Store::enroll), void once the worker is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Whose writes these are. Also the fence number of `StepCtx`: a later worker has a higher one.
    pub worker: WorkerId,
}

/// What a worker tells people about itself.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Host and process id.
    pub name: String,
    /// The build of its code.
    pub build: Arc<str>,
    /// When it started.
    pub at: Timestamp,
}

/// Another worker, as seen in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Which one.
    pub worker: WorkerId,
    /// The build of its code.
    pub build: Arc<str>,
    /// Counts its renewals. Unchanged for the lease time, by the watcher's own monotonic clock, means: not live.
    pub beat: u64,
    /// Whether it was fenced; it may still own runs that nobody has freed yet.
    pub fenced: bool,
    /// Whether its process is known to be dead (its lock is free). `false` proves nothing.
    pub gone: bool,
}

/// How many takeovers a run counts after one more, when it had `before`, `progressed` tells whether it made an entry
/// since the last, and `in_step` whether a started row shows that it was inside a step.
///
/// Without a started row the count stops at 2: a run that only waits while its workers die is not to blame. From 2
/// on the driver writes a started row before each body, so that a run that kills its workers is found out.
pub fn takeovers_after(before: u32, progressed: bool, in_step: bool) -> u32 {
    match (progressed, in_step) {
        (true, _) => 1,
        (false, true) => before.saturating_add(1),
        (false, false) => before.max(before.saturating_add(1).min(2)),
    }
}
