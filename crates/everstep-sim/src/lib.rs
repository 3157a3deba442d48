//! The deterministic simulation of Everstep: several workers on one store, on one thread, in virtual time, from a seed.
//! Random programs run under random faults; checkers look at everything that was observed; the same seed goes the same
//! way again.
//!
//! Top to bottom: a `plan` says what one seed does (`program`s, `fault`s), a `world` is what everybody in it shares,
//! `life` lives through it. `machine`s run engines, each on an `opening` of the store under faults, while `trouble` and
//! `people` come from outside. `check` and `replay` judge the `history`. A `fleet` lives through many seeds; `shrink`
//! makes a failing plan smaller.
//!
//! Absent on purpose: power loss and failing disks (`everstep-disk`), real processes (`everstep-processes`), threads.

pub mod chance;
pub mod plan;
pub mod program;

pub mod fault;
pub mod history;
pub mod world;

pub mod base;
mod observed;
pub mod opening;
pub mod store;

mod correspondents;
pub mod life;
pub mod machine;
mod operators;
pub mod people;
pub mod trouble;

pub mod check;
pub mod replay;

pub mod coverage;
pub mod fleet;
pub mod shrink;
