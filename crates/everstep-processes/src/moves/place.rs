//! The two stores of a move: a file in the play's folder, or a database on a server of the play's own.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use everstep::{sqlite::Sqlite, store::Store};
use everstep_cluster::{Cluster, Private, Settings};
use everstep_postgres::Postgres;

use crate::actor::AnyResult;

/// Which kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A database on a server.
    Postgres,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        match text {
            "sqlite" => Ok(Kind::Sqlite),
            "postgres" => Ok(Kind::Postgres),
            _ => Err(format!("`{text}` is no kind of store; there are `sqlite` and `postgres`")),
        }
    }
}

/// The server, if one of the kinds needs one: it syncs its files, and ends with the value.
pub(super) fn server(kinds: [Kind; 2]) -> AnyResult<Option<Private>> {
    Ok(match kinds.contains(&Kind::Postgres) {
        true => Some(Cluster::private(Settings::default())?),
        false => None,
    })
}

/// Where a store is. As a text it is what the command line calls it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    /// A store that is not there yet, or has nothing in it.
    pub(super) async fn empty(kind: Kind, file: PathBuf, server: Option<&Private>) -> AnyResult<Place> {
        let Kind::Postgres = kind else { return Ok(Place::Sqlite(file)) };
        let server = server.ok_or("there is no server")?;
        let name = file.file_stem().ok_or("a file has a name")?.to_string_lossy().into_owned();
        server.connect("postgres").await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Place::Postgres(server.url(&name)))
    }

    /// As everybody opens it.
    pub(super) async fn open(&self) -> AnyResult<Arc<dyn Store>> {
        Ok(match self {
            Place::Sqlite(path) => Arc::new(Sqlite::open(path)?),
            Place::Postgres(url) => Arc::new(Postgres::open(url).await?),
        })
    }

    /// To be looked at, whatever a copy says.
    pub(super) async fn look(&self) -> AnyResult<Arc<dyn Store>> {
        Ok(match self {
            Place::Sqlite(path) => Arc::new(Sqlite::options().for_copy(true).open(path)?),
            Place::Postgres(url) => Arc::new(Postgres::options().for_copy(true).open(url).await?),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Place::Postgres(url) => f.write_str(url),
        }
    }
}
