//! What can go wrong in the world.

use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// A process is killed: anywhere, between any two calls, inside a body.
    Crash,
    /// A process is stopped for longer than its lease, or shorter, and goes on.
    Stop,
    /// A process shuts down in peace, and another starts.
    Shutdown,
    /// A machine's time of day is wrong, or jumps.
    Clock,
    /// Calls wait before they are applied, answers before they arrive.
    Late,
    /// A call is applied, and its answer never comes, or comes as an error.
    Lost,
    /// A call is made twice.
    Doubled,
    /// A commit is applied, or not, and nobody knows: the opening is over.
    Unknown,
    /// A turn is refused for good: its run is read anew.
    Refused,
    /// The disk is full for a while.
    Full,
    /// Bells ring and tasks are woken for nothing.
    Spurious,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Crash,
        Fault::Stop,
        Fault::Shutdown,
        Fault::Clock,
        Fault::Late,
        Fault::Lost,
        Fault::Doubled,
        Fault::Unknown,
        Fault::Refused,
        Fault::Full,
        Fault::Spurious,
    ];
}
