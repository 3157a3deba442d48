//! What one seed does: how many workers, which programs, which faults. Everything else follows from the seed while it
//! runs. A plan is data, so that a failing one can be made smaller.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    chance::Chance,
    fault::Fault,
    program::{Feature, Node, generate},
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
        RunPlan { program, start_ms, cancel_ms, again_ms }
    }
}
