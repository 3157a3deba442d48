//! What breaks, and when: drawn from the seed before anything begins. Three lanes, each at its own pace, so that faults of
//! different lanes meet: the server, the workers, the network.

use std::fmt;

use everstep_processes::chance::Chance;

use crate::stage::{OUTSIDE, PROXIES, WORKERS};

/// What kind of fault it is, as the figures count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Sort {
    /// SIGKILL of the postmaster, and a start.
    ServerKilled,
    /// An immediate shutdown, and a start.
    ServerStopped,
    /// Some backends are terminated.
    BackendsEnded,
    /// A worker stands still past its lease.
    WorkerStopped,
    /// SIGKILL of a worker, and a new one.
    WorkerKilled,
    /// The clock of a worker jumps.
    ClockMoved,
    /// The reply to a commit is lost with its connection.
    CommitLost,
    /// Nothing passes between some and the server.
    Partition,
}

impl Sort {
    pub(crate) const ALL: [Sort; 8] = [
        Sort::ServerKilled,
        Sort::ServerStopped,
        Sort::BackendsEnded,
        Sort::WorkerStopped,
        Sort::WorkerKilled,
        Sort::ClockMoved,
        Sort::CommitLost,
        Sort::Partition,
    ];

    /// As the line of figures names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sort::ServerKilled => "server kills",
            Sort::ServerStopped => "server stops",
            Sort::BackendsEnded => "backend terminations",
            Sort::WorkerStopped => "worker stops",
            Sort::WorkerKilled => "worker kills",
            Sort::ClockMoved => "clock jumps",
            Sort::CommitLost => "lost commits",
            Sort::Partition => "partitions",
        }
    }
}

/// One fault. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ServerKilled,
    ServerStopped,
    /// So many.
    BackendsEnded(usize),
    /// Which worker, and for how long at least.
    WorkerStopped(usize, u64),
    WorkerKilled(usize),
    /// To so many seconds from the right time, which is not where it was.
    ClockMoved(i64),
    /// On which proxy, at which commit from then on.
    CommitLost(usize, Commit, usize),
    Partition(usize, Partition, u64),
}

/// What commits, and is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// The user's transaction, with the record of its step.
    Step,
    /// A transaction of the store's own, of several statements.
    Transaction,
    /// One statement with entries of runs.
    Statement,
}

const COMMITS: [Commit; 3] = [Commit::Step, Commit::Transaction, Commit::Statement];

/// How nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partition {
    /// Both ways, and nobody is told.
    BlackHole,
    /// The server hears, and is not heard.
    HalfOpen,
    /// Connections are cut and none is taken.
    Refused,
}

const PARTITIONS: [Partition; 3] = [Partition::BlackHole, Partition::HalfOpen, Partition::Refused];

impl Fault {
    pub(crate) fn sort(self) -> Sort {
        match self {
            Fault::ServerKilled => Sort::ServerKilled,
            Fault::ServerStopped => Sort::ServerStopped,
            Fault::BackendsEnded(_) => Sort::BackendsEnded,
            Fault::WorkerStopped(..) => Sort::WorkerStopped,
            Fault::WorkerKilled(_) => Sort::WorkerKilled,
            Fault::ClockMoved(_) => Sort::ClockMoved,
            Fault::CommitLost(..) => Sort::CommitLost,
            Fault::Partition(..) => Sort::Partition,
        }
    }

    /// The `n`-th of its kind: however few there are, the ways in which they differ take turns.
    fn draw(sort: Sort, n: usize, chance: &mut Chance) -> Fault {
        match sort {
            Sort::ServerKilled => Fault::ServerKilled,
            Sort::ServerStopped => Fault::ServerStopped,
            Sort::BackendsEnded => Fault::BackendsEnded(chance.between(1, 6)),
            Sort::WorkerStopped => Fault::WorkerStopped(n % WORKERS, chance.between(2_500, 5_000) as u64),
            Sort::WorkerKilled => Fault::WorkerKilled((n + WORKERS / 2) % WORKERS),
            // In the order in which they come, it is said how they are: see `moves`.
            Sort::ClockMoved => Fault::ClockMoved(0),
            Sort::CommitLost => {
                let commit = COMMITS[n % COMMITS.len()];
                // Only workers make steps, and each of them not often.
                let (proxies, nth) = if commit == Commit::Step { (OUTSIDE, 3) } else { (PROXIES, 6) };
                Fault::CommitLost(chance.below(proxies), commit, chance.between(1, nth))
            }
            Sort::Partition => {
                let how = PARTITIONS[n % PARTITIONS.len()];
                Fault::Partition(chance.below(PROXIES), how, chance.between(500, 5_000) as u64)
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A fault and when it comes, in milliseconds from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: u64,
    pub(crate) fault: Fault,
}

/// All that breaks, lane by lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) lanes: Vec<Vec<Planned>>,
}

/// Those of one lane come one after the other.
const LANES: [&[Sort]; 3] = [
    &[Sort::ServerKilled, Sort::ServerStopped, Sort::BackendsEnded],
    &[Sort::WorkerStopped, Sort::WorkerKilled, Sort::ClockMoved],
    &[Sort::CommitLost, Sort::Partition],
];

impl Schedule {
    /// `each` of every kind within `length` milliseconds, and some lost commits more: not each of them comes.
    pub(crate) fn draw(chance: &mut Chance, each: usize, length: u64) -> Schedule {
        let lane = |sorts: &&[Sort]| {
            let many = |sort: &Sort| if *sort == Sort::CommitLost { each + each / 4 + 1 } else { each };
            let mut faults: Vec<Fault> = sorts
                .iter()
                .flat_map(|sort| (0..many(sort)).map(|n| (*sort, n)))
                .map(|(sort, n)| Fault::draw(sort, n, chance))
                .collect();
            for at in (1..faults.len()).rev() {
                faults.swap(at, chance.below(at + 1));
            }
            moves(&mut faults, chance);
            let slot = length / faults.len().max(1) as u64;
            let planned = |(n, fault)| {
                // Amid its place: the first one finds everybody at work, and it has time to end in it.
                let at = n as u64 * slot + slot / 4 + chance.below(slot as usize / 2 + 1) as u64;
                Planned { at, fault }
            };
            faults.into_iter().enumerate().map(planned).collect()
        };
        Schedule { lanes: LANES.iter().map(lane).collect() }
    }
}

/// Moves the clock each time to where it was not.
fn moves(faults: &mut [Fault], chance: &mut Chance) {
    let (clock, mut at) = ([0, 3600, -3600], 0);
    for fault in faults {
        if let Fault::ClockMoved(seconds) = fault {
            at = (at + chance.between(1, 2)) % clock.len();
            *seconds = clock[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_schedule_and_has_enough_of_each_kind() {
        let draw = |seed| Schedule::draw(&mut Chance::new(seed), 20, 600_000);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut sorts = BTreeMap::new();
        for planned in draw(1).lanes.iter().flatten() {
            *sorts.entry(planned.fault.sort()).or_insert(0) += 1;
            assert!(planned.at < 600_000);
        }
        assert_eq!(sorts.len(), Sort::ALL.len());
        assert!(sorts.values().all(|many| *many >= 20), "{sorts:?}");
    }

    #[test]
    fn each_jump_of_the_clock_is_one() {
        let lanes = Schedule::draw(&mut Chance::new(5), 20, 600_000).lanes;
        let mut at = 0;
        for planned in lanes.iter().flatten() {
            if let Fault::ClockMoved(seconds) = planned.fault {
                assert_ne!(seconds, std::mem::replace(&mut at, seconds));
            }
        }
    }

    #[test]
    fn those_of_a_lane_are_apart() {
        for lane in Schedule::draw(&mut Chance::new(3), 5, 150_000).lanes {
            let slot = 150_000 / lane.len() as u64;
            assert!(lane.windows(2).all(|two| two[0].at + slot / 2 <= two[1].at + 1));
        }
    }
}
