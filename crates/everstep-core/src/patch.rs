//! Patches: how a workflow's code changes while runs are open.

use std::panic::Location;

use crate::{Ctx, name::check_name};

impl Ctx {
    /// Whether this run takes the new way. Put a change of what a workflow asks for behind it: runs that had passed this
    /// place before the change go on as they began, all others take the new way.
    ///
    /// The first call with this `id` in a run decides for the whole run, and the decision is recorded. When no run is
    /// left that goes the old way (see [`Client::patches`](crate::Client::patches)), the old code can go, and so can the
    /// call.
    ///
    /// # What survives a crash
    /// The decision.
    ///
    /// # Panics
    /// As [`Ctx::publish`].
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// async fn ship(ctx: Ctx, item: String) -> Result<String> {
    ///     if ctx.patched("insured") {
    ///         ctx.step("insure", async || Ok(())).await?;
    ///     }
    ///     ctx.step("ship", async || Ok(format!("{item} is on its way"))).await
    /// }
    /// # const SHIP: Workflow<String, String> = Workflow::new("ship");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(SHIP, ship).start().await?;
    /// let run = engine.start(SHIP, "desk-7", "a desk".to_string()).await?;
    /// run.result().await?;
    /// assert_eq!(run.journal_len().await?, 5); // start, patch, two steps, outcome
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn patched(&self, id: &str) -> bool {
        let allowed = self.core.check_command("`patched`").and_then(|()| check_name("patch", id));
        if let Err(error) = allowed {
            panic!("{error}");
        }
        self.core.patched(id, Location::caller())
    }
}
