//! The system calls that write: counted once, so that a victim can be killed before each.

use std::{collections::BTreeMap, fs, process::Command};

use crate::{
    history::{History, Plan},
    life::Deed,
    workload::Workload,
};

/// How often the thread that calls it most makes each call, in the life after these.
pub(crate) fn count(workload: &Workload, before: &[Vec<Deed>]) -> BTreeMap<String, usize> {
    let room = tempfile::tempdir().expect("room");
    let log = room.path().join("calls");
    let mut lives = before.to_vec();
    lives.push(vec![Deed::Trace { log: log.clone() }]);
    History::play(&Plan { workload: workload.name.to_string(), lives }, &workload.template, None);
    let calls = workload.template.store.calls();
    let text = fs::read_to_string(&log).unwrap_or_default();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in text.lines() {
        // `1234  pwrite64(3, ...`; a call that is resumed was counted when it began.
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if calls.contains(&name) {
            *counts.entry((thread, name)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, name), n) in counts {
        let known: &mut usize = most.entry(name.to_string()).or_default();
        *known = (*known).max(n);
    }
    most
}

/// Whether the program is there.
pub(crate) fn can_trace() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success())
}
