//! What public types promise of themselves.

/// Every public type crosses threads, and every future of ours may be moved while it is awaited.
#[test]
fn public_types_are_send_and_sync() {
    use everstep::{journal, sqlite, store, *};

    fn check<T: Send + Sync>() {}
    fn future<T: Future + Send + Sync + Unpin>() {}

    // Inside a workflow.
    check::<Ctx>();
    check::<StepCtx>();
    future::<Step<'_, u64>>();
    future::<Op<'_, u64>>();
    future::<Map<'_, u64>>();
    // What a step is told, and what it says.
    check::<(Retry, Doubt, Verdict<u64>)>();
    check::<(Error, EngineError, ErrorKind, Code)>();
    // Outside.
    check::<(Builder<NoState>, Builder<With<u64>>)>();
    check::<(Engine, Client, Settings)>();
    future::<Start<u64>>();
    future::<List>();
    check::<(Batch<u64>, Run<u64>, RunInfo)>();
    check::<(Events, Event)>();
    check::<(Status, StatusSet, Change, IllegalChange, Stuck, StuckReason)>();
    check::<(Timestamp, Digest, Incarnation, Simulation)>();
    // Names are plain text, whatever they name.
    check::<Workflow<std::rc::Rc<u8>, std::cell::Cell<u8>>>();
    // What stores are made of.
    check::<(store::Memory, sqlite::Sqlite, sqlite::Options)>();
    check::<(store::Turn, store::Claimed, store::NewRun, store::Loaded, store::StoreError, store::Bell)>();
    check::<(journal::Entry, journal::Payload, journal::Answer, journal::Failure, journal::Outcome)>();
    check::<(std::sync::Arc<dyn store::Store>, Box<dyn store::Inspect>)>();

    fn stream(events: Events) -> impl Send {
        events.into_stream()
    }
    let _ = stream;
}
