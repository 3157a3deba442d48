//! Branches side by side: a scope each keeps their steps and random numbers apart.

use everstep::{Ctx, Engine, Result, Workflow, try_join};

const PRICES: Workflow<String, u64> = Workflow::new("prices");

async fn quote(ctx: &Ctx, item: &str, times: u64) -> Result<u64> {
    let net = ctx.step("net", async || Ok(item.len() as u64 * times)).await?;
    ctx.step("gross", async || Ok(net + net / 5)).await
}

async fn prices(ctx: Ctx, item: String) -> Result<u64> {
    let (left, right) = try_join!(
        ctx.scope("left", async |ctx| quote(&ctx, &item, 10).await),
        ctx.scope("right", async |ctx| quote(&ctx, &item, 20).await),
    )?;
    Ok(left.min(right))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(PRICES, prices).start().await?;
    let run = engine.start(PRICES, "p-1", "lamp".to_string()).await?;
    println!("best price {}", run.result().await?);
    let mut keys: Vec<String> =
        run.journal().await?.iter().filter_map(|e| Some(e.key.as_ref()?.to_string())).collect();
    keys.sort();
    println!("steps: {}", keys.join(", "));
    engine.shutdown().await?;
    Ok(())
}
