//! An async body that writes to a variable outside.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<u64> {
    let mut count = 0u64;
    ctx.step("count", async || {
        count += 1;
        Ok(())
    })
    .await?;
    Ok(count)
}

fn main() {}
