//! The command line of Everstep: `everstep list`, `show`, `journal`, `copy`.
//!
//! One command is one file in `command`, whose doc is its help text. They use the client and the read trait of the stores,
//! never SQL, and start no worker: a database that an engine works on can be looked at meanwhile. `location` opens stores,
//! `print` is how things are told.
//!
//! Absent on purpose: what is done to runs (a program's own client does that), and engines.
#![deny(missing_docs)]

mod command;
mod failure;
mod location;
mod print;

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use clap::Parser;

use command::Command;
use failure::Failure;

/// Looks at the runs of a store, and moves them to another one.
///
/// A store is `sqlite:app.db` (a path, relative or absolute) or `postgres://user@host/database`, with `?schema=name` if the
/// tables are not in the schema `everstep`.
///
/// Ends with 0 if it is done, 1 if a store failed, 2 if the command line is wrong, 3 if what is asked for is not there,
/// 4 if it is refused as things stand.
#[derive(Debug, Parser)]
#[command(name = "everstep", version, verbatim_doc_comment, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Does what the command line says; the exit code says how it went.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&Failure::failed(error.to_string())),
    };
    match runtime.block_on(args.command.run()) {
        Ok(text) => written(&text),
        Err(failure) => told(&failure),
    }
}

/// Whoever reads may have read enough: `everstep list .. | head`.
fn written(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => told(&Failure::failed(format!("cannot write: {error}"))),
    }
}

fn told(failure: &Failure) -> ExitCode {
    eprintln!("everstep: {failure}");
    failure.exit()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
