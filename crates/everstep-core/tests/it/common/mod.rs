//! Runs a workflow on virtual time, then cuts its journal after every entry and runs it again: the outcome must be
//! the same each time.

pub mod wrapped;

use std::{future::Future, time::Duration};

use everstep_core::{
    Ctx, Engine, EngineError, Event, Result, Settings, Simulation, StatusSet, Timestamp, Workflow,
    journal::{Entry, Kind, Payload},
    store::{Inspect, Letter, LetterId, Memory, Post, Posted, StartedRow, Store},
};

/// An engine on `memory`, on virtual time, with one workflow `w`.
pub async fn engine<F, Fut>(memory: &Memory, world: &Simulation, workflow: F) -> Engine
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    engine_with(memory, world, settings(), workflow).await
}

/// The settings of [`engine`].
pub fn settings() -> Settings {
    Settings { build: Some("test".to_string()), ..Settings::default() }
}

/// The same for runs that stay in memory while they wait.
pub fn stays() -> Settings {
    Settings { park_after: Duration::MAX, ..settings() }
}

/// As [`engine`], on any store, with other settings.
pub async fn engine_with<F, Fut>(
    store: &(impl Store + Clone),
    world: &Simulation,
    settings: Settings,
    workflow: F,
) -> Engine
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    Engine::builder(store.clone())
        .register(W, workflow)
        .settings(settings)
        .simulated(world)
        .start()
        .await
        .expect("the engine starts")
}

pub const W: Workflow<u64, String> = Workflow::new("w");

pub type Outcome = std::result::Result<String, String>;

pub fn plain(result: std::result::Result<String, EngineError>) -> Outcome {
    result.map_err(|e| format!("{e:?}"))
}

/// What a journal says, without times: what must be equal between two runs of one seed.
pub fn told(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|e| {
            let kind = e.known_kind().expect("known");
            let body =
                if e.seq == 0 { "".into() } else { String::from_utf8_lossy(&e.body.bytes).into_owned() };
            format!("{} {kind:?} {} {} {body}", e.seq, e.key.as_deref().unwrap_or("-"), e.attempt)
        })
        .collect()
}

/// Runs `workflow` once on fresh memory, on virtual time.
pub fn run_once<F, Fut>(seed: u64, workflow: F) -> (Outcome, Vec<Entry>, Vec<Event>)
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    run_once_with(settings(), seed, workflow)
}

/// As [`run_once`], with other settings.
pub fn run_once_with<F, Fut>(settings: Settings, seed: u64, workflow: F) -> (Outcome, Vec<Entry>, Vec<Event>)
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    virtual_time(async {
        let engine = engine_with(&Memory::default(), &Simulation::new(seed), settings, workflow).await;
        to_its_end(engine).await
    })
}

/// Runs on a paused clock, on one thread.
pub fn virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// Starts (or finds) run `r` and waits for its end.
pub async fn finish<F, Fut>(
    memory: &Memory,
    world: &Simulation,
    workflow: F,
) -> (Outcome, Vec<Entry>, Vec<Event>)
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    to_its_end(engine(memory, world, workflow).await).await
}

async fn to_its_end(engine: Engine) -> (Outcome, Vec<Entry>, Vec<Event>) {
    let mut events = engine.events();
    let run = engine.start(W, "r", 7).await.expect("it starts");
    let outcome = plain(run.result().await);
    let journal = run.journal().await.expect("readable");
    let mut seen = Vec::new();
    while let Some(event) = events.try_next() {
        seen.push(event);
    }
    engine.shutdown().await.expect("it leaves");
    (outcome, journal, seen)
}

/// Runs `workflow`; then for every length of its journal, cuts it there and lets a fresh engine finish it. No recorded
/// entry may change, no recorded step may begin again, the whole journal of each run must replay to that run's own
/// outcome without any body, and, because nothing of what was cut off was a race, all outcomes must be equal.
pub fn check_replays<F, Fut>(workflow: F) -> String
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    let outcomes = check_cuts(workflow);
    assert!(outcomes.iter().all(|o| *o == outcomes[0]), "{outcomes:#?}");
    outcomes[0].clone().unwrap_or_else(|e| e)
}

/// As [`check_replays`], for programs that race: what was cut off may go another way the next time.
pub fn check_cuts<F, Fut>(workflow: F) -> Vec<Outcome>
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    check_cuts_at(|_| true, workflow)
}

/// As [`check_cuts`], of a long journal at some places only.
pub fn check_cuts_at<F, Fut>(cuts: impl Fn(usize) -> bool, workflow: F) -> Vec<Outcome>
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (live, first, _) = finish(&memory, &world, workflow.clone()).await;
        let whole = told(&first);
        let mut outcomes = vec![live];
        for cut in (1..first.len()).filter(|cut| cuts(*cut)) {
            // The first journal again, up to the cut.
            let memory = memory.fork();
            memory.truncate("r", cut);
            let (outcome, again, events) = finish(&memory, &world, workflow.clone()).await;
            assert_eq!(told(&again)[..cut], whole[..cut], "recorded entries do not change");
            let repeated: Vec<_> =
                began(&events).into_iter().filter(|key| ended(&first[..cut], key)).collect();
            assert!(repeated.is_empty(), "{repeated:?} were recorded before the cut after {cut}: {whole:#?}");
            memory.truncate("r", again.len() - 1);
            let (replayed, last, events) = finish(&memory, &world, workflow.clone()).await;
            assert_eq!(replayed, outcome, "cut after {cut}, then replayed whole: {:#?}", told(&again));
            assert_eq!(told(&last), told(&again));
            assert_eq!(began(&events), Vec::<String>::new(), "a whole journal runs no body");
            outcomes.push(outcome);
        }
        outcomes
    })
}

/// The steps whose bodies began.
pub fn began(events: &[Event]) -> Vec<String> {
    let key = |event: &Event| match event {
        Event::StepStarted { key, .. } => Some(key.to_string()),
        _ => None,
    };
    events.iter().filter_map(key).collect()
}

/// Whether a step's outcome is recorded.
fn ended(entries: &[Entry], key: &str) -> bool {
    let over = [Some(Kind::StepDone), Some(Kind::StepFailed)];
    entries.iter().any(|e| e.key.as_deref() == Some(key) && over.contains(&e.known_kind()))
}

/// The run's journal as committed.
pub async fn journal(memory: &Memory) -> Vec<Entry> {
    let row = memory.run("r".into()).await.expect("memory reads").expect("the run is there");
    memory.load(row.run).await.expect("memory reads").entries
}

/// A message of a kind that this binary does not know reaches run `r`: it lets the inbox be read, and stays there.
pub async fn knock(memory: &Memory, n: u128) {
    let (id, name, at) = (LetterId(n), "knock".into(), Timestamp(0));
    let letter = Letter { id, kind: 999, name, body: Payload::default(), at };
    let post = Post { to: "r".into(), letter, only: StatusSet::OPEN, revive: false };
    assert_eq!(memory.post(post).await.expect("memory writes"), Posted::Added);
}

/// Lets everything that can happen now happen.
pub async fn settle() {
    nap(1).await;
}

/// The run's started rows as committed.
pub async fn started(memory: &Memory) -> Vec<StartedRow> {
    let row = memory.run("r".into()).await.expect("memory reads").expect("the run is there");
    memory.load(row.run).await.expect("memory reads").started
}

/// Virtual time passes.
#[allow(clippy::disallowed_methods, reason = "tests take virtual time")]
pub async fn nap(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// A body that takes `ms` of virtual time.
pub async fn after(ms: u64, value: u64) -> Result<u64> {
    nap(ms).await;
    Ok(value)
}

/// What `work` answers within an hour of virtual time.
#[allow(clippy::disallowed_methods, reason = "tests take virtual time")]
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), work).await.expect("it comes within an hour")
}
