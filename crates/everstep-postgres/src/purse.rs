//! What looks from the beginning may cost: a part of the time, all together.

use std::time::Duration;

use crate::stopwatch::Stopwatch;

/// Of the time that passes they may take one part in so many.
pub(crate) const PART: u32 = 50;
/// What they have not taken so far is kept for them up to so long, and what they have taken too much is remembered up to
/// so long.
pub(crate) const KEPT: Duration = Duration::from_millis(100);
const OWED: Duration = Duration::from_millis(500);

/// The time that is left for them.
#[derive(Debug)]
pub(crate) struct Purse {
    /// Microseconds; below 0 they have taken too much.
    left: i64,
    since: Option<Stopwatch>,
}

impl Default for Purse {
    fn default() -> Purse {
        Purse { left: micros(KEPT), since: None }
    }
}

impl Purse {
    pub(crate) fn is_filled(&mut self) -> bool {
        self.fill();
        self.left > 0
    }

    pub(crate) fn spend(&mut self, took: Duration) {
        self.fill();
        self.left = (self.left - micros(took)).max(-micros(OWED));
    }

    fn fill(&mut self) {
        let passed = self.since.replace(Stopwatch::start()).map_or(Duration::ZERO, |since| since.elapsed());
        self.left = (self.left + micros(passed / PART)).min(micros(KEPT));
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_have_taken_too_much_is_paid_back() {
        let mut purse = Purse::default();
        purse.spend(Duration::from_secs(1));
        assert_eq!(purse.left, -micros(OWED));
        assert!(!purse.is_filled());
    }
}
