//! What a play comes to: windows of time, and how the last of them compare with the first.

use std::{fmt, time::Duration};

use super::cpu::Cpu;

/// Of the windows, so many parts: the last one is compared with the first.
const PARTS: usize = 6;
/// At least that much of the throughput stays.
const STAYS: f64 = 0.7;
/// Whatever others take, a bit is always left.
const LEFT_MIN: f64 = 0.1;

/// What happened in one window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Runs that ended, a second.
    pub rate: f64,
    /// Milliseconds that a bare commit took beside them.
    pub raw_ms: f64,
    /// Milliseconds of the server's processors for each of them.
    pub server_ms: f64,
    /// Milliseconds of this process.
    pub own_ms: f64,
    /// Processors that others kept busy.
    pub others: f64,
    /// Processors that they left to us, busy or not.
    pub left: f64,
}

impl Window {
    pub(super) fn of(lasted: Duration, runs: u64, cpu: Cpu, raw: &[f64]) -> Window {
        let others = cpu.others().as_secs_f64() / lasted.as_secs_f64();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let each = |time: Duration| time.as_secs_f64() * 1e3 / runs.max(1) as f64;
        Window {
            rate: runs as f64 / lasted.as_secs_f64(),
            raw_ms: median(raw),
            server_ms: each(cpu.server),
            own_ms: each(cpu.own),
            others,
            left: (processors as f64 - others).max(LEFT_MIN),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { rate, raw_ms, server_ms, own_ms, others, .. } = self;
        write!(f, "{rate:>8.0} {raw_ms:>8.2} {server_ms:>10.3} {own_ms:>10.3} {others:>8.2}")
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

    /// Throughput at the end, as a part of that at the beginning: of the machine as it was in each moment, if it has become
    /// a slower one. That is told by what bare commits take beside the load, and by the processors that others leave.
    pub fn stays(&self) -> f64 {
        let stays = |of: fn(&Window) -> f64| {
            let [first, last] = self.parts(of);
            last / first
        };
        let plain = stays(|window| window.rate);
        let (raw, left) = (stays(|window| window.raw_ms), stays(|window| window.left));
        // One is often the cause of the other.
        plain * raw.max(1.0 / left).max(1.0)
    }

    /// How much more processor time a run takes at the end than at the beginning: a machine that is kept busy has slow bare
    /// commits, too.
    pub fn costs(&self) -> f64 {
        let [first, last] = self.parts(|window| window.server_ms + window.own_ms);
        last / first
    }

    /// All that does not hold.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.violations.clone();
        // Not a number, too: nothing ended at all.
        if self.stays().is_nan() || self.stays() < STAYS {
            wrong.push(format!("of the throughput {:.2} is left, and {STAYS} should be", self.stays()));
        }
        if self.costs() > 1.0 / STAYS {
            wrong.push(format!("a run takes {:.2} times the processor time", self.costs()));
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
        let [raw, raw_last] = self.parts(|window| window.raw_ms);
        let [server, server_last] = self.parts(|window| window.server_ms);
        let [own, own_last] = self.parts(|window| window.own_ms);
        let [others, others_last] = self.parts(|window| window.others);
        let [before, after] = self.bytes.map(|bytes| bytes >> 20);
        write!(
            f,
            "{} runs in {} s beside a snapshot that was {} transactions old at the end; at the beginning and at the end {first:.0} \
             and {last:.0} runs/s ({:.2}), {raw:.1} and {raw_last:.1} ms a bare commit, others \
             on {others:.1} and {others_last:.1} processors, so {:.2} of the throughput stays; processor ms a run {server:.2} \
             and {server_last:.2} (server), {own:.2} and {own_last:.2} (engines), {before} and {after} MiB, {} violations",
            self.runs,
            self.windows.len() as u64 * self.seconds,
            self.age,
            last / first,
            self.stays(),
            self.wrong().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rates: &[f64]) -> Figures {
        let window = |rate: &f64| Window {
            rate: *rate,
            raw_ms: 1.0,
            server_ms: 1.0,
            own_ms: 1.0,
            others: 0.0,
            left: 2.0,
        };
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
    fn a_slower_machine_is_no_fault_and_a_faster_one_no_debt() {
        let mut figures = figures(&[100.0, 50.0]);
        figures.windows[1].raw_ms = 2.0;
        assert_eq!(figures.stays(), 1.0);
        figures.windows[1].left = 0.5;
        assert_eq!(figures.stays(), 2.0);
        (figures.windows[1].raw_ms, figures.windows[1].left) = (0.5, 4.0);
        assert_eq!(figures.stays(), 0.5);
    }

    #[test]
    fn a_run_that_costs_more_is_wrong_however_slow_the_machine_gets() {
        let mut figures = figures(&[100.0, 50.0]);
        figures.windows[1].raw_ms = 2.0;
        figures.windows[1].server_ms = 1.8;
        assert_eq!(figures.wrong(), Vec::<String>::new());
        figures.windows[1].server_ms = 1.9;
        assert_eq!(figures.wrong().len(), 1);
    }

    #[test]
    fn less_than_stays_is_wrong_and_nothing_at_all_too() {
        assert_eq!(figures(&[100.0, 69.0]).wrong().len(), 1);
        assert_eq!(figures(&[0.0, 0.0]).wrong().len(), 1);
        assert_eq!(figures(&[]).wrong().len(), 1);
        assert_eq!(Figures { age: 0, ..figures(&[1.0]) }.wrong().len(), 1);
    }
}
