//! Everstep with real processes on a real kernel: what happens to a run when a process is killed, stopped, out of
//! space, or not alone. Every test waits for lines that the actors print; time passes only inside an actor.

/// The program of every process here.
const ACTOR: &str = env!("CARGO_BIN_EXE_actor");

mod clocks;
mod disk_full;
mod fsync;
mod killed;
mod others;
mod stopped;
mod transaction;
