//! Two steps with undos, a wait that leaves memory, a signal, a third step; then it fails, and undoes the two.

use std::time::Duration;

use everstep::{Ctx, Result, StepCtx, Workflow};

use crate::{
    Workload,
    world::{World, undoes},
};

const SAGA: Workflow<u64, String> = Workflow::new("saga");
const GO: &str = "go";

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: SAGA,
        register: |builder| builder.register(SAGA, saga),
        runs: (1..=3).map(|n| (format!("s-{n}"), n)).collect(),
        visit: |run, n| Box::pin(async move { run.signal(GO, n).await }),
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
            undoes(&run, name, 4 - stage);
            Ok(())
        })
        .await?;
    }
    ctx.sleep(Duration::from_millis(20)).await;
    let got: u64 = ctx.signal(GO).await?;
    ctx.step("note", async |s: StepCtx| {
        world.effect(&ctx, &s, 2);
        Ok(got)
    })
    .await?;
    Err("sold out".into())
}
