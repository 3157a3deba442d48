//! PostgreSQL in a schema of its own, on the server that all tests share.

use std::{
    any::Any,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, mpsc},
};

use everstep_cluster::Cluster;
use everstep_conformance::{Bench, Deed};
use everstep_core::{BoxFuture, journal::Payload, store::Store};
use everstep_postgres::{
    Options, Postgres, PostgresJob, Tx,
    tokio_postgres::{Client, Error},
};
use tokio::runtime::{Builder, Runtime};

/// A schema with nothing in it but the table that jobs write to.
#[derive(Debug)]
pub struct PostgresBench {
    schema: String,
    /// Drawn for a database in a hostile mood.
    seed: Option<u64>,
    outside: Arc<Client>,
    /// Of the connection outside.
    runtime: Option<Runtime>,
}

impl PostgresBench {
    /// Makes the schema.
    ///
    /// # Panics
    /// If there is no server.
    pub fn new() -> PostgresBench {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (send, connected) = mpsc::channel();
        runtime.spawn(async move {
            let _ = send.send(Cluster::shared().expect("a server").connect("postgres").await);
        });
        let outside = Arc::new(connected.recv().expect("it answers").expect("connects"));
        let schema = format!("stream_{}_{:x}", std::process::id(), RandomState::new().hash_one(0));
        let bench = PostgresBench { schema, seed: None, outside, runtime: Some(runtime) };
        let schema = &bench.schema;
        let made = bench
            .run(format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.mine (text bytea NOT NULL UNIQUE)"));
        made.expect("is SQL");
        bench
    }

    /// As [`PostgresBench::new`], where the database is hostile.
    ///
    /// # Panics
    /// As there.
    pub fn hostile() -> PostgresBench {
        let mut bench = PostgresBench::new();
        let seed = RandomState::new().hash_one(1);
        println!("seed of the hostile database: {seed}");
        bench.seed = Some(seed);
        bench
    }

    /// On the runtime of the connection outside, whoever's the caller is in.
    fn run(&self, script: String) -> Result<(), Error> {
        let (outside, (send, ran)) = (self.outside.clone(), mpsc::channel());
        let runtime = self.runtime.as_ref().expect("until it is dropped");
        runtime.spawn(async move {
            let _ = send.send(outside.batch_execute(&script).await);
        });
        ran.recv().expect("it answers")
    }

    fn options(&self) -> Options {
        let options = Postgres::options().schema(&self.schema).comparable();
        match self.seed {
            Some(seed) => options.hostile(seed),
            None => options,
        }
    }
}

impl Default for PostgresBench {
    fn default() -> PostgresBench {
        PostgresBench::new()
    }
}

impl Drop for PostgresBench {
    fn drop(&mut self) {
        // A store that is still open may be in the way; what stays goes with the server.
        let drop = || self.run(format!("DROP SCHEMA {} CASCADE", self.schema));
        let _ = drop().or_else(|_| drop());
        if let Some(runtime) = self.runtime.take() {
            // The caller's own runtime does not let anybody wait for another.
            runtime.shutdown_background();
        }
    }
}

impl Bench for PostgresBench {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        let url = Cluster::shared().expect("a server").url("postgres");
        Box::pin(async move { Arc::new(self.options().open(&url).await.expect("opens")) as Arc<dyn Store> })
    }

    fn job(&self, deeds: Vec<Deed>) -> Box<dyn Any + Send> {
        let mine = format!("{}.mine", self.schema);
        Box::new(PostgresJob(Box::new(move |tx| {
            let (deeds, mine) = (deeds.clone(), mine.clone());
            Box::pin(async move {
                let before = count(&tx, &mine).await?;
                for deed in &deeds {
                    act(&tx, &mine, deed).await?;
                }
                Ok(Payload::json((count(&tx, &mine).await? - before).to_string()))
            })
        })))
    }

    fn rows(&self) -> BoxFuture<'_, Vec<String>> {
        let (outside, (send, read)) = (self.outside.clone(), mpsc::channel());
        let sql = format!("SELECT text FROM {}.mine ORDER BY text", self.schema);
        self.runtime.as_ref().expect("until it is dropped").spawn(async move {
            let _ = send.send(outside.query(&sql, &[]).await);
        });
        let rows = read.recv().expect("it answers").expect("reads");
        let rows = rows.iter().map(|row| String::from_utf8(row.get(0)).expect("a text")).collect();
        Box::pin(async { rows })
    }
}

async fn count(tx: &Tx, mine: &str) -> everstep_core::Result<i64> {
    Ok(tx.query_one(&format!("SELECT count(*) FROM {mine}"), &[]).await?.get(0))
}

/// A text that is there already stays there once, as in the in-memory store.
async fn act(tx: &Tx, mine: &str, deed: &Deed) -> everstep_core::Result<()> {
    match deed {
        Deed::Write(text) => {
            let sql = format!("INSERT INTO {mine} (text) VALUES ($1) ON CONFLICT DO NOTHING");
            tx.execute(&sql, &[&text.as_bytes()]).await?;
        }
        Deed::Fail(why) => return Err(why.clone().into()),
        Deed::Panic(why) => panic!("{why}"),
    }
    Ok(())
}
