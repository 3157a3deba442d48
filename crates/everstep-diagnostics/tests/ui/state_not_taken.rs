//! A workflow without the state that the builder was given.
use everstep::{Ctx, Engine, Result, Workflow, store::Memory};

const W: Workflow<String, u64> = Workflow::new("w");

async fn workflow(_: Ctx, _: String) -> Result<u64> {
    Ok(1)
}

fn main() {
    let _ = Engine::builder(Memory::default()).state(7u64).register(W, workflow);
}
