//! Where a store is, and its opening: the one place that knows which kinds of stores there are.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use everstep_core::store::Store;
use everstep_postgres::Postgres;
use everstep_sqlite::Sqlite;

use crate::failure::Failure;

/// A store, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// `sqlite:app.db`.
    Sqlite(PathBuf),
    /// `postgres://…`, as it was given, with its password.
    Postgres(String),
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be looked at; with force also in the middle of a copy, and when its runs have moved.
    Look {
        /// Whether it was asked for by force.
        force: bool,
    },
    /// Its runs move to another store.
    CopyFrom,
    /// Runs of another store move here; it is made if it is not there.
    CopyInto,
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Location::Postgres(text.to_string()));
        }
        match text.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Location::Sqlite(path.into())),
            _ => Err(format!(
                "`{text}` is no store: there are `sqlite:app.db` and `postgres://user@host/database`"
            )),
        }
    }
}

impl fmt::Display for Location {
    /// The same for the same store, wherever it is said; and without a password: marks keep it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => write!(f, "sqlite:{}", real(path).as_deref().unwrap_or(path).display()),
            Location::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl Location {
    /// Opens the store.
    pub(crate) fn open(&self, purpose: Purpose) -> Result<Arc<dyn Store>, Failure> {
        match self {
            Location::Sqlite(path) => open_sqlite(path, purpose),
            Location::Postgres(url) => open_postgres(url, purpose),
        }
    }
}

fn open_postgres(url: &str, purpose: Purpose) -> Result<Arc<dyn Store>, Failure> {
    let (url, schema) = without_schema(url);
    let options = Postgres::options().for_copy(is_let_in(purpose));
    let options = match schema {
        Some(schema) => options.schema(schema),
        None => options,
    };
    // On a thread of its own: whoever asks may be in a runtime, where nothing may be waited for.
    let opens = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string());
        let runtime = runtime.map_err(Failure::failed)?;
        runtime.block_on(options.open(&url)).map_err(Failure::from)
    };
    let opened = std::thread::scope(|scope| scope.spawn(opens).join());
    let opened = opened.unwrap_or_else(|_| Err(Failure::failed("opening it panicked".to_string())));
    Ok(Arc::new(opened.map_err(shown_by_force)?))
}

/// A URL without its parameter `schema`, which is Everstep's own and says in which schema its tables are.
fn without_schema(url: &str) -> (String, Option<String>) {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let own = parameters.split('&').find_map(|parameter| parameter.strip_prefix("schema="));
    let kept: Vec<_> = parameters.split('&').filter(|p| !p.is_empty() && !p.starts_with("schema=")).collect();
    let question = if kept.is_empty() { "" } else { "?" };
    (format!("{address}{question}{}", kept.join("&")), own.map(str::to_string))
}

fn is_let_in(purpose: Purpose) -> bool {
    match purpose {
        Purpose::Look { force } => force,
        Purpose::CopyFrom | Purpose::CopyInto => true,
    }
}

fn shown_by_force(failure: Failure) -> Failure {
    match failure.is_moved() {
        true => failure.with("`--force` shows what is here all the same"),
        false => failure,
    }
}

fn open_sqlite(path: &Path, purpose: Purpose) -> Result<Arc<dyn Store>, Failure> {
    if purpose != Purpose::CopyInto
        && let Err(error) = fs::metadata(path)
    {
        let message = format!("there is no database at `{}`: {error}", path.display());
        return Err(match error.kind() {
            io::ErrorKind::NotFound => Failure::not_there(message),
            _ => Failure::failed(message),
        });
    }
    let opened = Sqlite::options().for_copy(is_let_in(purpose)).open(path).map_err(Failure::from);
    Ok(Arc::new(opened.map_err(shown_by_force)?))
}

/// The path of the file itself, whatever link leads to it; also if it is to be made yet.
fn real(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).or_else(|error| {
        let absolute = std::path::absolute(path)?;
        match (absolute.parent(), absolute.file_name()) {
            (Some(folder), Some(name)) => Ok(fs::canonicalize(folder)?.join(name)),
            _ => Err(error),
        }
    })
}

/// A URL without what stands between the user's name and the host, and without a parameter `password`.
fn without_password(url: &str) -> String {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_string(),
    };
    let is_secret = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        matches!(name, "password" | "sslpassword")
    };
    let kept: Vec<_> =
        parameters.split('&').filter(|parameter| !parameter.is_empty() && !is_secret(parameter)).collect();
    let question = if kept.is_empty() { "" } else { "?" };
    format!("{scheme}://{authority}{path}{question}{}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_told_by_their_scheme() {
        assert_eq!("sqlite:app.db".parse(), Ok(Location::Sqlite("app.db".into())));
        assert_eq!("sqlite:/a/b.db".parse(), Ok(Location::Sqlite("/a/b.db".into())));
        for url in ["postgres://h/d", "postgresql://u:p@h:5432/d?sslmode=require"] {
            assert_eq!(url.parse(), Ok(Location::Postgres(url.into())));
        }
        for wrong in ["", "app.db", "sqlite:", "mysql://h/d", "postgres:d"] {
            let error = wrong.parse::<Location>().expect_err(wrong);
            assert!(error.contains("sqlite:app.db") && error.contains("postgres://"), "{error}");
        }
    }

    #[test]
    fn no_password_is_told() {
        for (url, told) in [
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
            ("postgresql://u:p@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
            ("postgres://u:a@b:c@h/d", "postgres://u@h/d"),
            ("postgres://h/d?password=p&user=u", "postgres://h/d?user=u"),
            ("postgres:///d?host=/run/pg&password=p", "postgres:///d?host=/run/pg"),
            ("postgres://u:p@h", "postgres://u@h"),
        ] {
            assert_eq!(Location::Postgres(url.into()).to_string(), told);
        }
    }

    #[test]
    fn a_file_has_one_name_from_everywhere() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.db");
        let same = folder.path().join(".").join("a.db");
        let name = Location::Sqlite(path.clone()).to_string();
        assert_eq!(Location::Sqlite(same).to_string(), name);
        fs::write(&path, "").expect("writes");
        assert_eq!(Location::Sqlite(path).to_string(), name, "also before it is made");
    }
}
