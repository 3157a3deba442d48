//! A server of one's own, to be stopped, killed, copied and started again.

use std::{
    env,
    fs::{self, File},
    ops::Deref,
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    account::Account,
    certificate,
    cluster::Cluster,
    error::{Error, Result, While},
    postmaster::{Mode, Postmaster, orphans_leave},
    programs::{Programs, said_by},
    server::Server,
    settings::Settings,
};

const PREFIX: &str = "everstep-private-";
/// Locked while the process lives that a server belongs to.
const OWNER: &str = "owner";

/// A [`Cluster`] that nobody else uses. Dropped, it is stopped and its folder removed; if this process is killed, the
/// next one that makes such a cluster does that.
///
/// Its verbs block until the server has done it.
#[derive(Debug)]
pub struct Private {
    cluster: Cluster,
    folder: TempDir,
    /// Held until the folder is gone.
    _owner: File,
}

impl Private {
    pub(crate) fn start_new(settings: Settings) -> Result<Private> {
        sweep()?;
        let account = Account::of_servers()?;
        let programs = Programs::get(settings.version)?;
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().during(|| "make a folder".into())?;
        let owner = owned(folder.path())?;
        account.owns(folder.path())?;
        let server = Server::in_folder(folder.path(), settings, programs)?;
        server.make()?;
        let private = Private { cluster: Cluster::own(server), folder, _owner: owner };
        private.start()?;
        Ok(private)
    }

    /// Starts it again and waits until it answers, on the same socket and port.
    ///
    /// # Errors
    /// It does not start: its log is in the error.
    pub fn start(&self) -> Result<()> {
        self.server.start()
    }

    /// Stops it. Whoever is connected is cut off.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub fn stop(&self, mode: Mode) -> Result<()> {
        self.running()?.stop(mode)
    }

    /// Kills the postmaster with SIGKILL, and waits until its children have left.
    ///
    /// # Errors
    /// It does not run, or a child does not leave.
    pub fn kill(&self) -> Result<()> {
        self.running()?.kill()?;
        orphans_leave(&self.server.data())
    }

    /// The postmaster's process, for signals; `None` while it does not run.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn postmaster(&self) -> Result<Option<i32>> {
        Ok(self.server.postmaster()?.map(|postmaster| postmaster.pid()))
    }

    /// Copies the data of a server that does not run into a folder that is not there yet.
    ///
    /// # Errors
    /// It runs, or the file system's
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        self.rests("copied")?;
        if folder.exists() {
            return Err(Error::new(format!("{} is there already", folder.display())));
        }
        copy(&self.server.data(), folder)
    }

    /// Starts it on such a copy, its own or another's of the same version, in place of its data. Those are lost; the copy
    /// stays as it is.
    ///
    /// # Errors
    /// It runs, or the file system's, or it does not start.
    pub fn start_from(&self, copied: &Path) -> Result<()> {
        self.rests("replaced")?;
        let data = self.server.data();
        fs::remove_dir_all(&data).during(|| format!("remove {}", data.display()))?;
        copy(copied, &data)?;
        self.start()
    }

    fn running(&self) -> Result<Postmaster> {
        self.server.postmaster()?.ok_or_else(|| Error::new("the server does not run"))
    }

    fn rests(&self, what: &str) -> Result<()> {
        if self.server.postmaster()?.is_some() {
            return Err(Error::new(format!(
                "the data of a server that runs cannot be {what}: stop it first"
            )));
        }
        Ok(())
    }

    /// The certificate of the authority that clients must trust, if it speaks TLS, as PEM.
    pub fn authority(&self) -> Option<std::path::PathBuf> {
        Some(self.folder.path().join(certificate::AUTHORITY)).filter(|file| file.exists())
    }
}

impl Deref for Private {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Nobody can be told of an error; the folder is removed in any case.
        let _ = end(&self.server.data());
    }
}

fn end(data: &Path) -> Result<()> {
    Postmaster::of(data)?.map_or(Ok(()), |postmaster| postmaster.end())?;
    orphans_leave(data)
}

/// Marks a folder as ours, for as long as we live.
fn owned(folder: &Path) -> Result<File> {
    let saying = || format!("lock {}", folder.display());
    let (ready, owner) = (folder.join("ready"), folder.join(OWNER));
    let file = File::create(&ready).during(saying)?;
    file.lock().during(saying)?;
    // Under its name it is never seen unlocked.
    fs::rename(&ready, &owner).during(saying)?;
    Ok(file)
}

/// Ends the servers whose processes were killed.
fn sweep() -> Result<()> {
    let (folder, account) = (env::temp_dir(), Account::of_servers()?);
    let entries = fs::read_dir(&folder).during(|| format!("list {}", folder.display()))?;
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let place = entry.path();
        let Ok(owner) = File::open(place.join(OWNER)) else { continue };
        if account.is_owner_of(&place) && owner.try_lock().is_ok() {
            end(&place.join("data"))?;
            // Another process that sweeps may be faster.
            let _ = fs::remove_dir_all(&place);
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // Everything as it is, owners and modes included, which the server insists on.
    said_by(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to))
        .during(|| "copy data".into())?;
    Ok(())
}
