//! `?` on a step that was not awaited.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<u64> {
    let n = ctx.step("one", async || Ok(1))?;
    Ok(n)
}

fn main() {}
