//! The runs that are crashed: one of everything that waits for the disk.
//!
//! Every body says that it begins before it does anything. Results follow from the inputs alone, so that every life of a
//! database must end with the same ones.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use everstep::{
    Builder, Ctx, Doubt, Error, NoState, Result, Retry, StepCtx, With, Workflow, days,
    sqlite::Transaction as _, store::Durability,
};

use crate::{
    promise::{Ending, Promise},
    recording::Recorder,
};

/// Steps one after the other.
const CHAIN: Workflow<u64, String> = Workflow::new("chain");
/// Two branches side by side, with steps in each.
const FAN: Workflow<u64, String> = Workflow::new("fan");
/// A row in the user's table, between two steps.
const PAID: Workflow<u64, String> = Workflow::new("paid");
/// A step that is not made twice, and says so when it may have been.
const CAREFUL: Workflow<u64, String> = Workflow::new("careful");
/// Timers between steps.
const PATIENT: Workflow<u64, String> = Workflow::new("patient");
/// A step whose first attempt fails.
const FLAKY: Workflow<u64, String> = Workflow::new("flaky");
/// Waits for days, and is cancelled.
const ENDLESS: Workflow<u64, String> = Workflow::new("endless");
/// All of them.
pub const ALL: [Workflow<u64, String>; 7] = [CHAIN, FAN, PAID, CAREFUL, PATIENT, FLAKY, ENDLESS];

/// The transactional step.
pub const PAY: &str = "pay";
/// The step that must not be made twice.
pub const SEND: &str = "send";
/// What a run of [`CAREFUL`] returns if nobody knows.
pub const IN_DOUBT: &str = "in doubt";
/// The user's own table.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS ledger (run TEXT NOT NULL)";

/// One run of the story.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its id.
    pub id: String,
    /// Its workflow.
    pub workflow: Workflow<u64, String>,
    /// Its input.
    pub input: u64,
}

impl Part {
    /// Whether it is to be cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.workflow.name() == ENDLESS.name()
    }
}

/// The whole cast: `of_each` runs of every workflow that this level allows.
pub fn parts(of_each: u64, durability: Durability) -> Vec<Part> {
    // What is not made twice needs a start that is durable: below that the engine refuses it.
    let allowed = |w: &Workflow<u64, String>| durability == Durability::Power || w.name() != CAREFUL.name();
    let of = |n| {
        ALL.into_iter().filter(allowed).map(move |workflow| {
            let id = format!("{}-{n}", workflow.name());
            Part { id, workflow, input: n }
        })
    };
    (1..=of_each).flat_map(of).collect()
}

/// The world outside of the runs.
#[derive(Clone, Default)]
pub struct World {
    recorder: Option<Arc<Recorder>>,
    bodies: Arc<Mutex<Bodies>>,
}

/// How often each attempt (the last number of the key) of each step of each run has begun.
pub type Bodies = BTreeMap<(String, String, u32), u32>;

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("bodies", &self.bodies).finish_non_exhaustive()
    }
}

impl World {
    /// Where this one hears of every body.
    pub fn told_to(recorder: Option<Arc<Recorder>>) -> World {
        World { recorder, bodies: Arc::default() }
    }

    /// The bodies that have begun here.
    pub fn bodies(&self) -> Bodies {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begins(&self, run: &str, s: &StepCtx, after: Option<&str>, marked: bool) {
        let (run, key) = (run.to_string(), s.key().to_string());
        let body = (run.clone(), key.clone(), s.attempt());
        *self.bodies.lock().unwrap_or_else(PoisonError::into_inner).entry(body).or_default() += 1;
        if let Some(recorder) = &self.recorder {
            let after = after.map(str::to_string);
            recorder.promised(Promise::Body { run, key, after, marked });
        }
    }
}

/// Registers all of it.
pub fn register(builder: Builder<NoState>, world: World) -> Builder<With<World>> {
    builder
        .state(world)
        .register(CHAIN, chain)
        .register(FAN, fan)
        .register(PAID, paid)
        .register(CAREFUL, careful)
        .register(PATIENT, patient)
        .register(FLAKY, flaky)
        .register(ENDLESS, endless)
}

/// How a run ends that nothing has disturbed.
pub fn ending(part: &Part) -> Ending {
    let n = part.input;
    let value = match part.workflow.name() {
        "chain" => format!("{}", (1..=LINKS).map(|link| link * n).sum::<u64>()),
        "fan" => format!("{} {}", 3 * n, 30 * n),
        "paid" => format!("{n} paid once"),
        "careful" => format!("sent {n}"),
        "patient" => format!("woken {n}"),
        "flaky" => format!("attempt 2 of {n}"),
        _ => return Ending::Cancelled,
    };
    Ending::Value(format!("{value:?}"))
}

const LINKS: u64 = 5;

async fn chain(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let (mut sum, mut last) = (0, None);
    for link in 1..=LINKS {
        let name = format!("link {link}");
        let body = async |s: StepCtx| {
            world.begins(ctx.id(), &s, last.as_deref(), false);
            // Every run has one result that fills pages of its own.
            let filling = if link == 2 { 9000 } else { 20 };
            Ok((link * n, "x".repeat(filling)))
        };
        sum += ctx.step(&name, body).await?.0;
        last = Some(name);
    }
    Ok(sum.to_string())
}

async fn fan(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let branch = |name: &'static str, by: u64| {
        let world = &world;
        ctx.scope(name, async move |ctx: Ctx| {
            let one = ctx.step("one", async |s: StepCtx| {
                world.begins(ctx.id(), &s, None, false);
                Ok(by * n)
            });
            let one = one.await?;
            let before = format!("{name}/one");
            let two = ctx.step("two", async |s: StepCtx| {
                world.begins(ctx.id(), &s, Some(&before), false);
                Ok(one * 2)
            });
            Ok(one + two.await?)
        })
    };
    let (left, right) = everstep::try_join!(branch("left", 1), branch("right", 10))?;
    Ok(format!("{left} {right}"))
}

async fn paid(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let before = async |s: StepCtx| {
        world.begins(ctx.id(), &s, None, false);
        Ok(())
    };
    ctx.step("before", before).await?;
    let id = ctx.id().to_string();
    let rows = ctx.transaction(PAY, move |tx| {
        tx.execute_batch(TABLE)?;
        tx.execute("INSERT INTO ledger (run) VALUES (?1)", [&id])?;
        Ok(tx.query_row("SELECT count(*) FROM ledger WHERE run = ?1", [&id], |row| row.get::<_, i64>(0))?)
    });
    let rows = rows.await?;
    let after = async |s: StepCtx| {
        world.begins(ctx.id(), &s, Some(PAY), false);
        Ok(n)
    };
    let n = ctx.step("after", after).await?;
    Ok(format!("{n} paid {}", if rows == 1 { "once".to_string() } else { format!("{rows} times") }))
}

async fn careful(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let before = async |s: StepCtx| {
        world.begins(ctx.id(), &s, None, false);
        Ok(())
    };
    ctx.step("before", before).await?;
    let send = async |s: StepCtx| {
        world.begins(ctx.id(), &s, Some("before"), true);
        Ok(n)
    };
    let sent = ctx.step(SEND, send).on_doubt(Doubt::Fail).await;
    let after = async |s: StepCtx| {
        world.begins(ctx.id(), &s, Some(SEND), false);
        Ok(())
    };
    ctx.step("after", after).await?;
    Ok(sent.map_or_else(|_| IN_DOUBT.to_string(), |n| format!("sent {n}")))
}

async fn patient(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let mut last = None;
    for name in ["first", "second"] {
        ctx.sleep(Duration::from_millis(n)).await;
        let body = async |s: StepCtx| {
            world.begins(ctx.id(), &s, last, false);
            Ok(())
        };
        ctx.step(name, body).await?;
        last = Some(name);
    }
    Ok(format!("woken {n}"))
}

async fn flaky(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let body = async |s: StepCtx| {
        world.begins(ctx.id(), &s, None, false);
        match s.attempt() {
            1 => Err(Error::from("not yet")),
            attempt => Ok(attempt),
        }
    };
    let attempt = ctx.step("flaky", body).retry(Retry::fixed(3, Duration::from_millis(1))).await?;
    Ok(format!("attempt {attempt} of {n}"))
}

async fn endless(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let body = async |s: StepCtx| {
        world.begins(ctx.id(), &s, None, false);
        Ok(())
    };
    ctx.step("first", body).await?;
    ctx.sleep(days(n)).await;
    Ok("nobody cancelled it".to_string())
}
