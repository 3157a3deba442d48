//! `select!`, `join!` and `try_join!` that always poll their branches in the order written: what a workflow does then
//! never depends on chance.

/// Waits for the first branch that is ready; the others are dropped. Branches are polled in the order written, always.
///
/// ```
/// # use everstep_core::{Ctx, Result, minutes};
/// async fn fetch(ctx: Ctx, _: ()) -> Result<String> {
///     everstep_core::select! {
///         page = ctx.step("fetch", async || Ok("page".to_string())) => page,
///         () = ctx.sleep(minutes(5)) => Ok("too late".to_string()),
///     }
/// }
/// ```
#[macro_export]
macro_rules! select {
    ($($branches:tt)*) => { $crate::__tokio::select! { biased; $($branches)* } };
}

/// Waits for all branches. Branches are polled in the order written, always.
#[macro_export]
macro_rules! join {
    ($($branch:expr),+ $(,)?) => { $crate::__tokio::join!(biased; $($branch),+) };
}

/// Waits for all branches, or for the first error. Branches are polled in the order written, always.
#[macro_export]
macro_rules! try_join {
    ($($branch:expr),+ $(,)?) => { $crate::__tokio::try_join!(biased; $($branch),+) };
}
