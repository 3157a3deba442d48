//! The workloads. Each gives one JSON object: its rate, the raw rate beside it, their ratio, and what is its own.

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
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use everstep::{Ctx, Engine, Result, Workflow, sqlite::Sqlite};
use serde_json::Value;

/// All of them.
pub const NAMES: [&str; 10] = [
    "sequential",
    "parallel",
    "start",
    "start-batch",
    "recover",
    "long",
    "resident",
    "parked",
    "restart",
    "shared",
];

/// Where a workload's files go, how often it is measured, and whether the raw limit is too.
pub struct Place<'a> {
    pub folder: &'a Path,
    pub rounds: usize,
    pub raw: bool,
}

impl Place<'_> {
    /// A fresh folder for one round.
    fn round(&self, n: usize) -> PathBuf {
        let folder = self.folder.join(n.to_string());
        std::fs::create_dir(&folder).expect("room");
        folder
    }
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
        "restart" => restart::run(place).await,
        _ => shared::run(place).await,
    }
}

/// Is one of the processes of a workload.
pub async fn child(role: Role, folder: &Path) {
    match role {
        Role::Killed => recover::killed(folder).await,
        Role::Resumes => recover::resumes(folder).await,
        Role::Parks => parked::parks(folder).await,
        Role::Wakes => parked::wakes(folder).await,
        Role::Worker => shared::worker(folder).await,
        Role::Client => shared::client(folder).await,
    }
}

/// A process of a workload, on the files in `folder`.
fn spawn(role: &str, folder: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("known"));
    command.args(["--child", role, "--folder"]).arg(folder);
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

async fn engine(path: &Path) -> Engine {
    let store = Sqlite::open(path).expect("it opens");
    Engine::builder(store).register(STEPS, steps).start().await.expect("it starts")
}

async fn wait_all(runs: everstep::Batch<u64>) {
    for run in runs {
        run.expect("it started").result().await.expect("it runs");
    }
}
