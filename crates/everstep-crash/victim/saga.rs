//! Two steps with undos, a wait that leaves memory, a signal, a third step; then it fails, and undoes the two.

use std::time::Duration;

use everstep::{Ctx, Result, Signal, StepCtx, Workflow};

use crate::{
    Workload,
    world::{World, say},
};

const SAGA: Workflow<u64, String> = Workflow::new("saga");
pub(crate) const GO: Signal<u64> = Signal::new("go");

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: SAGA,
        register: |builder| builder.register(SAGA, saga),
        runs: (1..=3).map(|n| (format!("s-{n}"), n)).collect(),
        cancelled: None,
        signalled: true,
    }
}

async fn saga(ctx: Ctx, n: u64, world: World) -> Result<String> {
    for (stage, name) in ["book", "rent"].into_iter().enumerate() {
        let run = ctx.id().to_string();
        ctx.step(name, async |s: StepCtx| {
            world.effect(&ctx, &s, stage);
            Ok(format!("{}={n}", s.key()))
        })
        // The last is undone first.
        .undo(async move |_| {
            say(format!("effect {run} undo/{name} 1 {}", 4 - stage));
            Ok(())
        })
        .await?;
    }
    ctx.sleep(Duration::from_millis(20)).await;
    let got = ctx.signal(GO).await?;
    ctx.step("note", async |s: StepCtx| {
        world.effect(&ctx, &s, 2);
        Ok(got)
    })
    .await?;
    Err("sold out".into())
}
