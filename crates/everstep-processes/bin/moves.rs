//! Moves runs to another store by the command `everstep copy`, and kills it on the way; see `everstep_processes::moves`.

use std::{env, path::PathBuf, process::ExitCode};

use everstep_processes::{
    actor::AnyResult,
    moves::{self, Kind, Size},
};

const USAGE: &str = "\
moves [--full] [--seed N] [--from KIND] [--to KIND] [--everstep PATH]

  --full           100,000 runs; a tenth without
  --seed N         kills at other moments
  --from KIND      the store that they leave: `sqlite`, or `postgres` on a server of its own; without it `sqlite`
  --to KIND        the store that they move to, likewise
  --everstep PATH  the command; without it the one beside this program";

/// Told at the end of everything: not all of them, when many do not hold.
const VIOLATIONS_MAX: usize = 20;

fn main() -> AnyResult<ExitCode> {
    let (mut full, mut seed, mut kinds) = (false, 1, [Kind::Sqlite; 2]);
    let mut everstep: PathBuf = env::current_exe()?.with_file_name("everstep");
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => full = true,
            "--seed" => seed = args.next().ok_or(USAGE)?.parse()?,
            "--from" => kinds[0] = args.next().ok_or(USAGE)?.parse()?,
            "--to" => kinds[1] = args.next().ok_or(USAGE)?.parse()?,
            "--everstep" => everstep = args.next().ok_or(USAGE)?.into(),
            _ => return Err(USAGE.into()),
        }
    }
    let figures = moves::play(&everstep, kinds, Size::of(full), seed)?;
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
