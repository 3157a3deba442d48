//! The user's transaction: a handle on it, and the job that gets one.

use std::{ops::Deref, sync::Arc};

use everstep_core::{BoxFuture, Result, journal::Payload};
use tokio_postgres::Client;

use crate::{conn::Conn, guest::Told};

/// The database inside a transactional step: everything that is written through it commits together with the step's
/// record, or not at all.
///
/// It is a [`tokio_postgres::Client`] inside an open transaction. The step ends the transaction; a body that does so itself
/// (`COMMIT`, `ROLLBACK`), or keeps the handle beyond its own end, has its step fail.
#[derive(Debug)]
pub struct Tx {
    conn: Arc<Conn>,
    told: Arc<Told>,
}

impl Tx {
    /// `told` hears what is started and sent in it.
    pub(crate) fn of(conn: Arc<Conn>, told: Arc<Told>) -> Tx {
        Tx { conn, told }
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }
}

impl Deref for Tx {
    type Target = Client;
    fn deref(&self) -> &Client {
        self.conn.client()
    }
}

/// The job of [`everstep_core::store::Transact`] for this store.
///
/// It may be called more than once, each time with nothing of its earlier calls in the database: a transaction that the
/// database could not put in an order with others is repeated.
pub struct PostgresJob(pub JobBody);

/// What a transactional step does with the database, and the value it records.
pub type JobBody = Box<dyn FnMut(Tx) -> BoxFuture<'static, Result<Payload>> + Send>;

impl std::fmt::Debug for PostgresJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresJob")
    }
}
