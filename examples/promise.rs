//! A promise: a value that somebody outside owes to a run, each time by a token of its own.

use everstep::{Client, Ctx, Engine, Promise, Result, Workflow, seconds};
use tokio::sync::mpsc;

const ORDER: Workflow<String, String> = Workflow::new("order");

/// What goes to the payment service: what it calls back with.
type Payments = mpsc::UnboundedSender<String>;

async fn order(ctx: Ctx, item: String, payments: Payments) -> Result<String> {
    let payment: Promise<u64> = ctx.promise("payment").expires(seconds(86_400));
    ctx.step("ask_for_payment", async || Ok(payments.send(payment.token().to_string())?)).await?;
    match payment.await {
        Ok(cents) => Ok(format!("{item} for {cents} cents")),
        Err(error) => Ok(format!("no {item}: {error}")),
    }
}

/// What the payment service does: it knows nothing of the run.
async fn pays(client: &Client, token: &str, cents: u64) -> std::result::Result<(), everstep::EngineError> {
    match cents {
        0 => client.reject(token, "the card was declined").await,
        _ => client.resolve(token, cents).await,
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let (payments, mut asked) = mpsc::unbounded_channel();
    let engine = Engine::on(store).state(payments).register(ORDER, order).start().await?;
    for (item, cents) in [("desk", 4_200), ("lamp", 0)] {
        let run = engine.start(ORDER, item, item.to_string()).await?;
        let token = asked.recv().await.expect("the order asks");
        pays(&engine, &token, cents).await?;
        pays(&engine, &token, cents).await?; // a callback that comes twice
        println!("{}", run.result().await?);
        let late = engine.resolve(&token, 1u64).await.expect_err("it was settled");
        println!("{}", late.code());
    }
    engine.shutdown().await?;
    Ok(())
}
