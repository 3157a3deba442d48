//! What is called all the time: runs of steps, runs that park and are claimed again, runs that wait for signals, runs with a
//! transactional step; and those that only wait.

use std::time::Duration;

use everstep::{Ctx, Engine, Result, Settings, Signal, Status, Workflow, hours};
use everstep_postgres::{Postgres, Transaction as _};

use crate::actor::AnyResult;

/// The user's table, without a key: what is written twice is there twice.
pub(super) const TABLE: &str = "CREATE TABLE moved (run text NOT NULL)";
pub(super) const STEPS: &str = "steps";
pub(super) const NAPS: &str = "naps";
pub(super) const SIGNALS: &str = "signals";
pub(super) const MOVES: &str = "moves";
/// In the order in which a caller calls them.
pub(super) const CALLED: [&str; 4] = [STEPS, NAPS, SIGNALS, MOVES];
/// What a run of [`SIGNALS`] waits for, as often as [`WORDS`] says.
pub(super) const WORD: Signal<u64> = Signal::new("word");
pub(super) const WORDS: u64 = 2;
pub(super) const WAITS: Workflow<u64, ()> = Workflow::new("waits");
/// Started together.
const PART: u64 = 2_000;

async fn steps(ctx: Ctx, n: u64) -> Result<u64> {
    let mut sum = 0;
    for _ in 0..3 {
        sum += ctx.step("add", async || Ok(n)).await?;
    }
    Ok(sum)
}

async fn naps(ctx: Ctx, n: u64) -> Result<u64> {
    let mut sum = ctx.step("before", async || Ok(n)).await?;
    for nap in 0..2 {
        ctx.sleep(nap_of(n + nap)).await;
        sum += ctx.step("after", async || Ok(n)).await?;
    }
    Ok(sum)
}

/// From 50 to 450 ms.
pub(super) fn nap_of(n: u64) -> Duration {
    Duration::from_millis(50 + n * 37 % 400)
}

async fn signals(ctx: Ctx, n: u64) -> Result<u64> {
    let mut sum = ctx.step("before", async || Ok(n)).await?;
    for _ in 0..WORDS {
        sum += ctx.signal(WORD).await?;
        ctx.step("heard", async || Ok(())).await?;
    }
    Ok(sum)
}

async fn moves(ctx: Ctx, n: u64) -> Result<u64> {
    let before = ctx.step("before", async || Ok(n)).await?;
    let run = ctx.id().to_string();
    let rows = ctx
        .transaction("move", async |tx| {
            Ok(tx.execute("INSERT INTO moved (run) VALUES ($1)", &[&run]).await?)
        })
        .await?;
    ctx.step("after", async || Ok(before + rows * 2 * n)).await
}

async fn waits(ctx: Ctx, n: u64) -> Result<()> {
    ctx.sleep(hours(1_000 + n % 1_000)).await;
    Ok(())
}

/// What a run of these has come to when all went well: three times its number.
pub(super) fn expected(n: u64) -> u64 {
    3 * n
}

/// An engine for all of them, with a store of its own.
pub(super) async fn engine(url: &str, park_after: Duration) -> AnyResult<Engine> {
    let settings = Settings { park_after, ..Settings::default() };
    let builder = Engine::builder(Postgres::open(url).await?)
        .register(Workflow::new(STEPS), steps)
        .register(Workflow::new(NAPS), naps)
        .register(Workflow::new(SIGNALS), signals)
        .register(Workflow::new(MOVES), moves)
        .register(WAITS, waits);
    Ok(builder.settings(settings).start().await?)
}

/// Starts so many runs that wait, and waits until they do.
pub(super) async fn begin_to_wait(engine: &Engine, runs: u64) -> AnyResult<()> {
    const LOOK: Duration = Duration::from_millis(100);
    for first in (0..runs).step_by(PART as usize) {
        let part = (first..runs.min(first + PART)).map(|n| (format!("waits-{n}"), n));
        for run in engine.start_batch(WAITS, part).await? {
            run?;
        }
    }
    loop {
        let counts = engine.counts().await?;
        let parked = counts.iter().filter(|(_, status, _)| *status == Status::Waiting);
        if parked.map(|(.., n)| n).sum::<u64>() == runs {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
