//! Children: runs that a run starts, waits for, and takes with it when it ends.

use everstep::{Ctx, Engine, ErrorKind, Result, Workflow, days, seconds};

const SUM: Workflow<(u64, u64), u64> = Workflow::new("sum");
const SLOW: Workflow<u64, ()> = Workflow::new("slow");
const PARENT: Workflow<u64, String> = Workflow::new("parent");

/// Adds the numbers of a range: a long one in two children.
async fn sum(ctx: Ctx, (from, to): (u64, u64)) -> Result<u64> {
    if to - from <= 25 {
        return ctx.step("add", async || Ok((from..to).sum::<u64>())).await;
    }
    let middle = (from + to) / 2;
    let (left, right) = (ctx.run(SUM, (from, middle)), ctx.run(SUM, (middle, to)));
    let (left, right) = everstep::try_join!(left, right)?;
    Ok(left + right)
}

async fn slow(ctx: Ctx, n: u64) -> Result<()> {
    ctx.sleep(days(n)).await;
    Ok(())
}

async fn parent(ctx: Ctx, n: u64) -> Result<String> {
    let total = ctx.run(SUM, (0, n)).await?;
    // Children run beside what else the parent does.
    let late = ctx.start(SLOW, "late", 1).await?;
    if ctx.timeout(seconds(0), late.result()).await?.is_none() {
        late.cancel("it takes too long");
    }
    let error = late.result().await.err();
    let cancelled = error.is_some_and(|error| error.kind() == ErrorKind::Cancelled);
    // Nobody waits for these: one ends with its parent, the other does not.
    drop(ctx.start(SLOW, "closed", 1).await?);
    drop(ctx.start(SLOW, "left", 1).leave().await?);
    Ok(format!("sum {total}, late cancelled: {cancelled}"))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let builder = Engine::on(store).register(SUM, sum).register(SLOW, slow).register(PARENT, parent);
    let engine = builder.start().await?;
    println!("{}", engine.run(PARENT, "p", 100).await?);
    let closed = engine.get(SLOW, "closed").await?.result().await.expect_err("its parent is over");
    println!("{closed}");
    println!("left over: {}", engine.get(SLOW, "left").await?.status().await?.is_over());
    let sums = engine.list("workflow = sum").await?;
    println!("{} children, from `{}` on", sums.len(), sums[sums.len() - 1].id);
    engine.shutdown().await?;
    Ok(())
}
