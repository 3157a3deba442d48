//! A function that does not fit the name it is registered under.
use everstep::{Ctx, Engine, Result, Workflow, store::Memory};

const W: Workflow<String, u64> = Workflow::new("w");

async fn other(_: Ctx, n: u64) -> Result<u64> {
    Ok(n)
}

fn main() {
    let _ = Engine::builder(Memory::default()).register(W, other);
}
