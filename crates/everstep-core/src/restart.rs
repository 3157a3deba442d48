//! Restarts: a run begins anew with another input, under its id, with an empty journal.

use std::convert::Infallible;

use crate::{
    Ctx, Workflow,
    body::Data,
    client::json_of,
    driver::table::Sort,
    error::{Code, Error, Result},
};

impl Ctx {
    /// Begins this run anew with another input: same id, next generation, empty journal. The old journal goes to the
    /// archive, so that a loop that runs for years replays only its last round. Never returns.
    ///
    /// # What the next generation has
    /// Signals that nobody has taken, and requests that nobody serves yet; attributes, published values and streams; the
    /// deadline, and the run that waits for its outcome. A cancel that was asked for.
    ///
    /// # What it has not
    /// Handles. Children that this generation has started are cancelled, but those that were
    /// [left](crate::StartChild::leave) go on and nobody hears of their outcome: to hear of it, wait for it before the
    /// restart, or let the child send a signal to this run, whose id stays. The tokens of this generation's promises are
    /// good for nothing any more; the next one makes its own. Requests that were taken and not answered get an error.
    /// Registered undos, and timers: begin a generation when nothing is under way.
    ///
    /// # What survives a crash
    /// The restart is one transaction: the run is in the old generation or in the new one.
    ///
    /// # Panics
    /// With open operations (a step or a wait that was made and is not over, a promise that is held): their list is in the
    /// message. With steps that a later failure would have to undo: see [`Ctx::forget_undos`]. With another
    /// workflow's name, an input that is too large or does not come back from its own JSON, and as [`Ctx::sleep`]. The run
    /// is then stuck until the code is mended.
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Workflow, store::Memory};
    /// const COUNT: Workflow<u64, u64> = Workflow::new("count");
    /// async fn count(ctx: Ctx, done: u64) -> Result<u64> {
    ///     let done = ctx.step("one", async || Ok(done + 1)).await?;
    ///     match done {
    ///         1_000 => Ok(done),
    ///         _ => ctx.restart(COUNT, done).await,
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(COUNT, count).start().await?;
    /// let run = engine.start(COUNT, "thousand", 0).await?;
    /// assert_eq!(run.result().await?, 1_000);
    /// assert_eq!(run.journal_len().await?, 3);
    /// # engine.shutdown().await
    /// # }
    /// ```
    pub async fn restart<I: Data, O>(&self, workflow: Workflow<I, O>, input: I) -> ! {
        if let Err(error) = self.ask_restart(workflow.name(), &input) {
            panic!("{error}");
        }
        match std::future::pending::<Infallible>().await {}
    }

    fn ask_restart<I: Data>(&self, workflow: &str, input: &I) -> Result<()> {
        self.core.check_place("`restart`")?;
        let own = &self.core.claimed.row.workflow;
        if **own != *workflow {
            let message =
                format!("a run of `{own}` cannot be restarted as `{workflow}`: start that one instead");
            return Err(Error::misuse(Code::WRONG_WORKFLOW, message));
        }
        let input = json_of("the input of the restart", input, self.payload_bytes_max())
            .map_err(|error| Error::misuse(error.code(), error.to_string()))?;
        let state = &mut *self.core.state();
        let open: Vec<_> = state
            .table
            .iter()
            .filter(|(_, slot)| slot.sort != Sort::Scope)
            .map(|(_, slot)| format!("{} `{}` ({})", slot.sort.word(), slot.key, slot.site))
            .collect();
        if !open.is_empty() {
            let message = format!(
                "`restart` with open operations, whose outcome would be lost: {}. Await or drop them first",
                open.join(", ")
            );
            return Err(Error::misuse(Code::OPEN_AT_RESTART, message));
        }
        if state.table.has_aside().is_some_and(|aside| !aside.undos.is_empty()) {
            let message = "`restart` with steps that a later failure would have to undo, and that the new generation does not know: call `ctx.forget_undos` first if nothing of them is to be undone";
            return Err(Error::misuse(Code::OPEN_AT_RESTART, message));
        }
        state.restart = Some(input);
        Ok(())
    }
}
