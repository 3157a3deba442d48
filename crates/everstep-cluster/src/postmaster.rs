//! The process of a running server: found by the data it works on, stopped and killed by signals. No program of the
//! server's is needed for that.

use std::{fs, path::Path, time::Duration};

use rustix::process::Signal;

use crate::{error::Result, process::Process};

/// Against hanging only: a checkpoint of all that is in memory is part of a stop.
const STOPS_WITHIN: Duration = Duration::from_secs(120);
/// Against hanging only: whoever serves a client looks up as soon as it waits for something.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ends all connections, then writes a checkpoint: the next start has nothing to recover.
    Fast,
    /// At once, without a checkpoint: the next start recovers from the log.
    Immediate,
}

/// A postmaster that runs, or ran when it was found.
#[derive(Debug)]
pub(crate) struct Postmaster(Process);

impl Postmaster {
    /// The one that works on this data; `None` if none does.
    pub(crate) fn of(data: &Path) -> Result<Option<Postmaster>> {
        // One that was killed left the file behind, and its number may be another's by now: the folder tells.
        let told = fs::read_to_string(data.join("postmaster.pid")).ok();
        let pid = told.and_then(|told| told.lines().next()?.trim().parse().ok());
        let process = pid.map(Process::find).transpose()?.flatten();
        Ok(process.filter(|process| process.works_in(data)).map(Postmaster))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Waits for the end, which is after that of all its children.
    pub(crate) fn stop(&self, mode: Mode) -> Result<()> {
        self.0.signal(match mode {
            Mode::Fast => Signal::INT,
            Mode::Immediate => Signal::QUIT,
        })?;
        self.0.ends(STOPS_WITHIN)
    }

    /// Kills it. Its children leave as soon as they see that: [`orphans_leave`].
    pub(crate) fn kill(&self) -> Result<()> {
        self.0.signal(Signal::KILL)?;
        self.0.ends(LEAVES_WITHIN)
    }

    /// Whatever state it is in.
    pub(crate) fn end(&self) -> Result<()> {
        // One that somebody holds by a signal hears nothing but a kill.
        self.0.signal(Signal::CONT)?;
        self.stop(Mode::Immediate).or_else(|_| self.kill())
    }
}

/// Waits for the children of a postmaster that is dead: before, nobody can work on the data.
pub(crate) fn orphans_leave(data: &Path) -> Result<()> {
    Process::all_in(data)?.iter().try_for_each(|orphan| orphan.ends(LEAVES_WITHIN))
}
