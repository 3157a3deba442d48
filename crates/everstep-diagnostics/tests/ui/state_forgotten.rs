//! A workflow that takes a state the builder was not given.
use everstep::{Ctx, Engine, Result, Workflow, store::Memory};

const W: Workflow<String, u64> = Workflow::new("w");

async fn workflow(_: Ctx, _: String, n: u64) -> Result<u64> {
    Ok(n)
}

fn main() {
    let _ = Engine::builder(Memory::default()).register(W, workflow);
}
