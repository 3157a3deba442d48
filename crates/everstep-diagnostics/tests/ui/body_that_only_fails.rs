//! A body that never says what it would return.
use everstep::{Ctx, Error, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<()> {
    ctx.step("fail", async || Err(Error::terminal("no"))).await?;
    Ok(())
}

fn main() {}
