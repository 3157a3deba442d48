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
    /// There is nothing left to do.
    is_over: bool,
    longest: Duration,
}

impl State {
    fn new(since: Instant) -> State {
        State { since, is_down: false, is_over: false, longest: Duration::ZERO }
    }

    fn beats(&mut self, at: Instant) {
        if !self.is_down && !self.is_over {
            self.longest = self.longest.max(at - self.since);
        }
        self.since = at;
    }
}

impl Pulse {
    pub(crate) fn new() -> Pulse {
        let since = now();
        let state = State::new(since);
        Pulse { state: Mutex::new(state), healed: watch::Sender::new(since) }
    }

    /// Something has happened.
    pub(crate) fn beats(&self) {
        let mut state = self.lock();
        state.beats(now());
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

    /// Everything has ended: nothing has to happen from here on, though some faults may still come.
    pub(crate) fn is_over(&self) {
        self.beats();
        self.lock().is_over = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_on_when_nothing_can_or_has_to() {
        let (began, second) = (now(), Duration::from_secs(1));
        let mut state = State::new(began);
        state.beats(began + second * 2);
        assert_eq!(state.longest, second * 2);
        state.is_down = true;
        state.beats(began + second * 10);
        state.is_down = false;
        state.beats(began + second * 13);
        assert_eq!(state.longest, second * 3);
        state.is_over = true;
        state.beats(began + second * 60);
        assert_eq!(state.longest, second * 3);
    }
}
