//! Drives one run: polls its function, delivers its journal, turns what happens into entries.
//!
//! `stack` who runs on this thread · `wake` wakers · `table` the open operations · `run` the run as all see it ·
//! `drive` the rounds · `replay` recorded entries · `ending` how a load ends.

mod drive;
mod ending;
mod replay;
pub(crate) mod run;
pub(crate) mod stack;
pub(crate) mod table;
pub(crate) mod wake;

pub(crate) use drive::{Drive, Exit};
