//! The open operations of a run: what each one is at, who asked to be granted, what is due. Pure bookkeeping; the
//! rules of a round that use it are in `drive`.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::Location,
    sync::Arc,
    task::Waker,
};

use super::wake::BodyWaker;
use crate::{
    journal::{Failure, Kind, Payload},
    stuck::Stuck,
    time::Timestamp,
};

/// What an operation is; a journal entry must be of the same sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Step,
    Timer,
    Scope,
}

impl Sort {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Sort::Step => "step",
            Sort::Timer => "timer",
            Sort::Scope => "scope",
        }
    }

    /// Whether an arrival of this kind can be about such an operation.
    pub(crate) fn takes(self, kind: Kind) -> bool {
        match kind {
            Kind::StepDone | Kind::StepFailed | Kind::AttemptFailed | Kind::Answered => self == Sort::Step,
            Kind::TimerFired => self == Sort::Timer,
            _ => false,
        }
    }
}

/// Where an operation stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Claimed, never polled.
    Claimed,
    /// Polled; its work may start.
    Registered,
    /// Its started row is on the way to the disk.
    Marked,
    /// The driver let it start: the next poll makes the body.
    Start,
    /// Its body exists.
    Running { since: Timestamp },
    /// Nothing to do until the driver says so: a backoff, a timer, an outcome on its way into the journal.
    Idle,
    /// Its outcome is in the journal and waits to be asked for.
    Delivered { seq: u64 },
}

/// One operation.
pub(crate) struct Slot {
    pub(crate) key: Arc<str>,
    pub(crate) sort: Sort,
    pub(crate) site: &'static Location<'static>,
    pub(crate) stage: Stage,
    pub(crate) waker: Option<Waker>,
    pub(crate) body: Option<Arc<BodyWaker>>,
    /// Attempts that failed.
    pub(crate) failed: u32,
    /// When it fires; of a step, when it is out of time as a whole.
    pub(crate) deadline: Timestamp,
    /// When its backoff ends; while a body runs, when the attempt is out of time.
    pub(crate) retry_at: Timestamp,
    /// Time ran out, of one attempt or (`true`) of the step as a whole: the next poll drops the body.
    pub(crate) expired: Option<bool>,
    /// A started row must be durable before each body.
    pub(crate) marks: bool,
    /// A started row of it is in the store.
    pub(crate) marked: bool,
    /// An attempt was started by an earlier load and its end is unknown.
    pub(crate) doubt: Option<u32>,
    pub(crate) arrived: Option<Box<Arrived>>,
    pub(crate) warned: bool,
}

/// An outcome as it is handed to the operation.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) seq: u64,
    /// The value or the error; `None` for a live value, which the step itself holds, and for timers.
    pub(crate) what: Result<Option<Payload>, Failure>,
    /// The recorded input, to be compared; `None` when it was written just now.
    pub(crate) recorded_input: Option<Option<Payload>>,
}

/// Something that has happened and is not yet an entry.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) op: usize,
    pub(crate) what: Happened,
    pub(crate) input: Option<Payload>,
    pub(crate) takes: Option<u64>,
}

#[derive(Debug)]
pub(crate) enum Happened {
    Done(Payload),
    /// A value that no step holds: an answer of a person, a record found in the inbox.
    Known(Payload),
    Failed(Failure),
    Again {
        error: Failure,
        pause: std::time::Duration,
    },
    /// A person said: try again.
    Reset,
    Fired,
    Stuck(Stuck),
}

/// All open operations of one run.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    open: usize,
    /// Delivered operations that were polled: the one with the lowest entry is granted next.
    pub(crate) asked: BTreeSet<(u64, usize)>,
    /// The operation that may be ready in this poll.
    pub(crate) granted: Option<usize>,
    /// How many are delivered and not taken.
    pub(crate) untaken: usize,
    /// Work to start, in the order of claims.
    pub(crate) startable: BTreeSet<usize>,
    /// Work whose started row is on its way.
    pub(crate) marking: Vec<usize>,
    /// Boxed: a queue keeps its room, and a candidate may hold an error.
    pub(crate) candidates: VecDeque<Box<Candidate>>,
    pub(crate) deadlines: BTreeSet<(Timestamp, usize)>,
    pub(crate) running: usize,
    /// Attempts with a started row whose step was dropped before they ended.
    pub(crate) abandoned: Vec<(Arc<str>, u32)>,
    /// Outcomes of steps that were dropped: recorded, delivered to nobody.
    pub(crate) orphans: VecDeque<(Orphan, Candidate)>,
}

/// A step that the function dropped after its body had returned.
pub(crate) struct Orphan {
    pub(crate) key: Arc<str>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) attempt: u32,
    pub(crate) marked: bool,
}

impl Table {
    pub(crate) fn claim(&mut self, key: Arc<str>, sort: Sort, site: &'static Location<'static>) -> usize {
        let slot = Slot {
            key,
            sort,
            site,
            stage: Stage::Claimed,
            waker: None,
            body: None,
            failed: 0,
            deadline: Timestamp::NEVER,
            retry_at: Timestamp(i64::MIN),
            expired: None,
            marks: false,
            marked: false,
            doubt: None,
            arrived: None,
            warned: false,
        };
        self.open += 1;
        match self.free.pop() {
            Some(op) => {
                self.slots[op] = Some(slot);
                op
            }
            None => {
                // Most runs wait with one operation open: room for four would be most of what they take.
                if self.slots.len() == self.slots.capacity() && self.slots.len() < 4 {
                    self.slots.reserve_exact(1);
                }
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        }
    }

    pub(crate) fn get(&mut self, op: usize) -> &mut Slot {
        self.slots[op].as_mut().expect("an operation keeps its slot until it closes it")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(op, slot)| Some((op, slot.as_ref()?)))
    }

    pub(crate) fn by_key(&self, key: &str) -> Option<usize> {
        self.iter().find(|(_, slot)| &*slot.key == key).map(|(op, _)| op)
    }

    /// Whether an operation that was polled is still open: something will come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open > 0
            && self.iter().any(|(_, slot)| !matches!(slot.stage, Stage::Claimed) && slot.sort != Sort::Scope)
    }

    /// Its first poll: a step's work may start, a timer waits for its deadline.
    pub(crate) fn register(&mut self, op: usize) {
        let slot = self.get(op);
        if slot.sort == Sort::Step {
            slot.stage = Stage::Registered;
            self.startable.insert(op);
        } else {
            slot.stage = Stage::Idle;
        }
    }

    /// Nothing more happens to it before the driver says so.
    pub(crate) fn idle(&mut self, op: usize) {
        let slot = self.get(op);
        let before = std::mem::replace(&mut slot.stage, Stage::Idle);
        slot.body = None;
        if let Stage::Running { .. } = before {
            self.running -= 1;
        }
        self.startable.remove(&op);
    }

    /// The operation is over: taken, or dropped by the function. What happened to it and is no entry yet vanishes,
    /// but for a step's: its effect is there and must be recorded.
    pub(crate) fn close(&mut self, op: usize) -> Slot {
        let slot = self.slots[op].take().expect("closed once");
        if let Some(at) = self.candidates.iter().position(|candidate| candidate.op == op) {
            let candidate = self.candidates.remove(at).expect("just found");
            if slot.sort == Sort::Step {
                let orphan = Orphan {
                    key: slot.key.clone(),
                    site: slot.site,
                    attempt: slot.failed + 1,
                    marked: slot.marked,
                };
                self.orphans.push_back((orphan, *candidate));
            }
        }
        self.open -= 1;
        self.startable.remove(&op);
        self.marking.retain(|other| *other != op);
        self.deadlines.remove(&(slot.deadline, op));
        self.deadlines.remove(&(slot.retry_at, op));
        if let Stage::Running { .. } = slot.stage {
            self.running -= 1;
        }
        if let Stage::Delivered { seq } = slot.stage {
            self.untaken -= 1;
            self.asked.remove(&(seq, op));
        }
        if self.granted == Some(op) {
            self.granted = None;
        }
        self.free.push(op);
        slot
    }
}
