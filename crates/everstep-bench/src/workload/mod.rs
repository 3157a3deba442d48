//! The workloads. Each gives one JSON object: its rate, the raw rate beside it, their ratio, and what is its own.

mod claims;
mod long;
mod parallel;
mod parked;
mod recover;
mod resident;
mod restart;
mod sequential;
mod shared;
mod start;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep::{Ctx, Engine, Result, Status, Workflow};
use everstep_cluster::Private;
use serde_json::Value;

use crate::database::{Database, Kind};

/// All of them.
pub const NAMES: [&str; 11] = [
    "sequential",
    "parallel",
    "start",
    "start-batch",
    "recover",
    "long",
    "resident",
    "parked",
    "claims",
    "restart",
    "shared",
];

/// Where a workload's files and databases go, how often it is measured, and whether the raw limit is too.
pub struct Place<'a> {
    pub folder: &'a Path,
    /// `None`: databases are files.
    pub server: Option<&'a Private>,
    pub rounds: usize,
    pub raw: bool,
    /// Of `claims`, in place of the sizes that are compared.
    pub runs: Option<u64>,
    /// Whether somebody holds a transaction open beside `claims`.
    pub old_snapshot: bool,
}

impl Place<'_> {
    /// A fresh folder and an empty database for one round.
    async fn round(&self, n: usize) -> Round {
        let folder = self.folder.join(n.to_string());
        std::fs::create_dir(&folder).expect("room");
        match self.server {
            None => Round { database: Database::Sqlite(folder.join("ours.db")), folder, _held: None },
            Some(server) => {
                let held = server.database().await.expect("room");
                Round { database: Database::Postgres(held.url()), folder, _held: Some(held) }
            }
        }
    }

    fn kind(&self) -> Kind {
        if self.server.is_some() { Kind::Postgres } else { Kind::Sqlite }
    }

    /// `fdatasync` per second of the disk that the databases are on.
    fn fdatasync(&self, round: &Round) -> f64 {
        let socket = self.server.map(|server| server.socket());
        let folder = socket.as_ref().and_then(|socket| socket.parent());
        crate::raw::fdatasync(folder.unwrap_or(&round.folder))
    }
}

/// What one round has for itself. A database on a server is dropped with it.
pub struct Round {
    pub folder: PathBuf,
    pub database: Database,
    _held: Option<everstep_cluster::Database>,
}

/// What a process does that a workload starts.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Role {
    /// Of `recover`: is killed in the middle.
    Killed,
    /// Of `recover`: finishes what the killed one left.
    Resumes,
    /// Of `parked`: starts the runs and parks them.
    Parks,
    /// Of `parked`: opens the file and is woken.
    Wakes,
    /// Of `shared`: a second worker.
    Worker,
    /// Of `shared`: a client that starts runs for others.
    Client,
}

/// Runs one workload of [`NAMES`].
pub async fn run(name: &str, place: &Place<'_>) -> Value {
    match name {
        "sequential" => sequential::run(place).await,
        "parallel" => parallel::run(place).await,
        "start" => start::one_by_one(place).await,
        "start-batch" => start::batch(place).await,
        "recover" => recover::run(place).await,
        "long" => long::run(place).await,
        "resident" => resident::run(place).await,
        "parked" => parked::run(place).await,
        "claims" => claims::run(place).await,
        "restart" => restart::run(place).await,
        _ => shared::run(place).await,
    }
}

/// Is one of the processes of a workload.
pub async fn child(role: Role, folder: &Path, database: &Database) {
    match role {
        Role::Killed => recover::killed(folder, database).await,
        Role::Resumes => recover::resumes(folder, database).await,
        Role::Parks => parked::parks(database).await,
        Role::Wakes => parked::wakes(folder, database).await,
        Role::Worker => shared::worker(database).await,
        Role::Client => shared::client(database).await,
    }
}

/// A process of a workload, on what the round has.
fn spawn(role: &str, round: &Round) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("known"));
    command.args(["--child", role, "--database", &round.database.to_string(), "--folder"]).arg(&round.folder);
    command
}

/// A run of so many steps with empty bodies.
const STEPS: Workflow<u64, u64> = Workflow::new("steps");

/// From the call of a step to its result.
static TIMES: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

async fn steps(ctx: Ctx, count: u64) -> Result<u64> {
    let mut times = Vec::with_capacity(count as usize);
    for n in 0..count {
        let began = Instant::now();
        ctx.step("step", async || Ok(n)).await?;
        times.push(began.elapsed());
    }
    TIMES.lock().unwrap_or_else(PoisonError::into_inner).append(&mut times);
    Ok(count)
}

fn take_times() -> Vec<Duration> {
    std::mem::take(&mut TIMES.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn engine(database: &Database) -> Engine {
    database.builder().await.register(STEPS, steps).start().await.expect("it starts")
}

async fn wait_all(runs: everstep::Batch<u64>) {
    for run in runs {
        run.expect("it started").result().await.expect("it runs");
    }
}

/// Waits until so many runs have this status.
async fn count(engine: &Engine, status: Status, wanted: u64) {
    loop {
        let counts = engine.counts().await.expect("readable");
        let there: u64 = counts.iter().filter(|(_, s, _)| *s == status).map(|(.., n)| n).sum();
        if there >= wanted {
            return;
        }
        // Often enough for seconds, and seldom enough to cost nothing.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
