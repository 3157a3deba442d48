//! A step on a task of its own: what it borrows would have to outlive the workflow.
use everstep::{Ctx, Result};

pub async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    let task = tokio::spawn(ctx.step("length", async || Ok(name.len())));
    task.await?
}

fn main() {}
