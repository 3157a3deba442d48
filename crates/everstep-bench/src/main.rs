//! Our workloads against the raw limit of the same disk, in the same process, alternating.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod measure;
mod raw;
mod report;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

#[derive(Parser)]
#[command(about = "Everstep's workloads and the raw limit of the same disk, measured in one process")]
struct Args {
    /// sequential, parallel, start, start-batch, recover, long, resident, parked, restart, shared; without one: all
    workloads: Vec<String>,
    /// One JSON object per workload on a line
    #[arg(long)]
    json: bool,
    /// Where the files go; a folder on the disk to be measured
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Rounds; the median is told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leaves the raw limit out, for profiles of our part alone
    #[arg(long)]
    no_raw: bool,
    /// What a process that a workload has started is to do, for the workloads' own use
    #[arg(long, hide = true)]
    child: Option<workload::Role>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    if let Some(role) = args.child {
        runtime.block_on(workload::child(role, &args.folder));
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
    for name in names {
        let folder = tempfile::tempdir_in(&args.folder).expect("a folder that can be written");
        let place = workload::Place { folder: folder.path(), rounds: args.rounds, raw: !args.no_raw };
        eprintln!("{name} ...");
        report::print(runtime.block_on(workload::run(name, &place)), args.json);
    }
    ExitCode::SUCCESS
}
