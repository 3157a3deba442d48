//! The PostgreSQL server of a sweep. It never dies here, which is why it syncs nothing: everstep-chaos kills servers.

use std::future::Future;

use everstep::postgres::{Postgres, tokio_postgres::Client};
use everstep_cluster::{Cluster, Database, Private, Settings};
use tokio::runtime::{Builder, Runtime};

/// A server, and the runtime on which it is talked to.
pub(crate) struct Server {
    runtime: Runtime,
    cluster: Private,
}

impl Server {
    /// # Errors
    /// There is none, or it does not start.
    pub(crate) fn start() -> Result<Server, String> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| format!("a runtime: {e}"))?;
        let settings = Settings { fsync: false, ..Settings::default() };
        let cluster = Cluster::private(settings).map_err(|e| format!("PostgreSQL: {e}"))?;
        Ok(Server { runtime, cluster })
    }

    /// An empty database.
    pub(crate) fn database(&self) -> Result<Database, String> {
        self.runtime.block_on(self.cluster.database()).map_err(|e| e.to_string())
    }

    /// One that is ready for runs, with the user's tables: `moved` for transactional steps, `wish` for starts that commit
    /// with a row of the user's.
    pub(crate) fn prepared(&self) -> Result<Database, String> {
        const TABLES: &str = "CREATE TABLE moved (run text NOT NULL, key text NOT NULL);
             CREATE TABLE wish (run text NOT NULL)";
        let database = self.database()?;
        self.runtime.block_on(async {
            drop(Postgres::open(&database.url()).await.map_err(|e| e.to_string())?);
            let client = database.connect().await.map_err(|e| e.to_string())?;
            client.batch_execute(TABLES).await.map_err(|e| e.to_string())
        })?;
        Ok(database)
    }

    pub(crate) fn copy(&self, of: &Database) -> Database {
        self.runtime.block_on(self.cluster.copy(of)).expect("the server makes copies")
    }

    /// Looks into a database.
    pub(crate) fn look<T, F: Future<Output = T>>(
        &self,
        database: &Database,
        look: impl FnOnce(Client) -> F,
    ) -> T {
        self.runtime.block_on(async { look(database.connect().await.expect("the server answers")).await })
    }
}
