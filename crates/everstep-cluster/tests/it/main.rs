//! The servers themselves, and what becomes of them when processes die.

mod broken;
mod passing;
mod pooled;
mod private;
mod shared;
mod versions;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// Waits for the end of a process that is not our child, and may have ended before.
#[track_caller]
fn ends(pid: i32) {
    let pid = Pid::from_raw(pid).expect("is a process");
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => {}
        process => {
            let process = process.expect("is found");
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).expect("waits");
            assert_eq!(ended, 1, "{pid:?} does not end");
        }
    }
}
