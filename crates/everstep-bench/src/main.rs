//! Our workloads against the raw limit of the same disk or server, in the same process, alternating.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod database;
mod measure;
mod raw;
mod report;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use database::{Database, Kind};

#[derive(Parser)]
#[command(about = "Everstep's workloads and the raw limit of the same disk, measured in one process")]
struct Args {
    /// sequential, parallel, start, start-batch, recover, long, resident, parked, claims, restart, shared; without one: all
    workloads: Vec<String>,
    /// `postgres`: on a server of its own, whose files are in the system's temporary folder (TMPDIR)
    #[arg(long, value_enum, default_value_t = Kind::Sqlite)]
    store: Kind,
    /// One JSON object per workload on a line
    #[arg(long)]
    json: bool,
    /// Where the files go; a folder on the disk to be measured
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// How many runs `claims` parks; if nothing is said, it compares a million with ten thousand
    #[arg(long)]
    runs: Option<u64>,
    /// `claims` beside a transaction that somebody holds open, whose snapshot keeps every dead row and index entry
    #[arg(long)]
    old_snapshot: bool,
    /// Rounds; the median is told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leaves the raw limit out, for profiles of our part alone
    #[arg(long)]
    no_raw: bool,
    /// What a process that a workload has started is to do, for the workloads' own use
    #[arg(long, hide = true)]
    child: Option<workload::Role>,
    /// On which database
    #[arg(long, hide = true, requires = "child")]
    database: Option<Database>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    if let (Some(role), Some(database)) = (args.child, &args.database) {
        runtime.block_on(workload::child(role, &args.folder, database));
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = match args.workloads.is_empty() {
        true => workload::NAMES.to_vec(),
        false => args.workloads.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = names.iter().find(|name| !workload::NAMES.contains(name)) {
        eprintln!("`{unknown}` is no workload; there are {}", workload::NAMES.join(", "));
        return ExitCode::from(2);
    }
    let server = args.store.server();
    for name in names {
        let folder = tempfile::tempdir_in(&args.folder).expect("a folder that can be written");
        let place = workload::Place {
            folder: folder.path(),
            server: server.as_ref(),
            rounds: args.rounds,
            raw: !args.no_raw,
            runs: args.runs,
            old_snapshot: args.old_snapshot,
        };
        eprintln!("{name} ...");
        let mut told = runtime.block_on(workload::run(name, &place));
        told["store"] = args.store.name().into();
        report::print(told, args.json);
    }
    ExitCode::SUCCESS
}
