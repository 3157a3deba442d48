//! Guarantee 8, its second half: each whole journal replays, in a fresh engine, to the outcome that it holds, and no body
//! runs for it.

use everstep_core::{
    Client, Ctx, Engine, EngineError, Settings,
    journal::{Entry, Kind},
    store::Memory,
};
use futures_util::FutureExt as _;

use crate::{
    base::Base,
    history::{Noted, What},
    opening::{Opening, Role},
    people::id_of,
    program::{Node, PROGRAM, interpret},
    store::FaultyStore,
    world::{World, ms, within},
};

/// What does not replay.
pub async fn all(world: &World, base: &Base) -> Vec<String> {
    let journals: Vec<_> =
        (0..world.plan.runs.len()).filter_map(|run| Some((run, whole(base, run)?))).collect();
    match again(world, &journals).await {
        Ok(found) => found,
        Err(error) => vec![format!("a fresh engine does not start: {error}")],
    }
}

/// The journal of a run that is over.
fn whole(base: &Base, run: usize) -> Option<Vec<Entry>> {
    let row = base.store().run(id_of(run).into()).now_or_never()?.ok()??;
    let entries = base.store().load(row.run).now_or_never()?.ok()?.entries;
    // A kill comes wherever the function stands, and not at its entry.
    let was_killed = entries.iter().any(|entry| entry.known_kind() == Some(Kind::KillAsked));
    // Ids of children and tokens follow from the generation, which a fresh store does not know.
    (row.status.is_over() && row.generation == 0 && !was_killed).then_some(entries)
}

async fn again(world: &World, journals: &[(usize, Vec<Entry>)]) -> Result<Vec<String>, EngineError> {
    let fresh = World::new(world.plan.clone().without_faults(), false);
    let memory = Memory::default();
    let process = fresh.time.machine();
    let client = Client::simulated(memory.clone(), &process);
    for (run, entries) in journals {
        client.start(PROGRAM, id_of(*run), fresh.plan.runs[*run].program.clone()).await?;
        memory.rewrite(&id_of(*run), |journal| journal.clone_from(entries));
        memory.truncate(&id_of(*run), entries.len() - 1);
    }
    let base = Base::Memory(memory.clone());
    let opening = Opening::new(fresh.clone(), base, process.clone(), Role::Worker);
    let engine = Engine::builder(FaultyStore(opening.clone()))
        .state(opening)
        .register(PROGRAM, |ctx: Ctx, program: Node, opening| interpret(ctx, program, opening))
        .settings(Settings { build: Some("sim".to_string()), ..Settings::default() })
        .simulated(&process)
        .start()
        .await?;
    let mut found = Vec::new();
    for (run, entries) in journals {
        let handle = client.get(PROGRAM, id_of(*run)).await?;
        if within(ms(3_600_000), handle.result()).await.is_none() {
            found.push(format!("run-{run}: its journal does not replay to an end"));
        }
        found.extend(
            differs(&handle.journal().await?, entries, handle.stuck().await?)
                .map(|why| format!("run-{run}: {why}")),
        );
    }
    let ran = fresh.history();
    let ran = ran.iter().filter(|fact| matches!(fact.what, What::Begun { .. } | What::Transacted { .. }));
    found.extend(ran.map(|fact| format!("a body ran in the replay of a whole journal: {:?}", fact.what)));
    drop(engine);
    Ok(found)
}

fn differs(again: &[Entry], entries: &[Entry], stuck: Option<everstep_core::Stuck>) -> Option<String> {
    let noted = |entries: &[Entry]| entries.iter().map(|entry| Noted::of(entry, 0)).collect::<Vec<_>>();
    let last = |entries: &[Entry]| entries.last().map(|entry| Noted::of(entry, 0));
    (noted(again) != noted(entries)).then(|| {
        format!(
            "its journal replays to {:?}{}, and held {:?}",
            last(again),
            stuck.map(|stuck| format!(" (stuck: {stuck})")).unwrap_or_default(),
            last(entries),
        )
    })
}
