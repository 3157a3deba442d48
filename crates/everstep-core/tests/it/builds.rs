//! Two builds at work on one store: what one of them cannot go on with is left to the other while it lives.

use crate::common::{W, engine_with, nap, settings, soon, virtual_time};
use everstep_core::{
    Ctx, Doubt, Engine, ErrorKind, Event, Result, Settings, Signal, Simulation, Status, StuckReason, seconds,
    store::Memory,
};

const GO: Signal<u64> = Signal::new("go");

async fn old(ctx: Ctx, n: u64) -> Result<String> {
    ctx.step("first", async || Ok(n)).await?;
    let went = ctx.signal(GO).await?;
    ctx.step("last", async || Ok(format!("old {went}"))).await
}

async fn new(ctx: Ctx, n: u64) -> Result<String> {
    ctx.step("first", async || Ok(n)).await?;
    if ctx.patched("ask twice") {
        ctx.step("second", async || Ok(n)).await?;
    }
    let went = ctx.signal(GO).await?;
    ctx.step("last", async || Ok(format!("new {went}"))).await
}

fn of(build: &str) -> Settings {
    Settings { build: Some(build.to_string()), park_after: seconds(1), ..settings() }
}

/// Runs of this engine, each waiting outside of memory.
async fn waiting(engine: &Engine, ids: std::ops::Range<u64>) {
    for n in ids {
        engine.start(W, format!("r{n}"), n).await.expect("it starts");
    }
    nap(5_000).await;
    assert_eq!(engine.counts().await.expect("counts"), [(W.name().into(), Status::Waiting, 20)]);
}

/// A deploy that was rolled back half-way: the old code meets runs of the new one, and wakes as often for them.
#[test]
fn what_the_old_code_cannot_replay_is_left_to_the_new_one_while_it_lives() {
    for seed in 1..4 {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(seed));
            // First, so that it is the first to hear that a run is due.
            let older = engine_with(&memory, &world, of("1"), old).await;
            let newer = engine_with(&memory, &world, of("2"), new).await;
            waiting(&newer, 0..20).await;
            let mut left = older.events();
            for n in 0..20 {
                newer.signal(format!("r{n}"), GO, n).await.expect("it is open");
            }
            for n in 0..20 {
                let run = newer.get(W, format!("r{n}")).await.expect("it is there");
                assert_eq!(soon(run.result()).await.expect("it completes"), format!("new {n}"));
            }
            let mut leaves = 0;
            while let Some(event) = left.try_next() {
                assert!(!matches!(event, Event::Stuck { .. }), "{event:?}");
                if let Event::LeftToBuild { build, .. } = &event {
                    assert_eq!(&**build, "2");
                    leaves += 1;
                }
            }
            assert!(leaves > 0, "the old code has met none of them");
        });
    }
}

/// Nobody else can: a person is needed, as ever.
#[test]
fn what_no_living_build_can_replay_is_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let newer = engine_with(&memory, &world, of("2"), new).await;
        waiting(&newer, 0..20).await;
        newer.shutdown().await.expect("it leaves");
        let older = engine_with(&memory, &world, of("1"), old).await;
        older.signal("r3", GO, 3).await.expect("it is open");
        let error =
            soon(older.get(W, "r3").await.expect("it is there").result()).await.expect_err("it cannot go on");
        assert_eq!(error.kind(), ErrorKind::Stuck, "{error:?}");
    });
}

/// Pays, and nobody knows whether it did once its worker is gone.
async fn doubtful(ctx: Ctx, _: u64) -> Result<String> {
    let pays = ctx.step("pay", async || std::future::pending::<Result<_>>().await);
    pays.on_doubt(Doubt::Ask).await
}

/// No code can know it: nobody is asked to take the run.
#[test]
fn what_is_in_doubt_is_not_left_to_another_build() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine_with(&memory, &world, of("2"), doubtful).await;
        for n in 0..20 {
            first.start(W, format!("r{n}"), n).await.expect("it starts");
        }
        nap(100).await;
        let older = engine_with(&memory, &world, of("1"), doubtful).await;
        let newer = engine_with(&memory, &world, of("2"), doubtful).await;
        let mut at_older = older.events();
        drop(first);
        for n in 0..20 {
            let run = newer.get(W, format!("r{n}")).await.expect("it is there");
            assert_eq!(soon(run.result()).await.expect_err("in doubt").kind(), ErrorKind::Stuck);
        }
        let mut met = 0;
        while let Some(event) = at_older.try_next() {
            assert!(!matches!(event, Event::LeftToBuild { .. }), "{event:?}");
            if let Event::Stuck { reason, .. } = event {
                assert_eq!(reason, StuckReason::InDoubt);
                met += 1;
            }
        }
        assert!(met > 0, "the older has met none of them");
    });
}
