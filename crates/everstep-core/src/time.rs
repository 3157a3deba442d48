//! Points in time as they are kept: whole microseconds since 1970, saturating, never read from a clock here.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// A point in time as stores keep it: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Later than every deadline: what a run waits for that waits for no time.
    pub const NEVER: Timestamp = Timestamp(i64::MAX);

    /// This point and `wait` later; [`Timestamp::NEVER`] when that cannot be counted any more.
    pub fn after(self, wait: Duration) -> Timestamp {
        i64::try_from(wait.as_nanos().div_ceil(1000))
            .map_or(Timestamp::NEVER, |micros| Timestamp(self.0.saturating_add(micros)))
    }

    /// How long from `earlier` to this point; zero when it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same point for the standard library; what lies before 1970 becomes 1970.
    pub fn to_system(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since(Timestamp(0))
    }

    /// The point of a system time, cut to microseconds.
    pub fn from_system(at: SystemTime) -> Timestamp {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(0).after(Duration::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_saturate() {
        let day = Duration::from_secs(86_400);
        assert_eq!(Timestamp(5).after(Duration::ZERO), Timestamp(5));
        assert_eq!(Timestamp(5).after(Duration::from_nanos(1)), Timestamp(6), "never early");
        assert_eq!(Timestamp(0).after(day * 36_500).0, 86_400_000_000 * 36_500);
        assert_eq!(Timestamp(5).after(Duration::MAX), Timestamp::NEVER);
        assert_eq!(Timestamp::NEVER.after(day), Timestamp::NEVER);
    }

    #[test]
    fn spans_are_never_negative() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(Timestamp(9).since(Timestamp(5)), Duration::from_micros(4));
        assert_eq!(Timestamp::from_system(Timestamp(77).to_system()), Timestamp(77));
    }

    #[test]
    fn points_are_told_in_seconds() {
        assert_eq!(Timestamp(1_500_000_000_000_007).to_string(), "1500000000.000007s");
    }
}
