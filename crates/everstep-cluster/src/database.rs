//! A database of one test.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use tokio_postgres::{Client, NoTls};

use crate::{
    address::{Address, random},
    error::{Result, While},
    process,
};

/// Nobody looks for databases of the dead that are younger: their process may be one that we cannot see.
const SWEPT_AFTER_SECONDS: f64 = 180.0;
/// Against hanging only, where nobody could be told of it: a database that is not dropped is swept later.
const DROPPED_WITHIN: Duration = Duration::from_secs(20);

/// An empty database. Dropped, it is dropped on the server too, whoever is connected to it.
#[derive(Debug)]
pub struct Database {
    name: String,
    address: Address,
}

impl Database {
    /// It begins as a copy of `template`; `how` is more of the statement that makes it.
    pub(crate) async fn create(address: Address, template: &str, how: &str) -> Result<Database> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        // Who made it is in the name, for those who tidy up after a killed process.
        let name = format!("test_{}_{made}_{:016x}", std::process::id(), random());
        let admin = connect(&address.url("postgres")).await?;
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}{how}");
        admin.batch_execute(&create).await.during(|| format!("make the database {name}"))?;
        Ok(Database { name, address })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, by the server's socket; the user in it may do everything.
    pub fn url(&self) -> String {
        self.address.url(&self.name)
    }

    /// As [`Database::url`] by TCP, if the server listens there.
    pub fn tcp_url(&self) -> Option<String> {
        self.address.tcp_url(&self.name)
    }

    /// A connection to it; it lives on the runtime of the caller, until the client is dropped.
    ///
    /// # Errors
    /// The server's
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url()).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, name) = (self.address.url("postgres"), self.name.clone());
        // On a thread of its own: the runtime of the test may be the one that drops this. It is waited for, so that the
        // database is gone afterwards; a server that does not answer is no fault of the test.
        let dropping = thread::spawn(move || {
            on_a_runtime(async { drop_database(&connect(&admin).await?, &name).await })
        });
        let _ = dropping.join();
    }
}

#[allow(clippy::disallowed_methods, reason = "a bound against hanging")]
fn on_a_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().during(|| "make a runtime".into())?;
    runtime.block_on(async {
        tokio::time::timeout(DROPPED_WITHIN, work).await.during(|| "drop a database".into())?
    })
}

async fn drop_database(admin: &Client, name: &str) -> Result<()> {
    let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    admin.batch_execute(&statement).await.during(|| format!("drop the database {name}"))
}

/// Drops the databases of processes that were killed.
pub(crate) async fn sweep(admin: &str) -> Result<()> {
    // The server knows the age, so that no clock is read here; a database that is just being dropped has none.
    const OLD: &str = "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%' AND extract(epoch FROM now() \
         - (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification) > $1::float8";
    let admin = connect(admin).await?;
    let old = admin.query(OLD, &[&SWEPT_AFTER_SECONDS]).await.during(|| "look for old databases".into())?;
    for row in old {
        let name: &str = row.get(0);
        if maker_in(name).is_some_and(|pid| !process::is_alive(pid)) {
            // Another process that sweeps may be faster.
            let _ = drop_database(&admin, name).await;
        }
    }
    Ok(())
}

/// The process that made the database `test_PID_N_CHANCE`.
fn maker_in(name: &str) -> Option<i32> {
    name.split('_').nth(1)?.parse().ok()
}

pub(crate) async fn connect(url: &str) -> Result<Client> {
    let connecting = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) = connecting.during(|| format!("connect to {url}"))?;
    // It ends with the client; what goes wrong before is told to who waits for an answer.
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, FileTimes},
        process::Command,
        time::SystemTime,
    };

    use super::*;
    use crate::{Cluster, Settings};

    /// Makes a database as `maker` would have, long ago or just now.
    async fn left(cluster: &Cluster, maker: i32, old: bool) -> String {
        let name = format!("test_{maker}_{}_0", if old { "old" } else { "young" });
        let admin = cluster.connect("postgres").await.expect("connects");
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("is made");
        if old {
            let oid = "SELECT oid::text FROM pg_database WHERE datname = $1";
            let oid: String = admin.query_one(oid, &[&name]).await.expect("is there").get(0);
            let file = cluster.server.data().join("base").join(oid).join("PG_VERSION");
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
            File::options().append(true).open(file).and_then(|file| file.set_times(times)).expect("is set");
        }
        name
    }

    #[tokio::test]
    async fn only_old_databases_of_the_dead_are_swept() {
        let cluster = Cluster::private(Settings::default()).expect("starts");
        let mut child = Command::new("true").spawn().expect("runs");
        let dead = i32::try_from(child.id()).expect("is a process");
        child.wait().expect("was ours");
        let swept = left(&cluster, dead, true).await;
        let us = i32::try_from(std::process::id()).expect("is a process");
        let kept = [left(&cluster, dead, false).await, left(&cluster, us, true).await];
        sweep(&cluster.url("postgres")).await.expect("sweeps");
        cluster.connect(&swept).await.expect_err("it is gone");
        for name in kept {
            cluster.connect(&name).await.expect("it is there");
        }
    }
}
