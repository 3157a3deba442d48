//! Draws streams of operations: mostly what an engine would do, sometimes what none should.

use everstep_core::{Status, store::LetterKind};

use super::operation::{
    Against, As, Begin, Doing, Ending, Finding, Marking, Nth, Operation, Saying, Step, Takes, Turning, When,
    Which, Who,
};
use crate::chance::Chance;

/// Operations of one stream.
const LENGTH: usize = 160;
/// Ids that runs may have: few, so that they meet.
pub(super) const IDS: usize = 6;
/// Workflows.
pub(super) const WORKFLOWS: usize = 3;
/// Keys of steps.
pub(super) const KEYS: usize = 3;
/// What payloads and texts can be like.
pub(super) const FLAVOURS: usize = 8;
/// Names of letters.
pub(super) const LETTERS: usize = 9;
/// Filters of the pool.
pub(super) const FILTERS: usize = 24;
/// Names of what is published and of streams, of attributes, and the values of attributes.
pub(super) const NAMES: usize = 2;
pub(super) const ATTRIBUTES: usize = 4;
pub(super) const VALUES: usize = 16;

/// The stream of a seed.
pub fn stream(seed: u64) -> Vec<Step> {
    let mut draw = Draw(Chance::new(seed));
    let begin = [Operation::Enroll { on: Nth(0) }, Operation::Enroll { on: Nth(0) }];
    let mut steps: Vec<_> = begin.into_iter().map(|what| Step { what, at_once: false }).collect();
    while steps.len() < LENGTH {
        let at_once = draw.0.one_in(3);
        steps.push(Step { what: draw.operation(), at_once });
    }
    steps
}

pub(super) struct Draw(pub(super) Chance);

impl Draw {
    fn operation(&mut self) -> Operation {
        match self.0.below(100) {
            0..2 => self.opening(),
            2..13 => self.worker(),
            13..24 => self.start(),
            24..36 => self.claim(),
            36..40 => self.reload(),
            40..63 => self.commit(),
            63..70 => self.transact(),
            70..79 => Operation::Post { what: self.sending(), on: self.nth() },
            79..83 => Operation::Cut { what: self.cutting(), on: self.nth() },
            83..91 => self.person(),
            _ => self.read(),
        }
    }

    fn opening(&mut self) -> Operation {
        match self.0.one_in(2) {
            true => Operation::Open,
            false => Operation::Crash(self.nth()),
        }
    }

    fn worker(&mut self) -> Operation {
        let on = self.nth();
        match self.0.below(12) {
            0 | 1 => Operation::Enroll { on },
            2..4 => Operation::Beat { who: self.who(), on },
            4..7 => Operation::Fence { by: self.who(), other: self.other(), beat: self.against(3), on },
            7..10 => {
                Operation::Free { by: self.who(), other: self.other(), limit: self.0.of(&[1, 2, 1000]), on }
            }
            _ => match self.0.one_in(3) {
                true => Operation::Leave { who: self.who(), on },
                false => Operation::Workers { on },
            },
        }
    }

    fn start(&mut self) -> Operation {
        let n = self.0.of(&[0, 1, 1, 1, 2, 3, 4]);
        let runs = (0..n).map(|_| self.begin()).collect();
        let by = (!self.0.one_in(3)).then(|| self.who());
        Operation::Start { by, runs, on: self.nth() }
    }

    fn begin(&mut self) -> Begin {
        Begin {
            id: self.0.below(IDS),
            workflow: self.0.below(WORKFLOWS),
            due: self.when(),
            claim: !self.0.one_in(3),
            seq: u64::from(self.0.one_in(40)),
            flavour: self.flavour(),
            reuse: self.0.of(&[0, 0, 0b0011_0000, u8::MAX]),
            letters: match self.0.one_in(4) {
                true => (0..2).map(|_| (self.0.below(LETTERS), self.letter_kind())).collect(),
                false => Vec::new(),
            },
            attributes: match self.0.one_in(6) {
                true => vec![(self.0.below(ATTRIBUTES), self.0.below(VALUES))],
                false => Vec::new(),
            },
            forked: self.0.one_in(10).then(|| (self.0.below(3), self.against(6))),
        }
    }

    fn claim(&mut self) -> Operation {
        if self.0.one_in(5) {
            return match self.0.one_in(2) {
                true => Operation::Nudged { by: self.who() },
                false => Operation::NextDue { workflows: self.workflows(), on: self.nth() },
            };
        }
        let limit = self.0.of(&[0, 1, 1, 2, 3, 100, usize::MAX]);
        let due = if self.0.one_in(4) { self.when() } else { When::Never };
        Operation::Claim { by: self.who(), workflows: self.workflows(), due, limit }
    }

    /// Names of workflows; the last of the pool is no run's, and one may be there twice.
    fn workflows(&mut self) -> Vec<usize> {
        let n = self.0.of(&[0, 1, 1, 2, 3, 3, 3]);
        (0..n).map(|_| self.0.below(WORKFLOWS + 1)).collect()
    }

    fn reload(&mut self) -> Operation {
        match self.0.one_in(2) {
            true => Operation::Nudged { by: self.who() },
            false => Operation::Reload { by: self.who(), run: self.run() },
        }
    }

    fn commit(&mut self) -> Operation {
        let entries = self.0.of(&[0, 0, 1, 1, 1, 2, 3]);
        let end = (!self.0.one_in(3)).then(|| self.ending());
        let marks = (0..self.0.of(&[0, 0, 1, 2])).map(|_| self.marking()).collect();
        let turn = Turning {
            entries,
            from: self.against(12),
            gap: self.0.one_in(25),
            flavour: self.flavour(),
            marks,
            takes: self.0.of(&[Takes::None, Takes::None, Takes::First, Takes::All, Takes::Absent]),
            says: (0..self.0.of(&[0, 0, 1, 1, 2, 4])).map(|_| self.saying()).collect(),
            end,
            inbox: self.against(5),
        };
        Operation::Commit { load: self.which(), by: self.in_name(), turn }
    }

    fn ending(&mut self) -> Ending {
        match self.0.below(10) {
            9 => Ending::Paused,
            0 => Ending::Finished(Status::Completed),
            1 => Ending::Finished(self.0.of(&[Status::Failed, Status::Failed, Status::Cancelled])),
            2 => Ending::Finished(self.0.of(&Status::ALL)),
            3 | 4 => Ending::Parked((!self.0.one_in(3)).then(|| self.when())),
            5 | 6 => Ending::Stuck(self.0.below(9)),
            7 => Ending::Restarted(self.flavour()),
            _ => Ending::GivenBack(self.when()),
        }
    }

    fn marking(&mut self) -> Marking {
        let started = (!self.0.one_in(3)).then(|| (self.0.of(&[1, 2, u32::MAX]), self.0.one_in(3)));
        Marking { key: self.0.below(KEYS), started }
    }

    fn saying(&mut self) -> Saying {
        match self.0.below(8) {
            0 | 1 => Saying::Publishes(self.0.below(NAMES), self.flavour()),
            2..5 => Saying::Emits(self.0.below(NAMES), self.against(6), self.flavour()),
            5 | 6 => self.saying_to_others(),
            _ => Saying::Sets(self.0.below(ATTRIBUTES), (!self.0.one_in(4)).then(|| self.0.below(VALUES))),
        }
    }

    fn saying_to_others(&mut self) -> Saying {
        match self.0.one_in(2) {
            true => Saying::Promises(self.0.below(3), self.0.below(KEYS), self.0.one_in(2)),
            false => Saying::Answers(self.0.below(LETTERS), self.flavour()),
        }
    }

    fn transact(&mut self) -> Operation {
        let doing = self.0.of(&[
            Doing::Writes(0),
            Doing::Writes(1),
            Doing::Writes(1),
            Doing::Writes(2),
            Doing::Fails,
            Doing::Panics,
            Doing::Withdrawn,
            Doing::Foreign,
        ]);
        Operation::Transact { load: self.which(), by: self.in_name(), key: self.0.below(KEYS), doing }
    }

    fn read(&mut self) -> Operation {
        let (run, on) = (self.run(), self.nth());
        match self.0.below(12) {
            0 => Operation::Run { id: self.0.below(IDS + 1), on },
            1 | 2 => Operation::Find { what: self.finding(), on },
            3 => Operation::Load { run, on },
            4 => Operation::Inbox { run, after: self.0.of(&[0, 0, 1, 2, u64::MAX]), on },
            5 => Operation::Last { run, on },
            6 => Operation::Stuck { run, on },
            7 => Operation::Counts { on },
            _ => self.read_said(run, on),
        }
    }

    fn read_said(&mut self, run: i64, on: Nth) -> Operation {
        let (name, limit) = (self.0.below(NAMES + 1), self.0.of(&[0, 1, 2, 100, usize::MAX]));
        match self.0.below(9) {
            5 => Operation::Reply { run, id: self.0.below(LETTERS), on },
            6 => Operation::StreamNames { run, on },
            7 => Operation::Acts { run, limit, on },
            8 => Operation::Patches { on },
            0 => Operation::Count {
                filter: self.0.below(FILTERS),
                at_most: self.0.of(&[0, 1, 2, 100, u64::MAX]),
                on,
            },
            1 => Operation::Published { run, name, on },
            2 => Operation::PublishedAll { run, limit, on },
            3 => Operation::Stream { run, name, from: self.0.of(&[0, 0, 1, 2, u64::MAX]), limit, on },
            _ => Operation::Attributes { run, on },
        }
    }

    fn finding(&mut self) -> Finding {
        Finding {
            filter: self.0.below(FILTERS),
            before: self.0.one_in(2).then(|| self.run()),
            limit: self.0.of(&[0, 1, 2, 100, usize::MAX]),
        }
    }

    /// A run's number; now and then one that is none.
    pub(super) fn run(&mut self) -> i64 {
        match self.0.one_in(20) {
            true => self.0.of(&[0, -1, 77, i64::MAX]),
            false => 1 + self.0.below(IDS + 3) as i64,
        }
    }

    pub(super) fn letter_kind(&mut self) -> u16 {
        match self.0.one_in(25) {
            true => self.0.of(&[LetterKind::Recorded as u16, 0, u16::MAX]),
            false => self.0.of(&[1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]),
        }
    }

    pub(super) fn statuses(&mut self) -> u8 {
        match self.0.below(4) {
            0 => self.0.next().to_le_bytes()[0],
            _ => u8::MAX,
        }
    }

    fn who(&mut self) -> Who {
        match self.0.below(16) {
            0 => Who::Nobody,
            1 | 2 => Who::Any(self.nth()),
            _ => Who::Live(self.nth()),
        }
    }

    fn other(&mut self) -> Who {
        match self.0.below(16) {
            0 => Who::Nobody,
            _ => Who::Any(self.nth()),
        }
    }

    fn which(&mut self) -> Which {
        match self.0.below(24) {
            0 => Which::Never(self.nth()),
            1 | 2 => Which::Any(self.nth()),
            _ => Which::Open(self.nth()),
        }
    }

    fn in_name(&mut self) -> As {
        match self.0.below(30) {
            0 => As::Worker(self.other()),
            1 => As::Opening(self.nth()),
            2 => As::Run(self.nth()),
            _ => As::Itself,
        }
    }

    /// Right, but once in `n` not.
    pub(super) fn against(&mut self, n: usize) -> Against {
        match self.0.one_in(n) {
            true => self.0.of(&[Against::Less, Against::More, Against::More, Against::Most]),
            false => Against::Right,
        }
    }

    fn when(&mut self) -> When {
        match self.0.below(10) {
            0 => When::Zero,
            1 => When::Before,
            2 => When::Never,
            _ => When::At(self.0.below(5) as i64),
        }
    }

    pub(super) fn flavour(&mut self) -> usize {
        match self.0.one_in(3) {
            true => self.0.below(FLAVOURS),
            false => 0,
        }
    }

    pub(super) fn nth(&mut self) -> Nth {
        Nth(self.0.below(60))
    }
}
