//! A body uses up what cannot be cloned.
use everstep::{Ctx, Result};

struct Socket;
impl Socket {
    async fn close(self) -> Result<()> {
        Ok(())
    }
}

pub async fn workflow(ctx: Ctx, _: ()) -> Result<()> {
    let socket = Socket;
    ctx.step("close", async move || socket.close().await).await
}

fn main() {}
