//! An approval that is waited for, and not for ever: the answer is a signal, and a timeout says what happens without one.

use everstep::{Ctx, Engine, Result, Signal, Workflow};
use std::time::Duration;

const EXPENSE: Workflow<Expense, String> = Workflow::new("expense");
const DECISION: Signal<Decision> = Signal::new("decision");

#[derive(serde::Serialize, serde::Deserialize)]
struct Expense {
    what: String,
    /// Three days in earnest; a run that waits for long leaves memory and costs a row.
    wait_ms: u64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Decision {
    by: String,
    approved: bool,
}

async fn expense(ctx: Ctx, expense: Expense) -> Result<String> {
    let what = &expense.what;
    ctx.step("ask", async || {
        println!("please decide about {what}");
        Ok(())
    })
    .await?;
    let decision = ctx.timeout(Duration::from_millis(expense.wait_ms), ctx.signal(DECISION)).await?;
    match decision {
        Some(Decision { by, approved: true }) => {
            ctx.step("pay", async || Ok(format!("{what} is paid, approved by {by}"))).await
        }
        Some(Decision { by, .. }) => Ok(format!("{what} is refused by {by}")),
        None => Ok(format!("nobody has decided about {what} in time")),
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(EXPENSE, expense).start().await?;
    for (what, approved) in [("train", Some(true)), ("yacht", Some(false)), ("lunch", None)] {
        let wait_ms = if approved.is_some() { 3 * 86_400_000 } else { 20 };
        let run = engine.start(EXPENSE, what, Expense { what: what.to_string(), wait_ms }).await?;
        if let Some(approved) = approved {
            // From a web handler, say: durable when it returns, also if the run does not wait yet. Sent twice, it is one.
            for _ in 0..2 {
                engine
                    .signal(what, DECISION, Decision { by: "Ada".to_string(), approved })
                    .key("form-1")
                    .await?;
            }
        }
        println!("{}", run.result().await?);
    }
    engine.shutdown().await?;
    Ok(())
}
