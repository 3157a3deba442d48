//! A step calls a function with its own error type.
use everstep::{Ctx, Result};

#[derive(Debug)]
struct HrError;

async fn create(name: &str) -> Result<usize, HrError> {
    Ok(name.len())
}

pub async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    ctx.step("create", || create(&name)).await
}

fn main() {}
