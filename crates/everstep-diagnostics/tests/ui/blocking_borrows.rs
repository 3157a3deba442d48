//! A blocking step runs on another thread and cannot borrow.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    ctx.step_blocking("length", || Ok(name.len())).await
}

fn main() {}
