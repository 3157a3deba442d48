//! What every store of Everstep must do, as data: one list of named cases.
//!
//! A store proves itself with a [`Bench`] and one line, which makes a test of each case (`claim::a_run_is_claimed_once`);
//! a store cannot leave one out:
//!
//! ```
//! use std::{any::Any, sync::Arc};
//!
//! use everstep_conformance::{Bench, Deed, conformance_tests};
//! use everstep_core::{BoxFuture, Error, journal::Payload, store::{Memory, MemoryJob, Store}};
//!
//! struct MemoryBench(Memory);
//!
//! impl Bench for MemoryBench {
//!     fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
//!         Box::pin(async { Arc::new(self.0.reopen()) as Arc<dyn Store> })
//!     }
//!     fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send> {
//!         Box::new(MemoryJob(Box::new(move |rows| {
//!             let before = rows.len();
//!             for deed in deeds {
//!                 match deed {
//!                     Deed::Write(text) => drop(rows.insert(text.clone(), text)),
//!                     Deed::Fail(why) => return Err(Error::from(why)),
//!                     Deed::Panic(why) => panic!("{why}"),
//!                 }
//!             }
//!             Ok(Payload::json((rows.len() - before).to_string()))
//!         })))
//!     }
//!     fn rows(&self) -> BoxFuture<'_, Vec<String>> {
//!         Box::pin(async { self.0.rows().into_values().collect() })
//!     }
//! }
//!
//! fn bench() -> MemoryBench {
//!     MemoryBench(Memory::default())
//! }
//!
//! conformance_tests!(bench);
//! # fn main() {
//! #     everstep_conformance::cases().iter().for_each(|case| everstep_conformance::check(case.name, bench()));
//! # }
//! ```
//!
//! Cases ask a store only through its trait. Absent on purpose: what is a store's own (files, connections, power), how
//! fast it is, and what the engine makes of it.
#![deny(missing_docs)]

mod bench;
mod case;
mod list;

mod desk;
pub mod filters;
mod load;
mod sample;
mod worker;

mod cases;

pub use bench::{Bench, Deed};
pub use case::{Case, assert_complete, cases, check};
