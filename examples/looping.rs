//! A loop of steps: each turn has a key of its own (`add`, `add#2`, ..), so a run that is cut off goes on in its turn.

use everstep::{Ctx, Engine, Result, Workflow};

const SUM: Workflow<u64, u64> = Workflow::new("sum");

async fn sum(ctx: Ctx, up_to: u64) -> Result<u64> {
    let mut total = 0;
    for n in 1..=up_to {
        total = ctx.step("add", async || Ok(total + n)).await?;
    }
    Ok(total)
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(SUM, sum).start().await?;
    let run = engine.start(SUM, "sum-1", 10).await?;
    println!("1 + .. + 10 = {}", run.result().await?);
    println!("journal: {} entries", run.journal().await?.len());
    engine.shutdown().await?;
    Ok(())
}
