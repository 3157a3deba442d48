//! The commands, one a file.

mod copy;
mod journal;
mod list;
mod show;

use clap::Subcommand;

use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::List),
    Show(show::Show),
    Journal(journal::Journal),
    Copy(copy::Copy),
}

impl Command {
    /// Does it; what it answers.
    pub(crate) async fn run(self) -> Result<String, Failure> {
        match self {
            Command::List(list) => list.run().await,
            Command::Show(show) => show.run().await,
            Command::Journal(journal) => journal.run().await,
            Command::Copy(copy) => copy.run().await,
        }
    }
}
