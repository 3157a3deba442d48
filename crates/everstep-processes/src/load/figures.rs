//! What a play comes to: windows of time, and how the last of them compare with the first.

use std::{fmt, time::Duration};

use super::cpu::Cpu;

/// Of the windows, so many parts: the last one is compared with the first.
const PARTS: usize = 6;
/// At least that much of the throughput stays.
const STAYS: f64 = 0.7;

/// What happened in one window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Runs that ended, a second.
    pub rate: f64,
    /// Milliseconds of the server's processors for each of them.
    pub server_ms: f64,
    /// Milliseconds of this process.
    pub own_ms: f64,
    /// Processors that others kept busy.
    pub others: f64,
}

impl Window {
    pub(super) fn of(lasted: Duration, runs: u64, cpu: Cpu) -> Window {
        let each = |time: Duration| time.as_secs_f64() * 1e3 / runs.max(1) as f64;
        Window {
            rate: runs as f64 / lasted.as_secs_f64(),
            server_ms: each(cpu.server),
            own_ms: each(cpu.own),
            others: cpu.others().as_secs_f64() / lasted.as_secs_f64(),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { rate, server_ms, own_ms, others } = self;
        write!(f, "{rate:>8.0} {server_ms:>10.3} {own_ms:>10.3} {others:>8.2}")
    }
}

/// What was played, and seen.
#[derive(Clone, Debug)]
pub struct Figures {
    /// One behind the other.
    pub windows: Vec<Window>,
    /// How long each of them is.
    pub seconds: u64,
    /// Runs that ended.
    pub runs: u64,
    /// How many transactions younger than the snapshot there were at the end.
    pub age: u64,
    /// Of the tables and indexes, at the beginning and at the end.
    pub bytes: [u64; 2],
    /// What does not hold, in words.
    pub violations: Vec<String>,
}

impl Figures {
    /// Of the first part of the windows and of the last.
    fn parts(&self, of: impl Fn(&Window) -> f64) -> [f64; 2] {
        let all: Vec<f64> = self.windows.iter().map(of).collect();
        let n = all.len().div_ceil(PARTS);
        [median(&all[..n]), median(&all[all.len() - n..])]
    }

    /// Throughput at the end, as a part of that at the beginning.
    pub fn stays(&self) -> f64 {
        let [first, last] = self.parts(|window| window.rate);
        last / first
    }

    /// All that does not hold.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.violations.clone();
        // Not a number, too: nothing ended at all.
        if self.stays().is_nan() || self.stays() < STAYS {
            wrong.push(format!("of the throughput {:.2} is left, and {STAYS} should be", self.stays()));
        }
        if self.age == 0 {
            wrong.push("the snapshot held nothing back".to_string());
        }
        wrong
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, last] = self.parts(|window| window.rate);
        let [server, server_last] = self.parts(|window| window.server_ms);
        let [own, own_last] = self.parts(|window| window.own_ms);
        let [others, others_last] = self.parts(|window| window.others);
        let [before, after] = self.bytes.map(|bytes| bytes >> 20);
        write!(
            f,
            "{} runs in {} s beside a snapshot that was {} transactions old at the end; runs/s {first:.0} at the beginning and \
             {last:.0} at the end ({:.2}), processor ms a run {server:.2} and {server_last:.2} (server), {own:.2} and \
             {own_last:.2} (engines), others on {others:.1} and {others_last:.1} processors, {before} MiB and {after} MiB, {} \
             violations",
            self.runs,
            self.windows.len() as u64 * self.seconds,
            self.age,
            self.stays(),
            self.violations.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rates: &[f64]) -> Figures {
        let window = |rate: &f64| Window { rate: *rate, server_ms: 1.0, own_ms: 1.0, others: 0.0 };
        let windows = rates.iter().map(window).collect();
        Figures { windows, seconds: 10, runs: 1, age: 1, bytes: [0, 0], violations: Vec::new() }
    }

    #[test]
    fn the_last_sixth_is_compared_with_the_first() {
        let rates = [90.0, 100.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 60.0, 70.0];
        assert_eq!(figures(&rates).stays(), 0.7);
        assert_eq!(figures(&rates).wrong(), Vec::<String>::new());
    }

    #[test]
    fn less_than_stays_is_wrong_and_nothing_at_all_too() {
        assert_eq!(figures(&[100.0, 69.0]).wrong().len(), 1);
        assert_eq!(figures(&[0.0, 0.0]).wrong().len(), 1);
        assert_eq!(figures(&[]).wrong().len(), 1);
        assert_eq!(Figures { age: 0, ..figures(&[1.0]) }.wrong().len(), 1);
    }
}
