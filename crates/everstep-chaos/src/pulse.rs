//! Whether anything goes on: the longest time without a durable step, end of a run or acknowledged call, counted from when
//! what hindered it was healed.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::time::now;

/// The pulse of a play.
#[derive(Debug)]
pub(crate) struct Pulse {
    state: Mutex<State>,
    /// Changes when the server has come back.
    healed: watch::Sender<Instant>,
}

#[derive(Debug)]
struct State {
    /// Since when nothing has happened, or could.
    since: Instant,
    /// There is no server.
    is_down: bool,
    longest: Duration,
}

impl Pulse {
    pub(crate) fn new() -> Pulse {
        let since = now();
        let state = State { since, is_down: false, longest: Duration::ZERO };
        Pulse { state: Mutex::new(state), healed: watch::Sender::new(since) }
    }

    /// Something has happened.
    pub(crate) fn beats(&self) {
        let mut state = self.lock();
        let at = now();
        if !state.is_down {
            state.longest = state.longest.max(at - state.since);
        }
        state.since = at;
    }

    /// Nothing can happen from here on.
    pub(crate) fn is_hindered(&self) {
        self.beats();
        self.lock().is_down = true;
    }

    /// Everything can happen again.
    pub(crate) fn is_healed(&self) {
        let mut state = self.lock();
        state.is_down = false;
        state.since = now();
        self.healed.send_replace(state.since);
    }

    /// When the server came back last.
    pub(crate) fn healed_at(&self) -> Instant {
        *self.healed.borrow()
    }

    pub(crate) fn longest(&self) -> Duration {
        self.lock().longest
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done by a panic in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
