//! Errors: every way in by `?`, typed ones out again, terminal ones, and a program's own enum around ours.

use everstep::{Ctx, EngineError, Error, Result, Retry, StepCtx, Workflow, seconds};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

async fn with_a_box() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    Ok(1)
}

async fn with_anyhow() -> anyhow::Result<u32> {
    Ok(2)
}

async fn charge(cents: u64) -> Result<u64, Declined> {
    match cents {
        0..100 => Ok(cents),
        666 => Err(Declined::Stolen),
        _ => Err(Declined::NoFunds { missing: cents - 100 }),
    }
}

async fn charge_with_anyhow(cents: u64) -> anyhow::Result<u64> {
    use anyhow::Context as _;
    charge(cents).await.context("while charging")
}

const PAY: Workflow<u64, String> = Workflow::new("pay");

async fn pay(ctx: Ctx, cents: u64) -> Result<String> {
    // Every kind of error in one body, without an annotation.
    let sum = ctx
        .step("mixed", async || {
            let number: u32 = "42".parse()?;
            let more = with_anyhow().await? + with_a_box().await?;
            let one = Some(1u32).ok_or("nothing there")?;
            if number == 0 {
                Err(format!("{number} is no number"))?;
            }
            Ok(number + more + one)
        })
        .await?;
    assert_eq!(sum, 46);

    // Kept whole, also when anyhow was between.
    let hidden = ctx.step("hidden", async || Ok(charge_with_anyhow(cents).await?)).typed::<Declined>().await;
    let charged = ctx
        .step("charge", async |s: StepCtx| {
            assert_eq!(s.attempt(), 1, "a declined card is not tried again");
            Ok(charge(cents).await?)
        })
        .typed::<Declined>()
        .retry(Retry::exponential(5).when(|e| !e.is::<Declined>()))
        .await;
    assert_eq!(
        hidden.as_ref().err().and_then(Error::downcast::<Declined>),
        charged.as_ref().err().and_then(Error::downcast::<Declined>)
    );
    match charged {
        Ok(paid) => Ok(format!("paid {paid}")),
        Err(error) => match error.downcast::<Declined>() {
            Some(Declined::NoFunds { missing }) => Ok(format!("{missing} missing")),
            Some(Declined::Stolen) => Err(Error::terminal("call the police")),
            None => Err(error),
        },
    }
}

/// A program's own error around ours, as `thiserror`'s `#[from]` would write it.
#[derive(Debug)]
enum AppError {
    Engine(EngineError),
}

impl From<EngineError> for AppError {
    fn from(error: EngineError) -> Self {
        AppError::Engine(error)
    }
}

fn play(cents: u64) -> Result<String, AppError> {
    Ok(crate::play(|builder| builder.register(PAY, pay), PAY, cents)?)
}

#[test]
fn a_match_on_a_typed_error_works_live_and_on_replay() -> Result<(), AppError> {
    assert_eq!(play(7)?, "paid 7");
    assert_eq!(play(150)?, "50 missing");
    let AppError::Engine(stolen) = play(666).expect_err("the police are called");
    assert_eq!(stolen.to_string(), "call the police");
    assert!(stolen.raised_at().contains("errors.rs:"), "{stolen:?}");
    Ok(())
}

const RENEW: Workflow<(), u64> = Workflow::new("renew");

/// The typed error of a run comes out of it, through a scope, `anyhow` in a helper, and the engine's own error.
#[test]
fn a_typed_error_leaves_the_run() {
    async fn helper(ctx: &Ctx) -> anyhow::Result<u64> {
        Ok(ctx.step("charge", async || Ok(charge(150).await?)).typed_as::<Declined>("declined").await?)
    }
    let renew = async |ctx: Ctx, ()| {
        let charged = ctx.scope("billing", async |ctx| Ok(helper(&ctx).await?)).await?;
        ctx.step("never", async || Ok(charged)).await
    };
    let error = crate::play(|builder| builder.register(RENEW, renew), RENEW, ()).expect_err("declined");
    assert_eq!(error.downcast_as("declined"), Some(Declined::NoFunds { missing: 50 }));
    let outside: anyhow::Error = error.into();
    assert_eq!(outside.to_string(), "declined: NoFunds { missing: 50 }");
}

const POLITE: Workflow<(), u64> = Workflow::new("polite");

/// A service that says when to come back.
#[test]
fn a_service_may_say_when_to_try_again() -> anyhow::Result<()> {
    let polite = async |ctx: Ctx, ()| {
        let before = ctx.now();
        ctx.step("call", async |s: StepCtx| match s.attempt() {
            1 => Err(Error::retry_after("429 too many requests", seconds(90))),
            _ => Ok(()),
        })
        .retry(Retry::fixed(3, seconds(1)))
        .await?;
        Ok(ctx.now().duration_since(before)?.as_secs())
    };
    assert_eq!(crate::play(|builder| builder.register(POLITE, polite), POLITE, ())?, 90);
    Ok(())
}
