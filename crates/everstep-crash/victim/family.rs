//! Runs that start others. One waits for two children, leaves a third alone and ends, which ends a fourth. One is cancelled
//! when its child has started a child of its own: both go with it, and everybody undoes what he has done; a child that was
//! left goes on.

use everstep::{Child, Ctx, EngineError, Result, StepCtx, Stream, Workflow, days, try_join};

use crate::{
    Workload,
    outside::Visited,
    world::{World, say, undoes},
};

const FAMILY: Workflow<u64, String> = Workflow::new("family");
/// Its input tells what it does.
const CHILD: Workflow<u64, String> = Workflow::new("child");
/// Whose child has begun to wait.
const READY: Stream<u64> = Stream::new("ready");
const GO: &str = "go";

/// A child that ends by itself.
const ENDS: u64 = 1;
/// A child that ends when it is told to.
const IS_TOLD: u64 = 2;
/// A child that never ends by itself.
const WAITS: u64 = 3;
/// A child that has such a child.
const HAS_CHILD: u64 = 4;

pub(crate) fn workload() -> Workload {
    Workload {
        workflow: FAMILY,
        register: |builder| builder.register(FAMILY, family).register(CHILD, child),
        runs: vec![("f-1".to_string(), 1), ("f-2".to_string(), 2)],
        visit: |run, n| {
            Box::pin(async move {
                match n {
                    1 => stay(run).await,
                    _ => go(run).await,
                }
            })
        },
    }
}

async fn family(ctx: Ctx, n: u64, world: World) -> Result<String> {
    let id = ctx.id().to_string();
    let told = ctx
        .step("before", async |s: StepCtx| {
            world.effect(&ctx, &s, 0);
            Ok(format!("{}={n}", s.key()))
        })
        .undo(async move |_| {
            undoes(&id, "before", 3);
            Ok(())
        })
        .await?;
    let left = ctx.start(CHILD, format!("{}.left", ctx.id()), IS_TOLD).leave().await?;
    match n {
        1 => {
            let run = async |ctx: Ctx| ctx.run(CHILD, ENDS).await;
            let (one, other) = try_join!(ctx.scope("one", run), ctx.scope("other", run))?;
            drop(ctx.start(CHILD, format!("{}.closed", ctx.id()), WAITS).await?);
            drop(left);
            ctx.step("after", async |s: StepCtx| {
                world.effect(&ctx, &s, 1);
                Ok(())
            })
            .await?;
            Ok([told, one, other].join(","))
        }
        _ => {
            on_cancel(&ctx);
            let child: Child<String> = ctx.start(CHILD, format!("{}.child", ctx.id()), HAS_CHILD).await?;
            ctx.emit(READY, &n);
            child.result().await
        }
    }
}

fn on_cancel(ctx: &Ctx) {
    let id = ctx.id().to_string();
    ctx.on_cancel(async move |_: StepCtx| {
        undoes(&id, "$on_cancel", 2);
        Ok(())
    });
}

async fn child(ctx: Ctx, what: u64, world: World) -> Result<String> {
    let id = ctx.id().to_string();
    let told = ctx
        .step("work", async |s: StepCtx| {
            world.effect(&ctx, &s, 0);
            Ok(format!("{}={what}", s.key()))
        })
        .undo(async move |_| {
            undoes(&id, "work", 3);
            Ok(())
        })
        .await?;
    match what {
        ENDS => {}
        IS_TOLD => {
            let word: u64 = ctx.signal(GO).await?;
            ctx.step("late", async |s: StepCtx| {
                world.effect(&ctx, &s, 1);
                Ok(word)
            })
            .await?;
        }
        WAITS => ctx.sleep(days(1)).await,
        _ => {
            on_cancel(&ctx);
            let own = ctx.start(CHILD, format!("{}.own", ctx.id()), WAITS).await?;
            ctx.emit(READY, &what);
            return own.result().await;
        }
    }
    Ok(told)
}

/// Whoever was left is told to end.
async fn stay(to: Visited) -> std::result::Result<(), EngineError> {
    let _ = to.run.result().await;
    tell_left(&to).await?;
    to.end_of(CHILD, &format!("{}.closed", to.id())).await
}

/// Cancels the run when its child has a child.
async fn go(to: Visited) -> std::result::Result<(), EngineError> {
    let id = to.id();
    let child = format!("{id}.child");
    for run in [id, &child] {
        to.client.stream(run, READY).next().await?.expect("it tells before it can be over");
    }
    to.tell(to.client.cancel(id, "asked to"), format!("asked {id}")).await?;
    for run in [&child, &format!("{child}.own")] {
        to.end_of(CHILD, run).await?;
    }
    let _ = to.run.result().await;
    tell_left(&to).await
}

async fn tell_left(to: &Visited) -> std::result::Result<(), EngineError> {
    let left = to.client.get(CHILD, format!("{}.left", to.id())).await?;
    if !left.status().await?.is_over() {
        to.client.signal(left.id(), GO, 7u64).key("the only one").await?;
        say(format!("signalled {} {GO} 7", left.id()));
    }
    to.end_of(CHILD, left.id()).await
}
