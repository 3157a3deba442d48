//! Only steps have attempts.
use everstep::{Ctx, Result, Retry, seconds};

pub async fn workflow(ctx: Ctx, _: ()) -> Result<()> {
    ctx.sleep(seconds(1)).retry(Retry::exponential(3)).await;
    Ok(())
}

fn main() {}
