//! Where a history is kept: a folder, and a database in it or on a server.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use everstep::sqlite::{Sqlite, rusqlite::Connection};
use everstep_cluster::Database;
use tempfile::TempDir;

use crate::{
    snapshot::{self, Snapshot},
    store::Store,
};

/// What the histories of a workload begin with.
pub(crate) struct Template {
    pub(crate) store: Arc<Store>,
    folder: PathBuf,
    /// On a server.
    database: Option<Database>,
}

/// Where one history is kept, until it is dropped.
pub(crate) struct Home {
    pub(crate) store: Arc<Store>,
    folder: TempDir,
    database: Option<Database>,
}

impl Template {
    /// Nothing is there; on a server, an empty database.
    pub(crate) fn empty(store: Arc<Store>, folder: PathBuf) -> Result<Template, String> {
        let database = match &*store {
            Store::Files => None,
            Store::Server(server) => Some(server.database()?),
        };
        Template::made(store, folder, database)
    }

    /// A database without runs, and with the user's tables.
    pub(crate) fn prepared(store: Arc<Store>, folder: PathBuf) -> Result<Template, String> {
        let database = match &*store {
            Store::Files => None,
            Store::Server(server) => Some(server.prepared()?),
        };
        let template = Template::made(store, folder, database)?;
        if template.database.is_none() {
            make_file(&file_in(&template.folder))?;
        }
        Ok(template)
    }

    fn made(store: Arc<Store>, folder: PathBuf, database: Option<Database>) -> Result<Template, String> {
        fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Template { store, folder, database })
    }

    /// A home for one history.
    pub(crate) fn home(&self) -> Home {
        let folder = tempfile::tempdir_in(self.folder.parent().expect("a folder")).expect("room");
        for file in self.folder.read_dir().expect("readable").map(|file| file.expect("readable")) {
            fs::copy(file.path(), folder.path().join(file.file_name())).expect("copies");
        }
        let database = match (&*self.store, &self.database) {
            (Store::Server(server), Some(template)) => Some(server.copy(template)),
            _ => None,
        };
        Home { store: self.store.clone(), folder, database }
    }
}

fn file_in(folder: &Path) -> PathBuf {
    folder.join("app.db")
}

fn make_file(path: &Path) -> Result<(), String> {
    let store = Sqlite::open(path).map_err(|e| e.to_string())?;
    let conn = Connection::open(path).map_err(|e| e.to_string())?;
    conn.execute_batch("CREATE TABLE moved (run TEXT NOT NULL, key TEXT NOT NULL)")
        .map_err(|e| e.to_string())?;
    drop(conn);
    drop(store);
    Ok(())
}

impl Home {
    /// The database, as a victim is told it: a file, or a URL.
    pub(crate) fn database(&self) -> String {
        match &self.database {
            Some(database) => database.url(),
            None => file_in(self.folder.path()).display().to_string(),
        }
    }

    /// The effects of earlier lives, for victims that look.
    pub(crate) fn seen(&self) -> PathBuf {
        self.folder.path().join("seen")
    }

    /// What is durable, when nobody lives here.
    pub(crate) fn snapshot(&self) -> Snapshot {
        match (&*self.store, &self.database) {
            (Store::Server(server), Some(database)) => server.look(database, snapshot::of_server),
            _ => snapshot::of_file(&file_in(self.folder.path())),
        }
    }
}
