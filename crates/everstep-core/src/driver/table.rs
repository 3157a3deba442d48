//! The open operations of a run: what each one is at, who asked to be granted, what is due. Pure bookkeeping; the
//! rules of a round that use it are in `drive`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    panic::Location,
    sync::Arc,
    task::Waker,
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    commands::Commands,
    dropped::{Dropped, Orphan},
    due::Due,
    links::Links,
    mail::Mail,
    undos::{Offer, Undos},
    wake::BodyWaker,
};
use crate::{
    journal::{Failure, Kind, Payload},
    step_ctx::StepCtx,
    store::{Answer, Mark, StartedRow, Transacted},
    stuck::Stuck,
    time::Timestamp,
};

/// What an operation is; a journal entry must be of the same sort. The numbers are in fingerprints, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Step = 1,
    Timer = 2,
    Scope = 3,
    Signal = 4,
    Promise = 5,
    Child = 6,
    Request = 7,
}

impl Sort {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Sort::Step => "step",
            Sort::Timer => "timer",
            Sort::Scope => "scope",
            Sort::Signal => "signal",
            Sort::Promise => "promise",
            Sort::Child => "child",
            Sort::Request => "request",
        }
    }

    /// Whether an arrival of this kind can be about such an operation.
    pub(crate) fn takes(self, kind: Kind) -> bool {
        match kind {
            Kind::StepDone | Kind::StepFailed | Kind::AttemptFailed | Kind::Answered => self == Sort::Step,
            Kind::TimerFired => self == Sort::Timer,
            Kind::SignalTaken | Kind::SignalRefused => self == Sort::Signal,
            Kind::PromiseSettled => self == Sort::Promise,
            Kind::ChildEnded => self == Sort::Child,
            Kind::RequestTaken => self == Sort::Request,
            _ => false,
        }
    }
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Claimed, never polled.
    Claimed,
    /// Polled; its work may start.
    Registered,
    /// Its started row is on the way to the disk.
    Marked,
    /// The driver let it start: the next poll makes the body, if the journal still has so many entries.
    Start { entries: u64 },
    /// Its body exists.
    Running { since: Timestamp },
    /// Nothing to do until the driver says so: a backoff, a timer, an outcome on its way into the journal.
    Idle,
    /// Its outcome is in the journal and waits to be asked for.
    Delivered { seq: u64 },
}

impl Stage {
    /// Whether something of the operation's own will come: of one that is claimed or delivered only if it is polled.
    fn is_awaited(self) -> bool {
        !matches!(self, Stage::Claimed | Stage::Delivered { .. })
    }

    pub(crate) fn is_running(self) -> bool {
        matches!(self, Stage::Running { .. })
    }

    /// Whether it takes a place among the worker's running steps.
    fn takes_room(self) -> bool {
        matches!(self, Stage::Marked | Stage::Start { .. } | Stage::Running { .. })
    }
}

/// A step's started row in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The attempt that it tells of.
    pub(crate) attempt: u32,
    /// Whether that attempt's body may have begun; a row that tells of none is taken back.
    pub(crate) began: bool,
}

/// One operation.
pub(crate) struct Slot {
    pub(crate) key: Arc<str>,
    pub(crate) sort: Sort,
    pub(crate) site: &'static Location<'static>,
    pub(crate) stage: Stage,
    pub(crate) waker: Option<Waker>,
    pub(crate) body: Option<Arc<BodyWaker<StepCtx>>>,
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
    /// Its attempts are jobs of the store: what the store has committed is in the inbox.
    pub(crate) transacts: bool,
    /// Its started row, in the store or on the way there.
    pub(crate) row: Option<Row>,
    /// An attempt was started and its end is unknown: the step's policy decides before anything else is done.
    pub(crate) doubt: Option<u32>,
    /// What `.input` gave; boxed, because most steps have none.
    pub(crate) input: Option<Box<Payload>>,
    /// Something has happened to it that is no entry yet.
    pub(crate) happened: bool,
    pub(crate) arrived: Option<Box<Arrived>>,
    /// Since when its body has been woken and not polled, as far as somebody looked.
    pub(crate) unpolled_since: Option<Timestamp>,
    pub(crate) warned: bool,
    /// Its place among the worker's running steps, from its started row to the end of its body.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// The attempt that is being made, or would be next.
    pub(crate) fn attempt(&self) -> u32 {
        self.failed + 1
    }

    /// Whether its body has given a heartbeat since it was to be looked after at `at`, and has time left.
    pub(crate) fn lives_on(&self, at: Timestamp) -> bool {
        let Some(body) = &self.body else { return false };
        at != self.deadline && body.ctx().silent_at() > at && body.ctx().ends() > at
    }

    /// Whether a started row must be durable before its next body, and is not.
    pub(crate) fn wants_row(&self, suspect: bool) -> bool {
        let known = self.row.is_some_and(|row| row.attempt == self.attempt());
        self.doubt.is_none() && (self.marks || suspect) && !known
    }

    /// Takes the row out, and answers what becomes of it in the store, now that the end of its attempt is known.
    pub(crate) fn clear_row(&mut self) -> Option<Mark> {
        self.doubt = None;
        self.row.take().map(|_| Mark::Cleared(self.key.clone()))
    }
}

/// An outcome as it is handed to the operation.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) seq: u64,
    /// The value or the error; `None` for a live value, which the step itself holds, and for timers.
    pub(crate) what: Result<Option<Payload>, Failure>,
}

/// Something that has happened and is not yet an entry.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) op: usize,
    pub(crate) what: Happened,
    /// The inbox number of the letter that told it.
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
    /// A person let a timer fire before its time: the run's time does not run ahead for it.
    Skipped,
}

/// All open operations of one run.
#[derive(Default)]
pub(crate) struct Table {
    pub(super) slots: Vec<Option<Slot>>,
    pub(super) free: Vec<usize>,
    /// Delivered operations that were polled: the one with the lowest entry is granted next.
    pub(crate) asked: BTreeSet<(u64, usize)>,
    /// The operation that may be ready in this poll.
    pub(crate) granted: Option<usize>,
    /// How many are delivered and not taken.
    pub(crate) untaken: usize,
    /// Work to start, by number, which is nearly always the order of claims; a queue, because a set of one makes and
    /// frees a node for each step.
    pub(crate) startable: VecDeque<usize>,
    /// Boxed: a queue keeps its room, and a candidate may hold an error.
    pub(crate) candidates: VecDeque<Box<Candidate>>,
    pub(crate) deadlines: Due,
    /// How many bodies there are.
    pub(crate) running: usize,
    /// Of how many operations something will come.
    awaited: usize,
    aside: Option<Box<Aside>>,
}

/// Who claimed a key: the sort of operation, its slot while it is open, its line.
pub(crate) type Claimant = (Sort, Option<usize>, &'static Location<'static>);

/// What most runs never need: a hundred thousand of them wait in memory, and each byte counts.
#[derive(Default)]
pub(crate) struct Aside {
    /// While recorded entries are to come: what was claimed, open or not.
    pub(crate) claims: Option<HashMap<Arc<str>, Claimant>>,
    /// Work whose started row is on its way.
    pub(crate) marking: BTreeSet<usize>,
    /// Steps that need a person. Heard last: what has happened besides is recorded first.
    pub(crate) asking: VecDeque<(usize, Stuck)>,
    /// Operations by key: kept only while letters wait for them.
    pub(super) by_key: Option<HashMap<Arc<str>, usize>>,
    /// Started rows of earlier loads.
    pub(crate) rows: HashMap<Arc<str>, StartedRow>,
    /// What becomes of the rows of steps that the function dropped.
    pub(crate) marks: Vec<Mark>,
    /// Transactional steps that were dropped and may have committed all the same.
    pub(crate) left: HashMap<Arc<str>, Dropped>,
    /// Outcomes of steps that were dropped: recorded, delivered to nobody.
    pub(crate) orphans: VecDeque<Orphan>,
    /// Jobs at the store whose step was dropped: its key, and what the store will say.
    pub(crate) jobs: Vec<(Arc<str>, Answer<Transacted>)>,
    /// Signals that were taken, and the waits for them.
    pub(crate) mail: Mail,
    /// Requests that were taken, and the waits for them.
    pub(crate) requests: Mail,
    /// Requests that were taken and not answered.
    pub(crate) asked: BTreeSet<u128>,
    /// What became of promises and children, and the waits for it.
    pub(crate) links: Links,
    pub(crate) commands: Commands,
    pub(crate) undos: Undos,
    /// What bodies said last by a heartbeat, by the key of their step.
    pub(crate) details: HashMap<Arc<str>, Payload>,
    /// How often steps were rewound, by key; few runs ever were.
    pub(crate) rewinds: BTreeMap<String, u32>,
}

impl Aside {
    /// The undo of a step of which nothing more comes.
    pub(crate) fn withdraw(&mut self, key: &str) -> Option<Offer> {
        let may_come =
            self.left.contains_key(key) || self.orphans.iter().any(|orphan| *orphan.step.key == *key);
        if may_come { None } else { self.undos.withdraw(key) }
    }
}

impl Table {
    /// One whose operations have numbers from `first` on: those below are another's.
    pub(crate) fn beginning_at(first: usize) -> Table {
        Table { slots: std::iter::repeat_with(|| None).take(first).collect(), ..Table::default() }
    }

    /// What most runs never need, made when it is needed.
    pub(crate) fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    /// The same, if there is any of it.
    pub(crate) fn has_aside(&mut self) -> Option<&mut Aside> {
        self.aside.as_deref_mut()
    }

    /// What was claimed, while recorded entries are to come.
    pub(crate) fn claims(&mut self) -> Option<&mut HashMap<Arc<str>, Claimant>> {
        self.has_aside()?.claims.as_mut()
    }

    pub(crate) fn claim(&mut self, key: Arc<str>, sort: Sort, site: &'static Location<'static>) -> usize {
        let left = self.aside.as_ref().filter(|_| sort == Sort::Step).and_then(|aside| aside.rows.get(&key));
        let slot = Slot {
            row: left.map(|row| Row { attempt: row.attempt, began: true }),
            // Whoever opens the step again may repeat what that attempt did.
            doubt: left.map(|row| row.attempt),
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
            transacts: false,
            input: None,
            happened: false,
            arrived: None,
            unpolled_since: None,
            warned: false,
            permit: None,
        };
        let key = slot.key.clone();
        let op = self.place(slot);
        if let Some(index) = self.has_aside().and_then(|aside| aside.by_key.as_mut()) {
            index.insert(key, op);
        }
        op
    }

    fn place(&mut self, slot: Slot) -> usize {
        if let Some(op) = self.free.pop() {
            self.slots[op] = Some(slot);
            return op;
        }
        // Most runs wait with one operation open: room for four would be most of what they take.
        if self.slots.len() == self.slots.capacity() && self.slots.len() < 4 {
            self.slots.reserve_exact(1);
        }
        self.slots.push(Some(slot));
        self.slots.len() - 1
    }

    /// How many operations are open.
    pub(crate) fn open(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }

    pub(crate) fn get(&mut self, op: usize) -> &mut Slot {
        self.slots[op].as_mut().expect("an operation keeps its slot until it closes it")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(op, slot)| Some((op, slot.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().flatten()
    }

    /// The open operation of this key. The first to ask pays for an index, until [`Table::forget_keys`].
    pub(crate) fn by_key(&mut self, key: &str) -> Option<usize> {
        if self.aside().by_key.is_none() {
            self.aside().by_key = Some(self.iter().map(|(op, slot)| (slot.key.clone(), op)).collect());
        }
        self.aside().by_key.as_ref()?.get(key).copied()
    }

    /// No letter waits for an operation.
    pub(crate) fn forget_keys(&mut self) {
        if let Some(aside) = self.has_aside() {
            aside.by_key = None;
        }
    }

    /// Whether something will come of an operation that is open, without the function being polled before.
    pub(crate) fn is_waiting(&self) -> bool {
        self.awaited > 0
    }

    /// Whether work is to begin as soon as something else allows it.
    pub(crate) fn wants_to_begin(&self) -> bool {
        let is_marking = self.aside.as_ref().is_some_and(|aside| !aside.marking.is_empty());
        is_marking || !self.startable.is_empty()
    }

    /// Moves an operation; the only place where it is counted.
    pub(crate) fn set_stage(&mut self, op: usize, stage: Stage) {
        let slot = self.get(op);
        let before = std::mem::replace(&mut slot.stage, stage);
        let counts = slot.sort != Sort::Scope;
        if !stage.takes_room() {
            slot.permit = None;
        }
        let mut said = None;
        if before.is_running() {
            said = slot.body.take().and_then(|body| Some((slot.key.clone(), body.ctx().take_details()?)));
            slot.unpolled_since = None;
        }
        self.running += usize::from(stage.is_running());
        self.running -= usize::from(before.is_running());
        self.awaited += usize::from(counts && stage.is_awaited());
        self.awaited -= usize::from(counts && before.is_awaited());
        if let Some((key, details)) = said {
            self.aside().details.insert(key, details);
        }
    }

    /// A step's work may start, a timer waits for its deadline.
    pub(crate) fn register(&mut self, op: usize) {
        let work = self.get(op).sort == Sort::Step;
        self.set_stage(op, if work { Stage::Registered } else { Stage::Idle });
        if let (true, Err(at)) = (work, self.startable.binary_search(&op)) {
            self.startable.insert(at, op);
        }
    }

    /// Nothing more happens to it before the driver says so.
    pub(crate) fn rest(&mut self, op: usize, stage: Stage) {
        self.set_stage(op, stage);
        if let Ok(at) = self.startable.binary_search(&op) {
            self.startable.remove(at);
        }
        if let Some(aside) = self.has_aside() {
            aside.marking.remove(&op);
        }
    }

    /// It has until `at`, or pauses until then; whatever its `retry_at` was before no longer counts.
    pub(crate) fn set_retry_at(&mut self, op: usize, at: Option<Timestamp>) {
        let slot = self.get(op);
        let before = std::mem::replace(&mut slot.retry_at, at.unwrap_or(Timestamp(i64::MIN)));
        self.deadlines.remove(before, op);
        if let Some(at) = at {
            self.deadlines.insert(at, op);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_about_an_operation_of_its_sort() {
        for kind in Kind::ALL {
            let step =
                matches!(kind, Kind::StepDone | Kind::StepFailed | Kind::AttemptFailed | Kind::Answered);
            assert_eq!(Sort::Step.takes(kind), step, "{kind:?}");
            assert_eq!(Sort::Timer.takes(kind), kind == Kind::TimerFired, "{kind:?}");
            let signal = matches!(kind, Kind::SignalTaken | Kind::SignalRefused);
            assert_eq!(Sort::Signal.takes(kind), signal, "{kind:?}");
            assert_eq!(Sort::Promise.takes(kind), kind == Kind::PromiseSettled, "{kind:?}");
            assert_eq!(Sort::Child.takes(kind), kind == Kind::ChildEnded, "{kind:?}");
            assert_eq!(Sort::Request.takes(kind), kind == Kind::RequestTaken, "{kind:?}");
            assert!(!Sort::Scope.takes(kind), "{kind:?}");
        }
    }

    #[test]
    fn an_undo_has_no_number_that_an_operation_of_its_function_had() {
        let mut table = Table::beginning_at(3);
        assert_eq!(table.claim("undo/pay".into(), Sort::Step, Location::caller()), 3);
        assert_eq!(table.iter().count(), 1, "those below are not there");
    }

    #[test]
    fn a_row_is_wanted_before_each_attempt_that_has_none() {
        let mut table = Table::default();
        let op = table.claim("pay".into(), Sort::Step, Location::caller());
        let slot = table.get(op);
        assert_eq!((slot.wants_row(false), slot.wants_row(true)), (false, true), "a suspect run marks all");
        slot.marks = true;
        assert!(slot.wants_row(false));
        slot.row = Some(Row { attempt: 1, began: false });
        assert!(!slot.wants_row(false), "it is there");
        slot.failed = 1;
        assert!(slot.wants_row(false), "that is the row of another attempt");
        slot.doubt = Some(1);
        assert!(!slot.wants_row(false), "what is in doubt is decided first");
    }
}
