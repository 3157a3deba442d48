//! A run in memory as everybody who has a part in it sees it: its operations, its `Ctx`s, the store's receipts, the
//! driver. One allocation for all of them.

use std::{
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use serde_json::value::RawValue;

use super::{
    mail::{CARRIED, Decodes, Place, Waiter},
    news::{News, Trouble},
    stack::{self, Frame},
    table::{Arrived, Candidate, Row, Sort, Stage, Table},
    undos::Offer,
    wake::{BodyWaker, Root},
};
use crate::{
    digest::{Digest, Fingerprint, Incarnation},
    engine::{Event, Worker},
    error::{Code, Error},
    failpoint::{Failpoint, pass},
    journal::{Kind, Payload, Reseeded, Start, StartedBy},
    name::limit_error,
    scope::name_in,
    step_ctx::{StepCtx, Which},
    store::{Answer, Claimed, Receipt, Settled, Transacted},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// A journal of this length is worth a warning.
const ENTRIES_WARN: u64 = 100_000;

/// A run in memory.
pub(crate) struct RunCore {
    pub(crate) claimed: Claimed,
    pub(crate) incarnation: Incarnation,
    /// Of the input of the first generation.
    pub(crate) digest: Digest,
    /// When it fails unless it has ended; never, if its start gave none.
    pub(crate) deadline: Timestamp,
    /// Whose child it is.
    pub(crate) parent: Option<Box<StartedBy>>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) root: Arc<Root>,
    pub(crate) state: Mutex<State>,
    pub(crate) news: News,
    entries: AtomicU64,
}

/// What changes while the function runs.
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) now: Timestamp,
    /// The last durable call: named when something else wakes the function.
    pub(crate) last_call: Option<&'static Location<'static>>,
    pub(crate) ended: bool,
    /// Operations with lower numbers were those of the function before this one.
    pub(crate) first_op: usize,
    /// The entry of the failure that was handed to the function last, if nothing was handed to it since.
    pub(crate) last_failure: Option<u64>,
    /// What an operation found that needs a person.
    pub(crate) stuck: Option<Box<Stuck>>,
    /// What free values are drawn from: an incarnation and a generation.
    pub(crate) seed: (Incarnation, u32),
    /// The input with which the function wants to begin anew.
    pub(crate) restart: Option<Box<RawValue>>,
}

/// What an operation is told when it is polled.
pub(crate) enum Told {
    Wait,
    /// Make a body. The attempt that is in doubt.
    Start {
        doubt: Option<u32>,
        waker: Arc<BodyWaker<StepCtx>>,
    },
    Poll(Arc<BodyWaker<StepCtx>>),
    /// Its time ran out: drop the body, if there is one. An attempt may be in doubt besides.
    Expire {
        attempt: u32,
        total: bool,
        doubt: Option<u32>,
    },
    Take(Arrived),
}

/// How an operation wants to be driven; told at its first poll.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(crate) marks: bool,
    pub(crate) transacts: bool,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) input: Option<Box<Payload>>,
    pub(crate) signal: Option<(Place, Decodes)>,
    /// As for signals.
    pub(crate) request: Option<(Place, Decodes)>,
    /// What becomes of its key.
    pub(crate) link: Option<Decodes>,
}

impl RunCore {
    pub(crate) fn new(claimed: Claimed, start: &Start, at: Timestamp, worker: Arc<Worker>) -> Arc<Self> {
        let own = (start.incarnation, claimed.row.generation);
        let seed = start.prefix.map_or(own, |prefix| (prefix.incarnation, prefix.generation));
        let at = start.prefix.map_or(at, |prefix| Timestamp(prefix.at));
        let mut table = Table::default();
        if let Some(prefix) = start.prefix {
            table.aside().undos.prefix = prefix.entries;
        }
        Arc::new(RunCore {
            claimed,
            incarnation: start.incarnation,
            digest: start.digest,
            deadline: start.deadline.map_or(Timestamp::NEVER, Timestamp),
            parent: start.parent.clone().map(Box::new),
            worker,
            root: Arc::default(),
            state: Mutex::new(State {
                table,
                fingerprint: Fingerprint::default(),
                now: at,
                last_call: None,
                ended: false,
                first_op: 0,
                last_failure: None,
                stuck: None,
                seed,
                restart: None,
            }),
            news: News::default(),
            entries: AtomicU64::new(1),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tells runs apart on this thread's stack.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.claimed.row.id
    }

    pub(crate) fn generation(&self) -> u32 {
        self.claimed.row.generation
    }

    /// Keeps count of the journal as the function knows it, for its limit: recorded entries count when they are
    /// delivered, so that the limit is met on replay where it was met before.
    pub(crate) fn count_entry(&self, seq: u64) {
        self.entries.store(seq + 1, Ordering::Relaxed);
    }

    /// An entry was added.
    pub(crate) fn count_new_entry(&self, seq: u64) {
        self.count_entry(seq);
        if seq + 1 == ENTRIES_WARN {
            tracing::warn!(run = %self.id(), "the journal has {ENTRIES_WARN} entries: every replay reads them all");
        }
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether the journal has room for one operation more: what is open will have its entries too.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        let limit = self.worker.settings.entries_max;
        let given = self.entries() + self.state().table.open();
        if given < limit {
            return Ok(());
        }
        Err(limit_error(
            Code::TOO_MANY_ENTRIES,
            format!(
                "a run's journal has at most {limit} entries, and this one, with what is open, has {given}: split the work into several runs"
            ),
        ))
    }

    /// What a person's going back has left behind.
    pub(super) fn remember(&self, left: Reseeded) {
        let state = &mut *self.state();
        if let Some(seed) = left.seed {
            state.seed = (seed, self.generation());
        }
        let aside = state.table.aside();
        aside.rewinds.extend(left.rewinds);
        aside.mail.bring(left.carried);
    }

    /// A message reached the run: its driver reads the inbox.
    pub(crate) fn nudge(&self) {
        self.news.nudge(&self.root);
    }

    /// [`RunCore::nudge`], if so, before its driver is there.
    pub(crate) fn nudge_if(&self, so: bool) {
        self.news.nudge_if(so);
    }

    /// The engine is leaving: no body starts any more, and the run is given back once none runs, or at once.
    pub(crate) fn stop(&self, at_once: bool) {
        self.news.stop(at_once, &self.root);
    }

    /// Whether a durable call is allowed here.
    pub(crate) fn check_place(&self, what: &str) -> Result<(), Error> {
        let address = self.address();
        match stack::top() {
            Frame::Function(run) if run == address => match self.state().ended {
                false => Ok(()),
                true => Err(after_end(what)),
            },
            Frame::Body(_) => Err(Error::misuse(
                Code::IN_BODY,
                format!(
                    "{what} inside a step body: a body is run once and not replayed. Return from the step first, then make the call; a `StepCtx` has its own `random` and `uuid`"
                ),
            )),
            _ if self.state().ended => Err(after_end(what)),
            _ => Err(Error::misuse(
                Code::OTHER_TASK,
                format!(
                    "{what} from outside its workflow's own task: only the workflow function itself can be replayed. Use `join!` or `FuturesUnordered` instead of `spawn`, and `step_blocking` for work that needs a thread"
                ),
            )),
        }
    }

    /// Claims `key` for an operation.
    pub(crate) fn open(&self, key: &Arc<str>, sort: Sort, site: &'static Location<'static>) -> usize {
        let state = &mut *self.state();
        state.fingerprint.add_call(sort as u8, key, site.line(), site.column());
        state.last_call = Some(site);
        let op = state.table.claim(key.clone(), sort, site);
        if let Some(claims) = state.table.claims() {
            claims.insert(key.clone(), (sort, Some(op), site));
        }
        op
    }

    /// Claims `key` for a child: no operation, but what its waits are about.
    pub(crate) fn claim_child(&self, key: &Arc<str>, site: &'static Location<'static>) {
        let state = &mut *self.state();
        state.fingerprint.add_call(Sort::Child as u8, key, site.line(), site.column());
        state.last_call = Some(site);
        if let Some(claims) = state.table.claims() {
            claims.insert(key.clone(), (Sort::Child, None, site));
        }
    }

    /// A request that entry `seq` took was not answered: the next wait of its name gets it.
    pub(crate) fn give_back_request(&self, key: &str, seq: u64, asked: Payload) {
        let state = &mut *self.state();
        if !state.ended {
            state.table.aside().requests.put(name_in(key), seq, Ok(asked));
        }
    }

    /// Nobody can wait for this child any more.
    pub(crate) fn forget_child(&self, key: &str) {
        let state = &mut *self.state();
        if let Some(aside) = state.table.has_aside() {
            aside.links.forget(key);
        }
    }

    /// A poll of an operation. `wants` is asked at the first one.
    pub(crate) fn poll(&self, op: usize, waker: &Waker, wants: impl FnOnce() -> Wants) -> Told {
        let state = &mut *self.state();
        let table = &mut state.table;
        let granted = table.granted == Some(op);
        let slot = table.get(op);
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        match slot.stage {
            Stage::Claimed => {
                let wants = wants();
                (slot.marks, slot.transacts, slot.input) = (wants.marks, wants.transacts, wants.input);
                if wants.transacts {
                    // What it has committed is in the inbox; if nothing is, nothing was.
                    slot.doubt = None;
                }
                if let Some(deadline) = wants.deadline {
                    slot.deadline = deadline;
                    table.deadlines.insert(deadline, op);
                }
                if let Some((place, decodes)) = wants.signal {
                    let key = table.get(op).key.clone();
                    table.aside().mail.wait(name_in(&key), place, Waiter { op, decodes });
                }
                if let Some((place, decodes)) = wants.request {
                    let key = table.get(op).key.clone();
                    table.aside().requests.wait(name_in(&key), place, Waiter { op, decodes });
                }
                if let Some(decodes) = wants.link {
                    let key = table.get(op).key.clone();
                    table.aside().links.wait(&key, Waiter { op, decodes });
                }
                table.register(op);
                Told::Wait
            }
            Stage::Delivered { seq } if granted => {
                let arrived = slot.arrived.take().expect("delivered once");
                table.granted = None;
                state.last_failure = (arrived.what.is_err() && seq < CARRIED).then_some(seq);
                Told::Take(*arrived)
            }
            Stage::Delivered { seq } => {
                table.asked.insert((seq, op));
                Told::Wait
            }
            _ if slot.expired.is_some() => {
                let total = slot.expired.take() == Some(true);
                Told::Expire { attempt: slot.attempt(), total, doubt: slot.doubt.take() }
            }
            Stage::Start { entries } => self.begin(table, op, entries),
            Stage::Running { .. } => Told::Poll(slot.body.clone().expect("a running step has a body")),
            Stage::Registered | Stage::Marked | Stage::Idle => Told::Wait,
        }
    }

    /// What the body of a running step was given.
    pub(crate) fn body_of(&self, op: usize) -> Option<Arc<BodyWaker<StepCtx>>> {
        self.state().table.get(op).body.clone()
    }

    /// The driver let a step start, `entries` entries ago or now.
    fn begin(&self, table: &mut Table, op: usize, entries: u64) -> Told {
        // What was added since may not be durable, and a body is outside: the driver looks again.
        let leaves = self.news.stopping().is_some() || self.news.is_pausing();
        if entries != self.entries() || leaves || !self.worker.may_start() {
            table.register(op);
            return Told::Wait;
        }
        table.set_stage(op, Stage::Running { since: self.worker.clock.now() });
        let slot = table.get(op);
        let (attempt, doubt) = (slot.attempt(), slot.doubt.take());
        let (key, deadline) = (slot.key.clone(), slot.deadline);
        let which = Which {
            incarnation: self.incarnation,
            generation: self.generation(),
            key: key.clone(),
            number: attempt,
            rewinds: table.has_aside().and_then(|aside| aside.rewinds.get(&*key).copied()).unwrap_or(0),
            fence: self.worker.fence.worker,
        };
        let last = table.has_aside().and_then(|aside| aside.details.get(&which.key).cloned());
        let body = Arc::new(BodyWaker::of(StepCtx::new(which, deadline, last, &self.worker)));
        let slot = table.get(op);
        slot.body = Some(body.clone());
        if let (Some(row), None) = (&mut slot.row, doubt) {
            row.began = true;
        }
        let (run, key) = (self.id(), &slot.key);
        self.worker.tell(|| match doubt {
            None => Event::StepStarted { run: run.clone(), key: key.clone(), attempt },
            Some(attempt) => Event::InDoubt { run: run.clone(), key: key.clone(), attempt },
        });
        Told::Start { doubt, waker: body }
    }

    /// The attempt that begins now is out of time at `at`.
    pub(crate) fn attempt_ends(&self, op: usize, at: Timestamp) {
        self.state().table.set_retry_at(op, Some(at));
    }

    /// The step is started again, behind whatever was recorded meanwhile: to look into an attempt in doubt, or to
    /// make the attempt.
    pub(crate) fn start_again(&self, op: usize, doubt: Option<u32>) {
        let table = &mut self.state().table;
        table.set_retry_at(op, None);
        table.rest(op, Stage::Idle);
        table.get(op).doubt = doubt;
        table.register(op);
    }

    /// The attempt in doubt certainly did not happen.
    pub(crate) fn did_not_happen(&self, op: usize) {
        if let Some(Row { began, .. }) = &mut self.state().table.get(op).row {
            *began = false;
        }
    }

    /// Something happened to an operation: it waits for its entry.
    pub(crate) fn happened(&self, candidate: Candidate) {
        let table = &mut self.state().table;
        table.rest(candidate.op, Stage::Idle);
        table.get(candidate.op).happened = true;
        table.candidates.push_back(Box::new(candidate));
    }

    /// A step needs a person.
    pub(crate) fn asks(&self, op: usize, stuck: Stuck) {
        let table = &mut self.state().table;
        table.rest(op, Stage::Idle);
        table.get(op).happened = true;
        table.aside().asking.push_back((op, stuck));
    }

    /// A transactional step is dropped while the store has its job: the driver hears what became of it.
    pub(crate) fn leave_job(&self, key: Arc<str>, answer: Answer<Transacted>) {
        let mut state = self.state();
        if !state.ended {
            state.table.aside().jobs.push((key, answer));
        }
    }

    /// What a step found out needs a person: the operation stays pending and the driver drops the function.
    pub(crate) fn be_stuck(&self, reason: StuckReason, key: &Arc<str>, detail: String) {
        self.state().stuck.get_or_insert_with(|| Box::new(Stuck { reason, key: Some(key.clone()), detail }));
    }

    /// The step brings along what undoes it.
    pub(crate) fn offer_undo(&self, op: usize, offer: Offer) {
        let state = &mut *self.state();
        let slot = state.table.get(op);
        let key = slot.key.clone();
        let delivered = slot.arrived.as_deref().map(|arrived| (arrived.seq, arrived.what.clone()));
        let undos = &mut state.table.aside().undos;
        undos.offer(key.clone(), offer);
        // Other code may make the call later than it was recorded.
        if let Some((seq, Ok(Some(output)))) = delivered {
            undos.done(seq, &key, &output);
        }
    }

    /// See [`Ctx::on_cancel`](crate::Ctx::on_cancel).
    pub(crate) fn on_cancel(&self, key: Arc<str>, offer: Offer) {
        let state = &mut *self.state();
        let site = offer.site;
        state.fingerprint.add_call(Kind::CancelAsked.code() as u8, &key, site.line(), site.column());
        state.last_call = Some(site);
        state.table.aside().undos.clean_up(key, offer);
    }

    /// See [`Ctx::forget_undos`](crate::Ctx::forget_undos).
    pub(crate) fn forget_undos(&self) {
        let forgotten = self.state().table.has_aside().map(|aside| aside.undos.forget());
        drop(forgotten);
    }

    /// The operation is over.
    pub(crate) fn close(&self, op: usize) {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.ended || op < state.first_op {
            // The function is being dropped as a whole: the driver has counted what is open.
            return;
        }
        let key = state.table.close(op, state.now);
        let mut replays = false;
        if let Some(claims) = state.table.claims() {
            replays = true;
            if let Some(claim) = claims.get_mut(&key) {
                claim.1 = None;
            }
        }
        // On replay its outcome may still come: it may have been dropped after its body had returned.
        let withdrawn = state.table.has_aside().filter(|_| !replays).and_then(|aside| aside.withdraw(&key));
        drop(guard);
        drop(withdrawn);
    }
}

fn after_end(what: &str) -> Error {
    Error::misuse(
        Code::AFTER_END,
        format!("{what} after its workflow has ended: keep the `Ctx` inside the workflow function"),
    )
}

impl Receipt for RunCore {
    fn settled(&self, settled: Settled) {
        pass(Failpoint::TurnDurable);
        let trouble = match settled {
            Settled::Durable { .. } => None,
            Settled::Moved { inbox_n } => Some(Trouble::Moved(inbox_n)),
            Settled::Refused(error) => Some(Trouble::Refused(error)),
        };
        self.news.settle(trouble, &self.root, &self.worker.wakes);
    }
}

/// Payloads that are equal as JSON values; one that is no JSON equals only itself.
pub(crate) fn same_input(recorded: &Payload, given: &Payload) -> bool {
    let digest = |payload: &Payload| crate::digest::Digest::of_json(&payload.bytes).ok();
    recorded == given || digest(recorded).is_some_and(|d| digest(given) == Some(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_compared_as_values() {
        let same = |a: &str, b: &str| same_input(&Payload::json(a), &Payload::json(b));
        assert!(same(r#"{"a":1,"b":2}"#, r#"{"b":2, "a":1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(same("no JSON", "no JSON"), "equal bytes are equal");
        assert!(!same("no JSON", "none either"));
    }
}
