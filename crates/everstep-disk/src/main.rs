//! `disk power` and `disk faults`: the proofs as programs, with their figures.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod commands;

#[derive(Parser)]
#[command(about = "Everstep on disks that lose power and fail")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loses power at every operation of a recorded life.
    Power(commands::Power),
    /// Fails the n-th call of the disk, once and for ever, until there is none left.
    Faults(commands::Faults),
}

fn main() -> ExitCode {
    let held = match Args::parse().command {
        Command::Power(power) => power.run(),
        Command::Faults(faults) => faults.run(),
    };
    match held {
        Ok(last) => {
            println!("{last}");
            ExitCode::SUCCESS
        }
        Err(last) => {
            println!("{last}");
            ExitCode::FAILURE
        }
    }
}
