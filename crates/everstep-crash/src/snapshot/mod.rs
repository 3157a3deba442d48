//! What a database holds when its process is dead.

mod entry;
mod file;
mod rows;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use everstep::Status;

pub(crate) use file::of_file;
use rows::Rows;
pub(crate) use server::of_server;

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) runs: BTreeMap<String, RunSeen>,
    /// The user's rows: run, key.
    pub(crate) rows: Vec<(String, String)>,
    /// The user's rows that were written with the start of a run: its id.
    pub(crate) wished: Vec<String>,
    /// What is wrong with the database itself, and gaps in journals.
    pub(crate) damage: Vec<String>,
}

/// A run as its rows tell it. A key of a later generation is `key@2`.
#[derive(Clone, Debug)]
pub(crate) struct RunSeen {
    pub(crate) status: Status,
    /// Keys of steps whose outcome is recorded, in a journal or on its way there.
    pub(crate) recorded: BTreeSet<String>,
    /// Keys, without generations, of steps whose outcome is or was in a journal.
    pub(crate) in_journal: BTreeSet<String>,
    /// Keys of attempts that were started and of which nothing more is known.
    pub(crate) started: BTreeSet<String>,
    /// Whether somebody's wish to cancel is in the inbox, or was taken.
    pub(crate) asked: bool,
    /// Name and value of each signal that is there: in the inbox, taken, or carried.
    pub(crate) signals: BTreeSet<String>,
    /// Of those, the ones in the inbox.
    pub(crate) untaken: BTreeSet<String>,
    /// Those that stand in a journal as taken.
    pub(crate) taken: Vec<String>,
    /// Keys of promises of which it is known what became of them.
    pub(crate) settled: BTreeSet<String>,
    /// What the journals have recorded as answers to requests, and what those who ask are given; in the same order.
    pub(crate) answers: Vec<String>,
    pub(crate) replies: Vec<String>,
    /// Number and value of what it has emitted.
    pub(crate) items: BTreeSet<String>,
    /// Keys of steps that a person took back, once for each time.
    pub(crate) taken_back: Vec<String>,
    /// The run that has started it, and those that it has started.
    pub(crate) parent: Option<String>,
    pub(crate) children: BTreeSet<String>,
    /// Whether a person's answer is there, or was taken.
    pub(crate) answered: bool,
    /// The value of a completed run.
    pub(crate) value: Option<String>,
}

impl Snapshot {
    fn add(&mut self, rows: Rows) {
        self.damage.extend(rows.damage());
        self.runs.insert(rows.id.clone(), rows.tell());
    }

    fn unreadable(error: &dyn std::error::Error) -> Snapshot {
        let damage = vec![format!("the database cannot be read: {error}")];
        Snapshot { damage, ..Snapshot::default() }
    }
}

impl RunSeen {
    /// A run without anything.
    #[cfg(test)]
    pub(crate) fn of(status: Status) -> RunSeen {
        RunSeen {
            status,
            recorded: BTreeSet::new(),
            in_journal: BTreeSet::new(),
            started: BTreeSet::new(),
            asked: false,
            signals: BTreeSet::new(),
            untaken: BTreeSet::new(),
            taken: Vec::new(),
            settled: BTreeSet::new(),
            answers: Vec::new(),
            replies: Vec::new(),
            items: BTreeSet::new(),
            taken_back: Vec::new(),
            parent: None,
            children: BTreeSet::new(),
            answered: false,
            value: None,
        }
    }

    /// How often a person took this step back.
    pub(crate) fn rewinds(&self, key: &str) -> usize {
        self.taken_back.iter().filter(|taken| *taken == key).count()
    }
}
