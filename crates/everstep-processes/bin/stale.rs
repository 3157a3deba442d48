//! Stops workers past their lease at every point of a run and lets them go on; see `everstep_processes::stale`.

use std::{env, fs, process::ExitCode};
use thousands::Separable as _;

use everstep_processes::{
    actor::{self, AnyResult},
    stale::{self, Figures, Play},
};

const USAGE: &str = "\
stale [--full] [--only PLAY] [--json FILE]

  --full       every stop with every clock, each of them many times
  --only PLAY  one of them, as a failure names it
  --json FILE  the figures, for docs/reliability.md";

fn main() -> AnyResult<ExitCode> {
    let args: Vec<String> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    // The workers are this same program.
    if let Some(acted) = runtime.block_on(actor::act(&args)) {
        return acted.map(|()| ExitCode::SUCCESS);
    }
    drop(runtime);

    let (mut full, mut only, mut json) = (false, None, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => full = true,
            "--only" => only = Some(args.next().ok_or(USAGE)?.parse::<Play>()?),
            "--json" => json = Some(args.next().ok_or(USAGE)?),
            _ => return Err(USAGE.into()),
        }
    }
    let program = env::current_exe()?;
    let plays = only.map_or_else(|| stale::plays(&program, full), |play| vec![play]);
    let figures = stale::sweep(&program, &plays, |n, play, held| {
        if !held {
            eprintln!("`{play}` does not hold; cargo run -p everstep-processes --bin stale -- --only {play}");
        } else if n % 50 == 0 {
            println!("{n} of {} stops", plays.len());
        }
    });
    if let Some(file) = json {
        fs::write(file, json_of(&figures))?;
    }
    println!(
        "{} stops ({} amid the run), {} recorded outcomes, {} bodies repeated, {} violations",
        figures.stops.separate_with_commas(),
        figures.amid_the_run.separate_with_commas(),
        figures.recorded.separate_with_commas(),
        figures.repeated.separate_with_commas(),
        figures.violations.len()
    );
    Ok(if figures.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn json_of(figures: &Figures) -> String {
    format!(
        "{{\"stops\": {}, \"stops_amid_the_run\": {}, \"recorded_outcomes\": {}, \"bodies_repeated\": {}, \"violations\": {}}}\n",
        figures.stops,
        figures.amid_the_run,
        figures.recorded,
        figures.repeated,
        figures.violations.len()
    )
}
