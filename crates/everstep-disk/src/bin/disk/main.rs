//! `disk power` and `disk faults`: the proofs as programs, with their figures.

mod faults;
mod power;

mod figures;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How this program is run.
const CARGO: &str = "cargo run --release -p everstep-disk --";

#[derive(Parser)]
#[command(about = "Everstep on disks that lose power and fail")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loses power at every operation of recorded lives, and again while the engine goes on.
    Power(power::Power),
    /// Fails the n-th call of the disk, once and for ever, until there is none left to fail.
    Faults(faults::Faults),
}

fn main() -> ExitCode {
    let last = match Args::parse().command {
        Command::Power(power) => power.run(),
        Command::Faults(faults) => faults.run(),
    };
    match last {
        Ok(held) => {
            println!("{held}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            println!("{failed}");
            ExitCode::FAILURE
        }
    }
}
