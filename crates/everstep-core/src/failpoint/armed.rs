//! What a test told this process, and how often each failpoint was passed.

use std::{
    env,
    fs::File,
    io::Write as _,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::process::{Signal, getpid, kill_process};

use super::{Failpoint, Guard};

/// What this process was told.
static ORDERS: LazyLock<Orders> = LazyLock::new(Orders::read);

struct Orders {
    deeds: Vec<(Failpoint, u64, Deed)>,
    log: Option<File>,
    broken: Option<Guard>,
    passed: Vec<AtomicU64>,
}

#[derive(Clone, Copy)]
enum Deed {
    Kill,
    Stop,
    Fail,
}

impl Orders {
    fn read() -> Orders {
        let text = |name| env::var(name).ok().filter(|text| !text.is_empty());
        let deeds = text("EVERSTEP_FAILPOINT");
        Orders {
            deeds: deeds.iter().flat_map(|all| all.split(',')).map(deed).collect(),
            log: text("EVERSTEP_FAILPOINT_LOG").map(|path| {
                let opened = File::options().append(true).create(true).open(&path);
                opened.unwrap_or_else(|error| panic!("EVERSTEP_FAILPOINT_LOG={path}: {error}"))
            }),
            broken: text("EVERSTEP_BREAK").map(|name| {
                let found = Guard::ALL.into_iter().find(|guard| guard.name() == name);
                found.unwrap_or_else(|| panic!("EVERSTEP_BREAK={name}: there is no such guard"))
            }),
            passed: Failpoint::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// `turn.sent:3:kill`.
fn deed(text: &str) -> (Failpoint, u64, Deed) {
    let wrong = || panic!("EVERSTEP_FAILPOINT={text}: it is NAME:COUNT:kill, stop or fail");
    let mut words = text.split(':');
    let (Some(name), Some(count), Some(what), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        wrong()
    };
    let point = Failpoint::ALL.iter().find(|point| point.name() == name);
    let what = match what {
        "kill" => Deed::Kill,
        "stop" => Deed::Stop,
        "fail" => Deed::Fail,
        _ => wrong(),
    };
    match (point, count.parse()) {
        (Some(point), Ok(count)) => (*point, count, what),
        _ => wrong(),
    }
}

pub(super) fn pass(point: Failpoint) -> bool {
    let orders = &*ORDERS;
    let count = orders.passed[point as usize].fetch_add(1, Ordering::Relaxed) + 1;
    if let Some(mut log) = orders.log.as_ref() {
        log.write_all(format!("{}\n", point.name()).as_bytes()).expect("the log can be written");
    }
    let due = orders.deeds.iter().find(|(at, nth, _)| *at == point && *nth == count);
    match due.map(|(_, _, deed)| *deed) {
        None => false,
        Some(Deed::Kill) => signal(Signal::KILL),
        Some(Deed::Stop) => signal(Signal::STOP),
        Some(Deed::Fail) => true,
    }
}

/// Stopped or killed before it returns.
fn signal(signal: Signal) -> bool {
    kill_process(getpid(), signal).expect("a process may signal itself");
    false
}

pub(super) fn broken(guard: Guard) -> bool {
    ORDERS.broken == Some(guard)
}
