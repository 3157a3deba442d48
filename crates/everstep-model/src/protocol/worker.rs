//! A worker with at most one run in memory: what it knows, what it has sent, and what each answer makes of it. It may
//! stop anywhere for any time, which in a model is nothing but another's turn; its calls arrive in their order, however
//! late.

use super::{
    content::{Call, Content, End, Record, Reply, Standing, Turn, What, Work},
    rules::Rules,
};

/// A body, from its attempt to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Nothing of it has happened.
    Todo,
    /// Its started row is on its way.
    Marking,
    /// Its started row is durable.
    Ready,
    /// It has returned: its effect is in the world.
    Returned,
    /// Its outcome was sent, or read.
    Recorded,
}

/// A run in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Driver {
    /// Its load.
    pub load: u8,
    /// Letters received, as far as it knows.
    pub known: u8,
    /// Letters that were read and not taken.
    pub letters: Vec<u8>,
    /// The number of its next entry.
    pub next: u8,
    /// Turns on their way.
    pub unsettled: u8,
    /// The plain step.
    pub plain: Body,
    /// The marked step.
    pub marked: Body,
    /// An attempt of the marked step is in doubt.
    pub doubt: bool,
    /// A letter was taken.
    pub taken: bool,
    /// How it ends, once it does.
    pub ending: Option<End>,
    /// The end was not accepted: there are this many letters.
    pub moved: Option<u8>,
}

/// What a worker is at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its process is dead.
    Dead,
    /// It was fenced, and knows it; or it has left.
    Over,
    /// It has nothing.
    Idle,
    /// It has the run, and has not read it: with this load and so many letters, as the claim told it.
    Holds(u8, u8, Standing),
    /// A turn was refused: it wants to read the run again.
    Refused,
    /// It drives the run.
    Drives(Driver),
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    /// What it is at.
    pub phase: Phase,
    /// Calls on their way, the earliest first.
    pub pipe: Vec<Call>,
    /// Whom it saw, and that one's beat.
    pub seen: Option<(u8, u8)>,
}

impl Worker {
    /// One that was just enrolled.
    pub fn new() -> Worker {
        Worker { phase: Phase::Idle, pipe: Vec::new(), seen: None }
    }

    /// Whether it may do anything by itself.
    pub fn acts(&self) -> bool {
        !matches!(self.phase, Phase::Dead | Phase::Over)
    }

    /// The run that it drives, while that goes on.
    pub fn driver(&self) -> Option<&Driver> {
        match &self.phase {
            Phase::Drives(driver) if driver.ending.is_none() => Some(driver),
            _ => None,
        }
    }

    /// What it reads of a run that it has claimed.
    pub fn read(&mut self, content: &Content) {
        let Phase::Holds(load, inbox_n, standing) = self.phase else { return };
        if standing == Standing::Stuck {
            // Woken for nothing that it knows: left as it was.
            self.phase = Phase::Idle;
            return self.send(Turn {
                load,
                entries: vec![],
                mark: None,
                takes: None,
                end: Some(End::GivenBack),
            });
        }
        let recorded = |done: bool| if done { Body::Recorded } else { Body::Todo };
        let marked = content.says(What::Done(Work::Marked)) || content.says(What::Failed);
        self.phase = Phase::Drives(Driver {
            load,
            known: content.inbox.last().map_or(inbox_n, |last| inbox_n.max(*last)),
            letters: content.inbox.clone(),
            next: content.journal.last().map_or(0, |last| last.seq + 1),
            unsettled: 0,
            plain: recorded(content.says(What::Done(Work::Plain))),
            marked: recorded(marked),
            doubt: content.row && !marked,
            taken: content.journal.iter().any(|record| matches!(record.what, What::Taken(_))),
            ending: None,
            moved: None,
        });
    }

    /// Looks into the inbox.
    pub fn look(&mut self, content: &Content) {
        let Phase::Drives(driver) = &mut self.phase else { return };
        driver.known = content.inbox.last().map_or(driver.known, |last| driver.known.max(*last));
        // What it has taken is not read again, however old the read is: one letter is enough for this run.
        driver.letters = if driver.taken { Vec::new() } else { content.inbox.clone() };
    }

    /// Sends a turn of the run that it drives.
    pub fn send_turn(&mut self, what: Option<What>, turn: impl FnOnce(&mut Turn, &mut Driver)) {
        let Phase::Drives(driver) = &mut self.phase else { return };
        let mut entries = Vec::new();
        if let Some(what) = what {
            entries.push(Record { seq: driver.next, what });
            driver.next += 1;
        }
        let mut sent = Turn { load: driver.load, entries, mark: None, takes: None, end: None };
        turn(&mut sent, driver);
        driver.ending = sent.end;
        driver.unsettled += 1;
        self.send(sent);
    }

    /// Sends an end again that was not accepted, now that more letters are known.
    pub fn send_again(&mut self, rules: Rules) {
        let Phase::Drives(driver) = &mut self.phase else { return };
        let (Some(moved), Some(end)) = (driver.moved.take(), driver.ending) else { return };
        let load = driver.load;
        let turn = |entries, end| Turn { load, entries, mark: None, takes: None, end: Some(end) };
        match end {
            // The function has returned: a letter that comes now comes too late.
            End::Finished(_) => {
                driver.known = moved;
                driver.next -= 1;
                self.send_turn(Some(What::Completed), |turn, _| turn.end = Some(End::Finished(moved)));
            }
            // The letter may be what helps.
            End::Stuck(_) => {
                driver.ending = Some(End::GivenBack);
                driver.unsettled += 1;
                let clears = driver.marked == Body::Ready;
                self.send(Turn { mark: clears.then_some(false), ..turn(vec![], End::GivenBack) });
            }
            // It is what the run waits for.
            End::Parked(_) | End::GivenBack => {
                driver.ending = None;
                // It counts as known when it was read, and not before.
                if !rules.reads_before_parking {
                    driver.known = moved;
                }
            }
        }
    }

    fn send(&mut self, turn: Turn) {
        self.pipe.push(Call::Turn(turn));
    }

    /// Hears what became of its earliest call.
    pub fn hears(&mut self, call: &Call, reply: Reply) {
        if !self.acts() {
            return;
        }
        match (call, reply) {
            // Nothing that it has is its own any more. What is on its way arrives all the same.
            (_, Reply::Fenced) | (Call::Leave, _) => self.phase = Phase::Over,
            (_, Reply::Claimed(load, inbox_n, before)) => self.phase = Phase::Holds(load, inbox_n, before),
            (Call::Reload, _) if self.phase == Phase::Refused => self.phase = Phase::Idle,
            (Call::Turn(turn), reply) => self.hears_of_turn(turn, reply),
            _ => {}
        }
    }

    fn hears_of_turn(&mut self, turn: &Turn, reply: Reply) {
        let Phase::Drives(driver) = &mut self.phase else { return };
        if driver.load != turn.load {
            return;
        }
        driver.unsettled -= 1;
        match reply {
            Reply::Durable(_) if turn.end.is_some() => self.phase = Phase::Idle,
            Reply::Durable(_) if turn.mark == Some(true) && driver.marked == Body::Marking => {
                driver.marked = Body::Ready;
            }
            Reply::Moved(inbox_n) => driver.moved = Some(inbox_n),
            Reply::Refused => self.phase = Phase::Refused,
            _ => {}
        }
    }
}

impl Default for Worker {
    fn default() -> Worker {
        Worker::new()
    }
}
