//! Steps made inside a stream: collect them into a `Vec` first.
use everstep::{Ctx, Engine, Result, Workflow, store::Memory};
use futures_util::{StreamExt, TryStreamExt, stream};

const W: Workflow<Vec<u64>, Vec<u64>> = Workflow::new("w");

async fn workflow(ctx: Ctx, items: Vec<u64>) -> Result<Vec<u64>> {
    stream::iter(&items)
        .map(|n| ctx.step("one", async move || Ok(*n)))
        .buffer_unordered(4)
        .try_collect()
        .await
}

fn main() {
    let _ = Engine::builder(Memory::default()).register(W, workflow);
}
