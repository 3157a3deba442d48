//! The rounds of a run: poll until the function is quiet, then one thing at a time. design.md, section 3, fixes what
//! may come next and why; each rule there is the answer to a program that replayed differently without it.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, Location},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    closing::Closing,
    commands::Commands,
    inbox::Inbox,
    news::Trouble,
    outbox::{Draft, Outbox},
    room::Room,
    run::RunCore,
    stack::{self, Frame},
    table::{Arrived, Candidate, Happened, Row, Sort, Stage},
    waiting::Alarm,
};
use crate::{
    BoxFuture, NotDurable,
    engine::Event,
    error::{Error, panic_message},
    failpoint::{Guard, broken},
    journal::{Entry, Kind, Payload},
    store::{Answer, End, Loaded, Mark, Received, StartedRow, StoreError, Turn},
    stuck::{Stuck, StuckReason},
    time::Timestamp,
};

/// After so many rounds without a pause the driver lets other tasks of its thread run.
const ROUNDS_MAX: usize = 256;

/// How driving a run ended.
#[derive(Debug)]
pub(crate) enum Exit {
    /// Its last turn is durable.
    Over,
    /// The next generation is durable, and still ours.
    Restarted,
    /// This worker cannot go on with it, and its newest entries are of another build, which may be able to.
    Unfit(Stuck),
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
    /// Nothing more is sent: whether it is left to another build is not decided here.
    Unfit(Box<Stuck>),
}

/// Drives one load of a run to its end.
pub(crate) struct Drive {
    pub(super) core: Arc<RunCore>,
    pub(super) function: Option<BoxFuture<'static, Result<Payload, Error>>>,
    pub(super) replay: VecDeque<Entry>,
    pub(super) live: bool,
    pub(super) next_seq: u64,
    pub(super) out: Outbox,
    pub(super) inbox: Inbox,
    pub(super) reading: Option<Answer<Vec<Received>>>,
    pub(super) phase: Phase,
    pub(super) timer: Option<Alarm>,
    pub(super) slow_check: Timestamp,
    pub(super) room: Room,
    /// Its workers died: a started row is written before each body, until there is a new entry.
    pub(super) suspect: bool,
    /// Rounds since something was recorded, while the engine waits for nothing any more.
    pub(super) leaving: usize,
    /// This worker was not sure of its lease when it last wanted to start a body.
    pub(super) held_back: bool,
    /// The last read of the inbox failed.
    pub(super) unread: bool,
    /// Since when it only waits.
    pub(super) idle_since: Option<Timestamp>,
    /// Why and how far the run is ending, if its function goes on no more.
    pub(super) closing: Option<Box<Closing>>,
    /// The letter by which a person sets the run aside.
    pub(super) pausing: Option<u64>,
    /// Its newest entry is of another build.
    pub(super) is_of_another: bool,
    waker: Waker,
    pub(super) must_poll: bool,
}

impl Drive {
    pub(crate) fn new(
        core: Arc<RunCore>,
        function: BoxFuture<'static, Result<Payload, Error>>,
        loaded: Loaded,
    ) -> Self {
        let live = loaded.entries.len() <= 1;
        let is_of_another = core.worker.is_of_another_build(&loaded.entries);
        let next_seq = loaded.entries.len() as u64;
        let mut replay = VecDeque::from(loaded.entries);
        replay.pop_front();
        if live {
            replay = VecDeque::new();
        }
        let mut state = core.state();
        if !live {
            let aside = state.table.aside();
            (aside.claims, aside.commands) = (Some(HashMap::new()), Commands::of(replay.make_contiguous()));
        }
        if !loaded.started.is_empty() {
            let aside = state.table.aside();
            let details = |row: &StartedRow| Some((row.key.clone(), row.details.clone()?));
            aside.details = loaded.started.iter().filter_map(details).collect();
            aside.rows = loaded.started.into_iter().map(|row| (row.key.clone(), row)).collect();
        }
        drop(state);
        let mut drive = Drive {
            waker: Waker::from(core.root.clone()),
            suspect: core.claimed.row.takeovers >= 2,
            inbox: Inbox::new(loaded.inbox, core.claimed.row.inbox_n),
            out: Outbox::new(core.clone()),
            core,
            function: Some(function),
            live,
            next_seq,
            replay,
            reading: None,
            phase: Phase::Driving,
            timer: None,
            slow_check: Timestamp::NEVER,
            room: Room::default(),
            leaving: 0,
            held_back: false,
            unread: false,
            idle_since: None,
            closing: None,
            pausing: None,
            is_of_another,
            must_poll: true,
        };
        drive.begin();
        drive
    }

    /// A run that did not begin when it was started does not live in the past. It began when it was first taken into
    /// memory, by whichever worker: one that comes back must not move the run's time, or what the run waits for first
    /// would begin anew.
    fn begin(&mut self) {
        let row = &self.core.claimed.row;
        if self.live {
            // A generation is younger than its run.
            let started = self.core.state().now.max(row.created_at);
            let late = |began: &Timestamp| began.since(started) > self.core.worker.settings.began_after;
            let Some(began) = row.began_at.filter(late) else { return };
            self.append(Draft::new(Kind::Began, Payload::default()));
            // Not the present moment: a worker that dies before this is durable leaves the same to the next one.
            self.out.parts.entries.iter_mut().for_each(|entry| entry.at = began);
            self.core.state().now = began;
        } else if let Some(began) = self.replay.pop_front_if(|entry| entry.known_kind() == Some(Kind::Began))
        {
            self.core.count_entry(began.seq);
            self.core.state().now = began.at;
        }
    }

    fn driving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_MAX {
            match self.round() {
                Next::Again if !matches!(self.phase, Phase::Driving) => return Poll::Ready(()),
                Next::Again => {}
                Next::Wait => {
                    self.flush();
                    self.core.worker.rehearsal.rests();
                    return match self.wait(cx) {
                        Next::Again => continue_soon(cx),
                        Next::Wait => Poll::Pending,
                    };
                }
            }
        }
        self.flush();
        // A function that never comes to rest can be killed.
        self.read_inbox(cx);
        continue_soon(cx)
    }

    /// One round: the function is polled if anything woke it; when it is quiet, the first of the next things happens.
    fn round(&mut self) -> Next {
        if self.inbox.has_letters() && self.end_killed() {
            return Next::Again;
        }
        if self.core.news.stopping() == Some(true) && !self.may_stay() {
            return self.give_back();
        }
        if std::mem::take(&mut self.must_poll) | self.core.root.take_woken() {
            return self.poll_function();
        }
        if self.is_in_grace() {
            return self.grace_round();
        }
        if self.hand_out() || self.grant() {
            return Next::Again;
        }
        if let Some(entry) = self.replay.pop_front() {
            return self.deliver_recorded(entry);
        }
        if !self.live {
            self.live = true;
            self.replay = VecDeque::new();
            if let Some(aside) = self.core.state().table.has_aside() {
                aside.claims = None;
            }
        }
        if self.core.worker.checks {
            return self.end_checked();
        }
        self.record_commands();
        if self.next_candidate() || self.fire() || self.start() {
            return Next::Again;
        }
        Next::Wait
    }

    /// Whether a run that is to leave at once records what has happened first, as it would have done; unless its
    /// function never comes to rest.
    fn may_stay(&mut self) -> bool {
        self.leaving += 1;
        self.live && self.has_happened() && self.leaving < ROUNDS_MAX
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
        let stuck = state.stuck.take().map(|stuck| *stuck);
        let restart = state.restart.take();
        let foreign = self.core.root.take_foreign().then_some(state.last_call);
        drop(state);
        let stuck = stuck.or(foreign.and_then(|last_call| self.report_foreign(last_call)));
        if self.is_in_grace() {
            return self.polled_in_grace(matches!(polled, Ok(Poll::Pending)));
        }
        match (polled, stuck) {
            (Err(panic), _) => self.end_panicked(panic_message(&*panic)),
            (Ok(_), Some(stuck)) => self.end_stuck(stuck),
            (Ok(Poll::Ready(outcome)), None) => self.end_returned(outcome),
            (Ok(Poll::Pending), None) if restart.is_some() => self.end_restarted(restart),
            (Ok(Poll::Pending), None) if broken(Guard::Quiesce) => self.go_on_early(),
            (Ok(Poll::Pending), None) => Next::Again,
        }
    }

    /// What [`Guard::Quiesce`] forbids.
    fn go_on_early(&mut self) -> Next {
        if !self.hand_out()
            && !self.grant()
            && let Some(entry) = self.replay.pop_front()
        {
            return self.deliver_recorded(entry);
        }
        Next::Again
    }

    /// Says that something not durable woke the function; where that is an error, the run is stuck.
    fn report_foreign(&self, last_call: Option<&'static Location<'static>>) -> Option<Stuck> {
        let after = last_call.map_or("the beginning".to_string(), ToString::to_string);
        tracing::warn!(run = %self.core.id(), after, "the workflow was woken by something that is not durable: on replay it will not be there");
        let detail = format!(
            "the function was woken, after {after}, by something that is not durable: on replay it will not be there"
        );
        self.core.worker.tell(|| Event::NotDurable { run: self.core.id().clone(), after });
        let fails = self.core.worker.settings.not_durable == Some(NotDurable::Fail);
        fails.then_some(Stuck { reason: StuckReason::WaitsForNothing, key: None, detail })
    }

    /// Lets the delivered operation that asked, lowest entry first, be ready in the next poll.
    fn grant(&mut self) -> bool {
        let mut state = self.core.state();
        let Some((_, op)) = state.table.asked.pop_first() else { return false };
        state.table.granted = Some(op);
        let waker = state.table.get(op).waker.clone();
        drop(state);
        wake(waker);
        true
    }

    /// Hands an outcome to its operation. If nothing else is delivered and untaken, it may be ready at once: asking
    /// first would change nothing but the number of polls.
    pub(super) fn deliver(&mut self, op: usize, arrived: Arrived) {
        let mut state = self.core.state();
        let table = &mut state.table;
        table.rest(op, Stage::Delivered { seq: arrived.seq });
        table.set_retry_at(op, None);
        let slot = table.get(op);
        slot.arrived = Some(Box::new(arrived));
        slot.expired = None;
        let (waker, deadline) = (slot.waker.clone(), slot.deadline);
        table.deadlines.remove(deadline, op);
        table.untaken += 1;
        if table.untaken == 1 {
            table.granted = Some(op);
        }
        drop(state);
        wake(waker);
    }

    /// What is due by the clock.
    fn fire(&mut self) -> bool {
        let mut state = self.core.state();
        let table = &mut state.table;
        let Some((at, op)) = table.deadlines.first() else { return false };
        let is_promise = table.get(op).sort == Sort::Promise;
        // What settles it may have come in time.
        let waits = self.is_ahead_of_the_disk() || (is_promise && self.may_hear());
        if at > self.core.worker.clock.now() || waits {
            return false;
        }
        table.deadlines.remove(at, op);
        let slot = table.get(op);
        match (slot.sort, slot.stage) {
            (Sort::Timer, _) => {
                drop(state);
                self.record(Candidate { op, what: Happened::Fired, takes: None });
            }
            (Sort::Promise, _) => {
                drop(state);
                self.expire(op);
            }
            (_, Stage::Idle) if at == slot.retry_at && at != slot.deadline => table.register(op),
            (_, Stage::Running { .. }) if slot.lives_on(at) => {
                let again = slot.body.as_ref().map(|body| body.ctx().silent_at().min(body.ctx().ends()));
                table.set_retry_at(op, again);
            }
            _ => {
                slot.expired = Some(at == slot.deadline);
                let waker = slot.waker.clone();
                drop(state);
                wake(waker);
            }
        }
        true
    }

    /// Starts registered work, when every earlier entry is durable, this worker may, and there is room.
    fn start(&mut self) -> bool {
        self.held_back = false;
        if !self.core.state().table.wants_to_begin() {
            self.room = Room::default();
            return false;
        }
        self.held_back = !self.core.worker.may_start();
        if self.held_back || self.core.news.stopping().is_some() || self.pausing.is_some() {
            return false;
        }
        self.flush();
        if !self.all_durable() && !broken(Guard::Order) {
            return false;
        }
        let ready = self.ready_to_begin();
        let began = !ready.is_empty();
        ready.into_iter().for_each(|op| self.let_begin(op));
        began
    }

    /// Steps whose started row is durable or that need none; the others are marked.
    fn ready_to_begin(&mut self) -> Vec<usize> {
        let mut state = self.core.state();
        let (now, table) = (state.now, &mut state.table);
        let marked = table.has_aside().map(|aside| std::mem::take(&mut aside.marking));
        let mut ready: Vec<usize> = marked.into_iter().flatten().collect();
        while let Some(&op) = table.startable.front() {
            let Some(permit) = self.room.take(&self.core.worker.steps) else { break };
            table.startable.pop_front();
            let slot = table.get(op);
            slot.permit = Some(permit);
            if !slot.wants_row(self.suspect) || broken(Guard::Doubt) {
                ready.push(op);
                continue;
            }
            let (key, attempt) = (slot.key.clone(), slot.attempt());
            slot.row = Some(Row { attempt, began: false });
            let details = table.has_aside().and_then(|aside| aside.details.get(&key).cloned());
            let row = StartedRow { key, attempt, at: now, abandoned: false, details };
            self.out.parts.marks.push(Mark::Started(row));
            table.set_stage(op, Stage::Marked);
            table.aside().marking.insert(op);
        }
        ready
    }

    fn let_begin(&mut self, op: usize) {
        let mut state = self.core.state();
        state.table.set_stage(op, Stage::Start { entries: self.core.entries() });
        let waker = state.table.get(op).waker.clone();
        drop(state);
        wake(waker);
    }

    /// What is stuck for a reason that no operation found.
    pub(super) fn stuck_for(&mut self, reason: StuckReason, key: Option<Arc<str>>, detail: String) -> Next {
        self.end_stuck(Stuck { reason, key, detail })
    }
}

/// Wakes an operation on the driver's own account.
pub(super) fn wake(waker: Option<Waker>) {
    let _wake = stack::enter(Frame::Wake);
    if let Some(waker) = waker {
        waker.wake();
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
        // Counted before trouble is looked for: a receipt brings its trouble before it counts.
        let settled = this.core.news.settled_turns();
        match this.core.news.take_trouble() {
            Some(Trouble::Refused(error)) => {
                // What is not told yet is not durable, and goes untold with this driver.
                this.drop_function();
                return Poll::Ready(Exit::Dropped(error));
            }
            Some(Trouble::Moved(inbox_n)) => this.end_again(inbox_n),
            None => {}
        }
        this.tell_settled(settled);
        if matches!(this.phase, Phase::Driving) && this.driving(cx).is_pending() {
            return Poll::Pending;
        }
        match (this.all_durable(), &this.phase) {
            (true, Phase::Ending(turn)) if matches!(turn.end, Some(End::Restarted { .. })) => {
                Poll::Ready(Exit::Restarted)
            }
            (true, Phase::Unfit(stuck)) => Poll::Ready(Exit::Unfit(Stuck::clone(stuck))),
            (true, _) => Poll::Ready(Exit::Over),
            (false, _) => Poll::Pending,
        }
    }
}
