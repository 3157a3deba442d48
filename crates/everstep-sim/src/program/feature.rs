//! What a program, or what comes to it, can be an example of: the rows of the matrix.

use serde::{Deserialize, Serialize};

/// What a program can be made of, and what people may do to its run, as the matrix counts it.
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
    /// A run that left memory while it waited.
    Park,
    /// A signal.
    Signal,
    /// A promise that is kept.
    Promise,
    /// A promise that is rejected.
    Reject,
    /// A promise that may expire.
    Expiry,
    /// A child whose outcome is awaited.
    Child,
    /// A child that nobody waits for.
    Unawaited,
    /// A child that outlives its parent.
    Left,
    /// A child that its parent cancels.
    ChildCancel,
    /// Requests that are answered.
    Request,
    /// A published value.
    Publish,
    /// Items of a stream.
    Emit,
    /// An attribute.
    Attribute,
    /// `ctx.map`, by every policy.
    Map,
    /// `ctx.retry_block`.
    Block,
    /// `step(..).undo(..)`.
    Undo,
    /// `ctx.on_cancel`.
    OnCancel,
    /// `ctx.restart`.
    Restart,
    /// A deadline of the run.
    Deadline,
    /// A kill.
    Kill,
    /// A pause, and going on.
    Pause,
    /// A person goes back.
    Rewind,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 40] = {
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
            F::Park,
            F::Signal,
            F::Promise,
            F::Reject,
            F::Expiry,
            F::Child,
            F::Unawaited,
            F::Left,
            F::ChildCancel,
            F::Request,
            F::Publish,
            F::Emit,
            F::Attribute,
            F::Map,
            F::Block,
            F::Undo,
            F::OnCancel,
            F::Restart,
            F::Deadline,
            F::Kill,
            F::Pause,
            F::Rewind,
        ]
    };
}
