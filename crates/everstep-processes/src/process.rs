//! One process of a play: told by lines what to do, and what it has said.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::stage::Stage;

/// Against hanging only: nothing is expected to take nearly so long.
pub(crate) const HANGS: Duration = Duration::from_secs(60);

/// A process and what it has said. Dropped, it is killed.
#[derive(Debug)]
pub struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Actor {
    pub(crate) fn spawn(command: &mut Command) -> Actor {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{command:?}: {error}. `cargo xtask test` installs what tests need")
            });
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Actor { child, input, lines, said: Vec::new() }
    }

    /// Waits for a line that begins so, said earlier or later, and gives it.
    #[track_caller]
    pub fn hears(&mut self, beginning: &str) -> String {
        self.hears_any(&[beginning])
    }

    /// As [`Actor::hears`], with several to choose from.
    #[track_caller]
    pub fn hears_any(&mut self, beginnings: &[&str]) -> String {
        let begins_so = |line: &str| beginnings.iter().any(|beginning| line.starts_with(beginning));
        self.hears_where(&beginnings.join("` or `"), begins_so)
    }

    /// As [`Actor::hears`], for any kind of line; `wanted` is for the message when it does not come.
    #[track_caller]
    pub fn hears_where(&mut self, wanted: &str, is_it: impl FnMut(&str) -> bool) -> String {
        self.hears_where_or_ends(wanted, is_it)
            .unwrap_or_else(|| panic!("it ended without `{wanted}`; it said {:#?}", self.said))
    }

    /// As [`Actor::hears`]; `None` if the process ended without it.
    #[track_caller]
    pub fn hears_or_ends(&mut self, beginning: &str) -> Option<String> {
        self.hears_where_or_ends(beginning, |line| line.starts_with(beginning))
    }

    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "a bound against hanging, also of one who talks on")]
    fn hears_where_or_ends(&mut self, wanted: &str, mut is_it: impl FnMut(&str) -> bool) -> Option<String> {
        let (mut at, began) = (0, Instant::now());
        loop {
            while let Some(line) = self.said.get(at) {
                if is_it(line.trim_start()) {
                    return Some(line.clone());
                }
                at += 1;
            }
            match self.lines.recv_timeout(HANGS.saturating_sub(began.elapsed())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("no `{wanted}`; it said {:#?}", self.said),
            }
        }
    }

    /// What was heard of it so far.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Everything it has said until its end.
    #[track_caller]
    pub fn last_words(&mut self) -> &[String] {
        self.input = None;
        loop {
            match self.lines.recv_timeout(HANGS) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return &self.said,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; it said {:#?}", self.said),
            }
        }
    }

    /// Asks for something; the answer comes as a line that begins with `command`.
    #[track_caller]
    pub fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("its input is open");
        // Who is dead hears nothing, and that is no error of the test.
        let _ = writeln!(input, "{command}");
    }

    /// Asks, and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        let answer = self.hears(&format!("{command}: "));
        answer[command.len() + 2..].to_string()
    }

    /// Asks, and the answer must be this.
    #[track_caller]
    pub fn asks(&mut self, command: &str, expected: &str) {
        assert_eq!(self.ask(command), expected, "{command}");
    }

    /// Stops driving runs and ends.
    #[track_caller]
    pub fn leaves(mut self) {
        self.tell("leave");
        self.hears("left");
        self.ends();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends(&mut self) -> ExitStatus {
        self.last_words();
        self.child.wait().expect("it was ours")
    }

    /// Dies at once.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ends();
    }

    /// Waits until it stops by itself, or has said such a line; whether it stopped.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "a bound against hanging")]
    pub(crate) fn stops_or_says(&mut self, is_it: impl Fn(&str) -> bool) -> bool {
        let (pid, began) = (Pid::from_child(&self.child), Instant::now());
        loop {
            let changed =
                waitpid(Some(pid), WaitOptions::UNTRACED | WaitOptions::NOHANG).expect("it is ours");
            if changed.is_some_and(|(_, status)| status.stopped()) {
                return true;
            }
            if self.said.iter().any(|line| is_it(line)) {
                return false;
            }
            assert!(began.elapsed() < HANGS, "it neither stops nor ends; it said {:#?}", self.said);
            // No event tells of both: a moment is short enough to look again.
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(5)) {
                self.said.push(line);
            }
        }
    }

    /// Lets a process that is stopped inside a transaction leave it, and stops it again.
    pub(crate) fn leaves_its_transaction(&self, stage: &Stage) {
        if !stage.can_be_written() {
            self.signal(Signal::CONT);
            self.stops_outside_a_transaction(stage);
        }
    }

    /// Stops the process while it holds no lock on the database: one that is stopped inside a transaction holds up
    /// everybody, whoever owns the runs.
    pub fn stops_outside_a_transaction(&self, stage: &Stage) {
        let pid = Pid::from_child(&self.child);
        loop {
            self.signal(Signal::STOP);
            let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).expect("it is ours");
            assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it was alive");
            if stage.can_be_written() {
                return;
            }
            self.signal(Signal::CONT);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is ours");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
