//! Promises: who may settle them, and whether somebody has.

use std::sync::Arc;

use super::content::Content;
use crate::{
    store::{Posted, PromiseRow, RunId, To},
    time::Timestamp,
};

/// One token of a promise.
#[derive(Clone, Debug)]
pub(super) struct Promised {
    pub(super) run: RunId,
    generation: u32,
    key: Arc<str>,
    expires: Option<Timestamp>,
    settled: bool,
}

impl Content {
    pub(super) fn add_promise(
        &mut self,
        id: RunId,
        hash: [u8; 32],
        key: Arc<str>,
        expires: Option<Timestamp>,
    ) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if self.promises.contains_key(&hash) {
            return;
        }
        let others = run.promises.entry(key.clone()).or_default();
        let settled = others.iter().any(|hash| self.promises[hash].settled);
        others.push(hash);
        let generation = run.row.generation;
        self.promises.insert(hash, Promised { run: id, generation, key, expires, settled });
    }

    /// A promise of a run that came from outside.
    pub(super) fn import_promise(&mut self, id: RunId, promise: PromiseRow) {
        let PromiseRow { hash, key, generation, expires, settled } = promise;
        let Some(run) = self.runs.get_mut(&id).filter(|_| !self.promises.contains_key(&hash)) else { return };
        if run.row.generation == generation {
            run.promises.entry(key.clone()).or_default().push(hash);
        }
        self.promises.insert(hash, Promised { run: id, generation, key, expires, settled });
    }

    /// The promises of a run, by hash.
    pub(super) fn promises_of(&self, id: RunId) -> Vec<PromiseRow> {
        let of_run = self.promises.iter().filter(|(_, promise)| promise.run == id);
        let row = |(hash, promise): (&[u8; 32], &Promised)| {
            let Promised { generation, key, expires, settled, .. } = promise.clone();
            PromiseRow { hash: *hash, key, generation, expires, settled }
        };
        of_run.map(row).collect()
    }

    /// Whom a letter reaches, and the name that it gets there.
    pub(super) fn addressee(&self, to: &To) -> Option<(RunId, Option<Arc<str>>)> {
        match to {
            To::Run(id) => Some((*self.ids.get(id)?, None)),
            To::Promise(hash) => {
                let promise = self.promises.get(hash)?;
                let run = self.runs.get(&promise.run)?;
                (run.row.generation == promise.generation).then(|| (promise.run, Some(promise.key.clone())))
            }
        }
    }

    /// Why a letter does not settle a promise that it is for.
    pub(super) fn unsettling(&self, to: &To, at: Timestamp) -> Option<Posted> {
        let To::Promise(hash) = to else { return None };
        let promise = self.promises.get(hash)?;
        match promise.expires {
            _ if promise.settled => Some(Posted::Settled),
            Some(expires) if expires <= at => Some(Posted::Expired),
            _ => None,
        }
    }

    /// The promise of this key was settled, or may be settled anew.
    pub(super) fn set_settled(&mut self, run: RunId, key: &str, settled: bool) {
        let hashes = self.runs.get(&run).and_then(|run| run.promises.get(key));
        for hash in hashes.into_iter().flatten() {
            self.promises.get_mut(hash).expect("kept with its key").settled = settled;
        }
    }
}
