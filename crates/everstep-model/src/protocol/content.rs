//! A store with one run, as far as the protocol goes: what each call changes and is answered. Pure.

use super::rules::Rules;

/// A worker's number: those that were enrolled, from 0.
pub type Member = u8;

/// A step of the run's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// May be repeated.
    Plain,
    /// Must not be: its attempts have started rows, and one in doubt fails.
    Marked,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Entry 0.
    Started,
    /// A step is done.
    Done(Work),
    /// The marked step was in doubt, and failed.
    Failed,
    /// This letter was taken.
    Taken(u8),
    /// The run's outcome.
    Completed,
    /// Of a turn that should never have been sent.
    Nonsense,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its number.
    pub seq: u8,
    /// What it says.
    pub what: What,
}

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Started, or given back.
    Pending,
    /// A worker has it.
    Running,
    /// Waits for a letter.
    Waiting,
    /// Needs a person.
    Stuck,
    /// Over.
    Completed,
}

/// How a load ends. All but the last count the letters that the run has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// With the outcome.
    Finished(u8),
    /// Until a letter comes.
    Parked(u8),
    /// Until a person comes.
    Stuck(u8),
    /// For anybody.
    GivenBack,
}

/// A turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    /// The load's number among those of its worker.
    pub load: u8,
    /// Its entries.
    pub entries: Vec<Record>,
    /// Sets (`true`) or clears the started row of the marked step.
    pub mark: Option<bool>,
    /// The letter that it takes out of the inbox.
    pub takes: Option<u8>,
    /// How it ends the load.
    pub end: Option<End>,
}

/// A worker's call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Renews the lease.
    Beat,
    /// Fences another whose beat was this.
    Fence(Member, u8),
    /// Frees what another had.
    Free(Member),
    /// Ends the worker.
    Leave,
    /// Takes the run if it is due.
    Claim,
    /// Takes it again.
    Reload,
    /// Adds to it.
    Turn(Turn),
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It is done.
    Done,
    /// Whether it is so.
    Is(bool),
    /// How many runs were freed.
    Freed(u8),
    /// The run is the worker's, with this load and this many letters received; what it was before.
    Claimed(u8, u8, Standing),
    /// There was none to take, or it is not the worker's.
    Nothing,
    /// The number of the next entry.
    Durable(u8),
    /// How many letters there are by now.
    Moved(u8),
    /// Against the rules.
    Refused,
    /// The worker is fenced.
    Fenced,
}

/// A worker's row, and what its opening remembers of its load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Renewals.
    pub beat: u8,
    /// Once and for good.
    pub fenced: bool,
    /// Loads that it was given.
    pub loads: u8,
    /// The open load, and the number of its next entry.
    pub gate: Option<(u8, u8)>,
}

/// Everything that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Workers that were ever enrolled.
    pub workers: Vec<Row>,
    /// Who has the run.
    pub owner: Option<Member>,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it can be claimed, if it is free.
    pub due: bool,
    /// Letters ever received.
    pub inbox_n: u8,
    /// The names of those letters, in their order.
    pub names: Vec<u8>,
    /// Numbers of those that are in the inbox.
    pub inbox: Vec<u8>,
    /// The journal.
    pub journal: Vec<Record>,
    /// The started row of the marked step.
    pub row: bool,
}

impl Content {
    /// A run that was just started, and no worker.
    pub fn new() -> Content {
        Content {
            workers: Vec::new(),
            owner: None,
            standing: Standing::Pending,
            due: true,
            inbox_n: 0,
            names: Vec::new(),
            inbox: Vec::new(),
            journal: vec![Record { seq: 0, what: What::Started }],
            row: false,
        }
    }

    /// Whether the journal says this.
    pub fn says(&self, what: What) -> bool {
        self.journal.iter().any(|record| record.what == what)
    }

    fn next(&self) -> u8 {
        self.journal.last().map_or(0, |last| last.seq + 1)
    }

    /// Makes a call of `by`.
    pub fn call(&mut self, rules: Rules, by: Member, call: &Call) -> Reply {
        if rules.fences && self.workers[usize::from(by)].fenced {
            return Reply::Fenced;
        }
        match call {
            Call::Beat => {
                self.workers[usize::from(by)].beat += 1;
                Reply::Done
            }
            Call::Fence(other, beat) => {
                let row = &mut self.workers[usize::from(*other)];
                row.fenced |= !rules.compares_beat || row.beat == *beat;
                Reply::Is(row.fenced)
            }
            Call::Free(other) => self.free(rules, *other),
            Call::Leave => {
                self.workers[usize::from(by)].fenced = true;
                self.give_back(by);
                Reply::Done
            }
            Call::Claim => self.claim(rules, by),
            Call::Reload if self.owner == Some(by) => self.take(by),
            Call::Reload => Reply::Nothing,
            Call::Turn(turn) => self.turn(rules, by, turn),
        }
    }

    fn free(&mut self, rules: Rules, other: Member) -> Reply {
        if rules.frees_the_fenced && !self.workers[usize::from(other)].fenced {
            return Reply::Refused;
        }
        Reply::Freed(self.give_back(other))
    }

    /// How many runs that were.
    fn give_back(&mut self, of: Member) -> u8 {
        if self.owner != Some(of) {
            return 0;
        }
        self.standing = if self.standing == Standing::Running { Standing::Pending } else { self.standing };
        (self.owner, self.due) = (None, true);
        1
    }

    fn claim(&mut self, rules: Rules, by: Member) -> Reply {
        let is_free = self.owner.is_none() && self.due;
        let is_open = self.standing != Standing::Completed;
        if is_free || (!rules.asks_owner && is_open) { self.take(by) } else { Reply::Nothing }
    }

    fn take(&mut self, by: Member) -> Reply {
        let (before, next) = (self.standing, self.next());
        self.owner = Some(by);
        self.due = false;
        if before != Standing::Stuck {
            self.standing = Standing::Running;
        }
        let row = &mut self.workers[usize::from(by)];
        row.loads += 1;
        row.gate = Some((row.loads, next));
        Reply::Claimed(row.loads, self.inbox_n, before)
    }

    fn turn(&mut self, rules: Rules, by: Member, turn: &Turn) -> Reply {
        let row = &mut self.workers[usize::from(by)];
        let mut next = match row.gate {
            Some((load, next)) if load == turn.load => next,
            _ if rules.gates_loads => return Reply::Refused,
            _ => turn.entries.first().map_or(0, |first| first.seq),
        };
        for entry in &turn.entries {
            if rules.gates_loads && entry.seq != next {
                row.gate = None;
                return Reply::Refused;
            }
            next += 1;
        }
        let known = match turn.end {
            Some(End::Finished(known) | End::Parked(known) | End::Stuck(known)) => Some(known),
            Some(End::GivenBack) | None => None,
        };
        if rules.compares_inbox && known.is_some_and(|known| known != self.inbox_n) {
            return Reply::Moved(self.inbox_n);
        }
        row.gate = turn.end.is_none().then_some((turn.load, next));
        self.journal.extend(&turn.entries);
        self.row = turn.mark.unwrap_or(self.row);
        self.inbox.retain(|n| Some(*n) != turn.takes);
        if let Some(end) = turn.end {
            self.end(end);
        }
        Reply::Durable(next)
    }

    fn end(&mut self, end: End) {
        self.owner = None;
        (self.standing, self.due) = match (end, self.standing) {
            (End::Finished(_), _) => (Standing::Completed, false),
            (End::Parked(_), _) => (Standing::Waiting, false),
            (End::Stuck(_), _) => (Standing::Stuck, false),
            // Not for a while, which here has no end.
            (End::GivenBack, Standing::Stuck) => (Standing::Stuck, false),
            (End::GivenBack, _) => (Standing::Pending, true),
        };
    }

    /// Puts a letter of this name into the inbox; whether it was acknowledged as new. With `revive` it is a person's.
    pub fn post(&mut self, rules: Rules, name: u8, revive: bool) -> Posted {
        if self.names.contains(&name) {
            return Posted::Known;
        }
        if self.standing == Standing::Completed {
            return Posted::TooLate;
        }
        if revive && self.owner.is_none() && self.standing == Standing::Stuck {
            self.standing = Standing::Pending;
        }
        self.inbox_n += 1;
        self.inbox.push(self.inbox_n);
        self.names.push(name);
        self.due |= rules.wakes && self.owner.is_none();
        Posted::Added
    }
}

impl Default for Content {
    fn default() -> Content {
        Content::new()
    }
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Posted {
    /// It is in the inbox.
    Added,
    /// It was there before.
    Known,
    /// The run is over.
    TooLate,
}
