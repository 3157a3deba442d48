//! Everstep under a real kernel: processes that are killed, stopped, out of space, told the wrong time, or not alone.
//!
//! The pieces that tests and the binaries `stale`, `signals`, `moves` and `load` play with. Absent on purpose: time, but for
//! `load`, which measures it. Everybody waits for lines that the processes print; time passes only inside them.

pub mod actor;
pub mod chance;
pub mod clock;
pub mod load;
pub mod moves;
pub mod process;
pub mod signals;
pub mod stage;
pub mod stale;
