//! The folder of the server that all tests of a run share, and who may touch it when: a lock for those who start or end
//! it, and one that all who use it hold together. The kernel frees them with the process, however that ends.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    fs::{self, File},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

use crate::{
    account::Account,
    error::{Result, While},
    keeper,
    postmaster::{Postmaster, orphans_leave},
    programs::Programs,
    server::Server,
    settings::Settings,
};

/// The environment variable that names the folder of shared servers, instead of the system's for temporary files.
const FOLDER: &str = "EVERSTEP_CLUSTER_FOLDER";
const PREFIX: &str = "everstep-postgres-";

/// The folder of one shared server.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    account: Account,
}

impl Home {
    /// The one for these programs and settings; servers with other settings have another.
    pub(crate) fn of(programs: &Programs, settings: &Settings) -> Result<Home> {
        let mut hasher = DefaultHasher::new();
        (programs.folder(), settings.lines(), env!("CARGO_PKG_VERSION")).hash(&mut hasher);
        let name = format!("{}-{:08x}", programs.major(), hasher.finish() as u32);
        let account = Account::of_servers()?;
        Home::at(root().join(account.names(PREFIX) + &name), account)
    }

    fn at(folder: PathBuf, account: Account) -> Result<Home> {
        account.folder(&folder)?;
        Ok(Home { folder, account })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes others wait who want to start or end the server, until it is dropped.
    fn closed(&self) -> Result<File> {
        self.lock_of("lock", File::lock)
    }

    /// Whoever holds it uses the server.
    pub(crate) fn used(&self) -> Result<File> {
        self.lock_of("users", File::lock_shared)
    }

    fn lock_of(&self, name: &str, kind: impl Fn(&File) -> std::io::Result<()>) -> Result<File> {
        let path = self.folder.join(name);
        let file = opened(&path)?;
        self.account.owns(&path)?;
        kind(&file).during(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    /// Starts the server unless it runs. One that was ended in any way begins anew: it may have lost what it wrote, and
    /// its databases are nobody's.
    pub(crate) fn start(&self, server: &Server) -> Result<File> {
        let _closed = self.closed()?;
        let used = self.used()?;
        if server.postmaster()?.is_none() {
            orphans_leave(&server.data())?;
            self.clear()?;
            server.make()?;
            server.start()?;
        }
        keeper::watch(server, &self.lock_of("keeper", |_| Ok(()))?)?;
        Ok(used)
    }

    /// Keeps the server also when nobody uses it, until it is stopped.
    pub(crate) fn keep(&self) -> Result<()> {
        opened(&self.folder.join(keeper::KEPT)).map(drop)
    }

    fn stop(&self) -> Result<bool> {
        let _closed = self.closed()?;
        let ran = Postmaster::of(&self.folder.join("data"))?;
        if let Some(postmaster) = &ran {
            postmaster.end()?;
        }
        orphans_leave(&self.folder.join("data"))?;
        self.clear()?;
        Ok(ran.is_some())
    }

    fn clear(&self) -> Result<()> {
        for name in ["data", "log", keeper::KEPT] {
            removed(&self.folder.join(name))?;
        }
        Ok(())
    }
}

/// Stops all shared servers of this user, used or not, and says how many ran.
pub(crate) fn stop_all() -> Result<usize> {
    let (root, account) = (root(), Account::of_servers()?);
    let prefix = account.names(PREFIX);
    let entries = fs::read_dir(&root).during(|| format!("list {}", root.display()))?;
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let mut ran = 0;
    for entry in ours {
        ran += usize::from(Home::at(entry.path(), account)?.stop()?);
    }
    Ok(ran)
}

/// Takes a lock that others may hold, and waits for them.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = opened(path)?;
    file.lock().during(|| format!("lock {}", path.display()))?;
    Ok(file)
}

fn opened(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(path).during(|| format!("open {}", path.display()))
}

fn root() -> PathBuf {
    env::var_os(FOLDER).map_or_else(env::temp_dir, PathBuf::from)
}

fn removed(path: &Path) -> Result<()> {
    let done = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
