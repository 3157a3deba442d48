//! Everstep runs ordinary async functions so that they survive crashes.
//!
//! A *workflow* is an async function; each *step* in it runs once, its result is made durable, and after a crash the
//! function is run again with the recorded results answering, so that finished work is never done twice.
//!
//! ```
//! use everstep::{Ctx, Engine, Result, Retry, Workflow, sqlite::Sqlite};
//!
//! const GREET: Workflow<String, usize> = Workflow::new("greet");
//!
//! async fn greet(ctx: Ctx, name: String) -> Result<usize> {
//!     let greeting = ctx
//!         .step("compose", async || Ok(format!("hello {name}")))
//!         .retry(Retry::exponential(5))
//!         .await?;
//!     ctx.step("send", async || Ok(greeting.len())).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("app.db");
//! let engine = Engine::builder(Sqlite::open(path)?).register(GREET, greet).start().await?;
//! let run = engine.start(GREET, "ada", "Ada".to_string()).await?; // durable when it returns
//! assert_eq!(run.result().await?, 9);
//! engine.shutdown().await?;
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

pub use everstep_core::*;

/// The store on one SQLite file.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use everstep_sqlite::*;
}

/// The store on a PostgreSQL database: the same workflows on many machines.
///
/// Another store is opened, and the workflows stay as they are; transactional steps alone speak the store's own SQL
/// ([`postgres::Transaction`]).
///
/// ```no_run
/// # use everstep::{Ctx, Engine, Result, Workflow, postgres::Postgres};
/// # const GREET: Workflow<String, usize> = Workflow::new("greet");
/// # async fn greet(ctx: Ctx, name: String) -> Result<usize> { Ok(name.len()) }
/// # async fn start() -> std::result::Result<(), Box<dyn std::error::Error>> {
/// let store = Postgres::open("postgres://app@db.internal/app").await?;
/// let engine = Engine::builder(store).register(GREET, greet).start().await?;
/// # drop(engine);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use everstep_postgres::*;
}
