//! A disk whose n-th call fails, once or from then on: what the engine says, and what is left.
//!
//! Each fault has a whole life of a database for itself, from the making of the file to its close. A disk that is full
//! from the n-th write on has room again once somebody has heard of it; every other fault lasts to the end.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use everstep::{Code, Engine, EngineError, ErrorKind, store::Durability};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Notify, watch};

use crate::{
    chance::Chance,
    content::{self, Content},
    disk::Disk,
    life::{self, Setup, folder, runtime},
    promise::Promise,
    recording::{DATABASE, Op, Recorder},
    story::{self, Part, World},
    vfs::{self, Call, Device, Done, Failure},
    witness::Owed,
};

/// A life that takes longer hangs: the slowest one waits twice for a store that cannot write (10 s each).
const LIFE_MAX: Duration = Duration::from_secs(120);
/// How long runs are waited for while calls fail for ever: they may wait for ever too.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often somebody asks again whose call has failed with an error that may pass.
const ASKED_MAX: usize = 5;
/// Crashes after a sync that has failed.
const CRASHES: u64 = 6;
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

const OPENING: u8 = 0;
const WORKING: u8 = 1;
const LEAVING: u8 = 2;

/// The disk, with its fault.
struct Failing {
    recorder: Arc<Recorder>,
    fault: Fault,
    calls: AtomicUsize,
    fired: AtomicUsize,
    /// The first failure fell into this part of the life.
    fired_in: AtomicU8,
    part: AtomicU8,
    healed: AtomicBool,
    has_fired: Notify,
    has_healed: watch::Sender<bool>,
}

impl Failing {
    fn new(recorder: Arc<Recorder>, fault: Fault) -> Arc<Failing> {
        Arc::new(Failing {
            recorder,
            fault,
            calls: AtomicUsize::new(0),
            fired: AtomicUsize::new(0),
            fired_in: AtomicU8::new(OPENING),
            part: AtomicU8::new(OPENING),
            healed: AtomicBool::new(false),
            has_fired: Notify::new(),
            has_healed: watch::Sender::new(false),
        })
    }

    fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
        self.has_healed.send_replace(true);
    }

    fn enter(&self, part: u8) {
        self.part.store(part, Ordering::SeqCst);
    }

    fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }

    /// There is room again once somebody has heard that there is none.
    fn is_room(&self) -> bool {
        matches!(self.fault.failure, Failure::Full | Failure::ShortFull)
    }
}

impl Device for Failing {
    fn before(&self, call: Call, file: &str) -> Option<Failure> {
        self.recorder.before(call, file);
        if call != self.fault.call || self.healed.load(Ordering::SeqCst) {
            return None;
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if n != self.fault.nth && !(self.fault.forever && n > self.fault.nth) {
            return None;
        }
        if self.fired.fetch_add(1, Ordering::SeqCst) == 0 {
            self.fired_in.store(self.part.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        if call == Call::Sync {
            self.recorder.failed_to_sync(file);
        }
        self.has_fired.notify_one();
        Some(self.fault.failure)
    }

    fn after(&self, file: &str, done: Done<'_>) {
        self.recorder.after(file, done);
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
    let mut told = live(folder.path(), setup, parts, &disk)?;
    drop(watch);
    told.fired = disk.fired();
    let ops = recorder.take();
    check_answers(&disk, &told)?;
    told.promises = look(folder.path(), setup, parts, &ops)?;
    if fault.call == Call::Sync && told.fired > 0 {
        told.promises += crash(setup, &ops)?;
    }
    Ok(told)
}

/// After an error of the disk the opening is over: whoever asks hears it.
fn check_answers(disk: &Failing, told: &Told) -> Result<(), String> {
    let fatal = matches!(disk.fault.call, Call::Write | Call::Truncate | Call::Sync) && !disk.is_room();
    let while_working = told.fired > 0 && disk.fired_in.load(Ordering::SeqCst) == WORKING;
    if while_working && fatal && !told.closed {
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

/// The life itself: from the making of the file to its close, however far it comes.
fn live(folder: &Path, setup: Setup, parts: &[Part], disk: &Arc<Failing>) -> Result<Told, String> {
    let store = match setup.open(folder, Some(vfs::NAME)) {
        Ok(store) => store,
        Err(error) if disk.fired() == 0 => return Err(format!("it cannot be opened: {error}")),
        Err(_) => return Ok(Told { not_opened: true, ..Told::default() }),
    };
    disk.enter(WORKING);
    let (owed, world) = (Owed::default(), World::told_to(Some(disk.recorder.clone())));
    let said = runtime().block_on(async {
        let started = life::start(store, world, Some(&disk.recorder), owed.clone()).await;
        let engine = match started {
            Ok(engine) => engine,
            Err(error) => return said(&error, disk),
        };
        let said = work(&engine, parts, disk).await;
        disk.enter(LEAVING);
        // What a store that is over says to whoever leaves it.
        let _ = engine.shutdown().await;
        said
    })?;
    if owed.now() > 0 {
        return Err(format!("{} turns were never answered", owed.now()));
    }
    let owed_most = *owed.most().borrow();
    Ok(Told { owed_most, ..said })
}

/// The runs, and somebody who asks for another one as soon as a call has failed.
async fn work(engine: &Engine, parts: &[Part], disk: &Failing) -> Result<Told, String> {
    let told = tokio::spawn(life::tell(engine.events(), disk.recorder.clone()));
    let asks = async {
        disk.has_fired.notified().await;
        let asked = engine.start(parts[0].workflow, "late", 1).await;
        let said = asked.map_or_else(|error| said(&error, disk), |_| Ok(Told::default()));
        if disk.is_room() {
            disk.heal();
        }
        said
    };
    let runs = async {
        let runs = stream::iter(parts).map(|part| end(engine, part, disk)).buffered(parts.len());
        let fold = async |before: Result<Told, String>, said: Result<Told, String>| both(before?, said?);
        let all = runs.fold(Ok(Told::default()), fold);
        #[allow(
            clippy::disallowed_methods,
            reason = "while calls fail for ever a run may wait for ever, and no event says so"
        )]
        let all = tokio::time::timeout(PATIENCE * if disk.fault.forever { 1 } else { 20 }, all);
        match all.await {
            Ok(said) => said,
            Err(_) if disk.fault.forever => Ok(Told::default()),
            Err(_) => Err("a run does not end, though one call alone has failed".to_string()),
        }
    };
    tokio::pin!(asks, runs);
    let said = tokio::select! {
        asked = &mut asks => both(asked?, runs.await?),
        all = &mut runs => {
            disk.enter(LEAVING);
            // It failed before, and nobody has asked since.
            let asked = if disk.fired() > 0 { asks.await? } else { Told::default() };
            both(all?, asked)
        }
    };
    told.abort();
    said
}

fn both(one: Told, other: Told) -> Result<Told, String> {
    Ok(Told { closed: one.closed || other.closed, full: one.full || other.full, ..one })
}

/// One run, by somebody who asks again when there is room again, and gives up when the opening is over.
async fn end(engine: &Engine, part: &Part, disk: &Failing) -> Result<Told, String> {
    let mut told = Told::default();
    for _ in 0..ASKED_MAX {
        let error = match life::end(engine, part, Some(&disk.recorder)).await {
            Ok(ending) if ending == story::ending(part) => return Ok(told),
            Ok(ending) => return Err(format!("run {} ended with {ending:?}", part.id)),
            Err(error) => error,
        };
        told = both(told, said(&error, disk)?)?;
        if told.closed {
            return Ok(told);
        }
        if error.code() == Code::STORE_FULL && disk.is_room() && disk.fault.forever {
            let _ = disk.has_healed.subscribe().wait_for(|healed| *healed).await;
        }
    }
    Ok(told)
}

/// Whether an error is one that a failing disk explains, and what it tells.
fn said(error: &EngineError, disk: &Failing) -> Result<Told, String> {
    if disk.fired() == 0 {
        return Err(format!("no call has failed, and somebody heard: {error}"));
    }
    match (error.kind(), error.code()) {
        (ErrorKind::Store, Code::STORE_CLOSED) => Ok(Told { closed: true, ..Told::default() }),
        (ErrorKind::Store, Code::STORE_FULL) => Ok(Told { full: true, ..Told::default() }),
        (ErrorKind::Store, Code::STORE) => Ok(Told::default()),
        _ => Err(format!("a failing disk does not explain: {} {error}", error.code())),
    }
}

/// What is in the file: everything that was promised, and an engine that goes on with it comes to the right ends.
fn look(folder: &Path, setup: Setup, parts: &[Part], ops: &[Op]) -> Result<usize, String> {
    let (kept, content) = check_promises(folder, setup, ops)?;
    life::go_on(folder, setup, parts, &content)?;
    Ok(kept)
}

/// What a crash leaves after a sync that has failed.
fn crash(setup: Setup, ops: &[Op]) -> Result<usize, String> {
    let mut disk = Disk::new(&Default::default());
    ops.iter().for_each(|op| disk.apply(op));
    let mut promises = 0;
    for seed in 0..CRASHES {
        let folder = folder();
        let image = disk.crash(seed, Chance::of(&[seed]));
        image.write(folder.path()).map_err(|e| e.to_string())?;
        let (kept, _) = check_promises(folder.path(), setup, ops)
            .map_err(|what| format!("after a crash with seed {seed}: {what}"))?;
        promises += kept;
    }
    Ok(promises)
}

fn check_promises(folder: &Path, setup: Setup, ops: &[Op]) -> Result<(usize, Content), String> {
    let store = setup.open(folder, None).map_err(|e| format!("it cannot be opened any more: {e}"))?;
    let read = || {
        let conn = content::look(&folder.join(DATABASE))?;
        Ok((content::is_whole(&conn)?, Content::read(&conn)?))
    };
    let (damage, content) = read().map_err(|e: everstep_sqlite::rusqlite::Error| e.to_string())?;
    drop(store);
    if let Some(flaw) = damage.or_else(|| content.flaw()) {
        return Err(flaw);
    }
    let promises = ops.iter().filter_map(|op| if let Op::Mark(promise) = op { Some(promise) } else { None });
    let lost: Vec<&Promise> = promises.clone().filter(|promise| !promise.is_kept(&content)).collect();
    match lost.first() {
        Some(first) => Err(format!("{} promises are lost, first {first:?}", lost.len())),
        None => Ok((promises.count(), content)),
    }
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
        let shared = std::sync::Mutex::new(tally);
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

/// Pages between two checkpoints: a life has some.
pub const WAL_PAGES: u64 = 12;
