//! Where histories are kept: in files, or in databases on a PostgreSQL server of the sweep's own. What a sweep has to know of
//! the difference is here.

use everstep::failpoint::Failpoint;

use crate::server::Server;

/// Which store is swept, as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A store that is swept.
pub(crate) enum Store {
    Files,
    Server(Box<Server>),
}

/// What only a store in files passes.
const OF_FILES: [Failpoint; 6] = [
    Failpoint::FileMade,
    Failpoint::LogWarmed,
    Failpoint::FileMarked,
    Failpoint::CheckpointBegins,
    Failpoint::CheckpointDone,
    Failpoint::FileUnmarked,
];

/// Everything that changes a file, or the names in a folder, or that tells somebody something.
const WRITES: [&str; 16] = [
    "openat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "fdatasync",
    "fsync",
    "ftruncate",
    "fallocate",
    "unlink",
    "unlinkat",
    "rename",
    "renameat2",
    "link",
    "linkat",
    "mkdir",
];

/// Everything that tells the server or somebody else something; and the first look for an answer, when the server is at it.
const SENDS: [&str; 7] = ["connect", "sendto", "sendmsg", "write", "writev", "recvfrom", "shutdown"];

impl Store {
    /// # Errors
    /// There is no server.
    pub(crate) fn new(kind: Kind) -> Result<Store, String> {
        Ok(match kind {
            Kind::Sqlite => Store::Files,
            Kind::Postgres => Store::Server(Box::new(Server::start()?)),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Store::Files => Kind::Sqlite,
            Store::Server(_) => Kind::Postgres,
        }
    }

    /// In files nobody outlives it: whoever takes over is told by the lock file. On a server it is all that tells of a death.
    pub(crate) fn lease_ms(&self) -> u64 {
        match self {
            Store::Files => 24 * 3600 * 1000,
            Store::Server(_) => 200,
        }
    }

    /// The system calls at which a victim is killed.
    pub(crate) fn calls(&self) -> &'static [&'static str] {
        match self {
            Store::Files => &WRITES,
            Store::Server(_) => &SENDS,
        }
    }

    /// Whether a sweep must have passed this failpoint.
    pub(crate) fn passes(&self, point: Failpoint) -> bool {
        matches!(self, Store::Files) || !OF_FILES.contains(&point)
    }

    /// Every so many plans of a kind are played in the short form.
    pub(crate) fn short_stride(&self) -> usize {
        match self {
            Store::Files => 11,
            Store::Server(_) => 200,
        }
    }

    /// Whether plans of other workloads are of another kind in the short form: on a server a history takes ten times as long.
    pub(crate) fn is_short_by_workload(&self) -> bool {
        matches!(self, Store::Files)
    }

    /// First lives that are killed for the sake of the second, per workload.
    pub(crate) fn bases(&self) -> usize {
        match self {
            Store::Files => 7,
            Store::Server(_) => 3,
        }
    }

    /// Histories that are played at the same time.
    pub(crate) fn side_by_side(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        match self {
            Store::Files => cores + 1,
            // Half of a history is a lease that is waited for.
            Store::Server(_) => cores * 3,
        }
    }
}
