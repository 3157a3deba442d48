//! A step returns what cannot be kept.
use everstep::{Ctx, Result};

struct Connection {
    number: u64,
}

pub async fn workflow(ctx: Ctx, _: ()) -> Result<u64> {
    let connection = ctx.step("connect", async || Ok(Connection { number: 1 })).await?;
    Ok(connection.number)
}

fn main() {}
