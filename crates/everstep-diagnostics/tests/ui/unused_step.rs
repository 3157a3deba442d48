//! A step that nobody awaits.
#![deny(unused_must_use)]
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<()> {
    ctx.step("forgotten", async || Ok(()));
    Ok(())
}

fn main() {}
