//! A run: its row, journal, inbox and started rows.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{refused, say::Said};
use crate::{
    journal::Entry,
    status::{Change, Status},
    store::{
        Act, Archived, Letter, LetterId, LetterKind, Loaded, NewRun, Parent, Received, RunId, RunRow,
        StartedRow, StoreError, Whole,
    },
    stuck::Stuck,
    time::Timestamp,
};

#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Its `takeovers` are those since [`Run::seq_at_crash`]; [`Run::seen_row`] tells what they are worth now.
    pub(super) row: RunRow,
    pub(super) entries: Vec<Entry>,
    pub(super) inbox: BTreeMap<u64, Letter>,
    /// Every letter that ever reached it.
    pub(super) known: HashSet<LetterId>,
    pub(super) started: BTreeMap<Arc<str>, StartedRow>,
    pub(super) said: Said,
    /// The hashes of its promises, by key.
    pub(super) promises: BTreeMap<Arc<str>, Vec<[u8; 32]>>,
    /// Whose child it is.
    pub(super) parent: Option<Parent>,
    /// The trace context of whoever started it.
    pub(super) trace: Option<Arc<str>>,
    pub(super) archive: Vec<Archived>,
    /// It came from outside: its journal may have been cut there.
    pub(super) is_imported: bool,
    /// Why, and since when.
    pub(super) stuck: Option<(Stuck, Timestamp)>,
    /// What people did to it.
    pub(super) acts: Vec<Act>,
    pub(super) nudged: bool,
    /// Its last entry at the last death of its worker.
    pub(super) seq_at_crash: u64,
}

impl Run {
    pub(super) fn pending(run: RunId, new: &NewRun) -> Run {
        let row = RunRow {
            run,
            id: new.id.clone(),
            workflow: new.workflow.clone(),
            status: Status::Pending,
            owner: None,
            wake_at: None,
            inbox_n: 0,
            generation: 0,
            takeovers: 0,
            created_at: new.first.at,
            began_at: None,
            finished_at: None,
        };
        let mut run = Run {
            row,
            entries: vec![new.first.clone()],
            inbox: BTreeMap::new(),
            known: HashSet::new(),
            started: BTreeMap::new(),
            said: Said::default(),
            promises: BTreeMap::new(),
            parent: new.parent.clone(),
            trace: new.trace.clone(),
            archive: Vec::new(),
            is_imported: false,
            stuck: None,
            acts: Vec::new(),
            nudged: false,
            seq_at_crash: 0,
        };
        run.furnish(new);
        run
    }

    /// As another store had it; its promises are the content's.
    pub(super) fn of(whole: Whole) -> Run {
        let said = Said::of(&whole);
        let Whole { row, trace, parent, loaded, stuck, kept, acts, .. } = whole;
        Run {
            // It is due when the content says so.
            row: RunRow { wake_at: None, ..row },
            known: kept.seen.into_iter().collect(),
            inbox: loaded.inbox.into_iter().map(|received| (received.n, received.letter)).collect(),
            started: loaded.started.into_iter().map(|row| (row.key.clone(), row)).collect(),
            said,
            promises: BTreeMap::new(),
            parent,
            trace,
            archive: kept.archive,
            is_imported: false,
            stuck,
            acts,
            nudged: false,
            // What it has of deaths counts on.
            seq_at_crash: loaded.entries.last().map_or(0, |last| last.seq),
            entries: loaded.entries,
        }
    }

    /// The next generation, with `first` as its journal; the old one goes to the archive.
    pub(super) fn renew(&mut self, first: &Entry, why: &str) {
        let entries = std::mem::replace(&mut self.entries, vec![first.clone()]);
        self.archive(why, first.at, entries);
        self.started.clear();
        self.promises.clear();
        self.inbox.retain(|_, letter| !LetterKind::OF_A_KEY.iter().any(|kind| *kind as u16 == letter.kind));
        self.row.generation += 1;
        (self.row.takeovers, self.seq_at_crash) = (0, 0);
    }

    /// Another run in the place of this one, which is over.
    pub(super) fn give_place(&mut self, new: &NewRun) -> Result<(), StoreError> {
        self.row.status = self.after(Change::Reused)?;
        self.renew(&new.first, "reuse");
        self.inbox.clear();
        self.known.clear();
        self.said.attributes.clear();
        self.said.published.clear();
        self.said.replies.clear();
        (self.parent, self.trace) = (new.parent.clone(), new.trace.clone());
        self.row.workflow = new.workflow.clone();
        self.row.created_at = new.first.at;
        (self.row.began_at, self.row.finished_at) = (None, None);
        self.furnish(new);
        Ok(())
    }

    /// What it has from the beginning.
    fn furnish(&mut self, new: &NewRun) {
        for letter in &new.letters {
            self.receive(letter.clone());
        }
        self.said.attributes.extend(new.attributes.iter().cloned());
        if let Some(forked) = &new.forked {
            self.entries.extend(forked.entries.iter().cloned());
            let numbers =
                self.item_numbers(&forked.says).expect("a new run has no items, and these are in order");
            self.said.add(&forked.says, numbers);
            self.acts.push(forked.act.clone());
        }
    }

    /// Keeps what was taken out of its journal.
    pub(super) fn archive(&mut self, why: &str, at: Timestamp, entries: Vec<Entry>) {
        let generation = self.row.generation;
        self.archive.push(Archived { generation, why: why.into(), at, entries });
    }

    /// Whether its streams may have items of which its journal tells nothing.
    pub(super) fn was_cut(&self) -> bool {
        self.is_imported || !self.archive.is_empty()
    }

    /// Its row as others see it: deaths before its last entry do not count.
    pub(super) fn seen_row(&self) -> RunRow {
        let takeovers = if self.has_progressed() { 0 } else { self.row.takeovers };
        RunRow { takeovers, ..self.row.clone() }
    }

    /// Whether it has made an entry since its worker last died.
    pub(super) fn has_progressed(&self) -> bool {
        self.last_seq() > self.seq_at_crash
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    /// The status after `change`, if that may follow.
    pub(super) fn after(&self, change: Change) -> Result<Status, StoreError> {
        self.row.status.after(change).map_err(|error| refused(format!("run {}: {error}", self.row.run.0)))
    }

    /// Puts a letter into the inbox, unless it was there before; its number.
    pub(super) fn receive(&mut self, letter: Letter) -> Option<u64> {
        self.known.insert(letter.id).then(|| self.add(letter))
    }

    /// Puts a letter into the inbox as it is; its number.
    pub(super) fn add(&mut self, letter: Letter) -> u64 {
        self.row.inbox_n += 1;
        self.inbox.insert(self.row.inbox_n, letter);
        self.row.inbox_n
    }

    pub(super) fn loaded(&self) -> Loaded {
        let started = self.started.values().cloned().collect();
        Loaded { entries: self.entries.clone(), inbox: self.received(), started }
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.inbox.iter().map(|(n, letter)| Received { n: *n, letter: letter.clone() }).collect()
    }
}
