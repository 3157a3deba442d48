//! The onboarding of the example: a record, laptop and access side by side, a mail.

use everstep::{Ctx, Result, StepCtx, Workflow, try_join};

use crate::{Workload, outside::nobody, world::World};

const ONBOARD: Workflow<u64, String> = Workflow::new("onboard");

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: ONBOARD,
        register: |builder| builder.register(ONBOARD, onboard),
        runs: (1..=4).map(|n| (format!("emp-{n}"), n)).collect(),
        visit: nobody,
    }
}

async fn onboard(ctx: Ctx, hire: u64, world: World) -> Result<String> {
    let does = async |s: StepCtx, stage: usize| {
        world.effect(&ctx, &s, stage);
        Ok(format!("{}={hire}", s.key()))
    };
    let record = ctx.step("create_record", async |s: StepCtx| does(s, 0).await).await?;
    let (laptop, access) = try_join!(
        ctx.step("provision_laptop", async |s: StepCtx| does(s, 1).await),
        ctx.step("provision_access", async |s: StepCtx| does(s, 1).await),
    )?;
    let mail = ctx.step("send_welcome_email", async |s: StepCtx| does(s, 2).await).await?;
    Ok([record, laptop, access, mail].join(","))
}
