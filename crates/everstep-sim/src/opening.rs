//! One process's opening of the store: a queue of what it has asked for, the faults that hit it on its way, and its
//! end. The trait is in `store`.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use everstep_core::{
    Simulation,
    store::{StoreError, Turn},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    base::Base,
    chance::Chance,
    fault::Fault,
    history::What,
    world::{World, after, ms, nap, until},
};

/// An opening.
pub struct Opening {
    pub(crate) world: Arc<World>,
    pub(crate) base: Base,
    /// The process that has it.
    pub(crate) machine: Simulation,
    role: Role,
    /// The queue is not the process's own, but a server's: it goes on while the process stands still.
    is_remote: bool,
    /// Everybody sees at once when the process dies.
    shows_death: bool,
    worker: OnceLock<i64>,
    state: Mutex<State>,
    pushed: Notify,
    over: Mutex<Option<Over>>,
    ended: Notify,
}

/// Who has an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An engine.
    Worker,
    /// A client without a worker: it never dies.
    Client,
}

/// Why an opening is over, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The process died.
    Died,
    /// Nobody knows what is committed.
    Closed,
    /// Its engine is to leave in peace.
    Leave,
}

struct State {
    chance: Chance,
    queue: VecDeque<Queued>,
    last_due: Instant,
    closed: Option<Arc<str>>,
    flushing: bool,
    dead: bool,
    /// Ends of answers that never come: dropped, they would be an answer.
    kept: Vec<Box<dyn Any + Send>>,
}

/// Something asked for.
pub(crate) struct Queued {
    pub(crate) weight: Weight,
    pub(crate) act: Act,
    due: Instant,
}

/// What waits for space, and what is told that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A turn or a transactional step.
    Waits,
    /// Everything else.
    Hears,
}

/// What is to be done with it.
pub(crate) enum Do {
    Apply(Fate),
    Refuse(StoreError),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    /// Applied; whoever asked is dead.
    Unheard,
    /// Applied; the answer never comes.
    Silent,
    /// Applied; the answer is an error, and the caller may ask again.
    Lost,
    /// Asked for twice.
    Twice,
    /// Nobody knows, and this opening is over.
    Unknown {
        applied: bool,
    },
}

/// Does it, and what is left to do when the store has settled.
pub(crate) type Act = Box<dyn FnOnce(&Arc<Opening>, Do) -> Finish + Send>;
pub(crate) type Finish = Box<dyn FnOnce(&Arc<Opening>) + Send>;

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("worker", &self.worker)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Opening {
    /// Opens `base` for a process.
    pub fn new(world: Arc<World>, base: Base, machine: Simulation, role: Role) -> Arc<Opening> {
        let mut chance = world.chance();
        let is_remote = chance.one_in(2) && base.may_be_remote();
        let opening = Arc::new(Opening {
            base,
            machine,
            role,
            is_remote,
            shows_death: chance.one_in(2),
            worker: OnceLock::new(),
            state: Mutex::new(State {
                chance,
                queue: VecDeque::new(),
                last_due: after(Duration::ZERO),
                closed: None,
                flushing: false,
                dead: false,
                kept: Vec::new(),
            }),
            pushed: Notify::new(),
            over: Mutex::default(),
            ended: Notify::new(),
            world,
        });
        tokio::spawn(serve(Arc::downgrade(&opening)));
        opening
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who it is, once it has enrolled; 0 for a client.
    pub fn worker(&self) -> i64 {
        self.worker.get().copied().unwrap_or(0)
    }

    pub(crate) fn is_worker(&self, worker: i64) {
        let _ = self.worker.set(worker);
    }

    /// Whether its process is dead: nothing that is still on the stack of it counts.
    pub fn is_dead(&self) -> bool {
        self.machine.is_dead()
    }

    /// Observes something of a process that lives.
    pub fn saw(&self, what: What) {
        if !self.is_dead() {
            self.world.saw(what);
        }
    }

    /// Why it is closed, if it is.
    pub(crate) fn closed(&self) -> Option<StoreError> {
        self.state().closed.clone().map(StoreError::Closed)
    }

    /// How long something takes, if calls are late.
    pub(crate) fn delay(&self) -> Duration {
        if !self.world.may(Fault::Late) {
            return Duration::ZERO;
        }
        let chance = &mut self.state().chance;
        let late = match chance.below(100) {
            0..50 => 0,
            50..90 => chance.between(1, 20),
            90..99 => chance.between(20, 500),
            _ => chance.between(500, 5_000),
        };
        if late > 0 {
            self.happened(Fault::Late, late > 20);
        }
        ms(late)
    }

    fn happened(&self, fault: Fault, worth_telling: bool) {
        if worth_telling {
            self.world.saw(What::Fault(fault));
        }
    }

    /// Asks for something; it takes its place now.
    pub(crate) fn push(self: &Arc<Self>, weight: Weight, act: Act) {
        let delay = self.delay();
        let overrun = self.world.is_overrun();
        let mut state = self.state();
        if state.dead || overrun {
            return;
        }
        if let Some(cause) = state.closed.clone() {
            drop(state);
            return act(self, Do::Refuse(StoreError::Closed(cause)))(self);
        }
        let due = state.last_due.max(after(delay));
        state.last_due = due;
        state.queue.push_back(Queued { weight, act, due });
        drop(state);
        self.flush();
        self.pushed.notify_one();
    }

    /// Applies what is due.
    pub(crate) fn flush(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().flushing, true) {
            return;
        }
        loop {
            let batch = self.take_due();
            if batch.is_empty() {
                break;
            }
            self.apply(batch);
        }
        let mut state = self.state();
        state.flushing = false;
        let dead = state.dead;
        drop(state);
        if dead {
            self.bury();
        }
    }

    fn take_due(&self) -> Vec<Queued> {
        let full = self.world.is_full();
        let stands = self.machine.is_stopped() && !self.is_remote;
        let mut state = self.state();
        if state.dead || stands {
            return Vec::new();
        }
        let now = after(Duration::ZERO);
        let is_due = |queued: &Queued| queued.due <= now && !(full && queued.weight == Weight::Waits);
        if full {
            // Those that need not wait hear of it at once, whoever waits before them.
            let (due, waits): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.queue).into_iter().partition(is_due);
            state.queue = waits.into();
            return due;
        }
        let n = state.queue.iter().take_while(|queued| is_due(queued)).count();
        state.queue.drain(..n).collect()
    }

    fn apply(self: &Arc<Self>, batch: Vec<Queued>) {
        let full = self.world.is_full();
        let (mut finish, mut dies) = (Vec::new(), false);
        for queued in batch {
            if full {
                let full = StoreError::Full("the disk is full".into());
                finish.push((queued.act)(self, Do::Refuse(full)));
                continue;
            }
            let rarely = if queued.weight == Weight::Waits { 150 } else { 400 };
            if self.role == Role::Worker && self.world.strikes(Fault::Crash, rarely) {
                // Before it, or after it and before anybody hears.
                dies = true;
                if self.world.below(2) == 0 {
                    finish.push((queued.act)(self, Do::Apply(Fate::Unheard)));
                }
                break;
            }
            let fate = self.fate(queued.weight);
            finish.push((queued.act)(self, Do::Apply(fate)));
            if matches!(fate, Fate::Unknown { .. }) {
                break;
            }
        }
        if dies {
            self.die(true);
        }
        self.base.settle();
        finish.into_iter().for_each(|finish| finish(self));
    }

    fn fate(&self, weight: Weight) -> Fate {
        let world = &self.world;
        match self.role {
            Role::Worker => {
                if world.strikes(Fault::Unknown, if weight == Weight::Waits { 250 } else { 800 }) {
                    return Fate::Unknown { applied: world.below(2) == 0 };
                }
                if weight == Weight::Hears && world.strikes(Fault::Lost, 600) {
                    return Fate::Silent;
                }
                if weight == Weight::Hears && world.strikes(Fault::Doubled, 20) {
                    return Fate::Twice;
                }
            }
            Role::Client => {
                if world.strikes(Fault::Lost, 6) {
                    return if world.below(2) == 0 { Fate::Silent } else { Fate::Lost };
                }
                if world.strikes(Fault::Doubled, 4) {
                    return Fate::Twice;
                }
            }
        }
        Fate::Fine
    }

    /// Whether a turn is to be refused for good. A run that meets this three times on one worker is stuck, as it should
    /// be; so each meets it twice at most.
    pub(crate) fn refuses(&self, turn: &Turn) -> bool {
        !turn.entries.is_empty()
            && self.world.strikes(Fault::Refused, 40)
            && self.world.count_refusal(self.world.run_of(turn.run)) <= 2
    }

    /// Keeps the end of an answer that never comes.
    pub(crate) fn keep(&self, end: Box<dyn Any + Send>) {
        self.state().kept.push(end);
    }

    /// An answer of a worker's call never comes: whoever watches over the process ends it after a while.
    pub(crate) fn hangs(self: &Arc<Self>) {
        if self.role == Role::Client {
            return;
        }
        let (opening, wait) = (self.clone(), ms(1_000 + self.world.below(15_000)));
        tokio::spawn(async move {
            nap(wait).await;
            opening.die(false);
        });
    }

    /// Nobody knows what is committed: whatever is asked from now on is refused.
    pub(crate) fn close(self: &Arc<Self>) {
        let cause: Arc<str> = "nobody knows whether the last commit happened".into();
        let mut state = self.state();
        if state.dead || state.closed.is_some() {
            return;
        }
        state.closed = Some(cause.clone());
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for queued in queue {
            (queued.act)(self, Do::Refuse(StoreError::Closed(cause.clone())))(self);
        }
        self.base.store().bell().ring_foreign();
        self.ends(Over::Closed);
    }

    /// The process dies, at once.
    pub fn die(self: &Arc<Self>, is_fault: bool) {
        let mut state = self.state();
        if std::mem::replace(&mut state.dead, true) {
            return;
        }
        let flushing = state.flushing;
        drop(state);
        self.happened(Fault::Crash, is_fault);
        self.world.saw(What::Died { worker: self.worker() });
        self.machine.kill();
        self.ends(Over::Died);
        if !flushing {
            self.bury();
        }
    }

    /// What was on its way to a server may still arrive; the rest dies with the process.
    fn bury(self: &Arc<Self>) {
        let mut queue = std::mem::take(&mut self.state().queue);
        if self.is_remote {
            let arrives = self.world.below(queue.len() as u64 + 1) as usize;
            let last: Vec<_> = queue.drain(..arrives).collect();
            let finish: Vec<_> =
                last.into_iter().map(|queued| (queued.act)(self, Do::Apply(Fate::Unheard))).collect();
            self.base.settle();
            finish.into_iter().for_each(|finish| finish(self));
        }
        self.base.dies(self.worker(), self.shows_death);
        self.pushed.notify_one();
    }

    /// Somebody is to do something about the process.
    pub(crate) fn ends(&self, over: Over) {
        let mut now = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        // Dead is dead, and a closed store is not left in peace.
        match (*now, over) {
            (Some(Over::Died), _) | (Some(Over::Closed), Over::Leave) => {}
            _ => *now = Some(over),
        }
        drop(now);
        self.ended.notify_waiters();
    }

    fn is_over(&self) -> Option<Over> {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when something is to be done about the process.
    pub async fn over(&self) -> Over {
        loop {
            let ended = self.ended.notified();
            match self.is_over() {
                Some(over) => return over,
                None => ended.await,
            }
        }
    }

    /// Resolves when the process is dead.
    pub async fn died(&self) {
        loop {
            let ended = self.ended.notified();
            match self.is_over() {
                Some(Over::Died) => return,
                _ => ended.await,
            }
        }
    }

    /// Something has changed that the queue waited for.
    pub(crate) fn poke(&self) {
        self.pushed.notify_one();
    }

    fn next_due(&self) -> Option<Instant> {
        self.state().queue.front().map(|queued| queued.due)
    }
}

/// Applies what is in the queue when its time has come.
async fn serve(opening: std::sync::Weak<Opening>) {
    let Some(world) = opening.upgrade().map(|opening| opening.world.clone()) else { return };
    loop {
        let space = world.space.notified();
        let Some(here) = opening.upgrade() else { return };
        if here.is_dead() {
            return;
        }
        here.flush();
        let now = after(Duration::ZERO);
        let due = here.next_due().filter(|due| *due > now);
        tokio::select! {
            biased;
            () = here.pushed.notified() => {}
            () = space => {}
            () = until(due.unwrap_or(now)), if due.is_some() => {}
        }
    }
}
