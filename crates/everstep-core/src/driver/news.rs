//! What others tell a run's driver: the store's receipts, messages, that the engine leaves. Whoever tells something
//! sets it first and wakes the driver then; the driver registers its waker first and looks then.

use super::wake::Root;
use crate::{
    engine::Wakes,
    store::StoreError,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

/// What a receipt brought that is not "durable".
#[derive(Debug)]
pub(crate) enum Trouble {
    Moved(u64),
    Refused(StoreError),
}

/// What a driver has to look at.
#[derive(Default)]
pub(crate) struct News {
    settled: AtomicU64,
    troubled: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    nudged: AtomicBool,
    stopping: AtomicU8,
    idle: AtomicBool,
    pausing: AtomicBool,
}

impl News {
    /// The store has answered one more turn.
    pub(crate) fn settle(&self, trouble: Option<Trouble>, root: &Root, wakes: &Wakes) {
        let durable = trouble.is_none();
        if let Some(trouble) = trouble {
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
            self.troubled.store(true, Ordering::Release);
        }
        self.settled.fetch_add(1, Ordering::AcqRel);
        match durable {
            // Hundreds of them come together.
            true => wakes.push(root.take_task()),
            false => root.wake_task(),
        }
    }

    /// How many turns the store has answered.
    pub(crate) fn settled_turns(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// The first trouble that a receipt brought and nobody took.
    pub(crate) fn take_trouble(&self) -> Option<Trouble> {
        if !self.troubled.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a receipt brought something that the driver has not looked at.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Acquire)
    }

    /// A message reached the run: its driver reads the inbox.
    pub(crate) fn nudge(&self, root: &Root) {
        self.nudged.store(true, Ordering::Release);
        root.wake_task();
    }

    /// A message may have reached the run before its driver is there to be woken.
    pub(crate) fn nudge_if(&self, so: bool) {
        self.nudged.fetch_or(so, Ordering::AcqRel);
    }

    pub(crate) fn is_nudged(&self) -> bool {
        self.nudged.load(Ordering::Acquire)
    }

    pub(crate) fn take_nudge(&self) -> bool {
        self.nudged.load(Ordering::Relaxed) && self.nudged.swap(false, Ordering::AcqRel)
    }

    /// Whether the run only waits, and may leave memory when others need it.
    pub(crate) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Release);
    }

    /// Whether a person sets the run aside: no body starts any more, and those that run may end.
    pub(crate) fn is_pausing(&self) -> bool {
        self.pausing.load(Ordering::Acquire)
    }

    pub(crate) fn set_pausing(&self, pausing: bool) {
        self.pausing.store(pausing, Ordering::Release);
    }

    /// The engine is leaving: no body starts any more, and the run is given back once none runs, or at once.
    pub(crate) fn stop(&self, at_once: bool, root: &Root) {
        self.stopping.fetch_max(1 + u8::from(at_once), Ordering::AcqRel);
        root.wake_task();
    }

    /// Whether the engine is leaving, and (`true`) waits for nothing.
    pub(crate) fn stopping(&self) -> Option<bool> {
        match self.stopping.load(Ordering::Acquire) {
            0 => None,
            level => Some(level > 1),
        }
    }
}
