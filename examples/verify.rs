//! A step in doubt: the payment may or may not have gone through when the attempt was cut off. `verify` asks the
//! provider instead of charging twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use everstep::{Ctx, Engine, Result, Retry, StepCtx, Verdict, Workflow};

/// A provider that takes the money, and whose first answer is lost.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<HashMap<String, u64>>>);

impl Provider {
    async fn charge(&self, key: &str, cents: u64) -> Result<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_string(), cents);
        println!("provider: charged {cents}");
        // The answer never comes: the attempt runs out of time, in doubt.
        std::future::pending().await
    }

    fn look(&self, key: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

const PAY: Workflow<u64, u64> = Workflow::new("pay");

async fn pay(ctx: Ctx, cents: u64, provider: Provider) -> Result<u64> {
    ctx.step("charge", async |s: StepCtx| provider.charge(s.idempotency_key(), cents).await)
        .attempt_timeout(Duration::from_millis(50))
        .retry(Retry::exponential(3))
        .verify(async |s: StepCtx| {
            println!("verify: looking for the charge");
            Ok(provider.look(s.idempotency_key()).map_or(Verdict::NotDone, Verdict::Done))
        })
        .await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (_folder, store) = everstep_examples::fresh().await?;
    let engine = Engine::on(store).state(Provider::default()).register(PAY, pay).start().await?;
    println!("paid {}", engine.run(PAY, "order-7", 1900).await?);
    engine.shutdown().await?;
    Ok(())
}
