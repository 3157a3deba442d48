//! Loads PostgreSQL beside a transaction that stays open, and compares the end with the beginning; see
//! `everstep_processes::load`.

use std::{env, process::ExitCode};

use everstep_processes::{
    actor::AnyResult,
    load::{self, Size},
};

const USAGE: &str = "\
load [--full | --seconds N]

  --full       thirty minutes; three without
  --seconds N  so long, at least a minute";

/// Shorter, and the parts that are compared have no window.
const SECONDS_MIN: u64 = 60;
/// Told at the end of everything: not all of them, when many do not hold.
const VIOLATIONS_MAX: usize = 20;

fn main() -> AnyResult<ExitCode> {
    let mut size = Size::of(false);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => size = Size::of(true),
            "--seconds" => {
                let seconds: u64 = args.next().ok_or(USAGE)?.parse()?;
                size = Size::of_seconds(seconds.max(SECONDS_MIN));
            }
            _ => return Err(USAGE.into()),
        }
    }
    let figures = tokio::runtime::Runtime::new()?.block_on(load::play(size))?;
    let wrong = figures.wrong();
    for violation in wrong.iter().take(VIOLATIONS_MAX) {
        eprintln!("{violation}");
    }
    println!("{figures}");
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
