//! Errors keep their type through the journal: the same `match` works live and on every replay.

use everstep::{Ctx, Engine, Error, Result, Workflow};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Declined {
    NoFunds { missing: u64 },
    Stolen,
}

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "declined: {self:?}")
    }
}
impl std::error::Error for Declined {}

fn charge(cents: u64) -> std::result::Result<u64, Declined> {
    match cents {
        0..100 => Ok(cents),
        666 => Err(Declined::Stolen),
        _ => Err(Declined::NoFunds { missing: cents - 100 }),
    }
}

const PAY: Workflow<u64, String> = Workflow::new("pay");

async fn pay(ctx: Ctx, cents: u64) -> Result<String> {
    match ctx.step("charge", async || Ok(charge(cents)?)).typed::<Declined>().await {
        Ok(paid) => Ok(format!("paid {paid}")),
        Err(error) => match error.downcast::<Declined>() {
            Some(Declined::NoFunds { missing }) => Ok(format!("{missing} missing")),
            Some(Declined::Stolen) => Err(Error::terminal("the card is stolen")),
            None => Err(error),
        },
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).register(PAY, pay).start().await?;
    for cents in [7, 150, 666] {
        match engine.run(PAY, format!("pay-{cents}"), cents).await {
            Ok(said) => println!("{cents}: {said}"),
            Err(error) => println!("{cents}: failed with {} {error}", error.code()),
        }
    }
    engine.shutdown().await?;
    Ok(())
}
