//! A step's result is owned: a `&str` cannot be read back after a crash.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<()> {
    ctx.step("text", async || Ok("borrowed")).await?;
    Ok(())
}

fn main() {}
