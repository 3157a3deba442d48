//! Runs that a start claimed, on their way from the store into this worker's memory.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::worker::Worker;
use crate::{
    failpoint::{Failpoint, pass},
    journal::Entry,
    store::{Adopt, Claimed, Listener, Loaded, RunId},
};

/// Hands the runs that a start claimed to the worker's runtime. Places that no run came for go back with it.
///
/// Also listens for the end of each, before it can come: whoever asks for the result need not read it.
pub(crate) struct Adoption {
    worker: Arc<Worker>,
    places: AtomicU64,
    listeners: Mutex<HashMap<RunId, Listener>>,
}

impl Adoption {
    pub(crate) fn new(worker: Arc<Worker>, places: usize) -> Adoption {
        Adoption { worker, places: AtomicU64::new(places as u64), listeners: Mutex::default() }
    }

    /// The listener of a run that was adopted.
    pub(crate) fn listener(&self, run: RunId) -> Option<Listener> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}

impl Adopt for Adoption {
    fn adopt(&self, run: Claimed, first: Entry) {
        pass(Failpoint::RunAdopted);
        self.places.fetch_sub(1, Ordering::AcqRel);
        let listener = self.worker.store.bell().listen(run.row.run);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).insert(run.row.run, listener);
        let taken = Box::new((run, Loaded { entries: vec![first], inbox: Vec::new(), started: Vec::new() }));
        self.worker.take_in(taken);
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        self.worker.residents.unreserve(self.places.load(Ordering::Acquire) as usize);
    }
}
