//! Processor time: of the server, of this process, and of everybody on the machine. What others take explains a window
//! that nobody here has slowed down.

use std::{fs, time::Duration};

use crate::actor::AnyResult;

/// Processor time so far, or of a window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// The postmaster, its children, and those that have left.
    pub server: Duration,
    /// This process.
    pub own: Duration,
    /// Everybody.
    pub all: Duration,
}

impl Cpu {
    /// As of now.
    pub(super) fn read(postmaster: i32) -> AnyResult<Cpu> {
        let mut server = Duration::ZERO;
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // Whoever has left meanwhile is counted by the postmaster.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some(fields) = fields(&stat) else { continue };
            if pid == postmaster {
                server += time(&fields[11..15]);
            } else if fields[1] == postmaster.to_string() {
                server += time(&fields[11..13]);
            }
        }
        let own = fs::read_to_string("/proc/self/stat")?;
        let own = time(&fields(&own).ok_or("there is no processor time of this process")?[11..13]);
        let all = fs::read_to_string("/proc/stat")?;
        let all: Vec<&str> = all.lines().next().unwrap_or_default().split_whitespace().collect();
        // user, nice, system; then idle and waiting for disks; then interrupts, and what other machines took.
        let all = time(all.get(1..4).ok_or("there is no processor time of all")?)
            + time(all.get(6..9).unwrap_or_default());
        Ok(Cpu { server, own, all })
    }

    /// From then to now. The times of processes that end while they are read may be counted late, never twice.
    pub(super) fn since(self, before: Cpu) -> Cpu {
        Cpu {
            server: self.server.saturating_sub(before.server),
            own: self.own.saturating_sub(before.own),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// What neither of the two has used.
    pub(super) fn others(&self) -> Duration {
        self.all.saturating_sub(self.server + self.own)
    }
}

/// The fields behind the name in parentheses: the state first, then the parent.
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, behind) = stat.rsplit_once(") ")?;
    Some(behind.split_whitespace().collect()).filter(|fields: &Vec<_>| fields.len() > 15)
}

/// The sum of some counts of ticks.
fn time(ticks: &[&str]) -> Duration {
    let ticks: u64 = ticks.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_moves_no_field() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 0 0 0 0 0 150 50 30 20 20 0 1 0 1 1 1";
        let fields = fields(stat).expect("it is complete");
        assert_eq!((fields[0], fields[1]), ("S", "3"));
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(time(&fields[11..13]), Duration::from_secs_f64(200.0 / ticks));
        assert_eq!(time(&fields[11..15]), Duration::from_secs_f64(250.0 / ticks));
    }
}
