//! Random workflow programs: what they are made of. `generate` makes them, `interpret` runs them on the engine,
//! `reference` says what they may end with.

mod generate;
mod interpret;
mod reference;

pub use generate::generate;
pub use interpret::{PROGRAM, interpret};
pub use reference::{Expected, Out, expected};
use serde::{Deserialize, Serialize};

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
}

/// A step: what its attempts do, and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: char,
    /// The value that it returns in the end; what it fails with is the same number.
    pub value: i64,
    /// How long a body takes.
    pub ms: u64,
    /// So many attempts fail.
    pub fails: u32,
    /// So many attempts never return.
    pub hangs: u32,
    /// The failure stops the retries.
    pub terminal: bool,
    /// So many attempts there are at most.
    pub attempts: u32,
    /// The pause between them.
    pub pause_ms: u64,
    /// How long an attempt may take.
    pub limit_ms: Option<u64>,
    /// Whether its error is kept whole.
    pub typed: bool,
    /// Whether it says what its input is.
    pub input: bool,
    /// What becomes of an attempt in doubt.
    pub doubt: Policy,
}

/// What a step does about an attempt in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Policy {
    /// Makes it again.
    Retry,
    /// Fails.
    Fail,
    /// Asks a person.
    Ask,
    /// Looks.
    Verify,
}

/// What a program can be made of, as the matrix counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feature {
    /// Steps one after the other.
    Sequence,
    /// `join!`.
    Join,
    /// `FuturesUnordered`.
    Stream,
    /// `select!`.
    Race,
    /// A loop.
    Loop,
    /// A scope.
    Scope,
    /// Failed attempts and their repetition.
    Retry,
    /// An error that goes through the function, typed or not.
    Error,
    /// An early return.
    Return,
    /// `Doubt::Fail`.
    DoubtFail,
    /// `Doubt::Ask`.
    DoubtAsk,
    /// `verify`.
    Verify,
    /// A transactional step.
    Transaction,
    /// A timer.
    Timer,
    /// `ctx.timeout`, and limits of attempts.
    Timeout,
    /// Code that wakes itself.
    Yield,
    /// Free values.
    Draw,
    /// A cancel from outside.
    Cancel,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 18] = {
        use Feature as F;
        [
            F::Sequence,
            F::Join,
            F::Stream,
            F::Race,
            F::Loop,
            F::Scope,
            F::Retry,
            F::Error,
            F::Return,
            F::DoubtFail,
            F::DoubtAsk,
            F::Verify,
            F::Transaction,
            F::Timer,
            F::Timeout,
            F::Yield,
            F::Draw,
            F::Cancel,
        ]
    };
}

/// What two values in a row are together: the order shows.
pub fn mix(a: i64, b: i64) -> i64 {
    a.wrapping_mul(31).wrapping_add(b) & 0xffff_ffff
}

/// The value of what ran out of its time.
pub const OUT_OF_TIME: i64 = 7_777;
/// What an attempt that ran out of its time is as an error.
pub const TIMEOUT: i64 = -2;
/// What `Doubt::Fail` fails with.
pub const IN_DOUBT: i64 = -4;
/// What a person's "it failed" is.
pub const ANSWERED: i64 = -8;

impl Node {
    /// The parts of it.
    pub fn parts(&self) -> Vec<&Node> {
        match self {
            Node::Sequence(all) | Node::Join(all) | Node::Stream(all) | Node::Race(all) => {
                all.iter().collect()
            }
            Node::Loop(_, body) | Node::Scope(body) | Node::Timeout(_, body) | Node::Catch(body) => {
                vec![body]
            }
            _ => Vec::new(),
        }
    }

    /// How many nodes it has.
    pub fn size(&self) -> usize {
        1 + self.parts().into_iter().map(Node::size).sum::<usize>()
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
            Node::Sequence(_) => return Vec::new(),
            Node::Join(_) => F::Join,
            Node::Stream(_) => F::Stream,
            Node::Race(_) => F::Race,
            Node::Loop(..) => F::Loop,
            Node::Scope(_) => F::Scope,
            Node::Timeout(..) => F::Timeout,
            Node::Catch(_) | Node::Raise(_) => F::Error,
            Node::Return(_) => F::Return,
        };
        vec![one]
    }
}

impl Step {
    fn features(&self) -> Vec<Feature> {
        use Feature as F;
        let doubt = match self.doubt {
            Policy::Retry => None,
            Policy::Fail => Some(F::DoubtFail),
            Policy::Ask => Some(F::DoubtAsk),
            Policy::Verify => Some(F::Verify),
        };
        let retries = (self.attempts > 1 && self.fails > 0).then_some(F::Retry);
        let fails = (self.fails >= self.attempts).then_some(F::Error);
        let times_out = self.limit_ms.map(|_| F::Timeout);
        [doubt, retries, fails, times_out].into_iter().flatten().collect()
    }
}
