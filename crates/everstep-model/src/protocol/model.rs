//! Everything that can happen, as a model that is explored in full: workers that stop anywhere, die, are fenced and do
//! not know it; letters that come at any moment.

use stateright::{Model, Property};

use super::{
    content::{Call, Content, End, Posted, Reply, Standing, What, Work},
    property,
    rules::Rules,
    worker::{Body, Phase, Worker},
};

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Workers that are enrolled, all in all.
    pub members: usize,
    /// Processes that die.
    pub crashes: u8,
    /// Renewals of a lease.
    pub beats: u8,
    /// Letters.
    pub letters: u8,
    /// Turns that should never have been sent.
    pub blunders: u8,
    /// Runs that become stuck.
    pub stucks: u8,
    /// Runs that are given back, and workers that leave.
    pub leaves: u8,
    /// Calls of one worker on their way.
    pub pipe: usize,
}

/// The model: so much may happen, under these rules.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How much may happen.
    pub bounds: Bounds,
    /// Which rules hold.
    pub rules: Rules,
}

/// Everything that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The store.
    pub content: Content,
    /// The workers, by number.
    pub workers: Vec<Worker>,
    /// What nobody knows and properties speak of.
    pub past: Past,
}

/// What has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Past {
    /// Effects of the plain step and of the marked one.
    pub effects: [u8; 2],
    /// What may have made a body run again: deaths, fences, refusals, ends without an outcome.
    pub failures: u8,
    /// Processes that died.
    pub crashes: u8,
    /// Turns that should never have been sent.
    pub blunders: u8,
    /// Runs that became stuck.
    pub stucks: u8,
    /// Runs given back, workers that left.
    pub leaves: u8,
    /// A fenced worker wrote an entry.
    pub stale_write: bool,
    /// A run ended without knowing of a letter that was acknowledged.
    pub unaware: bool,
    /// A worker was fenced that had renewed its lease since it was looked at.
    pub wronged: bool,
    /// An end was not accepted, because a letter had come.
    pub moved: bool,
    /// An outcome of a fenced worker was refused.
    pub turned_away: bool,
}

/// One thing that happens. Numbers are workers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it; `Arrives` is the one that the store hears of")]
pub enum Action {
    Enrolls,
    Dies(usize),
    Arrives(usize),
    SendsBeat(usize),
    SendsClaim(usize),
    SendsReload(usize),
    Sees(usize, usize),
    SendsFence(usize),
    SendsFree(usize, usize),
    SendsLeave(usize),
    Reads(usize),
    Looks(usize),
    SendsRow(usize),
    Works(usize, Work),
    SendsOutcome(usize, Work),
    SendsDoubt(usize),
    SendsLetter(usize),
    SendsEnd(usize, Ending),
    SendsAgain(usize),
    Blunders(usize),
    Posts { name: u8, revive: bool },
}

/// What the store heard of an action, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that is a worker's call or a letter.
    Nothing,
    /// A worker's call arrived.
    Called(Call, Reply),
    /// A letter was sent.
    Posted(Posted),
}

/// How a driver ends its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "as `End`")]
pub enum Ending {
    Finish,
    Park,
    Stick,
    GiveBack,
}

impl State {
    /// A run that nobody has, and no worker.
    pub fn new() -> State {
        State { content: Content::new(), workers: Vec::new(), past: Past::default() }
    }

    /// Lets the earliest call of a worker arrive.
    fn arrive(&mut self, rules: Rules, by: usize) -> Heard {
        if self.workers[by].pipe.is_empty() {
            return Heard::Nothing;
        }
        let call = self.workers[by].pipe.remove(0);
        let before = self.content.clone();
        let reply = self.content.call(rules, by as u8, &call);
        self.remember(&before, by, &call, reply);
        self.workers[by].hears(&call, reply);
        Heard::Called(call, reply)
    }

    fn remember(&mut self, before: &Content, by: usize, call: &Call, reply: Reply) {
        let past = &mut self.past;
        let was_fenced = before.workers[by].fenced;
        match (call, reply) {
            (Call::Fence(other, beat), Reply::Is(true)) => {
                let row = &before.workers[usize::from(*other)];
                past.wronged |= !row.fenced && row.beat != *beat;
                past.failures += u8::from(!row.fenced);
            }
            (Call::Turn(turn), Reply::Durable(_)) => {
                past.stale_write |= was_fenced;
                past.unaware |= match turn.end {
                    Some(End::Finished(known) | End::Parked(known) | End::Stuck(known)) => {
                        known != before.inbox_n
                    }
                    Some(End::GivenBack) | None => false,
                };
                past.failures += u8::from(matches!(turn.end, Some(End::Stuck(_) | End::GivenBack)));
            }
            (Call::Turn(_), Reply::Moved(_)) => past.moved = true,
            (Call::Turn(_), Reply::Refused) => past.failures += 1,
            (Call::Turn(_), Reply::Fenced) => past.turned_away = true,
            (Call::Leave, Reply::Done) => past.failures += 1,
            _ => {}
        }
    }

    /// Applies an action that is possible.
    pub fn act(&mut self, rules: Rules, action: Action) -> Heard {
        match action {
            Action::Arrives(by) => return self.arrive(rules, by),
            Action::Enrolls => {
                self.content.workers.push(super::content::Row::default());
                self.workers.push(Worker::new());
            }
            Action::Dies(by) => {
                self.past.crashes += 1;
                self.past.failures += 1;
                self.workers[by] = Worker { phase: Phase::Dead, pipe: Vec::new(), seen: None };
                self.content.workers[by].gate = None;
            }
            Action::Posts { name, revive } => return Heard::Posted(self.content.post(rules, name, revive)),
            Action::Reads(by) => self.workers[by].read(&self.content),
            Action::Looks(by) => self.workers[by].look(&self.content),
            Action::Sees(by, other) => {
                self.workers[by].seen = Some((other as u8, self.content.workers[other].beat));
            }
            other => self.send(rules, other),
        }
        Heard::Nothing
    }

    fn send(&mut self, rules: Rules, action: Action) {
        match action {
            Action::SendsBeat(by) => self.workers[by].pipe.push(Call::Beat),
            Action::SendsClaim(by) => self.workers[by].pipe.push(Call::Claim),
            Action::SendsReload(by) => self.workers[by].pipe.push(Call::Reload),
            Action::SendsFence(by) => {
                if let Some((other, beat)) = self.workers[by].seen.take() {
                    self.workers[by].pipe.push(Call::Fence(other, beat));
                }
            }
            Action::SendsFree(by, other) => self.workers[by].pipe.push(Call::Free(other as u8)),
            Action::SendsLeave(by) => {
                self.past.leaves += 1;
                self.workers[by].pipe.push(Call::Leave);
            }
            Action::SendsRow(by) => self.workers[by].send_turn(None, |turn, driver| {
                turn.mark = Some(true);
                driver.marked = Body::Marking;
            }),
            Action::Works(by, work) => self.work(by, work),
            Action::SendsOutcome(by, work) => {
                self.workers[by].send_turn(Some(What::Done(work)), |turn, driver| match work {
                    Work::Plain => driver.plain = Body::Recorded,
                    Work::Marked => {
                        turn.mark = Some(false);
                        driver.marked = Body::Recorded;
                    }
                });
            }
            Action::SendsDoubt(by) => self.workers[by].send_turn(Some(What::Failed), |turn, driver| {
                turn.mark = Some(false);
                (driver.marked, driver.doubt) = (Body::Recorded, false);
            }),
            Action::SendsLetter(by) => self.send_letter(rules, by),
            Action::SendsEnd(by, ending) => self.send_end(by, ending),
            Action::SendsAgain(by) => self.workers[by].send_again(rules),
            Action::Blunders(by) => {
                self.past.blunders += 1;
                let skip = |driver: &mut super::worker::Driver| driver.next += 1;
                if let Phase::Drives(driver) = &mut self.workers[by].phase {
                    skip(driver);
                }
                self.workers[by].send_turn(Some(What::Nonsense), |_, _| {});
            }
            _ => {}
        }
    }

    fn work(&mut self, by: usize, work: Work) {
        let Phase::Drives(driver) = &mut self.workers[by].phase else { return };
        match work {
            Work::Plain => driver.plain = Body::Returned,
            Work::Marked => driver.marked = Body::Returned,
        }
        self.past.effects[work as usize] += 1;
    }

    fn send_letter(&mut self, rules: Rules, by: usize) {
        let Phase::Drives(driver) = &self.workers[by].phase else { return };
        let Some(n) = driver.letters.first().copied() else { return };
        if !rules.takes_with_entry {
            self.content.inbox.retain(|there| *there != n);
        }
        self.workers[by].send_turn(Some(What::Taken(n)), |turn, driver| {
            turn.takes = Some(n);
            driver.letters.retain(|there| *there != n);
            driver.taken = true;
        });
    }

    fn send_end(&mut self, by: usize, ending: Ending) {
        let Phase::Drives(driver) = &self.workers[by].phase else { return };
        let known = driver.known;
        // The row of a body that was about to begin tells of nothing.
        let unbegun = matches!(driver.marked, Body::Marking | Body::Ready);
        let (what, end) = match ending {
            Ending::Finish => (Some(What::Completed), End::Finished(known)),
            Ending::Park => (None, End::Parked(known)),
            Ending::Stick => (None, End::Stuck(known)),
            Ending::GiveBack => (None, End::GivenBack),
        };
        self.past.stucks += u8::from(ending == Ending::Stick);
        self.past.leaves += u8::from(ending == Ending::GiveBack);
        self.workers[by].send_turn(what, |turn, _| {
            turn.mark = unbegun.then_some(false);
            turn.end = Some(end);
        });
    }
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

impl Protocol {
    /// Everything that can happen next.
    pub fn possible(&self, state: &State) -> Vec<Action> {
        let mut all = Vec::new();
        if state.workers.len() < self.bounds.members {
            all.push(Action::Enrolls);
        }
        for by in 0..state.workers.len() {
            self.possible_of(state, by, &mut all);
        }
        let next = state.content.names.len() as u8;
        if state.content.standing != Standing::Completed && next < self.bounds.letters {
            all.push(Action::Posts { name: next, revive: false });
            if state.content.standing == Standing::Stuck {
                all.push(Action::Posts { name: next, revive: true });
            }
        }
        all
    }

    fn possible_of(&self, state: &State, by: usize, all: &mut Vec<Action>) {
        let (worker, past) = (&state.workers[by], &state.past);
        if !worker.pipe.is_empty() {
            all.push(Action::Arrives(by));
        }
        if worker.phase != Phase::Dead && past.crashes < self.bounds.crashes {
            all.push(Action::Dies(by));
        }
        if !worker.acts() {
            return;
        }
        match &worker.phase {
            Phase::Holds(..) => all.push(Action::Reads(by)),
            Phase::Drives(driver) if driver.moved.is_some() => all.push(Action::SendsAgain(by)),
            _ => {}
        }
        if worker.pipe.len() >= self.bounds.pipe {
            return;
        }
        self.duties(state, by, all);
        if worker.driver().is_some() {
            self.driving(state, by, all);
        }
    }

    /// What a worker does beside driving.
    fn duties(&self, state: &State, by: usize, all: &mut Vec<Action>) {
        let (worker, content) = (&state.workers[by], &state.content);
        let sent = |call: &Call| worker.pipe.contains(call);
        let beats: u8 = content.workers.iter().map(|row| row.beat).sum();
        let coming = state.workers.iter().flat_map(|w| &w.pipe).filter(|call| **call == Call::Beat).count();
        if beats + (coming as u8) < self.bounds.beats {
            all.push(Action::SendsBeat(by));
        }
        // It looks before it asks; but much may change until the question arrives.
        let has_nothing = worker.phase == Phase::Idle && !sent(&Call::Claim);
        let claimable = content.owner.is_none() && content.due;
        let open = content.standing != Standing::Completed;
        if has_nothing && (claimable || (open && !self.rules.asks_owner)) {
            all.push(Action::SendsClaim(by));
        }
        if worker.phase == Phase::Refused && !sent(&Call::Reload) {
            all.push(Action::SendsReload(by));
        }
        if state.past.leaves < self.bounds.leaves && worker.phase == Phase::Idle && !sent(&Call::Leave) {
            all.push(Action::SendsLeave(by));
        }
        if worker.seen.is_some() {
            all.push(Action::SendsFence(by));
        }
        for (other, row) in content.workers.iter().enumerate().filter(|(other, _)| *other != by) {
            let owns = content.owner == Some(other as u8);
            // Only the dead who have something matter.
            if owns && !row.fenced && worker.seen.is_none() && worker.phase == Phase::Idle {
                all.push(Action::Sees(by, other));
            }
            let may_free = row.fenced || !self.rules.frees_the_fenced;
            if owns && may_free && !sent(&Call::Free(other as u8)) {
                all.push(Action::SendsFree(by, other));
            }
        }
    }

    /// What a driver does with its run.
    fn driving(&self, state: &State, by: usize, all: &mut Vec<Action>) {
        let Some(driver) = state.workers[by].driver() else { return };
        let past = &state.past;
        let quiet = driver.unsettled == 0;
        if driver.plain == Body::Todo && quiet {
            all.push(Action::Works(by, Work::Plain));
        }
        match driver.marked {
            Body::Todo if driver.doubt => all.push(Action::SendsDoubt(by)),
            Body::Todo => all.push(Action::SendsRow(by)),
            Body::Marking if !self.rules.row_before_body => all.push(Action::Works(by, Work::Marked)),
            Body::Ready if quiet => all.push(Action::Works(by, Work::Marked)),
            _ => {}
        }
        for (work, body) in [(Work::Plain, driver.plain), (Work::Marked, driver.marked)] {
            if body == Body::Returned {
                all.push(Action::SendsOutcome(by, work));
            }
        }
        let worked = driver.plain == Body::Recorded && driver.marked == Body::Recorded;
        if worked && !driver.taken && !driver.letters.is_empty() {
            all.push(Action::SendsLetter(by));
        }
        if driver.letters.is_empty() && !driver.taken && !state.content.inbox.is_empty() {
            all.push(Action::Looks(by));
        }
        if worked && driver.taken {
            all.push(Action::SendsEnd(by, Ending::Finish));
        }
        if worked && quiet && !driver.taken && driver.letters.is_empty() {
            all.push(Action::SendsEnd(by, Ending::Park));
        }
        if past.stucks < self.bounds.stucks {
            all.push(Action::SendsEnd(by, Ending::Stick));
        }
        let running = driver.plain == Body::Returned || driver.marked == Body::Returned;
        if past.leaves < self.bounds.leaves && !running {
            all.push(Action::SendsEnd(by, Ending::GiveBack));
        }
        if past.blunders < self.bounds.blunders {
            all.push(Action::Blunders(by));
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(self.possible(state));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        state.act(self.rules, action);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        property::all()
    }
}
