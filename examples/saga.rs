//! A trip in three bookings. The third fails, so the others are taken back, last first; the process dies in the middle of
//! that, and the next one goes on with it.

use std::{path::Path, process::Command};

use everstep::{Ctx, Engine, Result, StepCtx, Workflow, sqlite::Sqlite};

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
async fn run(db: &Path, dies: bool) -> AnyResult<()> {
    let engine = Engine::builder(Sqlite::open(db)?).state(dies).register(TRIP, trip).start().await?;
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
    if let [_, verb, db] = &std::env::args().collect::<Vec<_>>()[..] {
        return run(Path::new(db), verb == "crash");
    }
    let folder = tempfile::tempdir()?;
    let db = folder.path().join("trips.db");
    for verb in ["crash", "run"] {
        println!("-- {verb}");
        Command::new(std::env::current_exe()?).arg(verb).arg(&db).status()?;
    }
    Ok(())
}
