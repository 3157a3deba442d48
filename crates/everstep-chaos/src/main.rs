//! Breaks everything around Everstep on PostgreSQL at once, by a seed: the server, the workers, the network, a clock. Runs
//! of all kinds go on meanwhile, and a ledger outside tells what was kept.
//!
//! Absent on purpose: what a single fault does, at every point of a run; that is in `crash`, `stale` and the store's own
//! tests.

mod check;
mod eye;
mod fault;
mod figures;
mod kind;
mod ledger;
mod outside;
mod play;
mod pulse;
mod seat;
mod snapshot;
mod stage;
mod time;
mod worker;
mod workflows;

use std::{error::Error, path::PathBuf, process::ExitCode};

use play::Size;

const USAGE: &str = "\
chaos [--hostile] [--full | --seconds N] [--seed N] [--keep FOLDER]

  --hostile      the database of all workers is as unkind as any that accepts their SQL: see `Options::hostile`
  --full         ten minutes, two if it is hostile; one without, twenty seconds if it is hostile
  --seconds N    so long; runs and faults in proportion
  --seed N       other faults; the same seed has the same schedule
  --keep FOLDER  the ledger and the logs stay there";

/// The short form, in seconds, and where the database is hostile.
const SHORT: [u64; 2] = [60, 20];
const FULL: [u64; 2] = [600, 120];
/// How it ends when nothing could be judged.
const UNPLAYED: u8 = 2;
/// Told at the end of everything: not all of them, when many do not hold.
const VIOLATIONS_MAX: usize = 20;

/// Any error ends a process.
pub(crate) type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> AnyResult<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The workers are this same program.
    if args.first().is_some_and(|arg| arg == "worker") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(worker::act(&args[1..])).map(|()| ExitCode::SUCCESS);
    }
    let (mut seconds, mut full, mut hostile, mut seed, mut keep) = (None, false, false, 1, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--hostile" => hostile = true,
            "--full" => full = true,
            "--seconds" => seconds = Some(args.next().ok_or(USAGE)?.parse()?),
            "--seed" => seed = args.next().ok_or(USAGE)?.parse()?,
            "--keep" => keep = Some(PathBuf::from(args.next().ok_or(USAGE)?)),
            _ => return Err(USAGE.into()),
        }
    }
    let of = if full { FULL } else { SHORT };
    let seconds = seconds.unwrap_or(of[usize::from(hostile)]);
    let temporary = tempfile::tempdir()?;
    let folder = keep.unwrap_or_else(|| temporary.path().to_path_buf());
    std::fs::create_dir_all(&folder)?;
    println!("seed {seed}, {seconds} s");
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = match runtime.block_on(play::play((folder, hostile), Size::of(seconds), seed)) {
        Ok(figures) => figures,
        Err(error) => {
            eprintln!("it could not be played: {error}");
            return Ok(ExitCode::from(UNPLAYED));
        }
    };
    let violations = &figures.verdict.violations;
    for violation in violations.iter().take(VIOLATIONS_MAX) {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        let hostile = if hostile { " --hostile" } else { "" };
        eprintln!("cargo xtask chaos{hostile} --seed {seed} --seconds {seconds}");
    }
    println!(
        "slowest run {:.1} s, {} bodies begun late by workers that were stopped",
        figures.slowest.as_secs_f64(),
        figures.verdict.late
    );
    println!("{figures}");
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
