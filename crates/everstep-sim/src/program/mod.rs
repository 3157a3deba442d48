//! Random workflow programs: what they are made of. `generate` makes them, `interpret` runs them on the engine, `outside`
//! their waits for what comes from outside; `reference` says what they may end with, `walk` which steps they take.

mod feature;
mod generate;
mod interpret;
mod outside;
mod place;
mod reference;
mod step;
mod structure;
mod walk;

pub use feature::Feature;
pub use generate::generate;
pub use interpret::{PROGRAM, interpret};
pub use outside::{ASK, Handed, LOG, PROGRESS, SIGNALS, STAND, answer_to};
pub use reference::{Expected, Out, expected};
use serde::{Deserialize, Serialize};
pub use step::{Policy, Step};

/// A program, or a part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Node {
    /// A step.
    Step(Step),
    /// A transactional step with this value, that adds a row.
    Transact(char, i64),
    /// A timer.
    Sleep(u64),
    /// Code that wakes itself so often before it goes on, as `FuturesUnordered` and others do.
    Yield(u32),
    /// A random number, the same on every replay.
    Draw,
    /// One after the other.
    Sequence(Vec<Node>),
    /// Side by side, all of them: `join!`.
    Join(Vec<Node>),
    /// Side by side, all of them: `FuturesUnordered`.
    Stream(Vec<Node>),
    /// Side by side, the first that is ready: `select!`.
    Race(Vec<Node>),
    /// So many times.
    Loop(u32, Box<Node>),
    /// In a name space of its own.
    Scope(Box<Node>),
    /// Or so many milliseconds.
    Timeout(u64, Box<Node>),
    /// An error becomes a value.
    Catch(Box<Node>),
    /// An error raised by the function itself.
    Raise(i64),
    /// The whole program returns early.
    Return(i64),
    /// Waits for the next signal of this name, by its number; which one it is, a checker judges.
    Signal(usize),
    /// Makes a promise, hands its token out in a step, and waits for it.
    Promise(Owed),
    /// Starts a child.
    Child(Box<Offspring>),
    /// Answers requests while this runs.
    Serve(Box<Node>),
    /// Tells its readers something.
    Tell(Telling),
    /// One body for each item, so many at a time.
    Map(Mapping),
    /// Retried as one.
    Block(Block),
    /// Registers what is to be done when the run is cancelled.
    OnCancel,
    /// The run begins anew as this program.
    Restart(Box<Node>),
    /// What a restart begins with: which generation it is, and its program.
    Generation(u32, Box<Node>),
}

/// A promise, and what its holder does with the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// What it is resolved or rejected with.
    pub value: i64,
    /// What is done.
    pub how: Kept,
    /// How long after its token was handed out.
    pub after_ms: u64,
    /// When it expires.
    pub expires_ms: Option<u64>,
}

/// What the holder of a token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// Resolves it.
    Resolves,
    /// Rejects it.
    Rejects,
    /// Nothing.
    Never,
}

/// A child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offspring {
    /// What it does.
    pub program: Node,
    /// Whether it outlives its parent.
    pub left: bool,
    /// Whether its outcome is awaited.
    pub awaited: bool,
    /// Whether its parent cancels it at once.
    pub cancelled: bool,
    /// What its parent does meanwhile.
    pub meanwhile: Node,
}

/// What a run tells its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Telling {
    /// A value that only grows.
    Publish,
    /// The next item of a stream.
    Emit,
    /// An attribute.
    Attribute,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// So many items at a time.
    pub limit: usize,
    /// When it has ended.
    pub goal: Goal,
    /// Its items.
    pub items: Vec<Node>,
}

/// When a map has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// All must succeed.
    All,
    /// All must end.
    Each,
    /// So many must succeed.
    AtLeast(usize),
}

/// A block that is retried as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// So many attempts there are at most.
    pub attempts: u32,
    /// So many of them fail at their end, with this error.
    pub fails: u32,
    /// What they fail with.
    pub value: i64,
    /// The pause between them.
    pub pause_ms: u64,
    /// What is retried.
    pub body: Box<Node>,
}

/// What two values in a row are together: the order shows.
pub fn mix(a: i64, b: i64) -> i64 {
    a.wrapping_mul(31).wrapping_add(b) & 0xffff_ffff
}

/// The value of what ran out of its time.
pub const OUT_OF_TIME: i64 = 7_777;
/// The value of a map that had enough successes.
pub const ENOUGH: i64 = 5_555;
/// What an attempt, or a run, that ran out of its time is as an error.
pub const TIMEOUT: i64 = -2;
/// What `Doubt::Fail` fails with.
pub const IN_DOUBT: i64 = -4;
/// What a cancelled child is to its parent.
pub const CANCELLED: i64 = -7;
/// What a person's "it failed" is.
pub const ANSWERED: i64 = -8;
/// What a rejected promise is.
pub const REJECTED: i64 = -9;
/// What an expired promise is.
pub const EXPIRED: i64 = -10;

impl Node {
    /// The parts of it that its own run goes through.
    pub fn parts(&self) -> Vec<&Node> {
        match self {
            Node::Sequence(all) | Node::Join(all) | Node::Stream(all) | Node::Race(all) => {
                all.iter().collect()
            }
            Node::Map(map) => map.items.iter().collect(),
            Node::Block(block) => vec![&block.body],
            Node::Child(child) => vec![&child.meanwhile],
            Node::Loop(_, body)
            | Node::Scope(body)
            | Node::Timeout(_, body)
            | Node::Catch(body)
            | Node::Serve(body)
            | Node::Restart(body)
            | Node::Generation(_, body) => vec![body],
            _ => Vec::new(),
        }
    }

    /// How many nodes it has, those of its children too.
    pub fn size(&self) -> usize {
        let child = match self {
            Node::Child(child) => child.program.size(),
            _ => 0,
        };
        1 + child + self.parts().into_iter().map(Node::size).sum::<usize>()
    }

    /// How many signals of a name it can take at most.
    pub fn signals(&self, name: usize) -> usize {
        let parts: usize = self.parts().into_iter().map(|part| part.signals(name)).sum();
        match self {
            Node::Signal(own) => usize::from(*own == name),
            Node::Loop(times, _) => parts * *times as usize,
            Node::Block(block) => parts * block.attempts as usize,
            _ => parts,
        }
    }

    /// Whether it, or a part of it, is so.
    pub fn any(&self, is: &dyn Fn(&Node) -> bool) -> bool {
        is(self) || self.parts().into_iter().any(|part| part.any(is))
    }

    /// What it is an example of, by itself.
    pub fn features(&self) -> Vec<Feature> {
        use Feature as F;
        let one = match self {
            Node::Step(step) => return step.features(),
            Node::Transact(..) => F::Transaction,
            Node::Sleep(_) => F::Timer,
            Node::Yield(_) => F::Yield,
            Node::Draw => F::Draw,
            Node::Sequence(all) if all.len() > 1 => F::Sequence,
            Node::Sequence(_) | Node::Generation(..) => return Vec::new(),
            Node::Join(_) => F::Join,
            Node::Stream(_) => F::Stream,
            Node::Race(_) => F::Race,
            Node::Loop(..) => F::Loop,
            Node::Scope(_) => F::Scope,
            Node::Timeout(..) => F::Timeout,
            Node::Catch(_) | Node::Raise(_) => F::Error,
            Node::Return(_) => F::Return,
            Node::Signal(_) => F::Signal,
            Node::Promise(owed) => return owed.features(),
            Node::Child(child) => return child.features(),
            Node::Serve(_) => F::Request,
            Node::Tell(Telling::Publish) => F::Publish,
            Node::Tell(Telling::Emit) => F::Emit,
            Node::Tell(Telling::Attribute) => F::Attribute,
            Node::Map(_) => F::Map,
            Node::Block(_) => F::Block,
            Node::OnCancel => F::OnCancel,
            Node::Restart(_) => F::Restart,
        };
        vec![one]
    }
}

impl Owed {
    fn features(self) -> Vec<Feature> {
        use Feature as F;
        let how = match self.how {
            Kept::Resolves => Some(F::Promise),
            Kept::Rejects => Some(F::Reject),
            Kept::Never => None,
        };
        how.into_iter().chain(self.expires_ms.map(|_| F::Expiry)).collect()
    }
}

impl Offspring {
    fn features(&self) -> Vec<Feature> {
        use Feature as F;
        let waits = if self.awaited { F::Child } else { F::Unawaited };
        let left = self.left.then_some(F::Left);
        let cancelled = self.cancelled.then_some(F::ChildCancel);
        [Some(waits), left, cancelled].into_iter().flatten().collect()
    }
}
