//! Our workloads against the raw limit of the same disk, in the same process, alternating.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod measure;
mod raw;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

#[derive(Parser)]
#[command(about = "Everstep's workloads and the raw limit of the same disk, measured in one process")]
struct Args {
    /// sequential, parallel, start, start-batch, recover, long, resident; without one: all
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
    /// Used by `recover` for its own child process
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    if let Some(path) = args.child {
        runtime.block_on(workload::recover_child(&path));
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = match args.workloads.is_empty() {
        true => workload::NAMES.to_vec(),
        false => args.workloads.iter().map(String::as_str).collect(),
    };
    for name in names {
        let folder = tempfile::tempdir_in(&args.folder).expect("a folder that can be written");
        let Some(told) = runtime.block_on(workload::run(name, folder.path(), args.rounds)) else {
            eprintln!("`{name}` is no workload; there are {}", workload::NAMES.join(", "));
            return ExitCode::from(2);
        };
        if args.json {
            println!("{told}");
        } else {
            let lines: Vec<String> = told
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| format!("  {key}: {value}"))
                .collect();
            println!("{name}\n{}", lines.join("\n"));
        }
    }
    ExitCode::SUCCESS
}
