//! A workflow that returns `anyhow::Result`.
use everstep::{Ctx, Engine, Workflow, store::Memory};

const W: Workflow<String, usize> = Workflow::new("w");

async fn workflow(ctx: Ctx, name: String) -> anyhow::Result<usize> {
    Ok(ctx.step("length", async || Ok(name.len())).await?)
}

fn main() {
    let _ = Engine::builder(Memory::default()).register(W, workflow);
}
