//! What people do to runs: the draws of it, and the calls that they are. Every deed is one of the store's own changes
//! with the record of who did it.

use everstep_core::store::{Act, Cut, Does, Doomed, Edit, LetterKind, Post, RunId, To};

use super::{
    call::Verb,
    draw::{Draw, IDS, LETTERS},
    operation::{Against, Nth, Operation, When},
    sample,
    world::{World, against},
};

/// What a person does, to which run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Sends something to it.
    Posts(Sending),
    /// Sets it aside.
    Pauses(Sending),
    /// Takes the end of its journal back.
    Cuts(Cutting),
    /// Replaces an entry.
    Edits {
        /// Which run.
        run: i64,
        /// In which statuses.
        only: u8,
        /// What the inbox count is like.
        inbox: Against,
        /// Which entry.
        seq: u64,
        /// What its payload is like.
        flavour: usize,
    },
}

/// A letter to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Which id of the pool.
    pub to: usize,
    /// Which letter.
    pub id: usize,
    /// Its kind.
    pub kind: u16,
    /// What its payload is like.
    pub flavour: usize,
    /// In which statuses it is taken.
    pub only: u8,
    /// Whether it revives the run.
    pub revive: bool,
}

/// A cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutting {
    /// Which run.
    pub run: i64,
    /// In which statuses.
    pub only: u8,
    /// What the inbox count is like.
    pub inbox: Against,
    /// From this entry on.
    pub from: u64,
    /// Whether it names the last entry, and rightly.
    pub last: Option<Against>,
    /// What it leaves in the inbox.
    pub letters: Vec<(usize, u16)>,
    /// Which promises are open again, by the keys of the pool.
    pub reopens: Vec<usize>,
}

impl Draw {
    /// Something that a person does.
    pub(super) fn person(&mut self) -> Operation {
        let on = self.nth();
        match self.0.below(10) {
            0 | 1 => {
                let n = self.0.of(&[0, 1, 1, 2, 3]);
                let runs = (0..n).map(|_| (self.run(), self.against(6))).collect();
                Operation::Delete { runs, on }
            }
            2 | 3 => {
                let (promise, id, kind) = (self.0.below(3), self.0.below(LETTERS), self.settling_kind());
                Operation::Settle { promise, id, kind, late: self.0.one_in(4), only: self.statuses(), on }
            }
            _ => Operation::Act { does: self.deed(), on },
        }
    }

    fn deed(&mut self) -> Deed {
        match self.0.below(8) {
            0..3 => Deed::Posts(self.sending()),
            3..5 => Deed::Pauses(self.sending()),
            5 | 6 => Deed::Cuts(self.cutting()),
            _ => Deed::Edits {
                run: self.run(),
                only: self.statuses(),
                inbox: self.against(6),
                seq: self.0.of(&[0, 1, 1, 1, 2, 9]),
                flavour: self.flavour(),
            },
        }
    }

    pub(super) fn sending(&mut self) -> Sending {
        Sending {
            to: self.0.below(IDS + 1),
            id: self.0.below(LETTERS),
            kind: self.letter_kind(),
            flavour: self.flavour(),
            only: self.statuses(),
            revive: self.0.one_in(2),
        }
    }

    pub(super) fn cutting(&mut self) -> Cutting {
        let n = self.0.of(&[0, 0, 1, 2, 3]);
        Cutting {
            run: self.run(),
            only: self.statuses(),
            inbox: self.against(6),
            from: self.0.of(&[0, 1, 1, 1, 2, 2, 3, 4, u64::MAX]),
            last: self.0.one_in(3).then(|| self.against(4)),
            letters: (0..n).map(|_| (self.0.below(LETTERS), self.letter_kind())).collect(),
            reopens: (0..self.0.of(&[0, 0, 1])).map(|_| self.0.below(super::draw::KEYS)).collect(),
        }
    }

    fn settling_kind(&mut self) -> u16 {
        match self.0.one_in(10) {
            true => self.letter_kind(),
            false => LetterKind::PromiseSettled as u16,
        }
    }
}

impl World {
    /// The call that a deed is now.
    pub(super) fn deed(&self, deed: &Deed) -> Verb {
        let (verb, does) = match deed {
            Deed::Posts(sending) => ("send", Does::Post(post(sending))),
            Deed::Pauses(sending) => ("pause", Does::Pause(post(sending))),
            Deed::Cuts(cutting) => ("rewind", Does::Cut(self.cutting(cutting))),
            Deed::Edits { run, only, inbox, seq, flavour } => {
                let (run, only) = (RunId(*run), sample::statuses(*only));
                let inbox_n = against(self.inbox_n(run), *inbox);
                ("edit", Does::Edit(Edit { run, only, inbox_n, entry: sample::entry(*seq, *flavour) }))
            }
        };
        let act = Act {
            verb: verb.into(),
            who: "o'hara".into(),
            why: "it's \"late\"\u{0}".into(),
            at: sample::at(When::At(7)),
            detail: "".into(),
        };
        Verb::Act(does, act)
    }

    pub(super) fn cutting(&self, cutting: &Cutting) -> Cut {
        let run = RunId(cutting.run);
        let last = self.pictured(run).and_then(|run| run.whole.entries.last()).map_or(0, |last| last.seq);
        Cut {
            run,
            only: sample::statuses(cutting.only),
            inbox_n: against(self.inbox_n(run), cutting.inbox),
            last: cutting.last.map(|how| against(last, how)),
            from: cutting.from,
            letters: cutting.letters.iter().map(|(id, kind)| sample::letter(*id, *kind, 0)).collect(),
            reopens: cutting.reopens.iter().map(|key| sample::key(*key)).collect(),
            why: "it's a \"retry\"".into(),
            at: sample::at(When::At(6)),
        }
    }

    /// Runs to be deleted, as somebody has seen them; one that is not there looks like any.
    pub(super) fn doomed(&self, runs: &[(i64, Against)]) -> Vec<Doomed> {
        let any =
            self.picture.iter().flat_map(|picture| &picture.runs).next().map(|run| Doomed::of(&run.row));
        let doomed = runs.iter().filter_map(|(run, how)| {
            let run = RunId(*run);
            let seen = self.pictured(run).map(|run| Doomed::of(&run.row)).or(any)?;
            Some(Doomed { run, inbox_n: against(seen.inbox_n, *how), ..seen })
        });
        doomed.collect()
    }
}

/// A letter to a run.
pub(super) fn post(sending: &Sending) -> Post {
    let Sending { to, id, kind, flavour, only, revive } = *sending;
    let letter = sample::letter(id, kind, flavour);
    Post { to: sample::id(to).into(), letter, only: sample::statuses(only), revive }
}

/// A letter that settles a promise, in its time or not.
pub(super) fn settle(promise: usize, id: usize, kind: u16, late: bool, only: u8) -> Post {
    let mut letter = sample::letter(id, kind, 0);
    letter.at = sample::at(When::At(if late { 1_000 } else { 3 }));
    Post { to: To::Promise(sample::hash(promise)), letter, only: sample::statuses(only), revive: false }
}

/// Where an operation of people is made.
pub(super) fn place(what: &Operation) -> Option<Nth> {
    match what {
        Operation::Delete { on, .. } | Operation::Settle { on, .. } | Operation::Act { on, .. } => Some(*on),
        _ => None,
    }
}
