//! Everstep under a real kernel: processes that are killed, stopped, out of space, told the wrong time, or not alone.
//!
//! The pieces that tests and the binaries `stale`, `signals` and `moves` play with. Absent on purpose: time. Everybody waits for
//! lines that the processes print; time passes only inside them.

pub mod actor;
pub mod chance;
pub mod clock;
pub mod moves;
pub mod process;
pub mod signals;
pub mod stage;
pub mod stale;
