//! What the actors run. Each body leaves a line in the ledger: a file that only grows, outside the database.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use everstep::{
    Builder, Ctx, Error, Result, StepCtx, With, Workflow,
    sqlite::{
        Transaction as _,
        rusqlite::{self, Connection, OpenFlags, types::FromSql},
    },
};
use tokio::sync::watch;

use super::mixed;

/// `n` small steps in a row.
const CHAIN: Workflow<u64, u64> = Workflow::new("chain");
/// `n` steps of 4 kB each.
const BULK: Workflow<u64, u64> = Workflow::new("bulk");
/// A step that waits for the gate with its run's name, between two others.
const GATED: Workflow<u64, u64> = Workflow::new("gated");
/// Counts itself in the user's table, between two steps.
const COUNTED: Workflow<u64, u64> = Workflow::new("counted");
/// A step that lasts for `n` beats of its worker.
const SLOW: Workflow<u64, u64> = Workflow::new("slow");
/// A step that always asks a person.
const ASKS: Workflow<u64, u64> = Workflow::new("asks");
/// Of everything a little, with pauses of `n` ms.
const MIXED: Workflow<u64, u64> = Workflow::new("mixed");
/// Sleeps for `n` s, beside a step that waits for the gate with its run's name.
const NAPS: Workflow<u64, u64> = Workflow::new("naps");
/// All of them.
pub(crate) const ALL: [Workflow<u64, u64>; 8] = [CHAIN, BULK, GATED, COUNTED, SLOW, ASKS, MIXED, NAPS];

pub(crate) fn register(builder: Builder<With<World>>) -> Builder<With<World>> {
    builder
        .register(CHAIN, chain)
        .register(BULK, bulk)
        .register(GATED, gated)
        .register(COUNTED, counted)
        .register(SLOW, slow)
        .register(ASKS, asks)
        .register(MIXED, mixed::mixed)
        .register(NAPS, naps)
}

/// The world outside the workflows.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    database: PathBuf,
    ledger: PathBuf,
    open: watch::Sender<HashSet<String>>,
}

impl World {
    pub(crate) fn new(database: &str, ledger: &str) -> World {
        World(Arc::new(Inner {
            database: database.into(),
            ledger: ledger.into(),
            open: watch::Sender::default(),
        }))
    }

    /// A body was here.
    fn note(&self, run: &str, s: &StepCtx) -> Result<()> {
        Ok(append(&self.0.ledger, &format!("{run} {}", s.key()))?)
    }

    /// A body was here, and under which worker: of a stopped one and of its heir it is not the same.
    pub(crate) fn note_who(&self, run: &str, s: &StepCtx) -> Result<()> {
        let (key, attempt, fence) = (s.key(), s.attempt(), s.fence_number());
        Ok(append(&self.0.ledger, &format!("{run} {key} {attempt} {fence}"))?)
    }

    /// Lets the run with this name pass, now or later; `RUN/KEY`: in this step only.
    pub(crate) fn open(&self, gate: &str) {
        self.0.open.send_modify(|open| {
            open.insert(gate.to_string());
        });
    }

    async fn pass(&self, run: &str) -> Result<()> {
        self.0.open.subscribe().wait_for(|open| open.contains(run)).await?;
        Ok(())
    }

    /// Waits until the run may pass in this step.
    pub(crate) async fn pass_at(&self, run: &str, key: &str) -> Result<()> {
        let gate = format!("{run}/{key}");
        self.0.open.subscribe().wait_for(|open| open.contains(run) || open.contains(&gate)).await?;
        Ok(())
    }

    /// One value out of the database, past the engine.
    pub(crate) fn read<T: FromSql>(&self, sql: &str) -> rusqlite::Result<T> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(&self.0.database, flags)?.query_row(sql, [], |row| row.get(0))
    }
}

/// Appends one line, whole, whoever else appends.
pub(crate) fn append(ledger: &Path, line: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(ledger)?.write_all(format!("{line}\n").as_bytes())
}

async fn chain(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    for _ in 0..n {
        ctx.step("link", async |s: StepCtx| world.note(ctx.id(), &s)).await?;
    }
    Ok(n)
}

async fn bulk(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    for _ in 0..n {
        let fill = async |s: StepCtx| {
            world.note(ctx.id(), &s)?;
            Ok("x".repeat(4000))
        };
        ctx.step("fill", fill).await?;
    }
    Ok(n)
}

async fn gated(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    ctx.step("before", async |s: StepCtx| world.note(ctx.id(), &s)).await?;
    let held = async |s: StepCtx| {
        world.note(ctx.id(), &s)?;
        world.pass(ctx.id()).await
    };
    ctx.step("held", held).await?;
    ctx.step("after", async |s: StepCtx| world.note(ctx.id(), &s)).await?;
    Ok(n)
}

async fn counted(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    ctx.step("before", async |s: StepCtx| world.note(ctx.id(), &s)).await?;
    let id = ctx.id().to_string();
    let rows =
        ctx.transaction("count", move |tx| Ok(tx.execute("INSERT INTO counted (run) VALUES (?1)", [&id])?));
    let rows = rows.await?;
    ctx.step("after", async |s: StepCtx| world.note(ctx.id(), &s)).await?;
    Ok(n + rows as u64)
}

#[allow(
    clippy::disallowed_methods,
    reason = "time passes in this body until its worker has beaten often enough"
)]
async fn slow(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    let last = async |s: StepCtx| {
        world.note(ctx.id(), &s)?;
        let beats = format!("SELECT beat FROM everstep_worker WHERE id = {}", s.fence_number());
        let until = world.read::<i64>(&beats)? + i64::try_from(n)?;
        while world.read::<i64>(&beats)? < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(n)
    };
    ctx.step("last", last).await
}

async fn naps(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    let nap = async {
        ctx.sleep(Duration::from_secs(n)).await;
        Ok(())
    };
    let gate = ctx.step("gate", async |_: StepCtx| world.pass(ctx.id()).await);
    let ((), ()) = everstep::try_join!(nap, gate)?;
    ctx.step("woken", async |s: StepCtx| world.note(ctx.id(), &s)).await?;
    Ok(n)
}

async fn asks(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    let ask = async |s: StepCtx| {
        world.note(ctx.id(), &s)?;
        Err(Error::from("nobody but a person knows"))
    };
    Ok(n + ctx.step("ask", ask).then_stuck().await.unwrap_or(0u64))
}
