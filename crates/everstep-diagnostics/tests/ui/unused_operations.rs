//! A step with options, a sleep, a timeout, a scope, a map, a start, a list and a builder that nobody awaits.
#![deny(unused_must_use)]
use everstep::{Client, Ctx, Engine, Result, Retry, Workflow, seconds, store::Memory};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<()> {
    ctx.step("forgotten", async || Ok(())).retry(Retry::exponential(3));
    ctx.sleep(seconds(1));
    ctx.timeout(seconds(1), ctx.step("bounded", async || Ok(())));
    ctx.scope("inner", async |_| Ok(()));
    ctx.map("items", [1, 2], 2, async |_, _| Ok(()));
    Ok(())
}

pub fn outside(client: &Client) {
    client.start(Workflow::<u64, u64>::new("w"), "id", 1);
    client.list("");
    client.run(Workflow::<u64, u64>::new("w"), "id", 1);
    Engine::builder(Memory::default());
}

fn main() {}
