//! The states that a database goes through in a recording, and from which of them on each promise is kept.

use std::{collections::HashMap, path::Path};

use everstep_sqlite::rusqlite;

use crate::{
    content::{self, Content},
    disk::{Disk, Image},
    life::{Setup, folder},
    recording::{DATABASE, Op, Recording},
};

/// All states in their order.
#[derive(Debug)]
pub struct History {
    states: Vec<State>,
    by_digest: HashMap<u64, usize>,
    /// For each promise, in their order: at which operation it was made, and the first state that keeps it.
    promises: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct State {
    digest: u64,
    content: Content,
}

impl History {
    /// Plays a recording without any crash.
    ///
    /// # Errors
    /// What was promised and not even written, or what is wrong with a state that nothing has disturbed.
    pub fn of(recording: &Recording, setup: Setup) -> Result<History, String> {
        let folder = folder();
        let mut history = History { states: Vec::new(), by_digest: HashMap::new(), promises: Vec::new() };
        let fresh = fresh(setup)?;
        let mut disk = Disk::new(&recording.before);
        let mut commits = Commits::default();
        history.add(read(&disk.as_written(), folder.path(), &fresh)?)?;
        for (at, op) in recording.ops.iter().enumerate() {
            disk.apply(op);
            if commits.may_be_whole_after(op) {
                let state = read(&disk.as_written(), folder.path(), &fresh)
                    .map_err(|e| format!("operation {at}, without a crash: {e}"))?;
                history.add(state).map_err(|e| format!("operation {at}, without a crash: {e}"))?;
            }
            if let Op::Mark(promise) = op {
                let kept = |state: &State| promise.is_kept(&state.content);
                let from = history.states.len() - history.states.iter().rev().take_while(|s| kept(s)).count();
                if from == history.states.len() {
                    return Err(format!("operation {at}: promised, and not even written: {promise:?}"));
                }
                history.promises.push((at, from));
            }
        }
        Ok(history)
    }

    fn add(&mut self, state: State) -> Result<(), String> {
        if self.states.last().is_some_and(|last| last.digest == state.digest) {
            return Ok(());
        }
        if let Some(flaw) = state.content.flaw() {
            return Err(flaw);
        }
        self.by_digest.insert(state.digest, self.states.len());
        self.states.push(state);
        Ok(())
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// How many promises there are.
    pub fn promises(&self) -> usize {
        self.promises.len()
    }

    /// Which state has this digest; `None` of one that was never committed.
    pub fn state(&self, digest: u64) -> Option<usize> {
        self.by_digest.get(&digest).copied()
    }

    /// What that state says.
    pub fn content(&self, state: usize) -> &Content {
        &self.states[state].content
    }

    /// How many promises were made before this operation, and those among them that `state` does not keep, by the
    /// operation that made them.
    pub fn lost(&self, state: usize, before: usize) -> (usize, Vec<usize>) {
        let made = &self.promises[..self.promises.partition_point(|(at, _)| *at < before)];
        (made.len(), made.iter().filter(|(_, from)| *from > state).map(|(at, _)| *at).collect())
    }
}

/// Tells after which writes a transaction may be whole.
#[derive(Default)]
struct Commits {
    /// The header of the last frame says that its page is the last one.
    is_last: bool,
}

impl Commits {
    fn may_be_whole_after(&mut self, op: &Op) -> bool {
        const FRAME_HEADER: usize = 24;
        match op {
            Op::Write { file, bytes, .. } if file.ends_with("-wal") => {
                if bytes.len() == FRAME_HEADER {
                    self.is_last = bytes[4..8] != [0; 4];
                    return false;
                }
                self.is_last
            }
            // With the rollback journal a transaction is whole when that goes.
            Op::Delete(_) | Op::Truncate(..) => true,
            _ => false,
        }
    }
}

/// What an image says to somebody who only looks.
fn read(image: &Image, folder: &Path, fresh: &(u64, Content)) -> Result<State, String> {
    image.write(folder).map_err(|e| e.to_string())?;
    let read = || {
        if !image.names.contains_key(DATABASE) {
            return Ok(None);
        }
        let conn = content::look(&folder.join(DATABASE))?;
        Ok(content::digest(&conn)?.map(|digest| (digest, conn)))
    };
    let state = |error: rusqlite::Error| error.to_string();
    match read().map_err(state)? {
        None => Ok(State { digest: fresh.0, content: fresh.1.clone() }),
        Some((digest, conn)) => Ok(State { digest, content: Content::read(&conn).map_err(state)? }),
    }
}

/// What is in a database that was just made: the same as nothing.
fn fresh(setup: Setup) -> Result<(u64, Content), String> {
    let folder = folder();
    let store = setup.open(folder.path(), None).map_err(|e| e.to_string())?;
    let read = || {
        let conn = content::look(&folder.path().join(DATABASE))?;
        Ok((content::digest(&conn)?.expect("it was just made"), Content::read(&conn)?))
    };
    let read = read().map_err(|e: rusqlite::Error| e.to_string());
    drop(store);
    read
}
