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
    time::Duration,
};

use everstep_core::store::WorkerId;

use crate::stopwatch::{Stopwatch, pause};

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
        let file = lock_file(&unready)?;
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

/// An opening on its way: no other one comes between until [`Opening::share`].
#[derive(Debug)]
pub(crate) struct Opening {
    lock: OpenLock,
    /// Whether nobody else has the database open.
    pub(crate) alone: bool,
    turn: Option<File>,
}

impl OpenLock {
    /// Takes the lock. Openings take turns, by a lock of their own: so who is not alone knows that another has looked
    /// at the files, found them whole and had them open just now.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if others were opening or closing the database for longer than `wait`.
    pub(crate) fn take(database: &Path, wait: Duration) -> io::Result<Opening> {
        let watch = Stopwatch::start();
        let mut turn = lock_file(&beside(database, ".opening.lock")).ok();
        if !until(watch, wait, || turn.as_ref().map_or(Ok(()), File::try_lock))? {
            turn = None;
        }
        let nothing = |turn| Ok(Opening { lock: OpenLock(None), alone: false, turn });
        let Ok(file) = lock_file(&beside(database, ".open.lock")) else { return nothing(turn) };
        let alone = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => return nothing(turn),
        };
        // Who holds it exclusively now is closing the database, and done soon.
        if !alone && !until(watch, wait, || file.try_lock_shared())? {
            return nothing(turn);
        }
        Ok(Opening { lock: OpenLock(Some(file)), alone, turn })
    }

    /// At the end: whether nobody else has the database open. Nobody can open it until `self` is dropped.
    pub(crate) fn is_last(&self) -> bool {
        self.0.as_ref().is_some_and(|file| file.try_lock().is_ok())
    }
}

impl Opening {
    /// Lets others open the database too.
    pub(crate) fn share(self) -> OpenLock {
        // It is free for us: who else opens has to wait for his turn.
        if let Some(file) = &self.lock.0 {
            let _ = file.lock_shared();
        }
        drop(self.turn);
        self.lock
    }
}

/// Tries until it succeeds, or `wait` is over; `false` if there are no locks on this file system.
fn until(
    watch: Stopwatch,
    wait: Duration,
    mut lock: impl FnMut() -> Result<(), TryLockError>,
) -> io::Result<bool> {
    loop {
        match lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(_)) => return Ok(false),
            Err(TryLockError::WouldBlock) if watch.elapsed() >= wait => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(TryLockError::WouldBlock) => pause(Duration::from_millis(1)),
        }
    }
}

/// Opens a file for its lock, and makes it (for its owner only, like the database) if there is none.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
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
        let first = OpenLock::take(&path, Duration::ZERO).expect("taken");
        assert!(first.alone);
        let first = first.share();
        let second = OpenLock::take(&path, Duration::ZERO).expect("taken");
        assert!(!second.alone);
        let second = second.share();
        assert!(!second.is_last());
        drop(second);
        assert!(first.is_last());
    }

    /// Who waits for somebody that looks, and then does not open, must look himself; and so must the next.
    #[test]
    fn who_waited_for_an_opening_that_failed_is_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        let wait = Duration::from_secs(60);
        let first = OpenLock::take(&path, wait).expect("taken");
        let barrier = std::sync::Barrier::new(5);
        std::thread::scope(|scope| {
            let look = || {
                barrier.wait();
                OpenLock::take(&path, wait).expect("taken").alone
            };
            let others: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
            barrier.wait();
            drop(first);
            assert!(others.into_iter().all(|other| other.join().expect("no panic")));
        });
    }

    #[test]
    fn the_wait_for_another_opening_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        let first = OpenLock::take(&path, Duration::ZERO).expect("taken");
        let second = OpenLock::take(&path, Duration::ZERO).expect_err("not shared yet");
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        let first = first.share();
        assert!(first.is_last());
        let third = OpenLock::take(&path, Duration::ZERO).expect_err("is being closed");
        assert_eq!(third.kind(), io::ErrorKind::TimedOut);
    }
}
