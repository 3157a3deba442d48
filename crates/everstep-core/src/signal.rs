//! Signals: values that reach a run from outside, by name. Here their names and how a workflow waits for them; how they
//! are sent is in `client/signal`, who gets which in `driver/mail`.

use std::panic::Location;

use crate::{
    Ctx, Op,
    body::{Data, decodes_as},
    driver::{run::Wants, table::Sort},
    error::Result,
    name::typed_name,
    op::Wait,
};

typed_name! {
    /// The name of a signal that carries a `T`: both ends agree by type. `Copy`, whatever `T` is.
    ///
    /// ```
    /// use everstep_core::Signal;
    /// const APPROVED: Signal<bool> = Signal::new("approved");
    /// assert_eq!(APPROVED.name(), "approved");
    /// ```
    Signal<T>, "signal"
}

impl Ctx {
    /// Waits for a signal of this name: the first that was sent and that no other wait took, sent before this call or
    /// after it.
    ///
    /// Signals of one name are taken in the order in which they were sent, each by exactly one wait; of several waits of
    /// one name the one that was called first is served first. A run that only waits leaves memory and costs a row.
    ///
    /// # Errors
    /// A signal that does not decode as `T`: it is taken and recorded as refused, and the next wait gets the next one.
    /// [`ErrorKind::Misuse`](crate::ErrorKind) as for steps.
    ///
    /// # What survives a crash
    /// A signal that was acknowledged to its sender; which wait got it.
    ///
    /// # Cancel safety
    /// A wait that is dropped before it returned takes nothing: the signal goes to the next wait of its name. What nobody
    /// took by the end of the run is in [`Run::undelivered`](crate::Run::undelivered).
    ///
    /// ```
    /// # use everstep_core::{Ctx, Engine, EngineError, Result, Signal, Workflow, days, store::Memory};
    /// const APPROVED: Signal<bool> = Signal::new("approved");
    /// async fn order(ctx: Ctx, item: String) -> Result<String> {
    ///     match ctx.timeout(days(3), ctx.signal(APPROVED)).await? {
    ///         Some(true) => Ok(format!("{item} ordered")),
    ///         Some(false) => Ok("declined".to_string()),
    ///         None => Ok("nobody decided".to_string()),
    ///     }
    /// }
    /// # const ORDER: Workflow<String, String> = Workflow::new("order");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), EngineError> {
    /// # let engine = Engine::builder(Memory::default()).register(ORDER, order).start().await?;
    /// let run = engine.start(ORDER, "desk-7", "a desk".to_string()).await?;
    /// engine.signal("desk-7", APPROVED, true).await?;
    /// assert_eq!(run.result().await?, "a desk ordered");
    /// # engine.shutdown().await
    /// # }
    /// ```
    #[track_caller]
    pub fn signal<T: Data>(&self, name: impl Into<Signal<T>>) -> Op<'static, Result<T>> {
        let site = Location::caller();
        let core = self.core.clone();
        let wait = self.claim(Sort::Signal, name.into().name(), site).map(|(claim, op, _)| {
            let place = core.state().table.aside().mail.claim();
            let wants = Wants { signal: Some((place, decodes_as::<T>)), ..Wants::default() };
            Wait::new(core, claim, op, wants)
        });
        Op::new(async move { wait?.value("signal").await })
    }
}
