//! A body writes to a variable outside: replay would not.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<u64> {
    let mut count = 0u64;
    ctx.step("count", || {
        count += 1;
        async { Ok(()) }
    })
    .await?;
    Ok(count)
}

fn main() {}
