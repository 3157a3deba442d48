//! What every store of Everstep must do, as data: one list of named cases.
//!
//! A store proves itself with a [`Bench`] and one line, which makes a test of each case; a store cannot leave one out:
//!
//! ```ignore
//! fn bench() -> MyBench { .. }                      // a store with nothing in it
//! everstep_conformance::conformance_tests!(bench);  // `claim::no_more_than_the_limit`, ...
//! ```
//!
//! Cases ask a store only through its trait. Absent on purpose: what is a store's own (files, connections, power), how
//! fast it is, and what the engine makes of it.
#![deny(missing_docs)]

mod bench;
mod case;
mod list;

mod desk;
mod load;
mod sample;
mod worker;

mod cases;

pub use bench::{Bench, Deed};
pub use case::{Case, assert_complete, cases, check};
