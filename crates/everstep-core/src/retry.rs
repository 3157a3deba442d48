//! When a failed attempt is followed by another. Pure: the decision is a function of policy, attempt and error.

use std::{fmt, time::Duration};

use crate::error::Error;

/// How the failed attempts of a step, or of a [`retry_block`](crate::Ctx::retry_block), are repeated. `Retry::none()`
/// unless a step or `Settings::retry` says otherwise.
///
/// The pause before attempt `n + 1` is `first_pause × factor^(n-1)`, at most `pause_max`, spread by `jitter`; an
/// error made by [`Error::retry_after`] lengthens it. Pauses are recorded: they survive a crash, and replay equal.
///
/// ```
/// use everstep_core::Retry;
/// use std::time::Duration;
/// let retry = Retry::exponential(5).first_pause(Duration::from_secs(1)).when(|e| !e.is_timeout());
/// assert_eq!(retry.attempts(), 5);
/// ```
#[derive(Clone, Copy)]
pub struct Retry {
    attempts: u32,
    first: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
    only: Option<fn(&Error) -> bool>,
}

impl Retry {
    /// One attempt, no retry.
    pub const fn none() -> Self {
        Retry::fixed(1, Duration::ZERO)
    }

    /// `attempts` attempts with pauses of 100 ms, 200 ms, 400 ms, ... up to 5 minutes, each spread by ±10 %.
    pub const fn exponential(attempts: u32) -> Self {
        Retry {
            attempts,
            first: Duration::from_millis(100),
            factor: 2.0,
            max: Duration::from_secs(300),
            jitter: 0.1,
            only: None,
        }
    }

    /// `attempts` attempts with the same pause between them.
    pub const fn fixed(attempts: u32, pause: Duration) -> Self {
        Retry { attempts, first: pause, factor: 1.0, max: Duration::MAX, jitter: 0.0, only: None }
    }

    /// The pause after the first failed attempt.
    pub const fn first_pause(mut self, pause: Duration) -> Self {
        self.first = pause;
        self
    }

    /// The longest pause.
    pub const fn pause_max(mut self, pause: Duration) -> Self {
        self.max = pause;
        self
    }

    /// What each pause is multiplied by to give the next.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Spreads each pause by up to this part of it, both ways: 0.1 is ±10 %. Drawn from the run, the key and the
    /// attempt, so that it replays equal.
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Retries only errors for which this says `true`.
    pub const fn when(mut self, retryable: fn(&Error) -> bool) -> Self {
        self.only = Some(retryable);
        self
    }

    /// How many attempts there are at most.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What follows after attempt `attempt` (from 1) failed with `error`; `chance` are 64 random bits of the run.
    pub(crate) fn decide(&self, attempt: u32, error: &Error, chance: u64) -> Decision {
        let retryable = !error.is_terminal() && self.only.is_none_or(|retryable| retryable(error));
        if !retryable {
            return Decision::GiveUp;
        }
        if attempt >= self.attempts {
            return Decision::Spent;
        }
        Decision::RetryAfter(self.pause(attempt, chance).max(error.asked_delay().unwrap_or_default()))
    }

    fn pause(&self, attempt: u32, chance: u64) -> Duration {
        let grown = self.first.as_secs_f64() * self.factor.powf(f64::from(attempt - 1));
        let plain = grown.min(self.max.as_secs_f64());
        // 53 bits are what an f64 keeps; the result lies in -1.0 to 1.0.
        let spread = (chance >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        Duration::try_from_secs_f64((plain * (1.0 + self.jitter * spread)).max(0.0)).unwrap_or(Duration::MAX)
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry::none()
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} attempts, pauses {:?} × {} up to {:?}",
            self.attempts, self.first, self.factor, self.max
        )
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Another attempt after this pause.
    RetryAfter(Duration),
    /// None: the attempts are used up.
    Spent,
    /// None: this error is not retried.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_follow_the_policy() {
        let plain = Retry::exponential(9).first_pause(SECOND).jitter(0.0).pause_max(SECOND * 5);
        let pauses: Vec<_> = (1..6).map(|n| plain.pause(n, 0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        assert_eq!(Retry::fixed(3, SECOND).pause(2, u64::MAX), SECOND);
        let spread = plain.jitter(0.5);
        assert_eq!(spread.pause(1, 0), SECOND / 2);
        assert!(spread.pause(1, u64::MAX) > SECOND.mul_f64(1.49));
        assert_eq!(spread.pause(1, 1 << 62), SECOND * 3 / 4, "a quarter of the way");
        assert_eq!(spread.pause(1, 3 << 62), SECOND * 5 / 4, "three quarters of the way");
        assert_eq!(Retry::fixed(9, Duration::MAX).factor(9.0).pause(8, 7), Duration::MAX);
    }

    #[test]
    fn a_policy_tells_itself() {
        assert_eq!((Retry::none().attempts(), Retry::exponential(5).attempts()), (1, 5));
        assert_eq!(format!("{:?}", Retry::exponential(5)), "5 attempts, pauses 100ms × 2 up to 300s");
    }

    #[test]
    fn every_error_is_decided() {
        let retry = Retry::fixed(3, SECOND).when(|e| e.to_string() != "no");
        let plain: Error = "x".into();
        assert_eq!(retry.decide(1, &plain, 0), Decision::RetryAfter(SECOND));
        assert_eq!(retry.decide(3, &plain, 0), Decision::Spent);
        assert_eq!(retry.decide(1, &"no".into(), 0), Decision::GiveUp);
        assert_eq!(retry.decide(1, &Error::terminal("x"), 0), Decision::GiveUp);
        assert_eq!(
            retry.decide(1, &Error::retry_after("busy", SECOND * 7), 0),
            Decision::RetryAfter(SECOND * 7),
            "the error asks for more"
        );
        assert_eq!(Retry::none().decide(1, &plain, 0), Decision::Spent);
    }
}
