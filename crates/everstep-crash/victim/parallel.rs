//! Steps side by side: many at once, in scopes, with attempts that fail, behind a timer.

use std::time::Duration;

use everstep::{Ctx, Error, Result, Retry, StepCtx, Workflow};
use futures_util::{StreamExt as _, stream::FuturesUnordered};

use crate::{Workload, outside::nobody, world::World};

const PARALLEL: Workflow<u64, String> = Workflow::new("parallel");

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: PARALLEL,
        register: |builder| builder.register(PARALLEL, parallel),
        runs: (1..=3).map(|n| (format!("p-{n}"), n)).collect(),
        visit: nobody,
    }
}

async fn parallel(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let wide = |name: String, stage: usize| {
        let (ctx, world) = (&ctx, &world);
        ctx.step(&name, async move |s: StepCtx| {
            world.effect(ctx, &s, stage);
            Ok(format!("{}={n}", s.key()))
        })
    };
    let mut told: Vec<String> = Vec::new();
    let mut open: FuturesUnordered<_> = (0..4).map(|i| wide(format!("wide-{i}"), 0)).collect();
    while let Some(one) = open.next().await {
        told.push(one?);
    }
    ctx.sleep(Duration::from_millis(3)).await;
    let branch = async |ctx: Ctx| {
        let flaky = async |s: StepCtx| {
            world.effect(&ctx, &s, 1);
            match s.attempt() {
                1 => Err(Error::from("not yet")),
                _ => Ok(format!("{}={n}", s.key())),
            }
        };
        ctx.step("flaky", flaky).retry(Retry::fixed(3, Duration::from_millis(1))).await
    };
    let (left, right) = everstep::try_join!(ctx.scope("left", branch), ctx.scope("right", branch))?;
    told.extend([left, right, wide("last".to_string(), 2).await?]);
    told.sort();
    Ok(told.join(","))
}
