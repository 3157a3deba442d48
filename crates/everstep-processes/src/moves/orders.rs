//! Orders that end at once, or wait for one thing each: what they are when they move, and what they must come to.

use std::{sync::Arc, time::Duration};

use everstep::{Ctx, Engine, Result, Settings, Workflow, hours, store::Store};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::actor::AnyResult;

const ORDER: Workflow<u64, u64> = Workflow::new("order");
const PART: Workflow<u64, u64> = Workflow::new("part");
/// Calls on their way at once: alone, each would wait for a commit of its own.
const CALLS: usize = 64;

/// What an order does, by its number.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ends,
    Fails,
    Signal,
    Timer,
    Promise,
    Child,
}

const KINDS: [Kind; 6] = [Kind::Ends, Kind::Signal, Kind::Timer, Kind::Promise, Kind::Child, Kind::Fails];

fn kind(n: u64) -> Kind {
    KINDS[n as usize % KINDS.len()]
}

async fn order(ctx: Ctx, n: u64) -> Result<u64> {
    let doubled = ctx.step("double", async || Ok(n * 2)).await?;
    ctx.set_attribute("n", n as i64);
    ctx.emit("lines", &doubled);
    let more = match kind(n) {
        Kind::Ends => 0,
        Kind::Fails => return Err(format!("order {n} fails").into()),
        Kind::Signal => ctx.signal::<u64>("more").await?,
        Kind::Timer => {
            ctx.sleep(hours(1000)).await;
            1
        }
        Kind::Promise => {
            let owed = ctx.promise::<u64>("owed");
            ctx.publish("token", &owed.token().to_string());
            owed.await?
        }
        Kind::Child => ctx.start(PART, part_id(n), n).await?.result().await?,
    };
    ctx.step("add", async || Ok(doubled + more)).await
}

async fn part(ctx: Ctx, n: u64) -> Result<u64> {
    Ok(ctx.signal::<u64>("more").await? + n)
}

fn id(n: u64) -> String {
    format!("order-{n}")
}

fn part_id(n: u64) -> String {
    format!("part-{n}")
}

/// An engine for them, which parks what waits.
pub(super) async fn engine(store: Arc<dyn Store>) -> AnyResult<Engine> {
    let settings = Settings { park_after: Duration::ZERO, ..Settings::default() };
    let builder = Engine::on(store).register(ORDER, order).register(PART, part);
    Ok(builder.settings(settings).start().await?)
}

/// Starts so many, and lets each come to where it waits.
pub(super) async fn begin(store: Arc<dyn Store>, orders: u64) -> AnyResult<()> {
    const AT_ONCE: usize = 5_000;
    let engine = engine(store.clone()).await?;
    let all: Vec<u64> = (0..orders).collect();
    for some in all.chunks(AT_ONCE) {
        let started = engine.start_batch(ORDER, some.iter().map(|n| (id(*n), *n))).await?;
        for (n, run) in some.iter().zip(started) {
            let run = run?;
            match kind(*n) {
                Kind::Ends => drop(run.result().await?),
                Kind::Fails => drop(run.result().await),
                _ => {}
            }
        }
    }
    // The counts are the store's own, and always true: no wait is missed.
    let waiting = (0..orders).map(|n| match kind(n) {
        Kind::Ends | Kind::Fails => 0,
        Kind::Child => 2,
        _ => 1,
    });
    let waiting: u64 = waiting.sum();
    let mut foreign = store.bell().settled();
    loop {
        foreign.mark_unchanged();
        let counts = engine.counts().await?;
        let parked = counts.iter().filter(|(_, status, _)| *status == everstep::Status::Waiting);
        if parked.map(|(_, _, n)| n).sum::<u64>() == waiting {
            break;
        }
        let _ = foreign.changed().await;
    }
    Ok(engine.shutdown().await?)
}

/// Gives each what it waits for; what does not hold of what they come to.
pub(super) async fn finish(engine: &Engine, orders: u64) -> AnyResult<Vec<String>> {
    let given = stream::iter(0..orders).map(|n| gives(engine, n)).buffer_unordered(CALLS);
    given.try_collect::<()>().await?;
    let judged = stream::iter(0..orders).map(|n| judges(engine, n)).buffer_unordered(CALLS);
    Ok(judged.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

/// Gives an order what it waits for.
async fn gives(engine: &Engine, n: u64) -> AnyResult<()> {
    match kind(n) {
        Kind::Ends | Kind::Fails => {}
        Kind::Signal => engine.signal(id(n), "more", n).await?,
        Kind::Timer => drop(engine.skip_wait(&id(n), None).await?),
        Kind::Promise => {
            let token: Option<String> = engine.published(&id(n), "token").await?;
            engine.resolve(&token.ok_or("no token")?, n).await?;
        }
        Kind::Child => engine.signal(part_id(n), "more", n).await?,
    }
    Ok(())
}

/// What an order has come to, if that is wrong.
async fn judges(engine: &Engine, n: u64) -> AnyResult<Option<String>> {
    let result = engine.get(ORDER, id(n)).await?.result().await.map_err(|error| error.to_string());
    let expected = match kind(n) {
        Kind::Ends => Ok(n * 2),
        Kind::Fails => Err(format!("order {n} fails")),
        Kind::Signal | Kind::Promise => Ok(n * 3),
        Kind::Timer => Ok(n * 2 + 1),
        Kind::Child => Ok(n * 4),
    };
    let wrong = || format!("order {n} comes to {result:?}, and not to {expected:?}");
    Ok((result != expected).then(wrong))
}
