//! What one seed does: how many workers, which programs, which faults. Everything else follows from the seed while it
//! runs. A plan is data, so that a failing one can be made smaller.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    chance::Chance,
    fault::Fault,
    program::{Feature, Node, SIGNALS, generate},
};

/// Which store is under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreKind {
    /// The in-memory store.
    Memory,
    /// SQLite.
    Sqlite,
}

impl StoreKind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            StoreKind::Memory => "memory",
            StoreKind::Sqlite => "sqlite",
        }
    }
}

/// What one seed does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Draws everything that is not here.
    pub seed: u64,
    /// Which store.
    pub store: StoreKind,
    /// Machines that run an engine.
    pub workers: usize,
    /// The engines' lease.
    pub lease_ms: u64,
    /// Runs in memory at once, of each engine.
    pub residents: usize,
    /// Bodies at once, of each engine.
    pub bodies: usize,
    /// After how long a waiting run leaves memory.
    pub park_ms: u64,
    /// The runs.
    pub runs: Vec<RunPlan>,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// For how long things go wrong.
    pub trouble_ms: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// What it does.
    pub program: Node,
    /// When it is started.
    pub start_ms: u64,
    /// When it is cancelled, if it is.
    pub cancel_ms: Option<u64>,
    /// When it is started once more, if it is: the same, and with another input.
    pub again_ms: Option<u64>,
    /// The signals that are sent to it, of each name one after the other.
    #[serde(default)]
    pub letters: Vec<Sent>,
    /// When it is asked something, and what.
    #[serde(default)]
    pub asks: Vec<(u64, i64)>,
    /// When it is paused, and for how long.
    #[serde(default)]
    pub pause_ms: Option<(u64, u64)>,
    /// When it is killed.
    #[serde(default)]
    pub kill_ms: Option<u64>,
    /// When it is paused, taken back to some step, and let go on.
    #[serde(default)]
    pub rewind_ms: Option<u64>,
    /// Its deadline, after its start.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
}

/// A signal that is sent to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Which name.
    pub name: usize,
    /// Its value: of one run and name no two are equal.
    pub value: i64,
    /// How long after the one before of its name, or after the world began.
    pub after_ms: u64,
    /// How it is sent.
    pub how: Sending,
}

/// How a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sending {
    /// Under a key, until it is acknowledged.
    Keyed,
    /// The same, and once more afterwards.
    Twice,
    /// Without a key, until it is acknowledged: it may arrive more than once.
    Plain,
    /// With the start.
    WithStart,
}

impl Plan {
    /// The plan of a seed: each has a random part of all features and faults.
    pub fn of_seed(seed: u64, store: StoreKind) -> Plan {
        let mut chance = Chance::new(seed);
        let features: BTreeSet<_> = Feature::ALL.into_iter().filter(|_| !chance.one_in(3)).collect();
        let faults: BTreeSet<_> = Fault::ALL.into_iter().filter(|_| chance.one_in(2)).collect();
        let trouble_ms = chance.between(10, 60) * 1_000;
        let runs = chance.between(1, 5);
        Plan {
            seed,
            store,
            workers: chance.between(1, 4) as usize,
            lease_ms: chance.between(1, 10) * 1_000,
            residents: if chance.one_in(6) { 2 } else { 1_000 },
            bodies: if chance.one_in(6) { 2 } else { 1_000 },
            park_ms: *chance.pick(&[1, 1_000, 1_000, 5_000]),
            runs: (0..runs).map(|_| RunPlan::draw(&mut chance, &features, trouble_ms)).collect(),
            faults,
            trouble_ms,
        }
    }

    /// The same programs in a world without faults.
    pub fn without_faults(mut self) -> Plan {
        self.faults.clear();
        self
    }
}

impl RunPlan {
    fn draw(chance: &mut Chance, features: &BTreeSet<Feature>, trouble_ms: u64) -> RunPlan {
        let program = generate(chance, features);
        let start_ms = chance.below(trouble_ms / 2);
        let cancels = features.contains(&Feature::Cancel) && chance.one_in(3);
        let cancel_ms = cancels.then(|| start_ms + chance.below(15_000));
        let again_ms = chance.one_in(3).then(|| start_ms + chance.below(trouble_ms));
        let mut happens = |feature, n, within: u64| {
            let is_so = features.contains(&feature) && chance.one_in(n);
            is_so.then(|| start_ms + chance.below(within))
        };
        let pause_ms = happens(Feature::Pause, 4, 15_000);
        let kill_ms = happens(Feature::Kill, 8, 15_000);
        let rewind_ms = happens(Feature::Rewind, 4, 15_000);
        let deadline_ms = happens(Feature::Deadline, 6, 40_000).map(|at| at - start_ms + 500);
        let pause_ms = pause_ms.map(|at| (at, chance.between(1, 20_000)));
        let asks = if program.any(&|node| matches!(node, Node::Serve(_))) { chance.between(1, 4) } else { 0 };
        let asks = (1..=asks as i64).map(|n| (start_ms + chance.below(20_000), n)).collect();
        let letters = Sent::draw(chance, &program, trouble_ms);
        RunPlan {
            program,
            start_ms,
            cancel_ms,
            again_ms,
            letters,
            asks,
            pause_ms,
            kill_ms,
            rewind_ms,
            deadline_ms,
        }
    }
}

impl Sent {
    /// As many signals of each name as the program may take, or a few more: it never waits for ever.
    fn draw(chance: &mut Chance, program: &Node, trouble_ms: u64) -> Vec<Sent> {
        let mut letters = Vec::new();
        for name in 0..SIGNALS.len() {
            let takes = program.signals(name) as u64;
            let more = if takes > 0 || chance.one_in(10) { chance.below(3) } else { 0 };
            for value in 1..=takes + more {
                let how = match chance.below(6) {
                    0 if value == 1 => Sending::WithStart,
                    1 => Sending::Plain,
                    2 => Sending::Twice,
                    _ => Sending::Keyed,
                };
                let most = if value == 1 { trouble_ms / 2 } else { 6_000 };
                let after_ms = chance.below(most);
                letters.push(Sent { name, value: value as i64, after_ms, how });
            }
        }
        letters
    }
}
