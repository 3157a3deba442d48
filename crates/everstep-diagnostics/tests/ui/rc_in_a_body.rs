//! A body keeps something across an await that cannot leave its thread.
use everstep::{Ctx, Result};
use std::rc::Rc;

async fn create(name: &str) -> std::io::Result<usize> {
    Ok(name.len())
}

pub async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    ctx.step("create", async || {
        let shared = Rc::new(name.clone());
        Ok(create(&shared).await? + shared.len())
    })
    .await
}

fn main() {}
