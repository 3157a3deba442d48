//! Two transactional steps between two plain ones.

use everstep::{Ctx, Result, StepCtx, Workflow, postgres, sqlite};

use crate::{Workload, outside::nobody, world::World};

const TRANSFER: Workflow<u64, String> = Workflow::new("transfer");

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: TRANSFER,
        register: |builder| builder.register(TRANSFER, transfer),
        runs: (1..=4).map(|n| (format!("t-{n}"), n)).collect(),
        visit: nobody,
    }
}

async fn transfer(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let does = async |s: StepCtx, stage: usize| {
        world.effect(&ctx, &s, stage);
        Ok(format!("{}={n}", s.key()))
    };
    let before = ctx.step("before", async |s: StepCtx| does(s, 0).await).await?;
    let debit = row(&ctx, "debit", n, &world).await?;
    let credit = row(&ctx, "credit", n, &world).await?;
    let after = ctx.step("after", async |s: StepCtx| does(s, 3).await).await?;
    Ok([before, debit, credit, after].join(","))
}

/// Writes a row of the user's, and nothing else.
pub(crate) async fn row(ctx: &Ctx, name: &str, n: u64, world: &World) -> Result<String> {
    match world.on_postgres {
        true => on_server(ctx, name, n).await,
        false => in_file(ctx, name, n).await,
    }
}

async fn in_file(ctx: &Ctx, name: &str, n: u64) -> Result<String> {
    let (run, key) = (ctx.id().to_string(), name.to_string());
    let written = sqlite::Transaction::transaction(ctx, name, move |tx| {
        tx.execute("INSERT INTO moved (run, key) VALUES (?1, ?2)", [&run, &key])?;
        Ok(format!("{key}={n}"))
    });
    written.await
}

async fn on_server(ctx: &Ctx, name: &str, n: u64) -> Result<String> {
    let written = postgres::Transaction::transaction(ctx, name, async |tx| {
        tx.execute("INSERT INTO moved (run, key) VALUES ($1, $2)", &[&ctx.id(), &name]).await?;
        Ok(format!("{name}={n}"))
    });
    written.await
}
