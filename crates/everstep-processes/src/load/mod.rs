//! A steady load on PostgreSQL, beside a transaction that somebody else holds open all the time: nothing that dies from
//! then on can be cleaned away, and still as many runs end at the end as at the beginning.
//!
//! The one place of this crate that is made of time: what it measures is how many runs end in a window of it.
#![allow(clippy::disallowed_methods, reason = "windows of time are what is measured")]

mod callers;
mod cpu;
mod figures;
mod raw;
mod snapshot;
mod tables;
mod workflows;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use everstep::{Engine, Status};
use everstep_cluster::{Cluster, Private, Settings};
use everstep_postgres::tokio_postgres::Client;

use crate::actor::AnyResult;
use callers::{Callers, Ended};
use cpu::Cpu;
use raw::Raw;
use snapshot::Snapshot;

pub use figures::{Figures, Window};

/// How much is played.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Windows that are measured, after one to warm up.
    pub windows: usize,
    /// Runs that wait all the time, for hours to come.
    pub waiting: u64,
}

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);
/// The engines: one parks what waits at once, the other keeps it for a moment, so that letters find runs both ways.
const PARK_AFTER: [Duration; 2] = [Duration::ZERO, Duration::from_millis(200)];

impl Size {
    /// Three minutes, or thirty.
    pub fn of(full: bool) -> Size {
        Size::of_seconds(if full { 1_800 } else { 180 })
    }

    /// So many seconds.
    pub fn of_seconds(seconds: u64) -> Size {
        Size { windows: (seconds / WINDOW.as_secs()) as usize, waiting: 10_000 }
    }
}

/// Plays once, on a server of its own with the settings that it comes with. What it says on the way goes to standard output.
///
/// # Errors
/// There is no server, or it cannot be asked.
pub async fn play(size: Size) -> AnyResult<Figures> {
    let server = tokio::task::spawn_blocking(|| Cluster::private(Settings::default())).await??;
    let database = server.database().await?;
    let admin = database.connect().await?;
    admin.batch_execute(workflows::TABLE).await?;
    let mut engines = Vec::new();
    for park_after in PARK_AFTER {
        engines.push(workflows::engine(&database.url(), park_after).await?);
    }
    workflows::begin_to_wait(&engines[0], size.waiting).await?;
    println!("{} runs wait, and somebody begins to look", size.waiting);
    let snapshot = Snapshot::take(database.connect().await?).await?;
    let before = tables::read(&admin).await?;
    let raw = Raw::begin(database.connect().await?).await?;
    let callers = Callers::call(&engines);
    let windows = measure(&server, size, &callers, &raw).await?;
    let ended = callers.leave().await;
    let age = snapshot.age(&admin).await?;
    let mut violations = judge(&engines[0], &admin, size, &ended).await?;
    violations.extend(snapshot.differs().await?);
    for engine in engines {
        engine.shutdown().await?;
    }
    let after = tables::read(&admin).await?;
    tables::tell(&before, &after);
    violations.extend(ended.violations);
    let bytes = [tables::bytes(&before), tables::bytes(&after)];
    Ok(Figures { windows, seconds: WINDOW.as_secs(), runs: ended.runs, age, bytes, violations })
}

/// The windows, one behind the other.
async fn measure(server: &Private, size: Size, callers: &Callers, raw: &Raw) -> AnyResult<Vec<Window>> {
    let server = server.postmaster()?.ok_or("the server does not run")?;
    let mut windows = Vec::new();
    let mut ticks = tokio::time::interval(WINDOW);
    ticks.tick().await;
    println!(
        "{:>6} {:>8} {:>8} {:>10} {:>10} {:>8}",
        "s", "runs/s", "raw ms", "server ms", "engine ms", "others"
    );
    let (mut at, mut runs, mut cpu) = (Instant::now(), 0, Cpu::read(server)?);
    for n in 0..=size.windows {
        ticks.tick().await;
        let (now_at, now_runs, now_cpu) = (Instant::now(), callers.ended(), Cpu::read(server)?);
        let window = Window::of(now_at - at, now_runs - runs, now_cpu.since(cpu), &raw.took());
        println!("{:>6} {window}", n as u64 * WINDOW.as_secs());
        // The first one is for caches, connections and plans.
        if n > 0 {
            windows.push(window);
        }
        (at, runs, cpu) = (now_at, now_runs, now_cpu);
    }
    Ok(windows)
}

/// Every run has ended as it must, or waits; every transactional step has left its row once.
async fn judge(engine: &Engine, admin: &Client, size: Size, ended: &Ended) -> AnyResult<Vec<String>> {
    let found = engine.counts().await?.into_iter().filter(|(.., runs)| *runs > 0);
    let found: BTreeSet<_> =
        found.map(|(workflow, status, runs)| (workflow.to_string(), format!("{status:?}"), runs)).collect();
    let completed = format!("{:?}", Status::Completed);
    let expected = workflows::CALLED.map(|called| (called.to_string(), completed.clone(), ended.of(called)));
    let waiting = (workflows::WAITS.name().to_string(), format!("{:?}", Status::Waiting), size.waiting);
    let expected = BTreeSet::from_iter(expected.into_iter().chain([waiting]));
    let mut violations = Vec::new();
    if found != expected {
        violations.push(format!("there are runs {found:?}, and {expected:?} should be"));
    }
    const MOVED: &str = "SELECT count(*), count(DISTINCT run) FROM moved";
    let row = admin.query_one(MOVED, &[]).await?;
    let (rows, runs): (i64, i64) = (row.get(0), row.get(1));
    let expected = ended.of(workflows::MOVES).cast_signed();
    if (rows, runs) != (expected, expected) {
        violations.push(format!("{rows} rows of {runs} runs were written, and {expected} should be"));
    }
    Ok(violations)
}
