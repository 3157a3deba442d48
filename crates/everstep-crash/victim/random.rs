//! Workflows that a number makes: steps of every kind in every order. The key of a step tells its policy.

use std::time::Duration;

use everstep::{Ctx, Doubt, EngineError, Error, Result, Retry, StepCtx, Verdict, Workflow};

use crate::{Workload, outside::Visited, transfer, world::World};

const RANDOM: Workflow<u64, String> = Workflow::new("random");
/// Operations of a run.
const LENGTH: usize = 7;

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: RANDOM,
        register: |builder| builder.register(RANDOM, random),
        // The last does what the cancelled one would have done.
        runs: (1..=5).map(|n| (format!("r-{n}"), n)).chain([("r-6".to_string(), 3)]).collect(),
        visit: |run, _| Box::pin(visit(run)),
    }
}

/// One of them is cancelled.
async fn visit(to: Visited) -> std::result::Result<(), EngineError> {
    match to.id() {
        id @ "r-3" => to.tell(to.client.cancel(id, "asked to"), format!("asked {id}")).await,
        _ => Ok(()),
    }
}

/// What a run's number makes of its `i`th operation.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Flaky,
    Pair,
    Fail,
    Ask,
    Verify,
    Transaction,
    Nap,
}

fn kind(n: u64, i: usize) -> Kind {
    use Kind as K;
    let all = [K::Plain, K::Flaky, K::Pair, K::Fail, K::Ask, K::Verify, K::Transaction, K::Nap];
    let mixed = (n * 31 + i as u64 + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    all[(mixed >> 59) as usize % all.len()]
}

async fn random(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let mut told = Vec::new();
    for i in 0..LENGTH {
        told.extend(operation(&ctx, n, i, &world).await?);
    }
    Ok(told.join(","))
}

async fn operation(ctx: &Ctx, n: u64, i: usize, world: &World) -> Result<Vec<String>> {
    let plain = async |s: StepCtx| {
        world.effect(ctx, &s, i);
        Ok(format!("{}={n}", s.key()))
    };
    let named = |policy: &str| format!("{policy}-{i}");
    Ok(vec![match kind(n, i) {
        Kind::Plain => ctx.step(&named("plain"), plain).await?,
        Kind::Flaky => flaky(ctx, &named("flaky"), i, world).await?,
        Kind::Pair => {
            let left = ctx.scope(&named("left"), async |ctx| step(&ctx, n, i, world).await);
            let right = ctx.scope(&named("right"), async |ctx| step(&ctx, n, i, world).await);
            let (left, right) = everstep::try_join!(left, right)?;
            return Ok(vec![left, right]);
        }
        Kind::Fail => {
            let key = named("fail");
            let once = ctx.step(&key, plain).on_doubt(Doubt::Fail).await;
            once.unwrap_or_else(|_| format!("{key}=doubted"))
        }
        Kind::Ask => {
            let key = named("ask");
            match ctx.step(&key, plain).on_doubt(Doubt::Ask).await? {
                answered if answered == "answered" => format!("{key}=answered"),
                value => value,
            }
        }
        Kind::Verify => {
            let key = named("verify");
            let look = async |s: StepCtx| {
                Ok(match world.has_seen(ctx.id(), s.key()) {
                    true => Verdict::Done(format!("{}={n}", s.key())),
                    false => Verdict::NotDone,
                })
            };
            ctx.step(&key, plain).verify(look).await?
        }
        Kind::Transaction => transfer::row(ctx, &named("row"), n, world).await?,
        Kind::Nap => {
            ctx.sleep(Duration::from_millis(2)).await;
            return Ok(Vec::new());
        }
    }])
}

async fn step(ctx: &Ctx, n: u64, i: usize, world: &World) -> Result<String> {
    let plain = async |s: StepCtx| {
        world.effect(ctx, &s, i);
        Ok(format!("{}={n}", s.key()))
    };
    ctx.step("branch", plain).await
}

/// Its first attempt fails.
async fn flaky(ctx: &Ctx, name: &str, i: usize, world: &World) -> Result<String> {
    let body = async |s: StepCtx| {
        world.effect(ctx, &s, i);
        match s.attempt() {
            1 => Err(Error::from("not yet")),
            attempt => Ok(format!("{}={attempt}", s.key())),
        }
    };
    ctx.step(name, body).retry(Retry::fixed(3, Duration::from_millis(1))).await
}
