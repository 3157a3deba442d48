//! The workflows of the checked-in databases. They must not change: journals of earlier versions were written by them.

use everstep::{
    Builder, Ctx, Doubt, Error, NoState, Result, Retry, With, Workflow, days, seconds,
    sqlite::Transaction as _, try_join,
};

/// Ends with what it was given.
pub const ECHO: Workflow<String, String> = Workflow::new("echo");
/// Fails, each time.
pub const FAILS: Workflow<String, String> = Workflow::new("fails");
/// Waits for somebody to cancel it, between two steps.
pub const WAITS: Workflow<String, String> = Workflow::new("waits");
/// Scopes, a loop, a transaction, a timer; with `held` as input it stays in its last step while it is written.
pub const LONG: Workflow<String, String> = Workflow::new("long");
/// Fails twice, with a long pause after the second time, and then works.
pub const FLAKY: Workflow<String, String> = Workflow::new("flaky");
/// Asks a person about a step in doubt.
pub const DOUBTS: Workflow<String, String> = Workflow::new("doubts");
/// Asks a person when its retries are spent.
pub const SPENT: Workflow<String, String> = Workflow::new("spent");
/// Panics while it is written; later code is mended.
pub const PANICS: Workflow<String, String> = Workflow::new("panics");
/// Has asked for another step while it was written than later code does.
pub const DIVERGES: Workflow<String, String> = Workflow::new("diverges");
/// Waits for nothing durable while it is written; later code is mended.
pub const HANGS: Workflow<String, String> = Workflow::new("hangs");

/// Who runs them: the generator, whose bodies stop where the run is to be found, or a later version.
#[derive(Clone, Copy, PartialEq)]
pub enum When {
    Written,
    Finished,
}

async fn stays<T>(when: When, value: T) -> Result<T> {
    match when {
        When::Written => std::future::pending().await,
        When::Finished => Ok(value),
    }
}

pub fn register(builder: Builder<NoState>, when: When) -> Builder<With<When>> {
    builder
        .state(when)
        .register(ECHO, async |_: Ctx, said: String, _: When| Ok(said))
        .register(FAILS, async |ctx: Ctx, said: String, _: When| {
            ctx.step("try", async || Err::<String, _>(Error::from(said.clone()))).await
        })
        .register(WAITS, async |ctx: Ctx, said: String, when: When| {
            ctx.step("first", async || Ok(1)).await?;
            ctx.step("wait", async || stays(when, 2).await).await?;
            Ok(said)
        })
        .register(LONG, long)
        .register(FLAKY, flaky)
        .register(DOUBTS, async |ctx: Ctx, said: String, when: When| {
            ctx.step("pay", async || stays(when, said.clone()).await).on_doubt(Doubt::Ask).await
        })
        .register(SPENT, async |ctx: Ctx, said: String, when: When| {
            let work = async || match when {
                When::Written => Err(Error::from("still broken")),
                When::Finished => Ok(said.clone()),
            };
            ctx.step("work", work).retry(Retry::fixed(2, std::time::Duration::ZERO)).then_stuck().await
        })
        .register(PANICS, async |ctx: Ctx, said: String, when: When| {
            ctx.step("first", async || Ok(1)).await?;
            assert!(when == When::Finished, "a mistake in the workflow");
            Ok(said)
        })
        .register(DIVERGES, async |ctx: Ctx, said: String, when: When| {
            let name = if when == When::Written { "old" } else { "new" };
            ctx.step(name, async || Ok(1)).await?;
            ctx.step("last", async || stays(when, said.clone()).await).await
        })
        .register(HANGS, async |ctx: Ctx, said: String, when: When| {
            ctx.step("first", async || Ok(1)).await?;
            if when == When::Written {
                std::future::pending::<()>().await;
            }
            Ok(said)
        })
}

async fn long(ctx: Ctx, said: String, when: When) -> Result<String> {
    let mut sum = 0;
    for n in 1..=3 {
        sum += ctx.step("add", async || Ok(n)).input(&n).await?;
    }
    let (left, right): (u64, u64) = try_join!(
        ctx.scope("left", async |ctx: Ctx| ctx.step("half", async || Ok(10)).await),
        ctx.scope("right", async |ctx: Ctx| ctx.step("half", async || Ok(20)).await),
    )?;
    let caught = ctx.step("bad", async || Err::<u64, _>(Error::terminal("never works"))).await;
    let row: u64 = ctx.transaction("row", move |_| Ok(sum)).await?;
    ctx.sleep(std::time::Duration::from_millis(1)).await;
    let drawn = ctx.random();
    let kept = ctx.step("keep", async || Ok(drawn)).await?;
    let late = ctx.timeout(days(30_000), ctx.step("stay", async || stays(when, 5).await)).await?;
    let error = caught.expect_err("it never works").to_string();
    Ok(format!("{said} {sum} {left} {right} {row} {error} {} {late:?}", kept == drawn))
}

async fn flaky(ctx: Ctx, said: String, when: When) -> Result<String> {
    let work = async |s: everstep::StepCtx| match (when, s.attempt()) {
        (When::Written, 1) => Err(Error::retry_after("not yet", std::time::Duration::ZERO)),
        (When::Written, _) => Err(Error::retry_after("not for a while", seconds(2))),
        (When::Finished, attempt) => Ok(format!("{said} at attempt {attempt}")),
    };
    ctx.step("work", work).retry(Retry::exponential(5)).await
}

/// The workflow with this name.
#[allow(dead_code, reason = "the generator does not ask")]
pub fn named(name: &str) -> Workflow<String, String> {
    let all = [ECHO, FAILS, WAITS, LONG, FLAKY, DOUBTS, SPENT, PANICS, DIVERGES, HANGS];
    all.into_iter()
        .find(|known| known.name() == name)
        .unwrap_or_else(|| panic!("there is no workflow `{name}`"))
}
