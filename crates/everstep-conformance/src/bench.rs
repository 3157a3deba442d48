//! What a store gives to the suite.

use std::{any::Any, sync::Arc};

use everstep_core::{BoxFuture, store::Store};

/// A store with nothing in it, on which one case runs. Everything of it goes when it is dropped.
pub trait Bench: Send + Sync + 'static {
    /// Opens the store: each time another opening of the same content, as several processes would have.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// The job of a transactional step ([`everstep_core::store::Transact::job`]) that does these deeds in this order,
    /// and then records the number of rows that it wrote, as JSON.
    fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send>;

    /// The texts of all rows that jobs wrote, as committed, sorted.
    fn rows(&self) -> BoxFuture<'_, Vec<String>>;
}

/// What a job does with the user's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Writes a row with this text.
    Write(String),
    /// Returns this error.
    Fail(String),
    /// Panics with this message.
    Panic(String),
}
