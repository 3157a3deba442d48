//! A helper that takes a `Ctx` and returns a boxed error.
use everstep::Ctx;

pub async fn helper(ctx: &Ctx) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    Ok(ctx.step("one", async || Ok(1)).await?)
}

fn main() {}
