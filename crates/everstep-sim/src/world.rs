//! What everybody in one simulated world shares: its history, its trace, its chance, and whether things go wrong in it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use everstep_core::{Simulation, journal::Kind, store::RunId};
use tokio::{sync::Notify, time::Instant};

use crate::{
    chance::Chance,
    fault::Fault,
    history::{Ending, Fact, Made, What, keyed},
    plan::Plan,
    program::{Feature, Handed},
};

/// A world.
pub struct World {
    /// What is to happen in it.
    pub plan: Plan,
    /// Its time and the engines' chance.
    pub time: Simulation,
    origin: Instant,
    calm: AtomicBool,
    full: AtomicBool,
    /// The disk has space again.
    pub(crate) space: Notify,
    /// A token was handed out.
    pub(crate) handed: Notify,
    record: Mutex<Record>,
}

struct Record {
    chance: Chance,
    history: Vec<Fact>,
    trace: Trace,
    runs: BTreeMap<RunId, usize>,
    /// Runs that are not the plan's, by their ids, in the order in which they were heard of.
    children: BTreeMap<String, usize>,
    generations: BTreeMap<usize, u32>,
    tokens: VecDeque<Handed>,
    token_numbers: BTreeMap<String, u64>,
    effects: BTreeMap<(usize, Arc<str>), Made>,
    bodies: u64,
    lives: u64,
    notes: u64,
    refusals: BTreeMap<usize, u32>,
    met: BTreeSet<Feature>,
}

/// More than this is observed only when something goes round and round.
const NOTES_MAX: u64 = 400_000;

/// Everything that was observed, as a hash, and as text if somebody wants to read it.
struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if let Some(last) = self.lines.as_mut().and_then(|lines| lines.last_mut()) {
            last.push_str(text);
        }
        Ok(())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.plan.seed).finish_non_exhaustive()
    }
}

impl Record {
    fn sees(&mut self, what: &What) {
        match what {
            What::Effect { run, key, made } => drop(self.effects.insert((*run, key.clone()), *made)),
            What::CancelPosted { .. } => drop(self.met.insert(Feature::Cancel)),
            What::Turn { end: Some(Ending::Parked), .. } => drop(self.met.insert(Feature::Park)),
            What::Turn { entries, .. } if entries.iter().any(|entry| entry.kind == Kind::DeadlinePassed) => {
                self.met.insert(Feature::Deadline);
            }
            What::Turn { run, end: Some(Ending::Restarted), .. } => {
                *self.generations.entry(*run).or_default() += 1;
            }
            What::Acted { verb: "kill", .. } => drop(self.met.insert(Feature::Kill)),
            What::Acted { verb: "pause", .. } => drop(self.met.insert(Feature::Pause)),
            What::CutBack { .. } => drop(self.met.insert(Feature::Rewind)),
            _ => {}
        }
    }
}

impl World {
    /// A world that begins now. `verbose` keeps the trace as text.
    pub fn new(plan: Plan, verbose: bool) -> Arc<World> {
        let time = Simulation::new(plan.seed);
        let mut chance = Chance::new(plan.seed);
        let record = Record {
            chance: chance.fork(),
            history: Vec::new(),
            trace: Trace { hash: 0xcbf2_9ce4_8422_2325, lines: verbose.then(Vec::new) },
            runs: BTreeMap::new(),
            children: BTreeMap::new(),
            generations: BTreeMap::new(),
            tokens: VecDeque::new(),
            token_numbers: BTreeMap::new(),
            effects: BTreeMap::new(),
            bodies: 0,
            lives: 0,
            notes: 0,
            refusals: BTreeMap::new(),
            met: BTreeSet::new(),
        };
        let calm = AtomicBool::new(plan.faults.is_empty());
        Arc::new(World {
            plan,
            time,
            origin: now(),
            calm,
            full: AtomicBool::new(false),
            space: Notify::new(),
            handed: Notify::new(),
            record: Mutex::new(record),
        })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was observed.
    pub fn saw(&self, what: What) {
        let at = self.origin.elapsed().as_micros() as u64;
        self.note(format_args!("{what:?}"));
        let mut record = self.record();
        record.sees(&what);
        record.history.push(Fact { at, what });
    }

    /// For the trace alone: what is not worth a fact, and must be equal the next time all the same.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        let at = self.origin.elapsed().as_micros();
        let mut record = self.record();
        record.notes += 1;
        let trace = &mut record.trace;
        if let Some(lines) = &mut trace.lines {
            lines.push(String::new());
        }
        let _ = write!(trace, "{at} {line}");
    }

    /// Whether too much happens: the store answers nobody any more then, so that time can pass.
    pub fn is_overrun(&self) -> bool {
        self.record().notes > NOTES_MAX
    }

    /// A stream of random numbers of one's own.
    pub fn chance(&self) -> Chance {
        self.record().chance.fork()
    }

    /// A number from 0 to `n - 1`.
    pub fn below(&self, n: u64) -> u64 {
        self.record().chance.below(n)
    }

    /// Whether this fault happens, now, once in `n` times; never when it is not in the plan, or all is healed.
    pub fn strikes(&self, fault: Fault, n: u64) -> bool {
        self.may(fault) && self.record().chance.one_in(n)
    }

    /// Whether this fault may happen.
    pub fn may(&self, fault: Fault) -> bool {
        !self.is_calm() && self.plan.faults.contains(&fault)
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.set_full(false);
        self.saw(What::Healed);
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// The disk is full, or no more.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
        self.space.notify_waiters();
    }

    /// The number of a run by its id: the plan's, or the next for a child.
    pub fn run_of_id(&self, id: &str) -> usize {
        if let Some(run) = id.strip_prefix("run-").and_then(|n| n.parse().ok()) {
            return run;
        }
        let record = &mut *self.record();
        let next = self.plan.runs.len() + record.children.len();
        *record.children.entry(id.to_string()).or_insert(next)
    }

    /// The ids of all runs that were heard of.
    pub fn ids(&self) -> Vec<String> {
        let children: Vec<_> = self.record().children.keys().cloned().collect();
        (0..self.plan.runs.len()).map(|run| format!("run-{run}")).chain(children).collect()
    }

    /// A key of the generation in which the run is.
    pub fn keyed(&self, run: usize, key: &str) -> Arc<str> {
        keyed(self.generation(run), key)
    }

    /// The generation in which the run is.
    pub fn generation(&self, run: usize) -> u32 {
        self.record().generations.get(&run).copied().unwrap_or(0)
    }

    /// A step gives a token to somebody outside.
    pub fn hand(&self, handed: Handed) {
        self.record().tokens.push_back(handed);
        self.handed.notify_one();
    }

    /// A number for a token, the same for the same.
    pub fn token_number(&self, token: &str) -> u64 {
        let record = &mut *self.record();
        let next = record.token_numbers.len() as u64;
        *record.token_numbers.entry(token.to_string()).or_insert(next)
    }

    /// The next token that was handed out.
    pub fn next_token(&self) -> Option<Handed> {
        self.record().tokens.pop_front()
    }

    /// The store's number of this run is known.
    pub fn is_numbered(&self, number: RunId, run: usize) {
        self.record().runs.insert(number, run);
    }

    /// The number of a run in the plan, by the store's.
    pub fn run_of(&self, number: RunId) -> usize {
        self.record().runs.get(&number).copied().expect("seen before it is used")
    }

    /// Counts a refused turn of a run; how many there were.
    pub fn count_refusal(&self, run: usize) -> u32 {
        let mut record = self.record();
        let count = record.refusals.entry(run).or_default();
        *count += 1;
        *count
    }

    /// A number for one execution of a body.
    pub fn next_body(&self) -> u64 {
        let mut record = self.record();
        record.bodies += 1;
        record.bodies
    }

    /// A number for one call of a workflow function.
    pub fn next_life(&self) -> u64 {
        let mut record = self.record();
        record.lives += 1;
        record.lives
    }

    /// What the world outside knows of a step's effect.
    pub fn effect(&self, run: usize, key: &str) -> Option<Made> {
        self.record().effects.get(&(run, Arc::from(key))).copied()
    }

    /// A program has come to these.
    pub fn meets(&self, features: Vec<Feature>) {
        self.record().met.extend(features);
    }

    /// What programs have come to.
    pub fn met(&self) -> BTreeSet<Feature> {
        self.record().met.clone()
    }

    /// The history so far.
    pub fn history(&self) -> Vec<Fact> {
        self.record().history.clone()
    }

    /// The hash of everything observed.
    pub fn trace_hash(&self) -> u64 {
        self.record().trace.hash
    }

    /// The trace as text, if it is kept.
    pub fn trace_lines(&self) -> Vec<String> {
        self.record().trace.lines.clone().unwrap_or_default()
    }
}

#[allow(clippy::disallowed_methods, reason = "the world is outside of the engine, and its time is virtual")]
fn now() -> Instant {
    Instant::now()
}

/// Virtual time passes.
#[allow(clippy::disallowed_methods, reason = "the world is outside of the engine, and its time is virtual")]
pub async fn nap(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// What `work` answers, or `None` when it takes longer.
#[allow(clippy::disallowed_methods, reason = "the world is outside of the engine, and its time is virtual")]
pub async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(wait, work).await.ok()
}

/// Virtual time passes up to `at`.
#[allow(clippy::disallowed_methods, reason = "the world is outside of the engine, and its time is virtual")]
pub async fn until(at: Instant) {
    tokio::time::sleep_until(at).await;
}

/// `wait` from now.
pub fn after(wait: Duration) -> Instant {
    now() + wait
}

/// So many milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
