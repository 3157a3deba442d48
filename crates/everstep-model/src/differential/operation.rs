//! An operation as it is drawn: everything in it is relative to what there is when its time comes, so that a stream
//! keeps its sense when some of it is left out.

use everstep_core::Status;

use super::people::{Cutting, Deed, Sending};

/// One of those there are, counted from the first, round and round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nth(pub usize);

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// One that was not fenced and whose opening is there.
    Live(Nth),
    /// Any that ever was.
    Any(Nth),
    /// One that never was.
    Nobody,
}

/// Which load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// One that has not ended, as far as is known.
    Open(Nth),
    /// Any that ever was.
    Any(Nth),
    /// A number that was never given, of the run of another.
    Never(Nth),
}

/// In whose name, and where, a load is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// By its worker, on its opening.
    Itself,
    /// By another worker.
    Worker(Who),
    /// On another opening.
    Opening(Nth),
    /// For another run.
    Run(Nth),
}

/// A point in time, in steps from the beginning of the story; there are some odd ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This step.
    At(i64),
    /// At once, as stores write it.
    Zero,
    /// Before 1970.
    Before,
    /// Never.
    Never,
}

/// How something compares with what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// It is right.
    Right,
    /// One less.
    Less,
    /// One more.
    More,
    /// As much as can be.
    Most,
}

/// A run to be started: its id, workflow, and whether its worker takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Which id of the pool.
    pub id: usize,
    /// Which workflow of the pool.
    pub workflow: usize,
    /// When it is due.
    pub due: When,
    /// Whether it is taken at once.
    pub claim: bool,
    /// Its first entry has this number.
    pub seq: u64,
    /// What its payload is like.
    pub flavour: usize,
    /// A run of its id that is over in one of these statuses gives its place to it.
    pub reuse: u8,
    /// What is in its inbox from the beginning, and what kinds of letters.
    pub letters: Vec<(usize, u16)>,
    /// Its attributes from the beginning.
    pub attributes: Vec<(usize, usize)>,
    /// Of a fork: how many entries it begins with besides, and whether the first is the next.
    pub forked: Option<(usize, Against)>,
}

/// What a turn does to inbox numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    None,
    /// The first letter that is there.
    First,
    /// All that are there.
    All,
    /// What is not there.
    Absent,
}

/// A started row: set or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marking {
    /// Which key of the pool.
    pub key: usize,
    /// `None` clears it; else the attempt, and whether it was abandoned.
    pub started: Option<(u32, bool)>,
}

/// What a turn tells readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// A value under a name of the pool, with what its payload is like.
    Publishes(usize, usize),
    /// An item of a stream of the pool, what its number is like, and its payload.
    Emits(usize, Against, usize),
    /// An attribute of the pool gets a value of the pool, or goes.
    Sets(usize, Option<usize>),
    /// A promise of the pool, under a key of the pool, and whether it expires.
    Promises(usize, usize, bool),
    /// An answer to a letter of the pool.
    Answers(usize, usize),
}

/// How a turn ends its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Over, with this status, which may be none.
    Finished(Status),
    /// Waits.
    Parked(Option<When>),
    /// Needs a person, for this reason of the list.
    Stuck(usize),
    /// Set aside.
    Paused,
    /// For anybody.
    GivenBack(When),
    /// The next generation, and what its first payload is like.
    Restarted(usize),
}

/// A turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turning {
    /// How many entries.
    pub entries: usize,
    /// What the first one's number is like.
    pub from: Against,
    /// Whether there is a gap in the middle.
    pub gap: bool,
    /// What its payloads are like.
    pub flavour: usize,
    /// Started rows.
    pub marks: Vec<Marking>,
    /// Letters.
    pub takes: Takes,
    /// What readers are told.
    pub says: Vec<Saying>,
    /// How it ends.
    pub end: Option<Ending>,
    /// What the inbox count of the end is like.
    pub inbox: Against,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Writes some rows.
    Writes(usize),
    /// Writes a row and fails.
    Fails,
    /// Writes a row and panics.
    Panics,
    /// Was withdrawn.
    Withdrawn,
    /// Was made for another store.
    Foreign,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which filter of the pool.
    pub filter: usize,
    /// From before this run on.
    pub before: Option<i64>,
    /// How many.
    pub limit: usize,
}

/// One call, or what happens to an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the verbs of the trait, with what each takes")]
pub enum Operation {
    /// The content is opened once more.
    Open,
    /// An opening goes without a word.
    Crash(Nth),
    Enroll {
        on: Nth,
    },
    Beat {
        who: Who,
        on: Nth,
    },
    Workers {
        on: Nth,
    },
    Fence {
        by: Who,
        other: Who,
        beat: Against,
        on: Nth,
    },
    /// Until nothing is left, because which runs go first is not said.
    Free {
        by: Who,
        other: Who,
        limit: usize,
        on: Nth,
    },
    Leave {
        who: Who,
        on: Nth,
    },
    Start {
        by: Option<Who>,
        runs: Vec<Begin>,
        on: Nth,
    },
    Claim {
        by: Who,
        workflows: Vec<usize>,
        due: When,
        limit: usize,
    },
    Reload {
        by: Who,
        run: i64,
    },
    NextDue {
        workflows: Vec<usize>,
        on: Nth,
    },
    Nudged {
        by: Who,
    },
    Commit {
        load: Which,
        by: As,
        turn: Turning,
    },
    Transact {
        load: Which,
        by: As,
        key: usize,
        doing: Doing,
    },
    Post {
        what: Sending,
        on: Nth,
    },
    Cut {
        what: Cutting,
        on: Nth,
    },
    Act {
        does: Deed,
        on: Nth,
    },
    /// Whoever has the token of a promise of the pool settles it.
    Settle {
        promise: usize,
        id: usize,
        kind: u16,
        late: bool,
        only: u8,
        on: Nth,
    },
    Delete {
        runs: Vec<(i64, Against)>,
        on: Nth,
    },
    Run {
        id: usize,
        on: Nth,
    },
    Find {
        what: Finding,
        on: Nth,
    },
    Load {
        run: i64,
        on: Nth,
    },
    Inbox {
        run: i64,
        after: u64,
        on: Nth,
    },
    Last {
        run: i64,
        on: Nth,
    },
    Stuck {
        run: i64,
        on: Nth,
    },
    Counts {
        on: Nth,
    },
    Count {
        filter: usize,
        at_most: u64,
        on: Nth,
    },
    Published {
        run: i64,
        name: usize,
        on: Nth,
    },
    PublishedAll {
        run: i64,
        limit: usize,
        on: Nth,
    },
    Stream {
        run: i64,
        name: usize,
        from: u64,
        limit: usize,
        on: Nth,
    },
    Attributes {
        run: i64,
        on: Nth,
    },
    Reply {
        run: i64,
        id: usize,
        on: Nth,
    },
    StreamNames {
        run: i64,
        on: Nth,
    },
    Acts {
        run: i64,
        limit: usize,
        on: Nth,
    },
    Patches {
        on: Nth,
    },
}

/// An operation and when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub what: Operation,
    /// Without waiting for the answer of the one before.
    pub at_once: bool,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.at_once { "and at once" } else { "" };
        write!(f, "{how:>11} {:?}", self.what)
    }
}
