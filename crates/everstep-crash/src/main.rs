//! Kills processes of Everstep at every failpoint and before every system call that writes, restarts them, and checks a
//! ledger of their effects that another process kept: this one. In files, or on a PostgreSQL server of its own.
//!
//! Absent on purpose: power loss, which a kill cannot show (everstep-disk), and time (everstep-sim).

mod server;
mod store;

mod home;
mod life;
mod snapshot;

mod check;
mod history;
mod workload;

mod report;
mod sweep;
mod syscalls;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
};
use thousands::Separable as _;

use clap::Parser;
use history::Plan;
use report::Figures;
use store::{Kind, Store};
use workload::Workload;

/// Kill at every failpoint and every system call that writes, restart, and check what is left.
#[derive(Parser)]
struct Args {
    /// Where the runs are kept
    #[arg(long, value_enum, default_value_t = Kind::Sqlite)]
    store: Kind,
    /// Every plan, not one in eleven of each kind and workload (on PostgreSQL, one in two hundred of each kind)
    #[arg(long)]
    full: bool,
    /// Play this one plan, and tell everything about it
    #[arg(long)]
    only: Option<Plan>,
    /// Only these workloads; then failpoints may be missed
    #[arg(long)]
    workload: Vec<String>,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !syscalls::can_trace() {
        eprintln!("strace is missing: `cargo xtask crash` installs it (Debian: strace)");
        return ExitCode::FAILURE;
    }
    let store = match Store::new(args.store) {
        Ok(store) => Arc::new(store),
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let room = sweep::room();
    let named = args.only.as_ref().map_or(args.workload.clone(), |plan| vec![plan.workload.clone()]);
    let workloads = match Workload::all(&store, room.path(), &named) {
        Ok(workloads) => workloads,
        Err(why) => {
            println!("VIOLATION {why}");
            return ExitCode::FAILURE;
        }
    };
    match &args.only {
        Some(plan) if sweep::tell(plan, &workloads) => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
        None => all(&args, &store, &workloads),
    }
}

fn all(args: &Args, store: &Store, workloads: &[Workload]) -> ExitCode {
    let (plans, passed) = sweep::plans(workloads, store, args.full);
    let missed = if args.workload.is_empty() { sweep::missed(&passed, store) } else { Vec::new() };
    println!("failpoints that nothing passes: {missed:?}");
    let figures = Mutex::new(Figures::of(store.kind()));
    sweep::play_all(&plans, workloads, &figures);
    let figures = figures.into_inner().expect("no panic");
    figures.tell_more();
    if let Some(file) = &args.json
        && let Err(error) = figures.write(file, missed.len())
    {
        eprintln!("{}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    // A sweep without a single repeated effect has not been inside a window of doubt, and proves nothing.
    let holds = figures.violations.is_empty() && missed.is_empty() && figures.repeated > 0;
    println!(
        "{} points, {} facts, {} violations",
        figures.points.separate_with_commas(),
        figures.facts.separate_with_commas(),
        figures.violations.len()
    );
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
