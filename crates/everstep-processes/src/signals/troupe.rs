//! The processes that are alive, as who conducts them sees them: one pipe on which all of them write the ledger, and who
//! has ended. Nothing here waits for time.

use std::{
    io::{BufRead as _, BufReader, PipeWriter, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::ledger::Line;

/// What a process of the play does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Worker,
    Sender(usize),
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    Wrote(String),
    /// The process with this number has ended, and was not waited for.
    Ended(u32),
}

/// One process. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) part: Part,
    child: Child,
    input: Option<ChildStdin>,
}

/// How processes are made, and what they do.
#[derive(Debug)]
pub(super) struct Troupe {
    program: PathBuf,
    database: PathBuf,
    pipe: PipeWriter,
    happened: Sender<Event>,
    events: Receiver<Event>,
    marks: usize,
}

impl Troupe {
    pub(super) fn new(program: PathBuf, database: PathBuf) -> std::io::Result<Troupe> {
        let (reader, pipe) = std::io::pipe()?;
        let (happened, events) = channel();
        let wrote = happened.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if wrote.send(Event::Wrote(line)).is_err() {
                    return;
                }
            }
        });
        Ok(Troupe { program, database, pipe, happened, events, marks: 0 })
    }

    /// A process for this part; `failpoint` is where it kills itself, as `EVERSTEP_FAILPOINT` has it.
    pub(super) fn spawn(&self, part: Part, failpoint: Option<String>) -> std::io::Result<Process> {
        let mut command = Command::new(&self.program);
        command.arg(if part == Part::Worker { "worker" } else { "sender" }).arg(&self.database);
        command.stdin(Stdio::piped()).stdout(self.pipe.try_clone()?);
        command.envs(failpoint.map(|at| ("EVERSTEP_FAILPOINT", at)));
        let mut child = command.spawn()?;
        let (input, pid, happened) = (child.stdin.take(), Pid::from_child(&child), self.happened.clone());
        let number = child.id();
        std::thread::spawn(move || {
            // It stays ours to be waited for: nobody else gets its number before that.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            happened.send(Event::Ended(number))
        });
        Ok(Process { part, child, input })
    }

    /// What happens next; `None` if nothing happens for so long.
    pub(super) fn next(&self, within: Duration) -> Option<Event> {
        self.events.recv_timeout(within).ok()
    }

    /// Writes a mark behind everything that was written before this call.
    pub(super) fn mark(&mut self) -> std::io::Result<Line> {
        self.marks += 1;
        let mark = Line::Mark(self.marks);
        self.pipe.write_all(format!("{mark}\n").as_bytes())?;
        Ok(mark)
    }
}

impl Process {
    pub(super) fn number(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn tell(&mut self, order: &str) {
        // Who is dead hears nothing, and what he was told is told to his successor.
        let _ = self.input.as_mut().map(|input| writeln!(input, "{order}"));
    }

    /// Lets it leave.
    pub(super) fn close(&mut self) {
        self.input = None;
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
    }

    /// How it ended.
    pub(super) fn buried(mut self) -> End {
        let status: ExitStatus = self.child.wait().expect("it is ours");
        match (status.signal(), status.success()) {
            (Some(9), _) => End::Killed,
            (_, true) => End::Left,
            _ => End::Failed(status),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Killed,
    Left,
    Failed(ExitStatus),
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
