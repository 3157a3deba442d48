//! Something that cannot leave its thread is kept across an await.
use everstep::{Ctx, Engine, Result, Workflow, store::Memory};
use std::rc::Rc;

const W: Workflow<String, usize> = Workflow::new("w");

async fn workflow(ctx: Ctx, name: String) -> Result<usize> {
    let name = Rc::new(name);
    let n = ctx.step("one", async || Ok(1)).await?;
    Ok(n + name.len())
}

fn main() {
    let _ = Engine::builder(Memory::default()).register(W, workflow);
}
