//! A race with a timeout: whichever comes first is recorded, and stays first on every replay.

#![allow(clippy::disallowed_methods, reason = "the body stands for a slow server")]

use everstep::{Ctx, Engine, Result, Workflow, select};
use std::time::Duration;

const ASK: Workflow<u64, String> = Workflow::new("ask");

async fn slow_answer(ms: u64) -> Result<String> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(format!("after {ms} ms"))
}

async fn ask(ctx: Ctx, ms: u64) -> Result<String> {
    let bounded =
        ctx.timeout(Duration::from_millis(100), ctx.step("first", async || slow_answer(ms).await)).await?;
    let raced = select! {
        answer = ctx.step("second", async || slow_answer(ms).await) => answer?,
        () = ctx.sleep(Duration::from_millis(100)) => "nobody".to_string(),
    };
    Ok(format!("{} / {raced}", bounded.unwrap_or_else(|| "too late".to_string())))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(ASK, ask).start().await?;
    println!("quick: {}", engine.run(ASK, "quick", 1).await?);
    println!("slow: {}", engine.run(ASK, "slow", 60_000).await?);
    engine.shutdown().await?;
    Ok(())
}
