//! What a play comes to, as one line.

use std::{collections::BTreeMap, fmt, time::Duration};
use thousands::Separable as _;

use crate::{check::Verdict, fault::Sort, time::ms, worker::LEASE_MS};

/// The longest that a takeover may take beyond the lease.
const TAKEOVER_MS_MAX: u64 = LEASE_MS + 2_000;
/// The longest that nothing may go on once everything is healed.
const STALL_MS_MAX: u64 = 5_000;

/// What was played, and seen.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: usize,
    /// Faults that took place.
    pub(crate) faults: BTreeMap<Sort, usize>,
    pub(crate) asked: usize,
    pub(crate) acknowledged: usize,
    /// How long takeovers took, sorted.
    pub(crate) takeovers: Vec<Duration>,
    pub(crate) stall: Duration,
    pub(crate) slowest: Duration,
    pub(crate) verdict: Verdict,
}

impl Figures {
    /// A play in which little happened proves little; and what took too long.
    pub(crate) fn too_tame_or_slow(&self, each: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        for sort in Sort::ALL {
            let many = self.faults.get(&sort).copied().unwrap_or(0);
            if many < each {
                wrong.push(format!("{many} {} took place, and {each} should have", sort.name()));
            }
        }
        if self.acknowledged * 2 < self.asked {
            wrong.push(format!("of {} operations {} were acknowledged", self.asked, self.acknowledged));
        }
        let p99 = self.takeover(99);
        if p99 > ms(TAKEOVER_MS_MAX) {
            wrong.push(format!("takeovers took {p99:?} (p99), and may take {:?}", ms(TAKEOVER_MS_MAX)));
        }
        if self.stall > ms(STALL_MS_MAX) {
            wrong.push(format!("nothing went on for {:?} when everything could", self.stall));
        }
        wrong
    }

    fn takeover(&self, percent: usize) -> Duration {
        let at = (self.takeovers.len() * percent).div_ceil(100).saturating_sub(1);
        self.takeovers.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs", self.runs.separate_with_commas())?;
        for sort in Sort::ALL {
            write!(f, ", {} {}", self.faults.get(&sort).unwrap_or(&0), sort.name())?;
        }
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        write!(
            f,
            "; {} of {} operations acknowledged, {} bodies ({} repeated), takeover p50 {} p99 {}, longest stall {}, {} \
             violations",
            self.acknowledged.separate_with_commas(),
            self.asked.separate_with_commas(),
            self.verdict.bodies.separate_with_commas(),
            self.verdict.repeated.separate_with_commas(),
            seconds(self.takeover(50)),
            seconds(self.takeover(99)),
            seconds(self.stall),
            self.verdict.violations.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tame_or_slow_play_is_told() {
        let faults = Sort::ALL.map(|sort| (sort, 5)).into();
        let takeovers = (1..=100).map(|n| ms(n * 30)).collect();
        let good =
            Figures { faults, asked: 10, acknowledged: 5, takeovers, stall: ms(5_000), ..Default::default() };
        assert_eq!((good.takeover(50), good.takeover(99)), (ms(1_500), ms(2_970)));
        assert_eq!(good.too_tame_or_slow(5), Vec::<String>::new());
        assert_eq!(good.too_tame_or_slow(6).len(), Sort::ALL.len());
        let slow = Figures { stall: ms(5_001), acknowledged: 4, takeovers: vec![ms(4_001)], ..good };
        assert_eq!(slow.too_tame_or_slow(5).len(), 3);
    }
}
