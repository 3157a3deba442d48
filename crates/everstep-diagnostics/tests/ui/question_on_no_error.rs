//! `?` on an error type that is none.
use everstep::{Ctx, Result};

struct Refused;

async fn call() -> Result<u64, Refused> {
    Ok(1)
}

pub async fn workflow(ctx: Ctx, _: ()) -> Result<u64> {
    ctx.step("call", async || Ok(call().await?)).await
}

fn main() {}
