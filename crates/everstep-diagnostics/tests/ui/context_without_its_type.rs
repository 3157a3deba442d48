//! A body that takes a context must say its type: `async |s: StepCtx|`.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<u32> {
    ctx.step("attempt", async |s| Ok(s.attempt())).await
}

fn main() {}
