//! The workflows of the runs in the checked-in databases. What a database holds was written by the code of its time: these
//! workflows may only be changed as a user may change his, with open runs.

use everstep::{
    Builder, Ctx, Doubt, Engine, Result, Retry, StepCtx, Verdict, With, Workflow, hours,
    sqlite::{Sqlite, Transaction as _},
    try_join,
};

use crate::waiting;

pub type Any<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Whether bodies return. In the process that writes the database some do not: it "crashes" inside them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum World {
    Crashing,
    /// As `Crashing`, and the code has lost a step.
    Changed,
    Mended,
}

impl World {
    /// A body that is under way when the process ends.
    pub async fn passes(self) {
        if self != World::Mended {
            std::future::pending().await
        }
    }
}

pub const PLAIN: Workflow<u64, String> = Workflow::new("plain");
pub const BROKEN: Workflow<String, String> = Workflow::new("broken");
pub const WAITS: Workflow<u64, String> = Workflow::new("waits");
pub const DOUBTS: Workflow<String, String> = Workflow::new("doubts");
pub const SPENT: Workflow<u64, String> = Workflow::new("spent");
pub const PANICS: Workflow<u64, String> = Workflow::new("panics");
pub const DIVERGES: Workflow<u64, String> = Workflow::new("diverges");
pub const PAYS: Workflow<i64, String> = Workflow::new("pays");
/// Of a program that is not there any more.
pub const GONE: Workflow<u64, String> = Workflow::new("gone");

/// Keys of all shapes, parallel branches, a retry, a timeout, a timer, and a body that is under way.
async fn plain(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let mut sum = 0;
    for i in 0..3 {
        sum += ctx.step("add", async move || Ok(n + i)).input(&i).await?;
    }
    let (left, right) = try_join!(
        ctx.scope("left", async |ctx| ctx.step("name", async || Ok("é \u{1F980}".to_string())).await),
        ctx.scope("right", async |ctx| ctx.step("name", async || Ok("\"quoted\"".to_string())).await),
    )?;
    let tries = ctx
        .step("shaky", async |s: StepCtx| if s.attempt() < 3 { Err("busy")? } else { Ok(s.attempt()) })
        .retry(Retry::fixed(3, std::time::Duration::ZERO))
        .await?;
    ctx.sleep(std::time::Duration::from_millis(1)).await;
    let late = ctx.timeout(hours(1), ctx.step("in_time", async || Ok(true))).await?;
    let drawn = ctx.random();
    if n >= 100 {
        ctx.step("under_way", async || {
            world.passes().await;
            Ok(())
        })
        .await?;
    }
    let again = ctx.step("drawn", async || Ok(drawn)).await?;
    Ok(format!("{sum} {left} {right} {tries} {late:?} {}", again == drawn))
}

async fn broken(ctx: Ctx, why: String, world: World) -> Result<String> {
    ctx.step("before", async || Ok(1u8)).await?;
    ctx.step(
        "breaks",
        async || if world != World::Mended { Err(why.clone())? } else { Ok("mended".to_string()) },
    )
    .await
}

async fn waits(ctx: Ctx, n: u64, _: World) -> Result<String> {
    ctx.step("before", async || Ok(n)).await?;
    ctx.sleep(hours(n)).await;
    ctx.step("after", async || Ok("slept".to_string())).await
}

async fn doubts(ctx: Ctx, policy: String, world: World) -> Result<String> {
    let pay = ctx.step("pay", async || {
        world.passes().await;
        Ok("paid again".to_string())
    });
    match policy.as_str() {
        "ask" => pay.on_doubt(Doubt::Ask).await,
        "fail" => pay.on_doubt(Doubt::Fail).await,
        "verify" => pay.verify(async |_| Ok(Verdict::Done("found".to_string()))).await,
        _ => pay.await,
    }
}

async fn spent(ctx: Ctx, _: u64, world: World) -> Result<String> {
    ctx.step("call", async || if world != World::Mended { Err("down")? } else { Ok("called".to_string()) })
        .retry(Retry::fixed(2, std::time::Duration::ZERO))
        .then_stuck()
        .await
}

async fn panics(ctx: Ctx, _: u64, world: World) -> Result<String> {
    let n = ctx.step("before", async || Ok(7u64)).await?;
    assert!(world == World::Mended, "not mended yet");
    Ok(format!("mended with {n}"))
}

async fn diverges(ctx: Ctx, _: u64, world: World) -> Result<String> {
    if world != World::Changed {
        ctx.step("old", async || Ok(1u8)).await?;
    }
    ctx.step("new", async || {
        world.passes().await;
        Ok("same again".to_string())
    })
    .await
}

async fn pays(ctx: Ctx, cents: i64, world: World) -> Result<String> {
    let left: i64 = ctx
        .transaction("debit", move |tx| {
            tx.execute("UPDATE account SET cents = cents - ?1", [cents])?;
            Ok(tx.query_row("SELECT cents FROM account", [], |row| row.get(0))?)
        })
        .await?;
    ctx.step("under_way", async || {
        world.passes().await;
        Ok(())
    })
    .await?;
    Ok(format!("{left} left"))
}

/// The engine of that world; the lost workflow is registered by nobody.
pub fn builder(store: Sqlite, world: World) -> Builder<With<World>> {
    waiting::register(Engine::builder(store).state(world))
        .register(PLAIN, plain)
        .register(BROKEN, broken)
        .register(WAITS, waits)
        .register(DOUBTS, doubts)
        .register(SPENT, spent)
        .register(PANICS, panics)
        .register(DIVERGES, diverges)
        .register(PAYS, pays)
}
