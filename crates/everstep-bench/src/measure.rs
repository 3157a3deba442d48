//! What is measured beside time: quantiles, memory, bytes on disk, CPU.

use std::{fs, time::Duration};

/// The value below which `part` of them lie.
pub fn quantile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    values.get(((values.len().saturating_sub(1)) as f64 * part) as usize).copied().unwrap_or_default()
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// A line of `/proc/self/status`, in MiB.
pub fn memory_mib(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    found
        .and_then(|rest| rest.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

/// CPU time of this process.
pub fn cpu() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}

/// A time that all processes of this machine share.
pub fn monotonic() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}
