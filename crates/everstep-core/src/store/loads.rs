//! Which loads of runs are open, and the number of each one's next entry: the gate before a store's writer.
//! Every store asks it in the order of its queue, so that a late turn of a dropped load can never land behind a new one.

use foldhash::{HashMap, HashMapExt as _};

use super::{RunId, StoreError};
use crate::failpoint::{Guard, broken};

/// The number of one load of a run into memory; never given twice by one opening of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoadId(pub u64);

/// The open loads of one opening of a store. `X` is what the store wants to remember of each.
#[derive(Debug)]
pub struct Loads<X> {
    last: u64,
    open: HashMap<LoadId, Open<X>>,
}

#[derive(Debug)]
struct Open<X> {
    run: RunId,
    next: u64,
    extra: X,
}

impl<X> Default for Loads<X> {
    fn default() -> Self {
        Loads { last: 0, open: HashMap::new() }
    }
}

impl<X> Loads<X> {
    /// Opens a load of `run`, whose next entry has the number `next`.
    pub fn open(&mut self, run: RunId, next: u64, extra: X) -> LoadId {
        self.last += 1;
        let load = LoadId(self.last);
        self.open.insert(load, Open { run, next, extra });
        load
    }

    /// What the store remembers of an open load of `run`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the load has ended.
    pub fn get(&self, load: LoadId, run: RunId) -> Result<&X, StoreError> {
        match self.open.get(&load) {
            Some(open) if open.run == run => Ok(&open.extra),
            _ => Err(ended(load, run)),
        }
    }

    /// Lets the entries of these numbers pass, and answers the number of the next one; before and after.
    ///
    /// # Errors
    /// [`StoreError::Refused`], and none passes, if the load has ended, or if any of them is not the next.
    pub fn admit(
        &mut self,
        load: LoadId,
        run: RunId,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Result<Admitted, StoreError> {
        let Some(open) = self.open.get_mut(&load).filter(|open| open.run == run) else {
            return Err(ended(load, run));
        };
        let (before, mut next) = (open.next, open.next);
        for seq in seqs {
            if seq != next && !broken(Guard::Load) {
                return Err(refused(format!("run {}: entry {seq} where {next} is next", run.0)));
            }
            next += 1;
        }
        open.next = next;
        Ok(Admitted { before, next })
    }

    /// Takes back what [`Loads::admit`] let pass, when its transaction was rolled back and will be repeated.
    pub fn rewind(&mut self, load: LoadId, next: u64) {
        if let Some(open) = self.open.get_mut(&load) {
            open.next = next;
        }
    }

    /// Ends a load: nothing of it passes any more.
    pub fn close(&mut self, load: LoadId) -> Option<X> {
        if broken(Guard::Load) {
            return None;
        }
        self.open.remove(&load).map(|open| open.extra)
    }

    /// The open loads of a run. Looks at all: for what is rare.
    pub fn of(&self, run: RunId) -> Vec<LoadId> {
        self.open.iter().filter(|(_, open)| open.run == run).map(|(load, _)| *load).collect()
    }

    /// The runs of all open loads, the numbers of their next entries, and what is remembered. For what is rare.
    pub fn each(&self) -> impl Iterator<Item = (RunId, u64, &X)> {
        self.open.values().map(|open| (open.run, open.next, &open.extra))
    }

    /// The open loads of which the store remembers something like this. Looks at all: for what is rare.
    pub fn like(&self, like: impl Fn(&X) -> bool) -> Vec<LoadId> {
        self.open.iter().filter(|(_, open)| like(&open.extra)).map(|(load, _)| *load).collect()
    }
}

/// What [`Loads::admit`] let pass: the number that was next before, and the one that is next now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// For [`Loads::rewind`].
    pub before: u64,
    /// The number of the next entry.
    pub next: u64,
}

fn ended(load: LoadId, run: RunId) -> StoreError {
    refused(format!("load {} of run {} has ended", load.0, run.0))
}

fn refused(why: String) -> StoreError {
    StoreError::Refused(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_entry_of_an_open_load_passes() {
        let mut loads = Loads::default();
        let (run, other) = (RunId(1), RunId(2));
        let load = loads.open(run, 3, ());
        assert_eq!(loads.admit(load, run, 3..5).map(|a| a.next).ok(), Some(5));
        assert!(loads.admit(load, run, [4]).is_err(), "written twice");
        assert!(loads.admit(load, run, [6]).is_err(), "a gap before it");
        assert!(loads.admit(load, run, [5, 7]).is_err(), "a gap inside");
        assert!(loads.admit(load, run, [5, u64::MAX]).is_err(), "a gap to the end of numbers");
        assert!(loads.admit(load, other, [5]).is_err(), "another run");
        assert_eq!(loads.admit(load, run, []).map(|a| a.next).ok(), Some(5));
        loads.rewind(load, 3);
        assert_eq!(loads.admit(load, run, [3]).map(|a| a.next).ok(), Some(4));
        loads.close(load);
        assert!(loads.admit(load, run, [4]).is_err(), "ended");
        assert_ne!(loads.open(run, 4, ()), load);
    }

    #[test]
    fn what_is_remembered_of_open_loads_is_found() {
        let mut loads = Loads::default();
        let (held, over) = (loads.open(RunId(1), 3, "held"), loads.open(RunId(2), 1, "over"));
        loads.close(over);
        assert_eq!(loads.each().collect::<Vec<_>>(), [(RunId(1), 3, &"held")]);
        assert_eq!(loads.like(|remembered| *remembered == "held"), [held]);
    }
}
