//! Retries with a growing pause. The pauses are recorded: they survive a crash, and so does the attempt's number.

use everstep::{Ctx, Engine, Error, Event, Result, Retry, StepCtx, Workflow};
use std::time::Duration;

const FETCH: Workflow<String, String> = Workflow::new("fetch");

/// A server that answers the third time, and says once how long to wait.
async fn get(url: &str, attempt: u32) -> Result<String> {
    match attempt {
        1 => Err(Error::retry_after("503, come back later", Duration::from_millis(50))),
        2 => Err("connection reset".into()),
        _ => Ok(format!("200 from {url}")),
    }
}

async fn fetch(ctx: Ctx, url: String) -> Result<String> {
    ctx.step("get", async |s: StepCtx| get(&url, s.attempt()).await)
        .retry(Retry::exponential(5).first_pause(Duration::from_millis(20)).jitter(0.0))
        .await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(FETCH, fetch).start().await?;
    let mut events = engine.events();
    let result = engine.run(FETCH, "f-1", "http://example/".to_string()).await?;
    engine.shutdown().await?;
    while let Some(event) = events.try_next() {
        if let Event::AttemptFailed { attempt, error, retry_in, .. } = event {
            println!("attempt {attempt}: {error}; again in {retry_in:?}");
        }
    }
    println!("{result}");
    Ok(())
}
