//! `model check | walk | differential`: figures in the last line, 1 as exit code if something does not hold.

use std::{env, fs, path::PathBuf, process::ExitCode};

use everstep_model::{Compared, Report, differential, protocol, silence_jobs, walk};

const HELP: &str = "\
cargo run --release -p everstep-model -- COMMAND [--full] [--store NAME] [--seed S] [--json FILE]

  check          every state of the protocol, within bounds; and without each of its rules
  walk           the stores driven by walks through the protocol
  differential   the same operations on the in-memory store and on another, until no new kind of reply comes

  --full         more of it; else what fits into CI
  --store NAME   of the differential: sqlite (if nothing is said), postgres, or hostile: that in a mood
  --seed S       only the stream of this seed, as a failure names it
  --json FILE    the figures as JSON too";

struct Arguments {
    command: String,
    full: bool,
    store: Compared,
    seed: Option<u64>,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments(env::args().skip(1)) else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    silence_jobs();
    let done = match arguments.command.as_str() {
        "check" => protocol::run(arguments.full),
        "walk" => walk::run(arguments.full, arguments.seed),
        "differential" => differential::run(arguments.store, arguments.full, arguments.seed),
        other => Err(format!("`{other}` is no command\n\n{HELP}")),
    };
    match done.and_then(|report| write(&report, arguments.json).map(|()| report)) {
        Ok(report) => {
            println!("{}", report.line);
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if they cannot be understood.
fn arguments(mut all: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut read =
        Arguments { command: all.next()?, full: false, store: Compared::default(), seed: None, json: None };
    while let Some(argument) = all.next() {
        match argument.as_str() {
            "--full" => read.full = true,
            "--store" => read.store = Compared::named(&all.next()?)?,
            "--seed" => read.seed = Some(all.next()?.parse().ok()?),
            "--json" => read.json = Some(all.next()?.into()),
            _ => return None,
        }
    }
    Some(read)
}

fn write(report: &Report, json: Option<PathBuf>) -> Result<(), String> {
    let Some(file) = json else { return Ok(()) };
    let text = serde_json::to_string_pretty(&report.figures).map_err(|e| e.to_string())?;
    fs::write(&file, text + "\n").map_err(|e| format!("cannot write `{}`: {e}", file.display()))
}
