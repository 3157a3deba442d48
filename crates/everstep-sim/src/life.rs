//! The life of one world: trouble first, then everything heals and every run must end; then the checkers look.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use everstep_core::{
    Client, EngineError, Status,
    store::{Filter, RunRow},
};
use futures_util::FutureExt as _;

use crate::{
    base::Base,
    check::{self, Content, Said},
    fault::Fault,
    history::{Noted, What, program_of},
    machine::Machine,
    opening::{Opening, Role},
    people::People,
    plan::Plan,
    program::{Feature, LOG, PROGRAM, PROGRESS, SIGNALS, STAND},
    replay,
    store::FaultyStore,
    trouble,
    world::{World, ms, nap},
};

/// How long, in virtual time, everything may take to end once it has healed. Clocks that were wrong by up to five minutes
/// let each wait of a run be late by ten.
const HEALED_MAX: Duration = Duration::from_secs(2 * 3_600);

/// How a world went.
#[derive(Debug)]
pub struct Life {
    /// The hash of everything observed.
    pub trace: u64,
    /// What was wrong, in words.
    pub violations: Vec<String>,
    /// What its programs came to.
    pub features: BTreeSet<Feature>,
    /// What went wrong in it.
    pub faults: BTreeSet<Fault>,
    /// How much was observed.
    pub facts: usize,
    /// How long it took, in virtual time.
    pub seconds: u64,
    /// The trace, if it was kept.
    pub lines: Vec<String>,
}

/// Lives through a plan.
pub fn live(plan: &Plan, verbose: bool) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(live_through(plan.clone(), verbose))
}

async fn live_through(plan: Plan, verbose: bool) -> Life {
    let base = Base::fresh(plan.store);
    let world = World::new(plan, verbose);
    let machines: Vec<_> =
        (0..world.plan.workers).map(|_| Machine::new(world.clone(), base.clone())).collect();
    for machine in &machines {
        tokio::spawn(machine.clone().work());
    }
    let time = world.time.machine();
    let opening = Opening::new(world.clone(), base.reopen(), time.clone(), Role::Client);
    let client = Client::simulated(FaultyStore(opening), &time);
    let people = People { world: world.clone(), machines: machines.clone(), client };
    (0..world.plan.runs.len()).for_each(|run| people.look_after(run));
    tokio::spawn(people.clone().watch());
    tokio::spawn(people.clone().keep_promises());
    tokio::spawn(trouble::make(world.clone(), machines.clone()));
    if !world.is_calm() {
        nap(ms(world.plan.trouble_ms)).await;
        heal(&world, &machines);
    }
    let all_ended = end(&world, &base).await;
    let content = read(&world, &base, &people.client).await;
    let mut violations = check::all(&world.plan, &world.history(), &content);
    if world.is_overrun() {
        violations.push("something goes round and round, and time stands still".to_string());
    }
    if !all_ended {
        violations.extend(check::not_ended(&content));
    }
    violations.extend(replay::all(&world, &base).await);
    told(&world, violations)
}

fn heal(world: &Arc<World>, machines: &[Arc<Machine>]) {
    world.heal();
    for machine in machines {
        machine.set_clock_error(0);
        if let Some(up) = machine.up() {
            up.process.resume();
            up.opening.poke();
        }
    }
}

/// Waits until every run has ended and its people have heard of it; `false` if that takes too long.
async fn end(world: &World, base: &Base) -> bool {
    let mut waited = Duration::ZERO;
    let mut wait = ms(200);
    while waited < HEALED_MAX && !world.is_overrun() {
        nap(wait).await;
        waited += wait;
        wait = (wait * 5 / 4).min(ms(20_000));
        let rows = rows(base);
        let all = rows.len() >= world.plan.runs.len() && rows.iter().all(|row| row.status.is_over());
        if all && check::all_heard(&world.plan, &world.history()) {
            return true;
        }
    }
    false
}

fn rows(base: &Base) -> Vec<RunRow> {
    let filter = Filter::default();
    let rows = base.store().find(filter, None, usize::MAX >> 1).now_or_never();
    rows.expect("settled").expect("readable")
}

/// What the store holds in the end.
async fn read(world: &World, base: &Base, client: &Client) -> Content {
    let mut content = Content { rows: base.rows(), ..Content::default() };
    for row in rows(base) {
        let run = world.run_of_id(&row.id);
        let loaded = base.store().load(row.run).now_or_never().expect("settled").expect("readable");
        let stuck = base.store().stuck(row.run).now_or_never().expect("settled").expect("readable");
        let entries = loaded.entries.iter().map(|entry| Noted::of(entry, row.generation)).collect();
        let status = match row.status {
            Status::Stuck => stuck.map_or("stuck".to_string(), |stuck| stuck.to_string()),
            other => format!("{other:?}"),
        };
        content.runs.insert(run, (status, entries));
        content.generations.insert(run, row.generation);
        content.programs.extend(loaded.entries.first().and_then(program_of).map(|program| (run, program)));
        content.said.extend(said(client, &row.id).await.map(|said| (run, said)));
    }
    content
}

/// What a run has said, and what it has left.
async fn said(client: &Client, id: &str) -> Result<Said, EngineError> {
    let left = client.get(PROGRAM, id).await?.undelivered().await?;
    let names = |name: &str| SIGNALS.iter().position(|signal| signal.name() == name);
    let left = left.iter().filter_map(|left| Some((names(&left.name)?, left.value().ok()?)));
    let items = client.stream(id, LOG).page(10_000).await?;
    Ok(Said {
        undelivered: left.collect(),
        published: client.published(id, PROGRESS).await?,
        items: items.into_iter().map(|item| item.value).collect(),
        stand: client.attributes(id).await?.into_iter().find(|(name, _)| **name == *STAND).map(|(_, is)| is),
    })
}

fn told(world: &World, violations: Vec<String>) -> Life {
    let history = world.history();
    let faults = history.iter().filter_map(|fact| match fact.what {
        What::Fault(fault) => Some(fault),
        _ => None,
    });
    Life {
        trace: world.trace_hash(),
        violations,
        features: world.met(),
        faults: faults.collect(),
        facts: history.len(),
        seconds: history.last().map_or(0, |last| last.at / 1_000_000),
        lines: world.trace_lines(),
    }
}
