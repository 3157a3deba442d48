//! Real PostgreSQL servers for tests and benchmarks, and a [`proxy`] that breaks the connections to them.
//!
//! ```no_run
//! # async fn test() -> Result<(), everstep_cluster::Error> {
//! use everstep_cluster::{Cluster, Mode, Settings};
//!
//! // One server for all tests of a run; it ends by itself when nobody uses it any more.
//! let database = Cluster::shared()?.database().await?;
//! println!("{}", database.url());
//!
//! // One of one's own, to be broken.
//! let cluster = Cluster::private(Settings::default())?;
//! cluster.kill()?;
//! cluster.start()?;
//! # Ok(())
//! # }
//! ```
//!
//! Absent on purpose: containers, and everything that Everstep means by a store. Linux only: a postmaster's children are
//! found in `/proc`.

mod account;
mod address;
mod certificate;
mod cluster;
mod database;
mod error;
mod home;
mod keeper;
mod pooler;
mod postmaster;
mod private;
mod process;
mod programs;
pub mod proxy;
mod registry;
mod server;
mod settings;

pub use cluster::Cluster;
pub use database::Database;
pub use error::Error;
pub use pooler::Pooler;
pub use postmaster::Mode;
pub use private::Private;
pub use programs::{BIN, Programs, VERSION};
pub use settings::Settings;
