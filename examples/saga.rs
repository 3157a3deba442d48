//! A trip in three bookings. The third fails, so the others are taken back, last first; the process dies in the middle of
//! that, and the next one goes on with it.

use std::process::Command;

use everstep::{Ctx, Engine, Result, StepCtx, Workflow};
use everstep_examples::named_db;

type AnyResult<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TRIP: Workflow<String, String> = Workflow::new("trip");

async fn trip(ctx: Ctx, to: String, dies: bool) -> Result<String> {
    for what in ["hotel", "flight"] {
        ctx.step(what, async || {
            println!("book the {what} to {to}");
            Ok(format!("{what} to {to}"))
        })
        .undo(async move |booking| {
            println!("cancel the {booking}");
            if dies {
                println!("(killed before that is recorded)");
                kill_this_process();
            }
            Ok(())
        })
        .await?;
    }
    ctx.step("car", async |_: StepCtx| -> Result<String> { Err("no car is left")? }).await
}

fn kill_this_process() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[tokio::main]
async fn run(db: &str, dies: bool) -> AnyResult<()> {
    let engine = Engine::on(everstep_examples::open(db).await?).state(dies).register(TRIP, trip);
    let engine = engine.settings(everstep_examples::settings(db)).start().await?;
    let run = engine.start(TRIP, "trip-1", "Rome".to_string()).await?;
    if let Err(error) = run.result().await {
        println!("the trip failed: {error}");
    }
    for entry in run.journal().await? {
        let what = entry.known_kind().map_or("?", |kind| kind.word());
        println!("  {} {what}", entry.key.as_deref().unwrap_or("-"));
    }
    Ok(engine.shutdown().await?)
}

fn main() -> AnyResult<()> {
    let folder = tempfile::tempdir()?;
    let db = named_db().unwrap_or_else(|| folder.path().join("trips.db").display().to_string());
    if let Some(verb @ ("crash" | "run")) = std::env::args().nth(1).as_deref() {
        return run(&db, verb == "crash");
    }
    for verb in ["crash", "run"] {
        println!("-- {verb}");
        Command::new(std::env::current_exe()?).args([verb, "--db", &db]).status()?;
    }
    Ok(())
}
