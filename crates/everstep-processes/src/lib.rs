//! Everstep under a real kernel: processes that are killed, stopped, out of space, told the wrong time, or not alone.
//!
//! The pieces that tests and the binary `stale` play with. Absent on purpose: time. Everybody waits for lines that the
//! actors print; time passes only inside an actor.

pub mod actor;
pub mod clock;
pub mod process;
pub mod stage;
pub mod stale;
