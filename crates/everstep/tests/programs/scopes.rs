//! Scopes, maps and blocks that borrow, helpers that take a `Ctx`, recursion, the same names in every branch.

use everstep::{BoxFuture, Ctx, Data, Result, Retry, Workflow, seconds};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Batch {
    tenant: String,
    rows: Vec<u32>,
}

const IMPORT: Workflow<Batch, Vec<usize>> = Workflow::new("import");

async fn import(ctx: Ctx, batch: Batch) -> Result<Vec<usize>> {
    let tenant = &batch.tenant;
    let (left, right) = everstep::try_join!(
        ctx.scope("left", async |ctx| {
            let length = ctx.step("measure", async || Ok(tenant.len())).await?;
            ctx.sleep(seconds(30)).await;
            Ok(length + ctx.step("double", async || Ok(2 * length)).await?)
        }),
        ctx.scope("right", async |ctx| ctx.step("measure", async || Ok(tenant.len())).await),
    )?;
    // A scope for each row: the same names in all of them.
    let rows = batch.rows.iter().map(|row| {
        ctx.scope("row", async move |ctx| {
            let loaded = ctx.step("load", async || Ok(*row as usize + tenant.len())).await?;
            ctx.step("save", async || Ok(())).await?;
            Ok(loaded)
        })
    });
    let mut out = try_join_all(rows.collect::<Vec<_>>()).await?;
    let mapped = ctx.map("mapped", &batch.rows, 2, async |ctx, row| {
        let loaded = ctx.step("load", async || Ok(*row as usize + tenant.len())).await?;
        let checked = ctx.retry_block("check", Retry::exponential(3), async |ctx| {
            let drawn = ctx.random() % 2;
            ctx.step("look", async || if drawn == 0 { Err("not yet".into()) } else { Ok(loaded) }).await
        });
        Ok(checked.await.unwrap_or(loaded))
    });
    out.extend(mapped.at_most_failures(1).await?.into_iter().flatten());
    for round in 0..3usize {
        out.push(ctx.step("ping", async || Ok(round)).await?);
    }
    out.extend([left, right, leaves(&ctx, 3).await?, best_of(&ctx, vec![3usize, 9, 4]).await?]);
    Ok(out)
}

/// Recursion needs a box, as in all of async Rust.
fn leaves(ctx: &Ctx, depth: usize) -> BoxFuture<'_, Result<usize>> {
    Box::pin(async move {
        if depth == 0 {
            return ctx.step("leaf", async || Ok(1)).await;
        }
        let (a, b) = everstep::try_join!(
            ctx.scope("l", async move |ctx| leaves(&ctx, depth - 1).await),
            ctx.scope("r", async move |ctx| leaves(&ctx, depth - 1).await),
        )?;
        Ok(a + b)
    })
}

/// A helper that is generic over what it carries.
async fn best_of<T: Data + Clone + Sync + Ord>(ctx: &Ctx, all: Vec<T>) -> Result<T> {
    ctx.step("best", async || Ok(all.iter().max().cloned().ok_or("nothing to choose from")?)).await
}

#[test]
fn scopes_borrow_nest_and_recurse() -> anyhow::Result<()> {
    let batch = Batch { tenant: "acme".to_string(), rows: vec![1, 2, 3] };
    let out = crate::play(|builder| builder.register(IMPORT, import), IMPORT, batch)?;
    assert_eq!(out, [5, 6, 7, 5, 6, 7, 0, 1, 2, 12, 4, 8, 9]);
    Ok(())
}

const KEYS: Workflow<(), ()> = Workflow::new("keys");

/// The keys that people see: scopes, and numbers for what comes again.
#[test]
fn keys_are_paths_that_can_be_read() -> anyhow::Result<()> {
    crate::virtual_time(async {
        let world = everstep::Simulation::new(1);
        let keys = async |ctx: Ctx, ()| {
            for _ in 0..2 {
                ctx.scope("order", async |ctx| {
                    ctx.step("pay", async || Ok(())).await?;
                    ctx.step("pay", async || Ok(())).await
                })
                .await?;
            }
            ctx.sleep(seconds(1)).await;
            Ok(())
        };
        let builder = everstep::Engine::builder(everstep::store::Memory::default()).register(KEYS, keys);
        let engine = builder.simulated(&world).start().await?;
        let run = engine.start(KEYS, "k", ()).await?;
        run.result().await?;
        let journal = run.journal().await?;
        let keys: Vec<_> = journal.iter().filter_map(|entry| entry.key.as_deref()).collect();
        assert_eq!(keys, ["order/pay", "order/pay#2", "order#2/pay", "order#2/pay#2", "$sleep"]);
        Ok(())
    })
}
