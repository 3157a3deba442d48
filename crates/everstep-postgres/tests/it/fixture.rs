//! The one place where these tests touch the store's API.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU32, Ordering},
};

use everstep_cluster::{Cluster, Pooler};
use everstep_postgres::{Options, Postgres, tokio_postgres::Client};

/// A schema of its own in a database of the shared server: it is made sooner than a database.
pub(crate) struct Desk {
    schema: String,
    way: Way,
}

/// How its stores reach the database.
pub(crate) enum Way {
    Direct,
    /// As unkind as this seed draws it.
    #[cfg(feature = "testing")]
    Hostile(u64),
    Pooled(Pooler),
}

impl Desk {
    pub(crate) fn new() -> Desk {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let chance = RandomState::new().hash_one(MADE.fetch_add(1, Ordering::Relaxed));
        let desk = Desk { schema: format!("test_{}_{chance:x}", std::process::id()), way: Way::Direct };
        desk.run_sql(&format!("CREATE SCHEMA {}", desk.schema));
        desk
    }

    /// Where the database is as unkind as chance has it, which is told.
    #[cfg(feature = "testing")]
    pub(crate) fn hostile() -> Desk {
        let seed = RandomState::new().hash_one(0);
        println!("seed {seed}");
        let mut desk = Desk::new();
        desk.way = Way::Hostile(seed);
        desk
    }

    /// Behind a pooler of its own.
    pub(crate) fn pooled() -> Desk {
        let mut desk = Desk::new();
        let pooler = Pooler::start(Cluster::shared().expect("a server"), "postgres");
        desk.way = Way::Pooled(pooler.expect("starts"));
        desk
    }

    #[cfg(feature = "testing")]
    pub(crate) fn seed(&self) -> Option<u64> {
        match self.way {
            Way::Hostile(seed) => Some(seed),
            Way::Direct | Way::Pooled(_) => None,
        }
    }

    /// The name of a table in its schema.
    pub(crate) fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.schema)
    }

    pub(crate) fn options(&self) -> Options {
        let options = Postgres::options().schema(&self.schema);
        match self.way {
            Way::Direct => options,
            #[cfg(feature = "testing")]
            Way::Hostile(seed) => options.hostile(seed),
            Way::Pooled(_) => options.pooled(true),
        }
    }

    pub(crate) fn url() -> String {
        Cluster::shared().expect("a server").url("postgres")
    }

    pub(crate) async fn open(&self) -> Postgres {
        let url = match &self.way {
            Way::Pooled(pooler) => pooler.url().to_string(),
            _ => Desk::url(),
        };
        self.options().open(&url).await.expect("opens")
    }

    /// Asks the database with a connection of its own, on a thread of its own: the caller's runtime may do no input and
    /// output.
    pub(crate) fn asks<T: Send>(&self, ask: impl AsyncFnOnce(Client) -> T + Send) -> T {
        let asks = || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = Cluster::shared().expect("a server").connect("postgres").await;
                ask(client.expect("connects")).await
            })
        };
        std::thread::scope(|scope| scope.spawn(asks).join()).expect("it asks")
    }

    /// A connection of the test's own.
    pub(crate) async fn connects(&self) -> Client {
        Cluster::shared().expect("a server").connect("postgres").await.expect("connects")
    }

    pub(crate) fn run_sql(&self, sql: &str) {
        self.asks(async |client| client.batch_execute(sql).await.expect(sql));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Whoever comes later does not need it gone, and a test that fails may still hold a lock there.
        let drop = format!("SET lock_timeout = '5s'; DROP SCHEMA {} CASCADE", self.schema);
        self.asks(async |client| client.batch_execute(&drop).await.ok());
    }
}
