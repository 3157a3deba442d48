//! Before a deploy: can the open runs go on with the new code? A step that was put in between breaks those that have
//! passed it; behind `ctx.patched` it breaks none. The `main` of a check is the body of `check`: three lines.

use std::sync::Arc;

use everstep::{CheckReport, Ctx, Engine, EngineError, Result, Settings, Signal, Workflow, store::Store};

const SHIP: Workflow<String, String> = Workflow::new("ship");
const PICKED_UP: Signal<()> = Signal::new("picked_up");

/// As it runs today.
async fn ship(ctx: Ctx, item: String) -> Result<String> {
    ctx.step("pack", async || Ok(())).await?;
    ctx.signal(PICKED_UP).await?;
    Ok(format!("{item} is on its way"))
}

/// The new code, as one would write it at first.
async fn ship_insured(ctx: Ctx, item: String) -> Result<String> {
    ctx.step("insure", async || Ok(())).await?;
    ship(ctx, item).await
}

/// The new code, for those runs that come to it.
async fn ship_patched(ctx: Ctx, item: String) -> Result<String> {
    if ctx.patched("insured") {
        ctx.step("insure", async || Ok(())).await?;
    }
    ship(ctx, item).await
}

/// Today's code.
async fn run_today(store: &Arc<dyn Store>) -> std::result::Result<(), EngineError> {
    let engine = Engine::on(store.clone()).register(SHIP, ship).settings(of("monday")).start().await?;
    let mut events = engine.events();
    engine.start(SHIP, "desk-7", "a desk".to_string()).await?;
    while !matches!(events.next().await, Some(everstep::Event::StepDone { .. })) {}
    engine.shutdown().await
}

fn of(build: &str) -> Settings {
    Settings { build: Some(build.to_string()), ..Settings::default() }
}

async fn check<F, Fut>(store: &Arc<dyn Store>, code: F) -> std::result::Result<CheckReport, EngineError>
where
    F: Fn(Ctx, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    let report = Engine::on(store.clone()).register(SHIP, code).settings(of("tuesday")).check().await?;
    print!("{report}");
    Ok(report) // or `std::process::exit(report.exit_code())`
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    run_today(&store).await?;
    println!("exit code {}", check(&store, ship_insured).await?.exit_code());
    println!("exit code {}", check(&store, ship_patched).await?.exit_code());
    Ok(())
}
