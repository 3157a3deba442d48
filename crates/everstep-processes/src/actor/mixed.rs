//! A run with of everything a little: steps in a row and side by side, one that is repeated, one that is never made
//! twice, a transaction, a timer. Each body passes its gate before it returns. Without a time to pause it has neither
//! timer nor repetition: where a clock is an hour ahead, both may last an hour longer.

use std::time::Duration;

use everstep::{Ctx, Doubt, Result, Retry, StepCtx, sqlite::Transaction as _};

use super::workflows::World;

/// The steps whose bodies leave a line in the ledger, in the order of the code.
pub const STEPS: [&str; 6] = ["first", "left", "right", "again", "once", "last"];

pub(super) async fn mixed(ctx: Ctx, n: u64, world: World) -> Result<u64> {
    let visit = async |s: StepCtx| {
        world.note_who(ctx.id(), &s)?;
        world.pass_at(ctx.id(), s.key()).await?;
        Ok(1u64)
    };
    let fails_at_first = async |s: StepCtx| {
        let fails = s.attempt() == 1 && n > 0;
        let visited = visit(s).await?;
        if fails { Err("not at the first time".into()) } else { Ok(visited) }
    };

    let mut visits = ctx.step("first", &visit).await?;
    let (left, right) = everstep::try_join!(ctx.step("left", &visit), ctx.step("right", &visit))?;
    visits += left + right;
    visits += ctx.step("again", &fails_at_first).retry(Retry::fixed(5, Duration::from_millis(1))).await?;
    // Whoever was stopped in it: nobody knows, and it fails. The result is the same either way.
    let _ = ctx.step("once", &visit).on_doubt(Doubt::Fail).await;
    let id = ctx.id().to_string();
    let count =
        move |tx: &everstep::sqlite::Tx<'_>| Ok(tx.execute("INSERT INTO counted (run) VALUES (?1)", [&id])?);
    visits += ctx.transaction("count", count).await? as u64;
    if n > 0 {
        ctx.sleep(Duration::from_millis(n)).await;
    }
    visits += ctx.step("last", &visit).await?;
    Ok(visits)
}
