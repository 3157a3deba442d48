//! A body that returns a value instead of a `Result`.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    ctx.step("length", async || name.len()).await
}

fn main() {}
