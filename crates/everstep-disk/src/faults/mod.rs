//! A disk whose n-th call fails, once or from then on: what the engine says, and what is left.
//!
//! Each fault has a whole life of a database for itself, from the making of the file to its close. A disk that is full
//! from the n-th write on has room again once somebody has heard of it; every other fault lasts to the end.

mod failing;
mod left;
mod work;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use everstep::store::Durability;

use crate::{
    life::{Setup, folder},
    recording::Recorder,
    story::Part,
    vfs::{self, Call, Failure},
};
use failing::{Failing, Stage};

/// A life that takes longer hangs: the slowest one waits twice for a store that cannot write (10 s each).
const LIFE_MAX: Duration = Duration::from_secs(120);
/// Pages between two checkpoints: a life has some.
pub const WAL_PAGES: u64 = 12;
/// Turns of one run on their way, at most: after 64 a run's timers wait for the disk (`driver/waiting.rs`), and a few are
/// sent by what is open beside them.
pub const OWED_MAX: usize = 64 + 8;

/// Which call fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Calls of this kind are counted.
    pub call: Call,
    /// How the disk fails it.
    pub failure: Failure,
    /// From 1.
    pub nth: usize,
    /// And every later one.
    pub forever: bool,
}

/// What the life with a fault was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Calls that failed.
    pub fired: usize,
    /// The database could not be opened.
    pub not_opened: bool,
    /// Somebody heard that the opening is over.
    pub closed: bool,
    /// Somebody heard that there is no room.
    pub full: bool,
    /// Promises that were looked for afterwards, in the file and in what a crash leaves of it.
    pub promises: usize,
    /// The most turns of one run that were not answered.
    pub owed_most: usize,
}

/// One loop: the same fault at the first call, the second, the third, until no call is left to fail.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    /// Which calls fail.
    pub call: Call,
    /// How.
    pub failure: Failure,
    /// Once, or from then on.
    pub forever: bool,
}

/// Every loop there is.
pub fn loops() -> Vec<Loop> {
    use Call as C;
    use Failure as F;
    let calls = [C::Open, C::Length, C::Read, C::Write, C::Truncate, C::Sync, C::Delete, C::Map];
    let io = calls.map(|call| (call, F::Io));
    let others = [
        (C::Read, F::ShortIo),
        (C::Write, F::ShortIo),
        (C::Write, F::Full),
        (C::Write, F::ShortFull),
        (C::Map, F::Full),
    ];
    let pairs = io.into_iter().chain(others);
    pairs.flat_map(|(call, failure)| [false, true].map(|forever| Loop { call, failure, forever })).collect()
}

/// What came of all loops.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Loops that came to their end.
    pub loops: usize,
    /// Faults that happened.
    pub faults: usize,
    /// Lives whose opening failed.
    pub not_opened: usize,
    /// Lives in which somebody heard that the opening is over.
    pub closed: usize,
    /// Lives in which somebody heard that there is no room.
    pub full: usize,
    /// Promises that were looked for.
    pub promises: usize,
    /// The most turns of one run that were on their way.
    pub owed_most: usize,
    /// What did not hold: the first of it.
    pub failed: Vec<(Fault, String)>,
}

impl Tally {
    fn add(&mut self, told: Told) {
        self.faults += usize::from(told.fired > 0);
        self.not_opened += usize::from(told.not_opened);
        self.closed += usize::from(told.closed);
        self.full += usize::from(told.full);
        self.promises += told.promises;
        self.owed_most = self.owed_most.max(told.owed_most);
    }
}

impl Loop {
    /// The fault at the n-th call.
    pub fn at(self, nth: usize) -> Fault {
        let Loop { call, failure, forever } = self;
        Fault { call, failure, nth, forever }
    }

    /// Every `stride`-th n, from the first on, `at_once` side by side: most lives wait.
    pub fn run(self, stride: usize, at_once: usize, parts: &[Part], tally: &mut Tally) {
        let setup = Setup { durability: Durability::Power, wal_pages: WAL_PAGES };
        let (next, ended) = (AtomicUsize::new(1), AtomicBool::new(false));
        let shared = Mutex::new(tally);
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while !ended.load(Ordering::SeqCst) {
                        let fault = self.at(next.fetch_add(stride, Ordering::SeqCst));
                        let told = life_with(fault, setup, parts);
                        let mut tally = shared.lock().expect("nobody panics with it");
                        match told {
                            Ok(told) => {
                                // A life without a fault: there are not so many calls.
                                ended.fetch_or(told.fired == 0, Ordering::SeqCst);
                                tally.add(told);
                            }
                            Err(what) => {
                                ended.store(true, Ordering::SeqCst);
                                tally.failed.push((fault, what));
                            }
                        }
                    }
                });
            }
        });
        if let Ok(tally) = shared.into_inner() {
            tally.loops += 1;
        }
    }
}

/// Lives one life with this fault, and looks at what is left.
///
/// # Errors
/// What was promised and is not so.
pub fn life_with(fault: Fault, setup: Setup, parts: &[Part]) -> Result<Told, String> {
    let (send, told) = mpsc::channel();
    let all = parts.to_vec();
    let life = std::thread::Builder::new()
        .name("life".to_string())
        .spawn(move || send.send(live_and_look(fault, setup, &all)))
        .map_err(|e| e.to_string())?;
    match told.recv_timeout(LIFE_MAX) {
        Ok(told) => told,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("it hangs: no end after {LIFE_MAX:?}")),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = life.join().expect_err("it has told nothing");
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        }
    }
}

fn live_and_look(fault: Fault, setup: Setup, parts: &[Part]) -> Result<Told, String> {
    let folder = folder();
    let recorder = Recorder::new(folder.path()).map_err(|e| e.to_string())?;
    let disk = Failing::new(recorder.clone(), fault);
    let watch = vfs::watch(folder.path(), disk.clone());
    let mut told = work::live(folder.path(), setup, parts, &disk)?;
    drop(watch);
    told.fired = disk.fired();
    let ops = recorder.take();
    check_answers(&disk, &told)?;
    told.promises = left::look(folder.path(), setup, parts, &ops)?;
    if fault.call == Call::Sync && told.fired > 0 {
        told.promises += left::crash(setup, &ops)?;
    }
    Ok(told)
}

/// After an error of the disk the opening is over: whoever asks hears it.
fn check_answers(disk: &Failing, told: &Told) -> Result<(), String> {
    let fatal = matches!(disk.fault.call, Call::Write | Call::Truncate | Call::Sync) && !disk.is_room();
    if disk.fired_in(Stage::Working) && fatal && !told.closed {
        return Err("the disk failed a write, and the opening went on".to_string());
    }
    if told.closed && told.fired == 0 {
        return Err("the opening is over, and no call has failed".to_string());
    }
    if told.owed_most > OWED_MAX {
        return Err(format!("{} turns of one run were on their way", told.owed_most));
    }
    Ok(())
}
