//! Files beside the database whose locks tell, at once, that a process is dead: the system frees them when it dies.
//!
//! They only ever prove death. A missing file proves nothing: the directory may be read-only, the network file
//! system without locks. And they are never the database file itself: closing any handle to it would drop SQLite's
//! own locks of the whole process.

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use everstep_core::store::WorkerId;

/// The workers' locks of one opening of the store.
#[derive(Debug)]
pub(crate) struct WorkerLocks {
    database: PathBuf,
    held: Mutex<HashMap<WorkerId, File>>,
}

impl WorkerLocks {
    pub(crate) fn new(database: &Path) -> WorkerLocks {
        WorkerLocks { database: database.to_path_buf(), held: Mutex::default() }
    }

    /// Shows that `worker` lives for as long as this process does.
    pub(crate) fn hold(&self, worker: WorkerId) -> io::Result<()> {
        // Locked before it has its name: nobody may see it free while its worker lives.
        let unready = beside(&self.database, &format!(".worker-{}.new", worker.0));
        let file = File::create(&unready)?;
        let locked =
            file.try_lock().map_err(io::Error::from).and_then(|()| fs::rename(&unready, self.path(worker)));
        if let Err(error) = locked {
            let _ = fs::remove_file(&unready);
            return Err(error);
        }
        self.held().insert(worker, file);
        Ok(())
    }

    /// Whether the process of `worker` is known to be dead.
    pub(crate) fn is_dead(&self, worker: WorkerId) -> bool {
        // Shared, so that two who look at the same time do not take each other for the worker.
        File::open(self.path(worker)).is_ok_and(|file| file.try_lock_shared().is_ok())
    }

    /// `worker` is fenced: its file says nothing any more.
    pub(crate) fn remove(&self, worker: WorkerId) {
        let _ = fs::remove_file(self.path(worker));
        self.held().remove(&worker);
    }

    fn path(&self, worker: WorkerId) -> PathBuf {
        beside(&self.database, &format!(".worker-{}.lock", worker.0))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<WorkerId, File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells openings of one database from each other: shared while it is open, exclusive while somebody looks whether
/// he is alone.
#[derive(Debug)]
pub(crate) struct OpenLock(Option<File>);

impl OpenLock {
    /// Takes the lock; `true` if nobody else has the database open and nobody can open it before [`OpenLock::share`].
    pub(crate) fn take(database: &Path) -> (OpenLock, bool) {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(beside(database, ".open.lock"));
        let Ok(file) = file else { return (OpenLock(None), false) };
        match file.try_lock() {
            Ok(()) => (OpenLock(Some(file)), true),
            // Somebody looks or has it open; who only looks is done soon.
            Err(TryLockError::WouldBlock) => {
                let shared = file.lock_shared().is_ok();
                (OpenLock(shared.then_some(file)), false)
            }
            Err(TryLockError::Error(_)) => (OpenLock(None), false),
        }
    }

    /// Lets others open the database too.
    pub(crate) fn share(&self) {
        if let Some(file) = &self.0 {
            let _ = file.lock_shared();
        }
    }

    /// At the end: whether nobody else has the database open. Nobody can open it until `self` is dropped.
    pub(crate) fn is_last(&self) -> bool {
        self.0.as_ref().is_some_and(|file| file.try_lock().is_ok())
    }
}

/// The path of a file beside `database`.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_free_lock_proves_a_death() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        let (worker, locks) = (WorkerId(7), WorkerLocks::new(&path));
        assert!(!locks.is_dead(worker), "a missing file proves nothing");
        locks.hold(worker).expect("a lock");
        let other = WorkerLocks::new(&path);
        assert!(!other.is_dead(worker));
        drop(locks);
        assert!(other.is_dead(worker));
        other.remove(worker);
        assert!(!other.is_dead(worker));
    }

    #[test]
    fn openings_know_whether_they_are_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        let (first, alone) = OpenLock::take(&path);
        assert!(alone);
        first.share();
        let (second, alone) = OpenLock::take(&path);
        assert!(!alone);
        assert!(!second.is_last());
        drop(second);
        assert!(first.is_last());
    }
}
