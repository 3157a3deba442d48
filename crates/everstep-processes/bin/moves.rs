//! Moves runs to another store by the command `everstep copy`, and kills it on the way; see `everstep_processes::moves`.

use std::{env, path::PathBuf, process::ExitCode};

use everstep_processes::{
    actor::AnyResult,
    moves::{self, Size},
};

const USAGE: &str = "\
moves [--full] [--seed N] [--to URL] [--everstep PATH]

  --full           100,000 runs; a tenth without
  --seed N         kills at other moments
  --to URL         the store that they move to, empty; without it a database of its own
  --everstep PATH  the command; without it the one beside this program";

/// Told at the end of everything: not all of them, when many do not hold.
const VIOLATIONS_MAX: usize = 20;

fn main() -> AnyResult<ExitCode> {
    let (mut full, mut seed, mut to) = (false, 1, None);
    let mut everstep: PathBuf = env::current_exe()?.with_file_name("everstep");
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => full = true,
            "--seed" => seed = args.next().ok_or(USAGE)?.parse()?,
            "--to" => to = Some(args.next().ok_or(USAGE)?),
            "--everstep" => everstep = args.next().ok_or(USAGE)?.into(),
            _ => return Err(USAGE.into()),
        }
    }
    let figures = moves::play(&everstep, to.as_deref(), Size::of(full), seed)?;
    for violation in figures.violations.iter().take(VIOLATIONS_MAX) {
        eprintln!("{violation}");
    }
    println!(
        "{} runs moved, {} of them open, {} kills, {:.1} s of copying, {} violations",
        figures.runs,
        figures.open,
        figures.kills,
        figures.copying.as_secs_f64(),
        figures.violations.len()
    );
    Ok(if figures.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
