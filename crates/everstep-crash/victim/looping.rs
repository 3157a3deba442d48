//! A run that begins anew three times. Each generation makes the same two steps and takes a coin; what it hands on is a
//! number: the first digit is the run's, each further one a coin that was taken.

use std::time::Duration;

use everstep::{Ctx, EngineError, Result, StepCtx, Workflow, select};

use crate::{Workload, outside::Visited, world::World};

const LOOPING: Workflow<u64, String> = Workflow::new("looping");
const COIN: &str = "coin";
const COINS: u64 = 4;

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: LOOPING,
        register: |builder| builder.register(LOOPING, looping),
        runs: vec![("l-7".to_string(), 7)],
        visit: |run, _| Box::pin(visit(run)),
    }
}

async fn looping(ctx: Ctx, taken: u64, world: World) -> Result<String> {
    let generation = taken.ilog10();
    let stage = generation as usize * 2;
    let does = async |s: StepCtx, stage: usize| {
        world.effect_of(&ctx, &s, stage, generation);
        Ok(taken)
    };
    let before = ctx.step("before", async |s: StepCtx| does(s, stage).await).await?;
    // The wait that comes second gives back what it may have been given.
    let coin: u64 = select! {
        coin = ctx.signal(COIN) => coin,
        coin = ctx.signal(COIN) => coin,
    }?;
    ctx.step("after", async |s: StepCtx| does(s, stage + 1).await).await?;
    let taken = before * 10 + coin;
    if u64::from(generation) + 1 == COINS {
        return Ok(taken.to_string());
    }
    // Longer than runs stay in memory.
    ctx.sleep(Duration::from_millis(10)).await;
    ctx.restart(LOOPING, taken).await
}

async fn visit(to: Visited) -> std::result::Result<(), EngineError> {
    for coin in 1..=COINS {
        to.signal(COIN, coin).await?;
    }
    Ok(())
}
