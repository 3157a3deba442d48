//! Sends signals to runs that wait, and kills their worker again and again; see `everstep_processes::signals`.

use std::{env, process::ExitCode};
use thousands::Separable as _;

use everstep_processes::{
    actor::AnyResult,
    signals::{self, Figures, Size},
};

const USAGE: &str = "\
signals [--full] [--seed N]

  --full    100,000 sends and waits and 200 kills; a tenth without
  --seed N  other runs, signals and kills";

/// Told at the end of everything: not all of them, when many do not hold.
const VIOLATIONS_MAX: usize = 20;

fn main() -> AnyResult<ExitCode> {
    let args: Vec<String> = env::args().skip(1).collect();
    // The worker and the senders are this same program.
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(acted) = runtime.block_on(signals::act(&args)) {
        return acted.map(|()| ExitCode::SUCCESS);
    }
    drop(runtime);

    let (mut full, mut seed) = (false, 1);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => full = true,
            "--seed" => seed = args.next().ok_or(USAGE)?.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let told = |over, of| println!("{over} of {of} runs are over");
    let figures = signals::play(&env::current_exe()?, Size::of(full), seed, told)?;
    for violation in figures.violations.iter().take(VIOLATIONS_MAX) {
        eprintln!("{violation}");
    }
    if !figures.violations.is_empty() {
        let full = if full { " --full" } else { "" };
        eprintln!("cargo run -p everstep-processes --bin signals -- --seed {seed}{full}");
    }
    tell(&figures);
    Ok(if figures.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(figures: &Figures) {
    println!(
        "{} waits, {} with a signal; {} undelivered, {} refused; {} kills of senders",
        figures.waits.separate_with_commas(),
        figures.taken.separate_with_commas(),
        figures.undelivered.separate_with_commas(),
        figures.refused.separate_with_commas(),
        figures.senders_killed.separate_with_commas()
    );
    println!(
        "{} operations, {} sent, {} acknowledged, {} kills, {} violations",
        figures.operations.separate_with_commas(),
        figures.sent.separate_with_commas(),
        figures.acknowledged.separate_with_commas(),
        figures.kills.separate_with_commas(),
        figures.violations.len()
    );
}
