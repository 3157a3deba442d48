//! The databases that are measured: how a workload opens one, how large it is, what any reader of it sees. The raw limit
//! beside it is in `raw`.

use std::{collections::HashMap, fmt, path::PathBuf, str::FromStr, sync::Arc};

use everstep::{Builder, Client, Engine, sqlite::Sqlite, store::Store};
use everstep_cluster::{Cluster, Private, Settings};
use everstep_postgres::Postgres;
use tokio_postgres::NoTls;

/// As many connections as a server takes that nobody has configured.
const CONNECTIONS: u32 = 100;

/// Which store is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgres",
        }
    }

    /// The server that its databases are on: one of our own, which syncs its files, with the settings it comes with.
    pub fn server(self) -> Option<Private> {
        let settings = Settings { max_connections: CONNECTIONS, ..Settings::default() };
        (self == Kind::Postgres).then(|| Cluster::private(settings).expect("a server starts"))
    }

    /// A raw row for each commit reaches at least this part of the disk's syncs, or it is no limit: one sync a row, and
    /// on a server the way there and back besides.
    pub fn syncs_min(self) -> f64 {
        match self {
            Kind::Sqlite => 0.6,
            Kind::Postgres => 0.2,
        }
    }
}

/// Where a database is. As a text it can be told to another process.
#[derive(Clone, Debug)]
pub enum Database {
    Sqlite(PathBuf),
    /// A URL.
    Postgres(String),
}

impl Database {
    pub async fn builder(&self) -> Builder {
        match self {
            Database::Sqlite(path) => Engine::builder(Sqlite::open(path).expect("it opens")),
            Database::Postgres(url) => Engine::builder(Postgres::open(url).await.expect("it opens")),
        }
    }

    /// Without a worker.
    pub async fn client(&self) -> Client {
        match self {
            Database::Sqlite(path) => Client::new(Sqlite::open(path).expect("it opens")),
            Database::Postgres(url) => Client::new(Postgres::open(url).await.expect("it opens")),
        }
    }

    /// Without an engine.
    pub async fn store(&self) -> Arc<dyn Store> {
        match self {
            Database::Sqlite(path) => Arc::new(Sqlite::open(path).expect("it opens")),
            Database::Postgres(url) => Arc::new(Postgres::open(url).await.expect("it opens")),
        }
    }

    /// Bytes on disk, without the log: of a file, what the log held is in it once it is [settled](Database::settle).
    pub async fn bytes(&self) -> u64 {
        match self {
            Database::Sqlite(path) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
            Database::Postgres(url) => {
                let rows = ask(url, "SELECT pg_database_size(current_database())").await;
                rows[0].get::<_, i64>(0).cast_unsigned()
            }
        }
    }

    /// Whatever the log of a file still holds is in it once somebody has opened and closed it.
    pub fn settle(&self) {
        if let Database::Sqlite(path) = self {
            drop(Sqlite::open(path).expect("it opens"));
        }
    }

    /// Somebody begins to read it and does not end; on a server, because nobody may do that to a file.
    pub async fn old_snapshot(&self) -> OldSnapshot {
        let Database::Postgres(url) = self else { panic!("an old snapshot is measured on a server") };
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("it connects");
        tokio::spawn(connection);
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM everstep.everstep_run LIMIT 1";
        client.batch_execute(begin).await.expect("readable");
        OldSnapshot(client)
    }

    /// Rows of one of our tables.
    pub async fn rows(&self, table: &str) -> i64 {
        match self {
            Database::Sqlite(path) => {
                let count = format!("SELECT count(*) FROM everstep_{table}");
                read_only(path).query_row(&count, [], |row| row.get(0)).expect("readable")
            }
            Database::Postgres(url) => {
                ask(url, &format!("SELECT count(*) FROM everstep.everstep_{table}")).await[0].get(0)
            }
        }
    }

    /// How many steps of each run are recorded, whose ids are numbers, as any reader sees it.
    pub async fn recorded(&self) -> HashMap<u64, u64> {
        const OF: &str = "FROM everstep_timeline WHERE what = 'done' GROUP BY run";
        let pairs: Vec<(i64, i64)> = match self {
            Database::Sqlite(path) => {
                let db = read_only(path);
                let mut rows = db
                    .prepare(&format!("SELECT CAST(run AS INTEGER), count(*) {OF}"))
                    .expect("the view is there");
                let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("readable");
                rows.map(|row| row.expect("readable")).collect()
            }
            Database::Postgres(url) => {
                let of = OF.replace("FROM ", "FROM everstep.");
                let rows = ask(url, &format!("SELECT run::int8, count(*) {of}")).await;
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        };
        pairs.into_iter().map(|(run, count)| (run.cast_unsigned(), count.cast_unsigned())).collect()
    }
}

/// A transaction that stays open until this is dropped.
pub struct OldSnapshot(#[expect(dead_code, reason = "held, not used")] tokio_postgres::Client);

fn read_only(path: &PathBuf) -> rusqlite::Connection {
    rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it opens")
}

/// Asks with a connection of its own.
async fn ask(url: &str, sql: &str) -> Vec<tokio_postgres::Row> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("it connects");
    let connection = tokio::spawn(connection);
    let rows = client.query(sql, &[]).await.expect("readable");
    drop(client);
    connection.await.expect("no panic").expect("it ends in peace");
    rows
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(f, "{}", path.display()),
            Database::Postgres(url) => f.write_str(url),
        }
    }
}

impl FromStr for Database {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.starts_with("postgres://") {
            true => Database::Postgres(text.into()),
            false => Database::Sqlite(text.into()),
        })
    }
}
