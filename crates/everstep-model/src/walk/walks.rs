//! Walks through the model, and what both stores make of them.

use std::{fmt::Write as _, sync::Arc};
use thousands::Separable as _;

use everstep_conformance::Bench;
use everstep_core::store::StoreError;

use super::actual::Actual;
use crate::{
    chance::Chance,
    protocol::{Action, Bounds, Heard, Protocol, Rules, State},
    report::Report,
    spread::spread,
    stores::{MemoryBench, SqliteBench},
};

/// Walks, in short form and in full.
const WALKS: [u64; 2] = [500, 10_000];
/// Steps of a walk, unless nothing more can happen.
const STEPS: usize = 150;
/// Groups of walks between two lines of progress.
const TOLD: usize = 10;
/// Walks that share a database: to make one takes as long as a walk.
const SHARED: u64 = 50;
/// A walk sees more of everything than an exploration can.
const BOUNDS: Bounds =
    Bounds { members: 4, crashes: 2, beats: 4, letters: 4, blunders: 2, stucks: 2, leaves: 2, pipe: 3 };

/// What walks have done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walked {
    /// Walks.
    pub walks: u64,
    /// Calls and letters that reached each of the stores.
    pub calls: u64,
    /// Walks whose run completed.
    pub completed: u64,
}

/// The part as a command: all walks, or that of one seed.
///
/// # Errors
/// How a store differs from the model, and what shows it again.
pub fn run(full: bool, seed: Option<u64>) -> Result<Report, String> {
    if let Some(seed) = seed {
        let one = walk(&benches(), seed)?;
        return Ok(Report::new(format!("seed {seed}: {} calls, 0 differences", one.calls), []));
    }
    let groups = WALKS[usize::from(full)] / SHARED;
    let mut walked = Walked::default();
    for from in (0..groups).step_by(TOLD) {
        let group = |group: u64| {
            let (benches, seeds) = (benches(), group * SHARED..(group + 1) * SHARED);
            seeds.map(|seed| walk(&benches, seed)).collect::<Result<Vec<_>, _>>()
        };
        for one in spread(from..groups.min(from + TOLD as u64), group)?.into_iter().flatten() {
            walked.walks += 1;
            walked.calls += one.calls;
            walked.completed += one.completed;
        }
        println!(
            "{} walks, {} calls",
            walked.walks.separate_with_commas(),
            walked.calls.separate_with_commas()
        );
    }
    let (walks, calls) = (walked.walks.separate_with_commas(), walked.calls.separate_with_commas());
    let line = format!("{walks} walks, {calls} calls, {} runs completed, 0 differences", walked.completed);
    let named = [
        ("walks", walked.walks.into()),
        ("walk_calls", walked.calls.into()),
        ("walk_completed", walked.completed.into()),
        ("walk_differences", 0.into()),
    ];
    Ok(Report::new(line, named))
}

/// The two stores, with nothing in them.
pub fn benches() -> [Arc<dyn Bench>; 2] {
    [Arc::new(MemoryBench::default()), Arc::new(SqliteBench::new())]
}

/// Walks once, with the chance of this seed.
///
/// # Errors
/// As [`run`].
pub fn walk(benches: &[Arc<dyn Bench>; 2], seed: u64) -> Result<Walked, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let name = format!("walk {seed}");
    runtime.block_on(async {
        let mut stores = Vec::new();
        for bench in benches {
            stores.push(Actual::start(bench.clone(), &name).await.map_err(|error| error.to_string())?);
        }
        Walk { stores, state: State::new(), chance: Chance::new(seed), path: Vec::new() }.go(seed).await
    })
}

struct Walk {
    stores: Vec<Actual>,
    state: State,
    chance: Chance,
    path: Vec<Action>,
}

impl Walk {
    async fn go(mut self, seed: u64) -> Result<Walked, String> {
        let model = Protocol { bounds: BOUNDS, rules: Rules::ALL };
        let mut calls = 0;
        while self.path.len() < STEPS {
            let Some(action) = self.next(&model) else { break };
            self.path.push(action);
            let heard = self.state.act(model.rules, action);
            calls += u64::from(heard != Heard::Nothing);
            for at in 0..self.stores.len() {
                let name = self.stores[at].client.name();
                let told = self.tell(at, action, &heard).await;
                if let Some(why) = told.unwrap_or_else(|error| Some(format!("the store fails: {error}"))) {
                    return Err(self.failure(seed, name, &why));
                }
            }
        }
        let completed = u64::from(self.state.content.standing == crate::protocol::Standing::Completed);
        Ok(Walked { walks: 1, calls, completed })
    }

    /// What happens next: mostly what brings somebody further.
    fn next(&mut self, model: &Protocol) -> Option<Action> {
        let sent = self.state.content.names.len();
        if sent > 0 && self.chance.one_in(25) {
            // Sent twice, perhaps long after.
            let name = self.chance.below(sent + 1) as u8;
            return Some(Action::Posts { name, revive: self.chance.one_in(2) });
        }
        let possible = model.possible(&self.state);
        let rare = |action: &Action| {
            matches!(
                action,
                Action::Dies(_)
                    | Action::SendsLeave(_)
                    | Action::Blunders(_)
                    | Action::SendsEnd(_, crate::protocol::Ending::Stick | crate::protocol::Ending::GiveBack)
            )
        };
        let (seldom, often): (Vec<_>, Vec<_>) = possible.into_iter().partition(rare);
        match (seldom.is_empty(), often.is_empty()) {
            (true, true) => None,
            (false, true) => Some(self.chance.of(&seldom)),
            (false, false) if self.chance.one_in(12) => Some(self.chance.of(&seldom)),
            _ => Some(self.chance.of(&often)),
        }
    }

    /// Tells a store what happened; how it differs from the model then.
    async fn tell(&mut self, at: usize, action: Action, heard: &Heard) -> Result<Option<String>, StoreError> {
        let store = &mut self.stores[at];
        match (action, heard) {
            (Action::Enrolls, _) => store.enroll().await?,
            (Action::Dies(by), _) => store.die(by),
            (Action::Posts { name, revive }, Heard::Posted(expected)) => {
                let posted = store.post(name, revive).await?;
                if posted != *expected {
                    return Ok(Some(format!("-- model: {expected:?}\n-- store: {posted:?}")));
                }
            }
            (Action::Arrives(by), Heard::Called(call, expected)) => {
                let reply = store.call(by, call).await?;
                if reply != *expected {
                    return Ok(Some(format!("{call:?}\n-- model: {expected:?}\n-- store: {reply:?}")));
                }
            }
            // The store hears nothing of it.
            _ => return Ok(None),
        }
        store.difference(&self.state.content).await
    }

    fn failure(&self, seed: u64, store: &str, why: &str) -> String {
        let mut text = format!("the {store} store differs from the model on the walk of seed {seed}:\n");
        for action in &self.path {
            let _ = writeln!(text, "    {action:?}");
        }
        format!("{text}{why}\nagain: cargo run --release -p everstep-model -- walk --seed {seed}")
    }
}
