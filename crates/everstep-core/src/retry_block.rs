//! A block of operations that is retried as one. Takes no entry of its own: what is recorded are the operations of
//! each attempt and the pauses between attempts.

use std::{future::Future, panic::Location};

use crate::{
    body::{Outcome, Repeat},
    ctx::Ctx,
    error::Result,
    op::Op,
    retry::{Decision, Retry},
};

impl Ctx {
    /// Runs `body`, and again by `retry` when it fails: several operations as one. Each attempt has a scope of its
    /// own, `pay/1`, `pay/2`, ..., so that a second attempt does its steps anew; a step's own retries come before.
    ///
    /// Bound the whole with [`Ctx::timeout`].
    ///
    /// # What survives a crash
    /// The steps of every attempt, failed ones too, and the pauses, each an entry. Pauses count from [`Ctx::now`] at the
    /// failure on; which attempt is the last follows from the recorded errors.
    ///
    /// # Errors
    /// That of the last attempt: when the attempts are used up, or at once if it is terminal, as a misuse is and a step
    /// that ran out of its [`timeout`](crate::Step::timeout). Misuse as in [`Ctx::step`].
    ///
    /// # Cancel safety
    /// Does nothing before it is polled. Dropped in the middle, it drops the attempt that runs: of its steps holds what
    /// holds of any [`Step`](crate::Step) that is dropped.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Retry, Workflow, store::Memory};
    /// # use std::{sync::atomic::{AtomicU64, Ordering::SeqCst}, time::Duration};
    /// async fn pay(ctx: Ctx, cents: u64) -> Result<String> {
    ///     let tokens = AtomicU64::new(0); // stands for a provider whose first token has expired when it is used
    ///     ctx.retry_block("pay", Retry::fixed(3, Duration::from_millis(5)), async |ctx| {
    ///         let token = ctx.step("token", async || Ok(tokens.fetch_add(1, SeqCst))).await?;
    ///         let charge = ctx.step("charge", async || if token == 0 { Err("expired".into()) } else { Ok(cents) });
    ///         Ok(format!("{} with token {token}", charge.await?))
    ///     })
    ///     .await
    /// }
    /// # const W: Workflow<u64, String> = Workflow::new("w");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(W, pay).start().await?;
    /// assert_eq!(engine.run(W, "run-1", 7).await?, "7 with token 1");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn retry_block<'a, T, F, Fut>(&self, name: &str, retry: Retry, body: F) -> Op<'a, Result<T>>
    where
        F: FnOnce(Ctx) -> Fut + Repeat + Send + 'a,
        Fut: Future + Send + 'a,
        Fut::Output: Outcome<T>,
        T: 'a,
    {
        let site = Location::caller();
        let open = self.open_scope("block", name, site);
        Op::new(async move {
            let mut scope = open?;
            scope.polled();
            let block = scope.inner();
            let mut attempt = 1;
            loop {
                let failed = match body.again()(block.numbered(attempt.into())).await.into_result() {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                let Decision::RetryAfter(pause) = retry.decide(attempt, &failed, scope.chance(attempt))
                else {
                    return Err(failed);
                };
                block.try_timer("$pause", pause, site)?.await;
                attempt += 1;
            }
        })
    }
}
