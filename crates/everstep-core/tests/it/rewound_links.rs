//! Runs that go back past what they have with others: a child's start, a request that was answered. Past a promise: see
//! `rewinds` and `promises`.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use everstep_core::{
    Ctx, Engine, ErrorKind, Request, Result, Signal, Simulation, Status, Workflow, days,
    journal::Kind,
    seconds,
    store::{Inspect, Memory},
};

use crate::common::{W, engine, journal, nap, plain, settings, soon, virtual_time};

const CHILD: Workflow<u64, u64> = Workflow::new("child");
const GO: Signal<()> = Signal::new("go");
const ASK: Request<u64, u64> = Request::new("ask");

/// What the world tells the parent, and how often a child has done its work.
#[derive(Clone, Default)]
struct World {
    told: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
}

async fn family<P, Pf>(memory: &Memory, world: &World, parent: P) -> Engine
where
    P: Fn(Ctx, u64, World) -> Pf + Send + Sync + 'static,
    Pf: Future<Output = Result<String>> + Send + 'static,
{
    let builder = Engine::builder(memory.clone()).state(world.clone());
    let builder = builder.register(W, parent).register(CHILD, works);
    builder.settings(settings()).simulated(&Simulation::new(1)).start().await.expect("the engine starts")
}

/// Takes as many seconds.
async fn works(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    ctx.sleep(seconds(n)).await;
    ctx.step("work", async || Ok(world.done.fetch_add(1, SeqCst))).await?;
    Ok(2 * n)
}

/// Starts a child with what the world tells, waits for it, and then for a signal.
async fn parent(ctx: Ctx, _: u64, world: World) -> Result<String> {
    let n = ctx.step("look", async || Ok(world.told.load(SeqCst))).await?;
    let child = ctx.child(CHILD, n).await?;
    let outcome = match child.result().await {
        Ok(value) => value.to_string(),
        Err(error) => format!("{:?}", error.kind()),
    };
    ctx.signal(GO).await?;
    Ok(outcome)
}

async fn status(memory: &Memory, id: &str) -> Status {
    memory.run(id.into()).await.expect("reads").expect("there").status
}

/// While it is open, when it is over and was heard of, and when it is over and was not.
#[test]
fn the_same_start_is_the_same_child() {
    for (at, paused) in [(10_000, false), (100_000, false), (100_000, true)] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), World::default());
            world.told.store(60, SeqCst);
            let engine = family(&memory, &world, parent).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(10_000).await;
            if paused {
                engine.pause("r", "").await.expect("it is open");
            }
            nap(at - 9_000).await;
            engine.rewind("r", "look").await.expect("goes back");
            engine.signal("r", GO, ()).await.expect("it is open");
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("120"), "after {at}");
            assert_eq!(world.done.load(SeqCst), 1, "the child has worked once");
            let journal = journal(&memory).await;
            let ends = journal.iter().filter(|entry| entry.known_kind() == Some(Kind::ChildEnded));
            assert_eq!(ends.count(), 1);
        });
    }
}

/// The outcome of the child that is there is none of the child that is asked for now.
#[test]
fn a_start_with_another_input_is_a_conflict_and_gets_no_outcome_of_another() {
    for (at, paused) in [(10_000, false), (100_000, false), (100_000, true)] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), World::default());
            world.told.store(60, SeqCst);
            let engine = family(&memory, &world, parent).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(10_000).await;
            if paused {
                engine.pause("r", "").await.expect("it is open");
            }
            nap(at - 9_000).await;
            world.told.store(5, SeqCst);
            engine.rewind("r", "look").await.expect("goes back");
            engine.signal("r", GO, ()).await.expect("it is open");
            let conflict = format!("{:?}", ErrorKind::Conflict);
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok(&*conflict), "after {at} {paused}");
        });
    }
}

/// Also when the run with which it is in conflict ends before anybody waits.
#[test]
fn a_conflict_is_not_taken_back_by_an_outcome() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), World::default());
        world.told.store(60, SeqCst);
        let parent = |ctx: Ctx, _, world: World| async move {
            let n = ctx.step("look", async || Ok(world.told.load(SeqCst))).await?;
            let child = ctx.child(CHILD, n).await?;
            ctx.sleep(seconds(300)).await;
            let error = child.result().await.expect_err("it is another one");
            Ok(format!("{:?}", error.kind()))
        };
        let engine = family(&memory, &world, parent).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(10_000).await;
        world.told.store(5, SeqCst);
        engine.rewind("r", "look").await.expect("goes back");
        assert_eq!(plain(soon(run.result()).await), Ok(format!("{:?}", ErrorKind::Conflict)));
        assert_eq!(status(&memory, "r/child").await, Status::Completed);
    });
}

/// Code that does not start it again: it is still this run's child.
#[test]
fn a_child_that_is_not_started_again_closes_with_its_run() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), World::default());
        let parent = |ctx: Ctx, _, world: World| async move {
            let n = ctx.step("look", async || Ok(world.told.load(SeqCst))).await?;
            if n == 0 {
                drop(ctx.child(CHILD, 1_000_000).await?);
                ctx.sleep(days(1)).await;
            }
            Ok(n.to_string())
        };
        let engine = family(&memory, &world, parent).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(10_000).await;
        world.told.store(1, SeqCst);
        engine.rewind("r", "look").await.expect("goes back");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("1"));
        nap(10_000).await;
        assert_eq!(status(&memory, "r/child").await, Status::Cancelled);
    });
}

/// It is handled again, because the run has forgotten that it was; whoever asked was told.
#[test]
fn a_request_that_was_answered_is_handled_again_and_keeps_its_answer() {
    virtual_time(async {
        let memory = Memory::default();
        let handled = Arc::new(AtomicU64::new(0));
        let count = handled.clone();
        let workflow = move |ctx: Ctx, _| {
            let count = count.clone();
            async move {
                ctx.step("first", async || Ok(())).await?;
                let handler =
                    async |n: u64| ctx.step("handle", async || Ok(n + count.fetch_add(1, SeqCst))).await;
                ctx.serving(ASK, handler, ctx.signal(GO)).await?;
                Ok(String::new())
            }
        };
        let engine = engine(&memory, &Simulation::new(1), workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(soon(engine.request("r", ASK, 10).key("a")).await.expect("it answers"), 10);
        nap(10_000).await;
        engine.rewind("r", "first").await.expect("goes back");
        nap(10_000).await;
        assert_eq!(handled.load(SeqCst), 2);
        assert_eq!(soon(engine.request("r", ASK, 10).key("a")).await.expect("it was answered"), 10);
        assert_eq!(soon(engine.request("r", ASK, 10).key("b")).await.expect("it answers"), 12);
        engine.signal("r", GO, ()).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok(""));
    });
}
