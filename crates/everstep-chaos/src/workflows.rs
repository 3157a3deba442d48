//! What the workers run. Each body leaves a line in the ledger before anything else, then takes its time.

use std::time::Duration;

use everstep::{Builder, Ctx, Doubt, Result, Retry, Signal, Step, StepCtx, With, Workflow, try_join};
use everstep_postgres::{
    PostgresJob, Tx,
    tokio_postgres::types::{ToSql, Type},
};

use crate::{
    kind::{self, Kind, ONCE},
    ledger::{Ledger, Line},
    time::{ms, pass},
};

/// The child of a run of [`Kind::Family`].
const CHILD: Workflow<usize, usize> = Workflow::new("child");
/// What a run of [`Kind::Signals`] waits for.
pub(crate) const WORD: Signal<usize> = Signal::new("word");
/// The user's table, without a key: what is written twice is there twice.
pub(crate) const TABLE: &str = "CREATE TABLE moved (run text NOT NULL, key text NOT NULL, by text NOT NULL)";

/// A body so long that a worker which is stopped in it comes back to end it while its successor is still at it.
const LONG_MS: u64 = 3_000;

/// The workflow of a kind. Its input is the run's number, its value in words.
pub(crate) fn workflow(kind: Kind) -> Workflow<usize, String> {
    Workflow::new(kind.name())
}

/// The world outside the workflows.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    /// This process.
    pub(crate) name: String,
}

/// Registers all of them, or only those that wait for no time of day: a worker whose clock is an hour ahead makes such a run
/// late by that hour, as is promised, and no play lasts so long.
pub(crate) fn register(builder: Builder<With<World>>, timed: bool) -> Builder<With<World>> {
    let builder = builder
        .register(workflow(Kind::Plain), plain)
        .register(workflow(Kind::Parallel), parallel)
        .register(workflow(Kind::Signals), signals)
        .register(workflow(Kind::Family), family)
        .register(CHILD, child)
        .register(workflow(Kind::Transfer), transfer)
        .register(workflow(Kind::Saga), saga)
        .register(workflow(Kind::Careful), careful);
    match timed {
        true => builder.register(workflow(Kind::Retries), retries).register(workflow(Kind::Naps), naps),
        false => builder,
    }
}

impl World {
    /// A body begins.
    fn begins(&self, run: &str, key: &str, attempt: u32) -> Result<()> {
        let (run, key, by) = (run.to_string(), key.to_string(), self.name.clone());
        Ok(self.ledger.note(&Line::Begins { run, key, attempt, by })?)
    }

    /// A body, from its beginning to its end.
    async fn visit(&self, ctx: &Ctx, s: &StepCtx) -> Result<usize> {
        self.begins(ctx.id(), s.key(), s.attempt())?;
        pass(lasts(ctx.id(), s.key())).await;
        Ok(1)
    }
}

/// Most bodies are short, some long enough to be met by what happens, and each worker has long ones on its way at any time.
fn lasts(run: &str, key: &str) -> Duration {
    let mixed =
        run.bytes().chain(key.bytes()).fold(7u64, |mixed, byte| mixed * 31 % 1_000_003 + u64::from(byte));
    match mixed % 8 {
        1 => ms(LONG_MS),
        0 | 4 => ms(50 + mixed % 300),
        _ => ms(mixed % 15),
    }
}

async fn plain(ctx: Ctx, n: usize, world: World) -> Result<String> {
    let mut links = 0;
    for _ in 0..3 + n % 4 {
        links += ctx.step("link", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    }
    Ok(links.to_string())
}

async fn parallel(ctx: Ctx, _: usize, world: World) -> Result<String> {
    let branch = async |ctx: Ctx| {
        let one = ctx.step("one", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
        Ok::<_, everstep::Error>(one + ctx.step("two", async |s: StepCtx| world.visit(&ctx, &s).await).await?)
    };
    let (left, right) = try_join!(ctx.scope("left", branch), ctx.scope("right", branch))?;
    let last = ctx.step("last", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    Ok((left + right + last).to_string())
}

async fn signals(ctx: Ctx, n: usize, world: World) -> Result<String> {
    let mut got = Vec::new();
    for _ in kind::signals(n) {
        got.push(ctx.signal(WORD).await?.to_string());
        ctx.step("got", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    }
    Ok(got.join(","))
}

async fn family(ctx: Ctx, n: usize, world: World) -> Result<String> {
    let first = ctx.step("first", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    let mut ends = Vec::new();
    for id in kind::children(n) {
        ends.push(ctx.start(CHILD, id, n).await?);
    }
    let mut sum = first;
    for child in ends {
        sum += child.result().await?;
    }
    Ok(sum.to_string())
}

async fn child(ctx: Ctx, _: usize, world: World) -> Result<usize> {
    let work = ctx.step("work", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    Ok(work + moves(&ctx, &world, "entry").await?)
}

async fn transfer(ctx: Ctx, _: usize, world: World) -> Result<String> {
    let mut sum = ctx.step("check", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    sum += moves(&ctx, &world, "debit").await?;
    sum += moves(&ctx, &world, "credit").await?;
    sum += ctx.step("tell", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    sum += moves(&ctx, &world, "fee").await?;
    Ok(sum.to_string())
}

/// A row of the user's, and the step's record, in one transaction.
fn moves(ctx: &Ctx, world: &World, key: &'static str) -> Step<'static, usize> {
    let (run, by) = (ctx.id().to_string(), world.name.clone());
    ctx.transaction_on("postgres", key, move |recorder| {
        let (run, by) = (run.clone(), by.clone());
        let job = move |tx: Tx| {
            let (run, by) = (run.clone(), by.clone());
            let work = async move {
                // Typed: behind a pooler a prepared statement may outlive its transaction on a connection of others.
                const MOVE: &str = "INSERT INTO moved (run, key, by) VALUES ($1, $2, $3)";
                let values = [&run as &(dyn ToSql + Sync), &key, &by].map(|value| (value, Type::TEXT));
                let rows = tx.execute_typed(MOVE, &values).await?;
                pass(lasts(&run, key) / 4).await;
                recorder.record(rows as usize)
            };
            Box::pin(work) as everstep::BoxFuture<'static, _>
        };
        Box::new(PostgresJob(Box::new(job)))
    })
}

async fn saga(ctx: Ctx, _: usize, world: World) -> Result<String> {
    for name in ["book", "rent"] {
        let (run, of) = (ctx.id().to_string(), world.clone());
        let booked = ctx.step(name, async |s: StepCtx| world.visit(&ctx, &s).await).undo(async move |_| {
            let key = format!("undo/{name}");
            of.begins(&run, &key, 1)?;
            pass(lasts(&run, &key)).await;
            Ok(())
        });
        booked.await?;
    }
    Err("sold out".into())
}

async fn careful(ctx: Ctx, _: usize, world: World) -> Result<String> {
    let mut told = Vec::new();
    for _ in 0..3 {
        let once = async |s: StepCtx| {
            world.begins(ctx.id(), s.key(), s.attempt())?;
            // Long, so that most workers that die are in one.
            pass(ms(LONG_MS)).await;
            Ok("done".to_string())
        };
        let once = ctx.step(ONCE, once).on_doubt(Doubt::Fail).await;
        told.push(match once {
            Ok(done) => done,
            Err(error) if error.kind() == everstep::ErrorKind::InDoubt => "doubted".to_string(),
            Err(error) => return Err(error),
        });
    }
    Ok(told.join(","))
}

async fn retries(ctx: Ctx, n: usize, world: World) -> Result<String> {
    let fails = 1 + n as u32 % 3;
    let flaky = async |s: StepCtx| {
        let done = world.visit(&ctx, &s).await?;
        if s.attempt() <= fails { Err("not yet".into()) } else { Ok(done) }
    };
    let first = ctx.step("first", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    let flaky = ctx.step("flaky", flaky).retry(Retry::fixed(5, ms(200))).await?;
    let last = ctx.step("last", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
    Ok((first + flaky + last).to_string())
}

async fn naps(ctx: Ctx, n: usize, world: World) -> Result<String> {
    let mut sum = 0;
    for nap in 0..3u64 {
        sum += ctx.step("between", async |s: StepCtx| world.visit(&ctx, &s).await).await?;
        ctx.sleep(ms(200 + (n as u64 * 37 + nap * 411) % 1800)).await;
    }
    Ok(sum.to_string())
}
