//! One life of a victim: a process from its start to its end, and what it said.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::home::Home;

/// Against hanging only: a life takes a tenth of a second.
const HANGS: Duration = Duration::from_secs(60);
/// The exit code of a victim that shut down before its runs were over.
const LEFT_EARLY: i32 = 3;

/// What happens to a victim, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// At the nth pass of a failpoint: `kill`, `fail` or `stop`.
    Failpoint { name: String, nth: usize, what: String },
    /// Killed when a thread makes its nth call of this kind, before the call does anything.
    Syscall { name: String, nth: usize },
    /// It shuts down after so many results.
    Leave { results: usize },
    /// Its calls at which victims are killed are told to a file.
    Trace { log: PathBuf },
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Failpoint { name, nth, what } => write!(f, "{name}:{nth}:{what}"),
            Deed::Syscall { name, nth } => write!(f, "{name}:{nth}:syscall"),
            Deed::Leave { results } => write!(f, "results:{results}:leave"),
            Deed::Trace { log } => write!(f, "{}:0:trace", log.display()),
        }
    }
}

impl FromStr for Deed {
    type Err = String;

    fn from_str(text: &str) -> Result<Deed, String> {
        let words: Vec<&str> = text.split(':').collect();
        let [name, nth, what] = words[..] else { return Err(format!("`{text}` is not NAME:NUMBER:WHAT")) };
        let (name, nth) = (name.to_string(), nth.parse().map_err(|_| format!("`{nth}` is no number"))?);
        Ok(match what {
            "syscall" => Deed::Syscall { name, nth },
            "leave" => Deed::Leave { results: nth },
            "trace" => Deed::Trace { log: name.into() },
            what => Deed::Failpoint { name, nth, what: what.to_string() },
        })
    }
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Killed,
    /// All its runs are over.
    AllOver,
    LeftEarly,
    /// It gave up, with an error that it told.
    GaveUp,
    /// It had to be killed because it did not end.
    Hung,
}

/// What a victim said, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) lines: Vec<String>,
    pub(crate) death: Death,
}

/// Where a victim lives.
pub(crate) struct Place<'a> {
    pub(crate) workload: &'a str,
    pub(crate) home: &'a Home,
}

impl Place<'_> {
    /// Lives once. `log` hears of every failpoint that is passed.
    pub(crate) fn live(&self, deeds: &[Deed], log: Option<&Path>) -> Life {
        let child = self.spawn(deeds, log);
        follow(child)
    }

    /// A life that is followed by somebody else.
    pub(crate) fn spawn(&self, deeds: &[Deed], log: Option<&Path>) -> Child {
        let store = &self.home.store;
        let mut command = command(deeds, store.calls());
        command.arg(self.workload).arg(self.home.database()).arg(self.home.seen());
        command.arg(store.lease_ms().to_string());
        let failpoints: Vec<_> = deeds
            .iter()
            .filter(|deed| matches!(deed, Deed::Failpoint { .. }))
            .map(ToString::to_string)
            .collect();
        for deed in deeds {
            if let Deed::Leave { results } = deed {
                command.arg(results.to_string());
            }
        }
        command.env("EVERSTEP_FAILPOINT", failpoints.join(","));
        command.env("EVERSTEP_FAILPOINT_LOG", log.map_or("".as_ref(), Path::as_os_str));
        // A group of its own: strace and victim are ended together.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}. `cargo xtask test` installs what tests need")
        })
    }
}

/// The victim, alone or under strace.
fn command(deeds: &[Deed], calls: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-qq", "-o"]);
    for deed in deeds {
        match deed {
            Deed::Syscall { name, nth } => {
                strace.args(["/dev/null", "-e", &format!("trace={name}")]);
                strace.args(["-e", &format!("inject={name}:signal=KILL:when={nth}")]);
            }
            Deed::Trace { log } => {
                strace.arg(log).args(["-e", &format!("trace={}", calls.join(","))]);
            }
            _ => continue,
        }
        strace.arg(victim());
        return strace;
    }
    Command::new(victim())
}

/// The program beside this one.
fn victim() -> PathBuf {
    let me = std::env::current_exe().expect("this program has a path");
    me.with_file_name("victim")
}

/// Keeps the ledger of a life until its end.
pub(crate) fn follow(mut child: Child) -> Life {
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let group = Pid::from_child(&child);
    let hung = Arc::new(AtomicBool::new(false));
    let (ended, end) = mpsc::channel::<()>();
    let watch = {
        let hung = hung.clone();
        std::thread::spawn(move || {
            if end.recv_timeout(HANGS) == Err(mpsc::RecvTimeoutError::Timeout) {
                hung.store(true, Ordering::SeqCst);
                let _ = kill_process_group(group, Signal::KILL);
            }
        })
    };
    let lines = output.lines().map_while(Result::ok).collect();
    let status = child.wait().expect("it is ours");
    drop(ended);
    watch.join().expect("no panic");
    Life { lines, death: death(status, hung.load(Ordering::SeqCst)) }
}

fn death(status: ExitStatus, hung: bool) -> Death {
    match (hung, status.code(), status.signal()) {
        (true, ..) => Death::Hung,
        (_, Some(0), _) => Death::AllOver,
        (_, Some(LEFT_EARLY), _) => Death::LeftEarly,
        // strace ends as its victim did.
        (_, _, Some(9)) | (_, Some(137), _) => Death::Killed,
        _ => Death::GaveUp,
    }
}

/// The effects among these lines, as victims look for them.
pub(crate) fn remember(seen: &Path, lines: &[String]) {
    let effects: String = lines
        .iter()
        .filter_map(|line| line.strip_prefix("effect "))
        .map(|effect| effect.split(' ').take(2).collect::<Vec<_>>().join(" ") + "\n")
        .collect();
    let before = fs::read_to_string(seen).unwrap_or_default();
    fs::write(seen, before + &effects).expect("the folder can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_read_as_it_is_written() {
        for text in ["turn.sent:3:kill", "write:7:syscall", "results:1:leave", "beat.sent:1:fail"] {
            assert_eq!(text.parse::<Deed>().map(|deed| deed.to_string()), Ok(text.to_string()));
        }
        assert!("turn.sent".parse::<Deed>().is_err());
    }
}
