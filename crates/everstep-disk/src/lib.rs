//! Everstep on disks that lose power and fail.
//!
//! A VFS before SQLite's own sees every call that reaches the disk. **Power**: a life of the engine is recorded with
//! everything that it promises on the way; then the disk is crashed at every operation, with what was not synced kept,
//! lost or garbled, and the engine opens what is left. **Faults**: the n-th call fails, once or for ever.
//!
//! Absent on purpose: disks that lie (only to show that the checker sees it), and bits that rot.

pub mod vfs;

pub mod recording;

pub mod disk;

pub mod content;
pub mod promise;

pub mod story;
pub mod witness;

pub mod life;

pub mod again;
pub mod history;
pub mod power;

pub mod faults;

mod chance;
