//! A body that is no future.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, name: String) -> Result<u64> {
    ctx.step("length", || Ok(name.len() as u64)).await
}

fn main() {}
