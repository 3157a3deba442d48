//! A payment of which nobody knows whether it went through: `verify` looks, or a person answers; and a worker that is
//! replaced in the middle.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use everstep::{
    Ctx, Doubt, Engine, ErrorKind, Result, Retry, Settings, Status, Step, StepCtx, Verdict, Workflow,
    journal::Answer, seconds, sqlite::Sqlite,
};

/// A provider that keeps what it was asked to do by the key it was given, and never answers the first call.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<HashMap<String, Vec<u64>>>>);

impl Provider {
    async fn charge(&self, key: &str, cents: u64) -> Result<u64> {
        let calls = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let charged = all.entry(key.to_string()).or_default();
            charged.push(cents);
            charged.len()
        };
        match calls {
            1 => std::future::pending().await,
            _ => Ok(cents),
        }
    }

    fn charged(&self, key: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|calls| calls[0])
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}

const PAY: Workflow<u64, u64> = Workflow::new("pay");

/// A workflow whose payment is made as `policy` says.
fn paying<P>(
    policy: P,
) -> impl Fn(Ctx, u64, Provider) -> everstep::BoxFuture<'static, Result<u64>> + Send + Sync
where
    P: for<'a> Fn(Step<'a, u64>, &'a Provider) -> Step<'a, u64> + Copy + Send + Sync + 'static,
{
    move |ctx, cents, provider| {
        Box::pin(async move {
            let order = ctx.step("order", async || Ok(cents + 1)).await?;
            let pay = ctx.step("pay", async |s: StepCtx| provider.charge(s.idempotency_key(), order).await);
            let paid = policy(pay, &provider).input(&order).await?;
            ctx.step("receipt", async || Ok(paid)).await
        })
    }
}

#[test]
fn verify_looks_instead_of_paying_twice() -> anyhow::Result<()> {
    let provider = Provider::default();
    let pay = |builder: everstep::Builder| {
        builder.state(provider.clone()).register(
            PAY,
            paying(|step, provider| {
                step.attempt_timeout(seconds(30)).retry(Retry::exponential(3)).verify(async |s: StepCtx| {
                    Ok(match provider.charged(s.idempotency_key()) {
                        Some(cents) => Verdict::Done(cents),
                        None => Verdict::NotDone,
                    })
                })
            }),
        )
    };
    assert_eq!(crate::play(pay, PAY, 41)?, 42);
    assert_eq!(provider.calls(), 1);
    Ok(())
}

#[test]
fn by_default_it_is_made_again_with_the_same_key() -> anyhow::Result<()> {
    let provider = Provider::default();
    let pay = |builder: everstep::Builder| {
        let policy = paying(|step, _| step.attempt_timeout(seconds(30)).retry(Retry::exponential(3)));
        builder.state(provider.clone()).register(PAY, policy)
    };
    assert_eq!(crate::play(pay, PAY, 41)?, 42);
    assert_eq!(provider.calls(), 2);
    assert_eq!(provider.0.lock().unwrap_or_else(PoisonError::into_inner).len(), 1, "under one key");
    Ok(())
}

/// The worker goes in the middle of the payment. The next one asks a person, who knows, and the run goes on; what was
/// recorded before is not done again.
#[tokio::test]
async fn a_person_answers_after_the_worker_is_gone() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shop.db");
    let provider = Provider::default();
    let open = async || {
        let builder = Engine::builder(Sqlite::open(&file)?)
            .state(provider.clone())
            .register(PAY, paying(|step, _| step.on_doubt(Doubt::Ask)))
            .settings(Settings { grace: std::time::Duration::ZERO, ..Settings::default() });
        anyhow::Ok(builder.start().await?)
    };

    let engine = open().await?;
    let mut events = engine.events();
    let run = engine.start(PAY, "order-1", 41).await?;
    // The body begins after its mark is durable.
    while provider.calls() == 0 {
        events.next().await.expect("the engine is there");
        tokio::task::yield_now().await;
    }
    engine.shutdown().await?;
    drop(run);

    let engine = open().await?;
    let run = engine.get(PAY, "order-1").await?;
    let asks = run.result().await.expect_err("it needs a person");
    assert_eq!((asks.kind(), run.status().await?), (ErrorKind::Stuck, Status::Stuck));
    engine.answer("order-1", Answer::Done { value: "42".to_string() }).await?;
    assert_eq!(run.result().await?, 42);
    assert_eq!(provider.calls(), 1);
    engine.shutdown().await?;
    Ok(())
}
