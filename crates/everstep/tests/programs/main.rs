//! Programs as users write them, each run to its end and then replayed from its journal.
//!
//! Their workflows live on the in-memory store and on virtual time, so that a sleep of days takes no time; those that
//! use SQL, or a worker that dies, on a SQLite file.
#![allow(clippy::disallowed_methods, reason = "programs wait and read time as they like inside their steps")]

mod agent;
mod concurrency;
mod errors;
mod onboarding;
mod own_store;
mod payment;
mod scopes;
mod signal_in;
mod state;
mod transaction;

use std::fmt::Debug;

use everstep::{Builder, Data, Engine, EngineError, Event, Simulation, Workflow, store::Memory};

/// Runs on a paused clock, on one thread.
pub fn virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// Runs `workflow` to its end; then a fresh engine replays the whole journal, to the same outcome, without any body.
pub fn play<I, O, S>(
    register: impl Fn(Builder) -> Builder<S>,
    workflow: Workflow<I, O>,
    input: I,
) -> Result<O, EngineError>
where
    I: Data + Clone,
    O: Data + Debug,
{
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(7));
        let engine = register(Engine::builder(memory.clone())).simulated(&world).start().await?;
        let run = engine.start(workflow, "run-1", input).await?;
        let live = run.result().await;
        let journal = run.journal().await?;
        engine.shutdown().await?;

        memory.truncate("run-1", journal.len() - 1);
        let engine = register(Engine::builder(memory.clone())).simulated(&world).start().await?;
        let mut events = engine.events();
        let run = engine.get(workflow, "run-1").await?;
        let replayed = run.result().await;
        assert_eq!(format!("{live:?}"), format!("{replayed:?}"), "the outcome is the same on replay");
        let again = run.journal().await?;
        assert_eq!(journal[..journal.len() - 1], again[..again.len() - 1], "and so is the journal");
        while let Some(event) = events.try_next() {
            assert!(!matches!(event, Event::StepStarted { .. }), "nothing is done again: {event:?}");
        }
        engine.shutdown().await?;
        live
    })
}
