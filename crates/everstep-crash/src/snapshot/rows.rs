//! A run's rows as they stand in either store, and what they tell of the run.

use everstep::{Status, journal::Kind};
use serde::Deserialize;

use super::{
    RunSeen,
    entry::{self, Entries, Entry},
};

/// What a store holds of one run.
#[derive(Deserialize)]
pub(super) struct Rows {
    pub(super) id: String,
    pub(super) status: u8,
    pub(super) generation: u32,
    pub(super) parent: Option<String>,
    /// Whether a letter of a named sender ever came.
    pub(super) seen: bool,
    pub(super) journal: Vec<Entry>,
    pub(super) archives: Vec<Archive>,
    pub(super) letters: Vec<Letter>,
    /// Keys of attempts.
    pub(super) started: Vec<String>,
    /// Bodies of answers, sorted.
    pub(super) replies: Vec<String>,
    pub(super) items: Vec<Item>,
}

/// Entries that were put aside.
#[derive(Deserialize)]
pub(super) struct Archive {
    /// Because the run began anew; else because a person took them back.
    pub(super) restart: bool,
    pub(super) generation: u32,
    pub(super) n: i64,
    pub(super) body: String,
}

#[derive(Deserialize)]
pub(super) struct Letter {
    pub(super) kind: u16,
    pub(super) name: String,
    pub(super) body: String,
}

/// What a run has emitted.
#[derive(Deserialize)]
pub(super) struct Item {
    pub(super) n: i64,
    pub(super) body: String,
}

/// As the inbox numbers kinds of letters.
const SIGNAL: u16 = 1;
const SETTLED: u16 = 4;
const RECORDED: u16 = 5;
const CANCEL: u16 = 6;
const CARRYING: u16 = 12;

impl Rows {
    /// What is wrong with them in themselves.
    pub(super) fn damage(&self) -> Option<String> {
        let has_gap = self.journal.iter().zip(0..).any(|(entry, seq)| entry.seq != seq);
        (has_gap || self.journal.is_empty()).then(|| format!("the journal of run {} has a gap", self.id))
    }

    pub(super) fn tell(self) -> RunSeen {
        let value = self.journal.last().filter(|last| last.kind == Kind::Completed.code());
        let value = value.map(|last| last.body.trim_matches('"').to_string());
        let entries = Entries::new(self.generation, self.journal, &self.archives);
        let of_kind = |kind: u16| self.letters.iter().filter(move |letter| letter.kind == kind);
        let names = |kind: u16| of_kind(kind).map(|letter| letter.name.clone());
        let signals = of_kind(SIGNAL).map(|letter| format!("{} {}", letter.name, letter.body));
        let carried = entry::carried(of_kind(CARRYING).map(|letter| letter.body.as_str()));
        let item = |item: &Item| format!("{} {}", item.n, item.body.trim_matches('"'));
        RunSeen {
            status: Status::from_code(self.status).unwrap_or(Status::Paused),
            recorded: entries.recorded().into_iter().chain(names(RECORDED)).collect(),
            in_journal: entries.ever_recorded(),
            started: self.started.into_iter().collect(),
            asked: entries.ask_to_cancel() || of_kind(CANCEL).next().is_some(),
            signals: entries.signals().into_iter().chain(signals.clone()).chain(carried).collect(),
            untaken: signals.collect(),
            taken: entries.taken(),
            settled: entries.settled().into_iter().chain(names(SETTLED)).collect(),
            answers: entries.answers(),
            replies: self.replies,
            items: self.items.iter().map(item).collect(),
            taken_back: entries.taken_back(),
            parent: self.parent,
            children: entries.children(),
            answered: self.seen,
            value,
        }
    }
}
