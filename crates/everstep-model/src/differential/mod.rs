//! The same operations on the in-memory store, which is the oracle, and on SQLite: replies, rings and the full state
//! compared, until no new kind of reply appears.
//!
//! Absent on purpose: what the suite of `everstep-conformance` says a store must do. Here nobody says what is right; two
//! stores that were written apart agree, or one of them is wrong.

mod operation;
mod people;
mod sample;

mod draw;
mod shrink;

mod call;
mod reply;
mod signature;

mod picture;
mod saying;
mod side;
mod world;

mod campaign;
mod kinds;
mod play;

pub use campaign::{Failure, Figures, campaign, replay, run};
pub use draw::stream;
pub use operation::*;
pub use people::{Cutting, Deed, Sending};
pub use play::{Difference, Played};
