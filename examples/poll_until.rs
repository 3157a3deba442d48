//! Polls until something is done, for as long as it takes: every ten polls the run begins anew with what it knows, so that
//! its journal stays short and a crash in the second year replays ten polls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use everstep::{Ctx, Engine, Published, Result, Workflow};

const AWAIT_EXPORT: Workflow<Watch, String> = Workflow::new("await_export");
const POLLS: Published<u32> = Published::new("polls");
const POLLS_PER_GENERATION: u32 = 10;

/// What one generation hands to the next.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Watch {
    job: String,
    polls: u32,
}

/// Somebody else's service: a job that is done at its 35th look.
type Service = Arc<AtomicU32>;

async fn is_done(service: &Service) -> Result<bool> {
    Ok(service.fetch_add(1, Ordering::SeqCst) + 1 >= 35)
}

async fn await_export(ctx: Ctx, watch: Watch, service: Service) -> Result<String> {
    for n in 1..=POLLS_PER_GENERATION {
        if ctx.step("poll", async || is_done(&service).await).await? {
            return Ok(format!("{} is done after {} polls", watch.job, watch.polls + n));
        }
        ctx.sleep(Duration::from_millis(1)).await; // minutes, in earnest
    }
    let watch = Watch { polls: watch.polls + POLLS_PER_GENERATION, ..watch };
    ctx.publish(POLLS, &watch.polls);
    ctx.restart(AWAIT_EXPORT, watch).await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine =
        Engine::on(store).state(Service::default()).register(AWAIT_EXPORT, await_export).start().await?;
    let watch = Watch { job: "export-7".to_string(), polls: 0 };
    let run = engine.start(AWAIT_EXPORT, "export-7", watch).await?;
    println!("{}", run.result().await?);
    println!("polls before the last generation: {:?}", engine.published("export-7", POLLS).await?);
    println!("entries in its journal: {}", run.journal_len().await?);
    engine.shutdown().await?;
    Ok(())
}
