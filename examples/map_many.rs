//! A map over 500 rows: 20 at a time, a scope each, and up to ten of them may fail.

use everstep::{Ctx, Engine, Result, Workflow};

const IMPORT: Workflow<u64, String> = Workflow::new("import");

async fn price_of(row: u64) -> Result<u64> {
    if row.is_multiple_of(50) { Err(format!("row {row} has no price"))? } else { Ok(row % 7) }
}

async fn import(ctx: Ctx, rows: u64) -> Result<String> {
    let prices = ctx.map("row", 1..=rows, 20, async |ctx, row| {
        let net = ctx.step("load", async || price_of(row).await).await?;
        ctx.step("save", async || Ok(net + 1)).await
    });
    let prices = prices.at_most_failures(10).await?;
    let (saved, failed): (Vec<_>, Vec<_>) = prices.into_iter().partition(Result::is_ok);
    let sum: u64 = saved.iter().flatten().sum();
    let first =
        failed.into_iter().find_map(Result::err).map_or("none".to_string(), |error| error.to_string());
    Ok(format!("{} saved for {sum}, the first that failed: {first}", saved.len()))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(IMPORT, import).start().await?;
    let run = engine.start(IMPORT, "i-500", 500).await?;
    println!("500 rows: {}", run.result().await?);
    let journal = run.journal().await?;
    let keys = journal.iter().filter_map(|entry| entry.key.as_deref());
    let of_one: Vec<&str> = keys.filter(|key| key.starts_with("row/7/")).collect();
    println!("steps of row 7: {}", of_one.join(", "));
    if let Err(error) = engine.run(IMPORT, "i-1000", 1000).await {
        println!("1000 rows: one failure too many: {error}");
    }
    engine.shutdown().await?;
    Ok(())
}
