//! The rounds of a run: poll until the function is quiet, then one thing at a time. design.md, section 3, fixes what
//! may come next and why; each rule there is the answer to a program that replayed differently without it.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    run::{RunCore, Trouble},
    stack::{self, Frame},
    table::{Arrived, Candidate, Happened, Orphan, Stage},
};
use crate::{
    BoxFuture,
    engine::Event,
    error::{Error, panic_message},
    journal::{Answer as Said, AttemptFailed, Entry, Kind, Payload, Site, decode, encode},
    store::{Answer, LetterKind, Loaded, Mark, Receipt, Received, StartedRow, StoreError, Turn},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// After so many rounds without a pause the driver lets other tasks of its thread run.
const ROUNDS_MAX: usize = 256;
/// How long a body runs before people see it as running, and how long one may stay woken and unpolled.
const SLOW: Duration = Duration::from_secs(1);

/// How driving a run ended.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Its last turn is durable.
    Over,
    /// The store refused it: the run is no longer ours, or the store is closed.
    Dropped(StoreError),
}

/// What a round asks for.
pub(super) enum Next {
    Again,
    Wait,
}

pub(super) enum Phase {
    Driving,
    /// The last turn is on its way; kept, because it may have to be sent again.
    Ending(Box<Turn>),
}

/// Drives one load of a run to its end.
pub(crate) struct Drive {
    pub(super) core: Arc<RunCore>,
    pub(super) function: Option<BoxFuture<'static, Result<Payload, Error>>>,
    pub(super) replay: VecDeque<Entry>,
    pub(super) live: bool,
    pub(super) next_seq: u64,
    pub(super) turn: Parts,
    pub(super) inbox: Vec<Received>,
    pub(super) inbox_n: u64,
    pub(super) doubts: HashMap<Arc<str>, u32>,
    pub(super) phase: Phase,
    waker: Waker,
    receipt: Arc<dyn Receipt>,
    sent: u64,
    reading: Option<Answer<Vec<Received>>>,
    pub(super) events: VecDeque<(u64, Event)>,
    timer: Option<(Timestamp, Pin<Box<tokio::time::Sleep>>)>,
    slow_check: Timestamp,
    suspect: bool,
    must_poll: bool,
}

/// What the next turn will hold.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) entries: Vec<Entry>,
    pub(super) marks: Vec<Mark>,
    pub(super) takes: Vec<u64>,
}

impl Drive {
    pub(crate) fn new(
        core: Arc<RunCore>,
        function: BoxFuture<'static, Result<Payload, Error>>,
        loaded: Loaded,
    ) -> Self {
        let live = loaded.entries.len() <= 1;
        let mut drive = Drive {
            waker: Waker::from(core.root.clone()),
            receipt: core.clone(),
            suspect: core.claimed.row.takeovers >= 2,
            inbox_n: loaded
                .inbox
                .last()
                .map_or(core.claimed.row.inbox_n, |r| r.n.max(core.claimed.row.inbox_n)),
            core,
            function: Some(function),
            live,
            next_seq: loaded.entries.len() as u64,
            replay: loaded.entries.into(),
            turn: Parts::default(),
            inbox: loaded.inbox,
            doubts: loaded
                .started
                .into_iter()
                .filter(|row| !row.abandoned)
                .map(|row| (row.key, row.attempt))
                .collect(),
            phase: Phase::Driving,
            sent: 0,
            reading: None,
            events: VecDeque::new(),
            timer: None,
            slow_check: Timestamp::NEVER,
            must_poll: true,
        };
        drive.replay.pop_front();
        if live {
            drive.replay = VecDeque::new();
        }
        if !live {
            drive.core.state().claims = Some(HashMap::new());
        }
        drive.begin();
        drive
    }

    /// A run that did not begin when it was started does not live in the past.
    fn begin(&mut self) {
        let row = &self.core.claimed.row;
        if self.live {
            let now = self.core.worker.clock.now();
            let late = now.since(row.created_at) > self.core.worker.settings.began_after;
            if late {
                self.append(Kind::Began, None, 0, None, Payload::default(), None);
            }
        } else if let Some(began) = self.replay.pop_front_if(|entry| entry.known_kind() == Some(Kind::Began))
        {
            self.core.state().now = began.at;
        }
    }

    fn driving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_MAX {
            match self.round() {
                Next::Again if matches!(self.phase, Phase::Ending(_)) => return Poll::Ready(()),
                Next::Again => {}
                Next::Wait => {
                    self.flush();
                    return match self.wait(cx) {
                        Next::Again => continue_soon(cx),
                        Next::Wait => Poll::Pending,
                    };
                }
            }
        }
        self.flush();
        continue_soon(cx)
    }

    /// One round: the function is polled if anything woke it; when it is quiet, the first of the next things happens.
    fn round(&mut self) -> Next {
        if self.core.stopping() == Some(true) {
            return self.give_back();
        }
        if std::mem::take(&mut self.must_poll) | self.core.root.take_woken() {
            return self.poll_function();
        }
        if self.grant() {
            return Next::Again;
        }
        if let Some(entry) = self.replay.pop_front() {
            return self.deliver_recorded(entry);
        }
        if !self.live {
            self.live = true;
            self.replay = VecDeque::new();
            self.core.state().claims = None;
        }
        if self.next_candidate() || self.fire() || self.start() {
            return Next::Again;
        }
        Next::Wait
    }

    fn poll_function(&mut self) -> Next {
        let Some(function) = self.function.as_mut() else { return Next::Wait };
        let polled = {
            let _here = stack::enter(Frame::Function(self.core.address()));
            let mut cx = Context::from_waker(&self.waker);
            std::panic::catch_unwind(AssertUnwindSafe(|| {
                Pin::new(&mut tokio::task::unconstrained(function.as_mut())).poll(&mut cx)
            }))
        };
        let mut state = self.core.state();
        state.table.granted = None;
        let stuck = state.stuck.take();
        let foreign = self.core.root.take_foreign().then_some(state.last_call);
        drop(state);
        if let Some(last_call) = foreign {
            self.report_foreign(last_call);
        }
        match (polled, stuck) {
            (Err(panic), _) => self.end_panicked(panic_message(&*panic)),
            (Ok(_), Some(stuck)) => self.end_stuck(stuck),
            (Ok(Poll::Ready(outcome)), None) => self.end_returned(outcome),
            (Ok(Poll::Pending), None) => Next::Again,
        }
    }

    fn report_foreign(&self, last_call: Option<&'static std::panic::Location<'static>>) {
        let after = last_call.map_or("the beginning".to_string(), ToString::to_string);
        tracing::warn!(run = %self.core.id(), after, "the workflow was woken by something that is not durable: on replay it will not be there");
        self.core.worker.tell(|| Event::NotDurable { run: self.core.id().clone(), after });
    }

    /// Lets the delivered operation that asked, lowest entry first, be ready in the next poll.
    fn grant(&mut self) -> bool {
        let mut state = self.core.state();
        let Some((_, op)) = state.table.asked.pop_first() else { return false };
        state.table.granted = Some(op);
        let waker = state.table.get(op).waker.clone();
        drop(state);
        self.wake(waker);
        true
    }

    /// Wakes an operation on the driver's own account.
    fn wake(&mut self, waker: Option<Waker>) {
        let _wake = stack::enter(Frame::Wake);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands an outcome to its operation. If nothing else is delivered and untaken, it may be ready at once: asking
    /// first would change nothing but the number of polls.
    pub(super) fn deliver(&mut self, op: usize, arrived: Arrived) {
        let mut state = self.core.state();
        let table = &mut state.table;
        table.idle(op);
        let slot = table.get(op);
        slot.stage = Stage::Delivered { seq: arrived.seq };
        slot.arrived = Some(Box::new(arrived));
        let (waker, times) = (slot.waker.clone(), [(slot.deadline, op), (slot.retry_at, op)]);
        for time in times {
            table.deadlines.remove(&time);
        }
        table.untaken += 1;
        if table.untaken == 1 {
            table.granted = Some(op);
        }
        drop(state);
        self.wake(waker);
    }

    /// Turns the next thing that has happened into an entry.
    fn next_candidate(&mut self) -> bool {
        if self.take_letters() {
            return true;
        }
        let mut state = self.core.state();
        if let Some((orphan, candidate)) = state.table.orphans.pop_front() {
            drop(state);
            self.record_orphan(orphan, candidate);
            return true;
        }
        if let Some((key, attempt)) = state.table.abandoned.pop() {
            let at = state.now;
            drop(state);
            self.turn.marks.push(Mark::Started(StartedRow { key, attempt, at, abandoned: true }));
            return true;
        }
        let Some(candidate) = state.table.candidates.pop_front() else { return false };
        drop(state);
        self.record(*candidate);
        true
    }

    pub(super) fn record_orphan(&mut self, orphan: Orphan, candidate: Candidate) {
        let (kind, body) = match candidate.what {
            Happened::Done(body) | Happened::Known(body) => (Kind::StepDone, body),
            Happened::Failed(failure) => (Kind::StepFailed, encode(&failure)),
            // The step is gone: nobody will make the attempt that would have followed.
            Happened::Again { .. } | Happened::Reset | Happened::Fired | Happened::Stuck(_) => return,
        };
        self.turn.takes.extend(candidate.takes);
        if orphan.marked {
            self.turn.marks.push(Mark::Cleared(orphan.key.clone()));
        }
        self.append(kind, Some(orphan.key), orphan.attempt, candidate.input, body, Some(orphan.site));
    }

    fn record(&mut self, candidate: Candidate) {
        let mut state = self.core.state();
        let now = state.now;
        let slot = state.table.get(candidate.op);
        let (key, site, attempt) = (slot.key.clone(), slot.site, slot.failed + 1);
        let deadline = slot.deadline;
        let clears = std::mem::take(&mut slot.marked);
        drop(state);
        let Candidate { op, what, input, takes } = candidate;
        if let Happened::Stuck(stuck) = what {
            self.end_stuck(stuck);
            return;
        }
        self.turn.takes.extend(takes);
        if clears {
            self.turn.marks.push(Mark::Cleared(key.clone()));
        }
        let run = self.core.id().clone();
        match what {
            Happened::Done(body) => {
                self.tell_durable(|| Event::StepDone { run, key: key.clone(), attempt });
                let seq = self.append(Kind::StepDone, Some(key), attempt, input, body, Some(site));
                self.deliver(op, Arrived { seq, what: Ok(None), recorded_input: None });
            }
            Happened::Known(body) => {
                self.tell_durable(|| Event::StepDone { run, key: key.clone(), attempt });
                let seq = self.append(Kind::StepDone, Some(key), attempt, input, body.clone(), Some(site));
                self.deliver(op, Arrived { seq, what: Ok(Some(body)), recorded_input: None });
            }
            Happened::Failed(failure) => {
                self.tell_durable(|| Event::StepFailed {
                    run,
                    key: key.clone(),
                    attempt,
                    error: failure.message.clone(),
                });
                let seq =
                    self.append(Kind::StepFailed, Some(key), attempt, input, encode(&failure), Some(site));
                self.deliver(op, Arrived { seq, what: Err(failure), recorded_input: None });
            }
            Happened::Again { error, pause } => {
                let at = self.core.worker.clock.now().max(now);
                let retry_at = at.after(pause);
                self.tell_durable(|| Event::AttemptFailed {
                    run,
                    key: key.clone(),
                    attempt,
                    error: error.message.clone(),
                    retry_in: pause,
                });
                let body = encode(&AttemptFailed { error, retry_at: retry_at.0 });
                self.append(Kind::AttemptFailed, Some(key), attempt, input, body, Some(site));
                self.back_off(op, attempt, retry_at);
            }
            Happened::Reset => {
                self.append(Kind::Answered, Some(key), 0, None, encode(&Said::Retry), Some(site));
                self.reset(op);
            }
            Happened::Fired => {
                let seq = self.append_at(
                    deadline,
                    Kind::TimerFired,
                    Some(key),
                    0,
                    None,
                    Payload::default(),
                    Some(site),
                );
                self.deliver(op, Arrived { seq, what: Ok(None), recorded_input: None });
            }
            Happened::Stuck(_) => unreachable!("ended above"),
        }
    }

    pub(super) fn back_off(&mut self, op: usize, failed: u32, retry_at: Timestamp) {
        let mut state = self.core.state();
        let table = &mut state.table;
        table.idle(op);
        let slot = table.get(op);
        let before = (slot.retry_at, op);
        slot.failed = failed;
        slot.retry_at = retry_at;
        table.deadlines.remove(&before);
        table.deadlines.insert((retry_at, op));
    }

    pub(super) fn reset(&mut self, op: usize) {
        let mut state = self.core.state();
        let table = &mut state.table;
        let slot = table.get(op);
        slot.failed = 0;
        slot.doubt = None;
        let (before, key) = ((slot.retry_at, op), slot.key.clone());
        table.deadlines.remove(&before);
        table.register(op);
        drop(state);
        self.doubts.remove(&key);
    }

    /// Letters that are of use now.
    fn take_letters(&mut self) -> bool {
        let mut at = 0;
        while at < self.inbox.len() {
            match self.take_letter(at) {
                Some(true) => {
                    self.inbox.remove(at);
                    return true;
                }
                Some(false) => return true,
                None => at += 1,
            }
        }
        false
    }

    /// `Some(true)` if it was taken, `Some(false)` if it ended the run, `None` if nobody waits for it.
    fn take_letter(&mut self, at: usize) -> Option<bool> {
        let Received { n, letter } = &self.inbox[at];
        let n = *n;
        let kind = LetterKind::from_code(letter.kind)?;
        if kind == LetterKind::Cancel {
            let why = String::from_utf8_lossy(&letter.body.bytes).into_owned();
            self.turn.takes.push(n);
            self.end_cancelled(why);
            return Some(false);
        }
        let mut state = self.core.state();
        let op = state.table.by_key(&letter.name)?;
        let slot = state.table.get(op);
        if matches!(slot.stage, Stage::Claimed | Stage::Delivered { .. }) {
            return None;
        }
        drop(state);
        let what = match kind {
            LetterKind::Recorded => Happened::Known(letter.body.clone()),
            LetterKind::Answer => match decode::<Said>(&letter.body).ok()? {
                Said::Done { value } => Happened::Known(Payload::json(value)),
                Said::Retry => Happened::Reset,
                Said::Fail { message } => {
                    let (kind, code) = (crate::ErrorKind::Raised, crate::Code::ANSWERED);
                    Happened::Failed(crate::journal::Failure::of(kind, code, message))
                }
            },
            _ => return None,
        };
        self.doubts.remove(&letter.name);
        self.record(Candidate { op, what, input: None, takes: Some(n) });
        Some(true)
    }

    /// What is due by the clock.
    fn fire(&mut self) -> bool {
        let now = self.core.worker.clock.now();
        let mut state = self.core.state();
        let table = &mut state.table;
        let Some(&(at, op)) = table.deadlines.first().filter(|(at, _)| *at <= now) else { return false };
        table.deadlines.pop_first();
        let slot = table.get(op);
        match (slot.sort, &slot.stage) {
            (super::table::Sort::Timer, _) => {
                drop(state);
                self.record(Candidate { op, what: Happened::Fired, input: None, takes: None });
            }
            (_, Stage::Idle) if at == slot.retry_at && at != slot.deadline => table.register(op),
            _ => {
                slot.expired = Some(at == slot.deadline);
                let waker = slot.waker.clone();
                drop(state);
                self.wake(waker);
            }
        }
        true
    }

    /// Starts registered work, when every earlier entry is durable and this worker may.
    fn start(&mut self) -> bool {
        let mut state = self.core.state();
        let table = &mut state.table;
        if table.startable.is_empty() && table.marking.is_empty() {
            return false;
        }
        let stopping = self.core.stopping().is_some();
        drop(state);
        if stopping || !self.core.worker.may_start() {
            return false;
        }
        self.flush();
        // In this order: the store says what is wrong before it counts the turn.
        if self.core.settled_turns() < self.sent || self.core.is_troubled() {
            return false;
        }
        let mut state = self.core.state();
        let now = state.now;
        let table = &mut state.table;
        let mut ready = std::mem::take(&mut table.marking);
        let mut wakers = Vec::with_capacity(ready.len() + table.startable.len());
        for op in std::mem::take(&mut table.startable) {
            let slot = table.get(op);
            if let Some(attempt) = self.doubts.remove(&slot.key) {
                slot.marked = true;
                slot.doubt = (attempt == slot.failed + 1).then_some(attempt);
            }
            if (slot.marks || self.suspect) && !slot.marked {
                slot.marked = true;
                slot.stage = Stage::Marked;
                let row =
                    StartedRow { key: slot.key.clone(), attempt: slot.failed + 1, at: now, abandoned: false };
                self.turn.marks.push(Mark::Started(row));
                table.marking.push(op);
            } else {
                ready.push(op);
            }
        }
        for op in ready {
            let slot = table.get(op);
            slot.stage = Stage::Start;
            wakers.push(slot.waker.clone());
            let (run, key, attempt) = (self.core.id(), &slot.key, slot.failed + 1);
            self.core.worker.tell(|| match slot.doubt {
                None => Event::StepStarted { run: run.clone(), key: key.clone(), attempt },
                Some(_) => Event::InDoubt { run: run.clone(), key: key.clone(), attempt },
            });
        }
        drop(state);
        let started = !wakers.is_empty();
        wakers.into_iter().for_each(|waker| self.wake(waker));
        started
    }

    /// Appends an entry, now.
    pub(super) fn append(
        &mut self,
        kind: Kind,
        key: Option<Arc<str>>,
        attempt: u32,
        input: Option<Payload>,
        body: Payload,
        site: Option<&'static std::panic::Location<'static>>,
    ) -> u64 {
        self.append_at(Timestamp(i64::MIN), kind, key, attempt, input, body, site)
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one entry, each of another type")]
    fn append_at(
        &mut self,
        not_before: Timestamp,
        kind: Kind,
        key: Option<Arc<str>>,
        attempt: u32,
        input: Option<Payload>,
        body: Payload,
        site: Option<&'static std::panic::Location<'static>>,
    ) -> u64 {
        let clock = self.core.worker.clock.now();
        let mut state = self.core.state();
        let at = clock.max(state.now).max(not_before);
        state.now = at;
        let fingerprint = state.fingerprint.folded();
        drop(state);
        let seq = self.next_seq;
        self.next_seq += 1;
        self.suspect = false;
        self.core.count_entry(seq);
        self.turn.entries.push(Entry {
            seq,
            kind: kind.code(),
            key,
            attempt,
            input,
            body,
            site: site.map(Site::Here),
            build: self.core.worker.build.clone(),
            fingerprint,
            at,
        });
        seq
    }

    /// Sends what has gathered.
    pub(super) fn flush(&mut self) {
        let Parts { entries, marks, takes } = std::mem::take(&mut self.turn);
        if entries.is_empty() && marks.is_empty() && takes.is_empty() {
            return;
        }
        self.send(self.turn_of(Parts { entries, marks, takes }));
    }

    pub(super) fn turn_of(&self, parts: Parts) -> Turn {
        let Parts { entries, marks, takes } = parts;
        Turn {
            run: self.core.claimed.row.run,
            load: self.core.claimed.load,
            entries,
            marks,
            takes,
            end: None,
        }
    }

    pub(super) fn send(&mut self, turn: Turn) {
        self.sent += 1;
        self.core.worker.store.commit(self.core.worker.fence, turn, &self.receipt);
    }

    /// Tells `event` once the turn that is gathering is durable.
    pub(super) fn tell_durable(&mut self, event: impl FnOnce() -> Event) {
        if self.core.worker.has_audience() {
            self.events.push_back((self.sent + 1, event()));
        }
    }

    fn tell_what_is_durable(&mut self) {
        let durable = self.core.durable_turns();
        while let Some((_, event)) = self.events.pop_front_if(|(turn, _)| *turn <= durable) {
            self.core.worker.tell(|| event);
        }
        if self.events.is_empty() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
    }

    /// Nothing to do at the moment: reads the inbox if a message came, sets the timer, looks for what hangs.
    fn wait(&mut self, cx: &mut Context<'_>) -> Next {
        if self.core.take_nudge() {
            self.reading = Some(self.core.worker.store.inbox(self.core.claimed.row.run));
        }
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(read) = reading.as_mut().poll(cx)
        {
            self.reading = None;
            if let Ok(inbox) = read {
                self.inbox_n = inbox.last().map_or(self.inbox_n, |r| r.n.max(self.inbox_n));
                self.inbox = inbox;
                return Next::Again;
            }
        }
        let state = self.core.state();
        let (running, next) = (state.table.running, state.table.deadlines.first().map(|(at, _)| *at));
        let waiting = state.table.is_waiting();
        drop(state);
        if self.core.stopping().is_some() && running == 0 {
            return self.give_back();
        }
        if !waiting && self.reading.is_none() && self.core.settled_turns() == self.sent {
            return self.end_waits_for_nothing();
        }
        if running > 0 && self.look_for_slow() {
            return Next::Again;
        }
        let slow = if running > 0 { self.slow_check } else { Timestamp::NEVER };
        let held_back = if self.core.worker.may_start() {
            Timestamp::NEVER
        } else {
            self.core.worker.clock.now().after(SLOW)
        };
        self.set_timer(next.unwrap_or(Timestamp::NEVER).min(slow).min(held_back), cx)
    }

    fn set_timer(&mut self, at: Timestamp, cx: &mut Context<'_>) -> Next {
        if at == Timestamp::NEVER {
            self.timer = None;
            return Next::Wait;
        }
        if self.timer.as_ref().is_none_or(|(set, _)| *set != at) {
            self.timer = Some((at, Box::pin(self.core.worker.clock.until(at))));
        }
        let (_, timer) = self.timer.as_mut().expect("just set");
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.timer = None;
                Next::Again
            }
            Poll::Pending => Next::Wait,
        }
    }

    /// Marks bodies that run for long, so that people see them, and reports those that nobody polls.
    fn look_for_slow(&mut self) -> bool {
        let now = self.core.worker.clock.now();
        if self.slow_check != Timestamp::NEVER && now < self.slow_check {
            return false;
        }
        let mut state = self.core.state();
        let ops: Vec<usize> = state.table.iter().map(|(op, _)| op).collect();
        let marks_before = self.turn.marks.len();
        for op in ops {
            let slot = state.table.get(op);
            let Stage::Running { since } = &mut slot.stage else { continue };
            if *since == Timestamp(i64::MIN) {
                *since = now;
                continue;
            }
            let since = *since;
            if !slot.marked && now.since(since) >= SLOW {
                slot.marked = true;
                let row = StartedRow {
                    key: slot.key.clone(),
                    attempt: slot.failed + 1,
                    at: since,
                    abandoned: false,
                };
                self.turn.marks.push(Mark::Started(row));
            }
            let unpolled = slot.body.as_ref().is_some_and(|body| body.is_woken());
            if unpolled && !slot.warned && now.since(since) >= SLOW {
                slot.warned = true;
                tracing::warn!(run = %self.core.id(), step = %slot.key, line = %slot.site,
                    "a step has begun, is ready to go on, and nobody polls it: it holds what it holds until its future is polled");
            }
        }
        self.slow_check = now.after(SLOW);
        self.turn.marks.len() > marks_before
    }
}

fn continue_soon<T>(cx: &mut Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl Future for Drive {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        this.core.root.register_task(cx.waker());
        this.tell_what_is_durable();
        match this.core.take_trouble() {
            Some(Trouble::Refused(error)) => {
                this.drop_function();
                return Poll::Ready(Exit::Dropped(error));
            }
            Some(Trouble::Moved(inbox_n)) => this.end_again(inbox_n),
            None => {}
        }
        if matches!(this.phase, Phase::Driving) && this.driving(cx).is_pending() {
            return Poll::Pending;
        }
        // Looked at after the settled count is read again: a receipt in between wakes this task.
        if this.core.settled_turns() == this.sent && !this.core.is_troubled() {
            this.tell_what_is_durable();
            return Poll::Ready(Exit::Over);
        }
        Poll::Pending
    }
}

impl Drive {
    /// What is stuck for a reason that no operation found.
    pub(super) fn stuck_for(&mut self, reason: StuckReason, key: Option<Arc<str>>, detail: String) -> Next {
        self.end_stuck(Stuck { reason, key, detail })
    }
}
