//! The disk with its fault: counts the calls, and fails the one that it is told to fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

use tokio::sync::{Notify, watch};

use super::Fault;
use crate::{
    recording::Recorder,
    vfs::{Call, Device, Done, Failure},
};

/// How far a life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Opening,
    Working,
    Leaving,
}

/// The disk.
pub(super) struct Failing {
    pub(super) recorder: Arc<Recorder>,
    pub(super) fault: Fault,
    calls: AtomicUsize,
    fired: AtomicUsize,
    stage: AtomicU8,
    /// The stage of the first failure.
    fired_in: AtomicU8,
    healed: AtomicBool,
    pub(super) has_fired: Notify,
    pub(super) has_healed: watch::Sender<bool>,
}

impl Failing {
    pub(super) fn new(recorder: Arc<Recorder>, fault: Fault) -> Arc<Failing> {
        Arc::new(Failing {
            recorder,
            fault,
            calls: AtomicUsize::new(0),
            fired: AtomicUsize::new(0),
            stage: AtomicU8::new(Stage::Opening as u8),
            fired_in: AtomicU8::new(Stage::Opening as u8),
            healed: AtomicBool::new(false),
            has_fired: Notify::new(),
            has_healed: watch::Sender::new(false),
        })
    }

    pub(super) fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
        self.has_healed.send_replace(true);
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }

    /// Whether the first failure fell into this stage.
    pub(super) fn fired_in(&self, stage: Stage) -> bool {
        self.fired() > 0 && self.fired_in.load(Ordering::SeqCst) == stage as u8
    }

    pub(super) fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }

    /// There is room again once somebody has heard that there is none.
    pub(super) fn is_room(&self) -> bool {
        matches!(self.fault.failure, Failure::Full | Failure::ShortFull)
    }
}

impl Device for Failing {
    fn before(&self, call: Call, file: &str) -> Option<Failure> {
        self.recorder.before(call, file);
        if call != self.fault.call || self.healed.load(Ordering::SeqCst) {
            return None;
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if n != self.fault.nth && !(self.fault.forever && n > self.fault.nth) {
            return None;
        }
        if self.fired.fetch_add(1, Ordering::SeqCst) == 0 {
            self.fired_in.store(self.stage.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        if call == Call::Sync {
            self.recorder.failed_to_sync(file);
        }
        self.has_fired.notify_one();
        Some(self.fault.failure)
    }

    fn after(&self, file: &str, done: Done<'_>) {
        self.recorder.after(file, done);
    }
}
