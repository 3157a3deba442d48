//! Processes that are not our children: where they work, and the wait for their end.

use std::{fs, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, test_kill_process},
};

use crate::error::{Error, Result, While};

/// A process, held so that its number cannot come to mean another one.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
}

impl Process {
    /// `None` if there is no such process (any more).
    pub(crate) fn find(pid: i32) -> Result<Option<Process>> {
        let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Some(Process { pid, handle })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error).during(|| format!("find process {pid:?}")),
        }
    }

    /// Whether it works in this folder.
    pub(crate) fn works_in(&self, folder: &Path) -> bool {
        let works = fs::read_link(format!("/proc/{}/cwd", self.pid.as_raw_nonzero()));
        works.is_ok_and(|works| fs::canonicalize(folder).is_ok_and(|folder| folder == works))
    }

    /// All that work in this folder, as far as we may see them.
    pub(crate) fn all_in(folder: &Path) -> Result<Vec<Process>> {
        let all = fs::read_dir("/proc").during(|| "list processes".into())?;
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let processes = pids.filter_map(|pid| Process::find(pid).transpose());
        processes
            .filter(|process| process.as_ref().map_or(true, |process| process.works_in(folder)))
            .collect()
    }

    /// Sends a signal; that it is dead already is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match kill_process(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).during(|| format!("signal process {:?}", self.pid)),
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until it has ended, also if nobody takes note of that.
    pub(crate) fn ends(&self, limit: Duration) -> Result<()> {
        let limit = Timespec::try_from(limit).expect("seconds");
        loop {
            return match poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&limit)) {
                Err(Errno::INTR) => continue,
                Ok(0) => Err(Error::new(format!("process {:?} does not end", self.pid))),
                ended => ended.map(drop).during(|| format!("wait for process {:?}", self.pid)),
            };
        }
    }
}

/// Whether there is such a process, whoever owns it.
pub(crate) fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_by_its_folder_and_its_end_is_waited_for() {
        let folder = tempfile::tempdir().expect("room");
        let mut cat = Command::new("cat");
        let mut child = cat.current_dir(folder.path()).stdin(Stdio::piped()).spawn().expect("runs");
        let found = Process::all_in(folder.path()).expect("are listed");
        assert_eq!(found.iter().map(|one| one.pid).collect::<Vec<_>>(), [Pid::from_child(&child)]);
        found[0].signal(Signal::KILL).expect("is sent");
        found[0].ends(Duration::from_secs(30)).expect("it ends");
        // Nobody has taken note of its end, and yet it works nowhere any more.
        assert!(Process::all_in(folder.path()).expect("are listed").is_empty());
        assert!(is_alive(found[0].pid()), "its number is taken until then");
        child.wait().expect("was ours");
    }
}
