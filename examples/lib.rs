//! What the examples share: the store that `--db` names, a file or the URL of a PostgreSQL database. Without it, a fresh file
//! in a folder that goes away with it.

use std::{path::Path, sync::Arc, time::Duration};

use everstep::{Settings, sqlite::Sqlite, store::Store};

type AnyResult<T> = Result<T, Box<dyn std::error::Error>>;

/// The store that the command line names, or a fresh one, and the folder in which that lies: keep the folder until the engine
/// has shut down.
pub async fn fresh() -> AnyResult<(Option<tempfile::TempDir>, Arc<dyn Store>)> {
    if let Some(db) = named_db() {
        return Ok((None, open(&db).await?));
    }
    let folder = tempfile::tempdir()?;
    let store = Sqlite::open(folder.path().join("example.db"))?;
    Ok((Some(folder), Arc::new(store)))
}

/// What stands behind `--db` on the command line.
pub fn named_db() -> Option<String> {
    std::env::args().skip_while(|arg| arg != "--db").nth(1)
}

/// Opens a file, or a database by its URL. Nothing but this line of a program changes with the store.
pub async fn open(db: &str) -> AnyResult<Arc<dyn Store>> {
    match is_url(db) {
        true => open_postgres(db).await,
        false => Ok(Arc::new(Sqlite::open(Path::new(db))?)),
    }
}

/// Whether it is the URL of a database, and no file.
pub fn is_url(db: &str) -> bool {
    db.starts_with("postgres://") || db.starts_with("postgresql://")
}

/// For examples that are killed and go on. That a process is dead is seen of a file at once, and of a database when its lease is
/// over: 10 seconds, if nothing is said.
pub fn settings(db: &str) -> Settings {
    match is_url(db) {
        true => Settings { lease: Duration::from_secs(1), ..Settings::default() },
        false => Settings::default(),
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(url: &str) -> AnyResult<Arc<dyn Store>> {
    Ok(Arc::new(everstep::postgres::Postgres::open(url).await?))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_: &str) -> AnyResult<Arc<dyn Store>> {
    Err("build the examples with the feature `postgres`".into())
}
