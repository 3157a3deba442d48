//! Tests of a workflow: thirty days in no time, a bank that is a fake, a crash at every place, a run from production. The
//! same in `#[test]` functions is what a user's `tests/` holds; `docs/testing.md` tells the whole kit.

use everstep::{
    Ctx, Engine, Result, Signal, Workflow, days,
    testing::{self, TestEngine},
};

const ORDER: Workflow<u64, String> = Workflow::new("order");
const APPROVED: Signal<bool> = Signal::new("approved");

async fn order(ctx: Ctx, cents: u64) -> Result<String> {
    let receipt = ctx.step("charge", async || bank::charge(cents)).await?;
    let approved = ctx.timeout(days(30), ctx.signal(APPROVED)).await?;
    ctx.step("email", async || Ok(format!("{receipt}, approved: {approved:?}"))).await
}

mod bank {
    pub fn charge(_: u64) -> everstep::Result<String> {
        panic!("no test reaches the bank")
    }
}

async fn an_order_that_is_approved() {
    let engine = TestEngine::start(|store| {
        Engine::builder(store).register(ORDER, order).fake("charge", |_| Ok("receipt 1".to_string()))
    })
    .await;
    let run = engine.start(ORDER, "o-1", 500).await.expect("it starts");
    engine.wait_for_signal("approved").await;
    engine.signal("o-1", APPROVED, true).await.expect("it is sent");
    println!("approved: {}", run.result().await.expect("it ends"));
}

async fn an_order_that_nobody_approves() {
    let engine = TestEngine::start(|store| {
        Engine::builder(store).register(ORDER, order).fake("charge", |_| Ok("receipt 2".to_string()))
    })
    .await;
    let run = engine.start(ORDER, "o-2", 700).await.expect("it starts");
    println!("after thirty days: {}", run.result().await.expect("it ends"));
}

async fn a_crash_at_every_place() {
    let report = testing::crash_everywhere(
        |store| Engine::builder(store).register(ORDER, order).fake("charge", |_| Ok("receipt 3".to_string())),
        ORDER,
        900,
    )
    .await;
    println!("{report}");
}

async fn a_run_from_production() {
    let production = TestEngine::start(|store| {
        Engine::builder(store).register(ORDER, order).fake("charge", |_| Ok("receipt 4".to_string()))
    })
    .await;
    production.start(ORDER, "o-4", 300).await.expect("it starts");
    production.wait_for_signal("approved").await;
    let export = production.export("o-4").await.expect("it rests");

    let replayed = testing::replay(&export, |store| Engine::builder(store).register(ORDER, order)).await;
    println!("run o-4 under the same code: {replayed}");
    let renamed = async |ctx: Ctx, _: u64| ctx.step("pay", async || Ok("paid".to_string())).await;
    let replayed = testing::replay(&export, |store| Engine::builder(store).register(ORDER, renamed)).await;
    println!("under other code: fine is {}", replayed.is_fine());
}

fn main() {
    testing::run(async {
        an_order_that_is_approved().await;
        an_order_that_nobody_approves().await;
        a_crash_at_every_place().await;
        a_run_from_production().await;
    });
}
