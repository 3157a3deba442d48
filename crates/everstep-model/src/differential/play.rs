//! Plays a stream on both stores, and compares what they answer, ring and look like.

use std::{collections::BTreeSet, fmt, sync::Arc};

use everstep_conformance::Bench;
use everstep_core::store::StoreError;

use super::{
    call::{Call, Verb},
    operation::Step,
    picture::{Look, Picture},
    reply::Reply,
    side::{Coming, Side},
    signature::signatures,
    world::World,
};
use crate::stores::{Compared, MemoryBench};

/// What a stream that found nothing has done.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Calls made on each store.
    pub calls: u64,
    /// Kinds of replies seen.
    pub signatures: BTreeSet<String>,
}

/// Where two stores went apart.
#[derive(Clone, Debug)]
pub struct Difference {
    /// After so many steps.
    pub at: usize,
    /// What was being done.
    pub during: String,
    /// What the in-memory store says.
    pub oracle: String,
    /// What the store says that is compared with it.
    pub other: String,
    /// Which one that is.
    pub store: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { at, during, oracle, other, store } = self;
        write!(f, "after step {at}, at {during}\n-- memory:\n{oracle}\n-- {store}:\n{other}")
    }
}

/// What no call was about is looked at so rarely: mostly rows tell it, and reads cost more than writes here.
const WHOLE_LOOK: u64 = 12;

struct Play {
    oracle: Side,
    other: Side,
    world: World,
    /// On its way, all on one opening.
    pending: Vec<(Call, Coming, Coming)>,
    played: Played,
    /// Comparisons so far.
    looks: u64,
}

/// Plays a stream on two stores with nothing in them.
///
/// # Errors
/// The first difference.
pub async fn play(steps: &[Step], store: Compared) -> Result<Played, Box<Difference>> {
    let memory: Arc<dyn Bench> = Arc::new(MemoryBench::default());
    let compared = store.bench();
    let store = store.name();
    let mut play = Play {
        oracle: Side::new(memory.clone(), compared.clone()).await,
        other: Side::new(compared, memory).await,
        world: World::new(),
        pending: Vec::new(),
        played: Played::default(),
        looks: 0,
    };
    for (at, step) in steps.iter().enumerate() {
        play.step(step).await.map_err(|difference| Box::new(Difference { at, store, ..difference }))?;
    }
    let end = |difference| Box::new(Difference { at: steps.len(), store, ..difference });
    play.settle().await.map_err(end)?;
    play.compare_pictures("a last look", Look::Whole).await.map_err(end)?;
    Ok(play.played)
}

impl Play {
    async fn step(&mut self, step: &Step) -> Result<(), Difference> {
        if !step.at_once {
            self.settle().await?;
        }
        let Some(call) = self.world.resolve(&step.what) else { return Ok(()) };
        if let Verb::Commit(_, load, _) | Verb::Transact(_, load, _) = &call.verb
            && !self.world.is_free_number(*load, call.on, &self.other.loads)
        {
            return Ok(());
        }
        let elsewhere = self.pending.first().is_some_and(|(before, ..)| before.on != call.on);
        if call.verb.is_alone() || elsewhere {
            self.settle().await?;
        }
        match call.verb {
            Verb::Open => return self.open().await,
            Verb::Crash => return self.crash(call.on).await,
            _ => {}
        }
        if self.pending.is_empty() {
            let runs: Vec<_> = self.world.run_ids().collect();
            self.oracle.listen(call.on, runs.iter().copied());
            self.other.listen(call.on, runs.into_iter());
        }
        let alone = call.verb.is_alone();
        let (oracle, other) = (self.oracle.call(&call), self.other.call(&call));
        self.played.calls += 1;
        self.pending.push((call, oracle, other));
        if alone { self.settle().await } else { Ok(()) }
    }

    async fn open(&mut self) -> Result<(), Difference> {
        self.oracle.open().await;
        self.other.open().await;
        self.world.opened();
        self.compare_pictures("the opening of a store", Look::Whole).await
    }

    async fn crash(&mut self, opening: usize) -> Result<(), Difference> {
        self.oracle.crash(opening);
        self.other.crash(opening);
        self.world.crashed(opening);
        if !self.world.has_opening() {
            self.oracle.open().await;
            self.other.open().await;
            self.world.opened();
        }
        self.compare_pictures("the crash of an opening", Look::Whole).await
    }

    /// Waits for what is on its way, and compares.
    async fn settle(&mut self) -> Result<(), Difference> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let mut during = Vec::new();
        let number = |id: &str| self.world.number(id);
        let touched = pending.iter().filter_map(|(call, ..)| call.verb.touches(number)).collect();
        let alone = pending.len() == 1;
        for (call, oracle, other) in pending {
            let (oracle, other) = (oracle.await, other.await);
            during.push(format!("{:?}", call.verb));
            if oracle.reply != other.reply || oracle.loads.len() != other.loads.len() {
                let say = |reply: &Reply| format!("{reply:#?}");
                return Err(difference(&during, say(&oracle.reply), say(&other.reply)));
            }
            let before = self.world.picture.as_ref().filter(|_| alone);
            let kinds = signatures(&call, &oracle.reply, before);
            self.played.signatures.extend(kinds);
            self.world.answered(&call, &oracle);
            self.oracle.loads.extend(oracle.loads);
            self.other.loads.extend(other.loads);
        }
        let (oracle, other) = (self.oracle.heard(), self.other.heard());
        if oracle != other {
            return Err(difference(&during, format!("rung: {oracle:#?}"), format!("rung: {other:#?}")));
        }
        self.looks += 1;
        let look = if self.looks.is_multiple_of(WHOLE_LOOK) { Look::Whole } else { Look::At(touched) };
        self.compare_pictures(&during.join("\n   and "), look).await
    }

    async fn compare_pictures(&mut self, during: &str, look: Look) -> Result<(), Difference> {
        let opening = self.world.any_opening();
        // Both were the same.
        let before = self.world.picture.as_ref();
        let during = [during.to_string()];
        let seen = |picture: Result<Picture, StoreError>| {
            picture.map_err(|error| difference(&during, "reads".into(), error.to_string()))
        };
        let oracle = seen(self.oracle.picture(opening, &look, before).await)?;
        let other = seen(self.other.picture(opening, &look, before).await)?;
        if let Some((oracle, other)) = oracle.difference(&other) {
            return Err(difference(&during, oracle, other));
        }
        self.world.seen(oracle);
        Ok(())
    }
}

fn difference(during: &[String], oracle: String, other: String) -> Difference {
    Difference { at: 0, during: during.join("\n   and "), oracle, other, store: "" }
}
