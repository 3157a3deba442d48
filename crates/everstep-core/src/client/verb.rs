//! The table of what people do to runs: which verb is possible in which status, and what it does to what the run has.
//! Pure and total; the client asks it, the documentation prints it, a test walks it. To start a run is no verb of this
//! table.

use Allowed::{Already, Directly, Refused, ThroughInbox};

use crate::status::Status;

/// What people do to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// Sends a signal.
    Signal,
    /// Ends it.
    Cancel,
    /// Ends it at once.
    Kill,
    /// Answers for a step.
    Answer,
    /// Lets it go on from its failure.
    Retry,
    /// Sets it aside.
    Pause,
    /// Lets it go on that was set aside.
    Resume,
    /// Ends a timer or a backoff now.
    SkipWait,
    /// Replaces a step's result.
    Edit,
    /// Goes back to a step.
    Rewind,
    /// Starts another run with a part of its journal.
    Fork,
    /// Takes everything of it away.
    Delete,
}

/// Whether a verb is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// It is done at once, if the run is still as it was seen.
    Directly,
    /// It goes into the run's inbox, and whoever has the run, or takes it next, does it.
    ThroughInbox,
    /// There is nothing to do, which is no error.
    Already,
    /// It is an error, with this advice.
    Refused(&'static str),
}

/// What a verb does to what a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touches {
    /// The attempts of steps.
    pub attempts: &'static str,
    /// Their idempotency keys.
    pub idempotency_keys: &'static str,
    /// The run's children.
    pub children: &'static str,
    /// What is registered to be undone.
    pub undos: &'static str,
    /// Signals that the run has taken.
    pub signals: &'static str,
}

const KEEPS: Touches =
    Touches { attempts: "kept", idempotency_keys: "kept", children: "kept", undos: "kept", signals: "kept" };

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 12] = [
        Verb::Signal,
        Verb::Cancel,
        Verb::Kill,
        Verb::Answer,
        Verb::Retry,
        Verb::Pause,
        Verb::Resume,
        Verb::SkipWait,
        Verb::Edit,
        Verb::Rewind,
        Verb::Fork,
        Verb::Delete,
    ];

    /// Its word: the client's method.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Signal => "signal",
            Verb::Cancel => "cancel",
            Verb::Kill => "kill",
            Verb::Answer => "answer",
            Verb::Retry => "retry",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::SkipWait => "skip_wait",
            Verb::Edit => "edit",
            Verb::Rewind => "rewind",
            Verb::Fork => "fork",
            Verb::Delete => "delete",
        }
    }

    /// Whether it is possible for a run of this status. Some look at more than the status: `answer` wants a step that asks,
    /// `rewind`, `edit` and `fork` a step that is recorded, `delete` of a pending run one that has not begun.
    ///
    /// ```
    /// use everstep_core::{Allowed, Status, Verb};
    /// assert_eq!(Verb::Pause.on(Status::Running), Allowed::ThroughInbox);
    /// assert_eq!(Verb::Pause.on(Status::Waiting), Allowed::Directly);
    /// ```
    pub fn on(self, status: Status) -> Allowed {
        use Status as S;
        match (self, status) {
            (Verb::Signal, S::Completed | S::Failed | S::Cancelled) => {
                Refused("It is over, and nothing of it would take the signal")
            }
            (Verb::Signal, _) => ThroughInbox,

            (Verb::Cancel | Verb::Kill, S::Completed | S::Failed) => Refused("It is over"),
            (Verb::Cancel | Verb::Kill, S::Cancelled) => Already,
            (Verb::Cancel | Verb::Kill, _) => ThroughInbox,

            (Verb::Answer, S::Stuck) => ThroughInbox,
            (Verb::Answer, _) => Refused("Only a stuck run waits for an answer"),

            (Verb::Retry, S::Failed | S::Stuck) => Directly,
            (Verb::Retry, S::Paused) => Refused("Use `resume`"),
            (Verb::Retry, S::Completed | S::Cancelled) => Refused("It is over: `fork` it"),
            (Verb::Retry, S::Pending | S::Running | S::Waiting) => {
                Refused("It goes on by itself; `skip_wait` ends a backoff")
            }

            (Verb::Pause, S::Pending | S::Waiting | S::Stuck) => Directly,
            (Verb::Pause, S::Running) => ThroughInbox,
            (Verb::Pause, S::Paused) => Already,
            (Verb::Pause, S::Completed | S::Failed | S::Cancelled) => Refused("It is over"),

            (Verb::Resume, S::Paused) => Directly,
            (Verb::Resume, S::Running) => ThroughInbox,
            (Verb::Resume, S::Pending | S::Waiting) => Already,
            (Verb::Resume, S::Failed | S::Stuck) => Refused("It was not paused: use `retry`"),
            (Verb::Resume, S::Completed | S::Cancelled) => Refused("It is over: `fork` it"),

            (Verb::SkipWait, S::Running | S::Waiting) => ThroughInbox,
            (Verb::SkipWait, S::Pending) => {
                Refused("It waits for a worker, or for the time that its start named")
            }
            (Verb::SkipWait, S::Paused) => Refused("`resume` it first"),
            (Verb::SkipWait, S::Stuck) => Refused("It waits for a person: see why it is stuck"),
            (Verb::SkipWait, S::Completed | S::Failed | S::Cancelled) => Refused("It is over"),

            (Verb::Edit, S::Failed | S::Stuck | S::Paused) => Directly,
            (Verb::Edit, S::Pending | S::Running | S::Waiting) => Refused("`pause` it first"),
            (Verb::Edit, S::Completed | S::Cancelled) => Refused("It is over: `fork` it with another result"),

            (Verb::Rewind, S::Pending | S::Waiting | S::Failed | S::Stuck | S::Paused) => Directly,
            (Verb::Rewind, S::Running) => Refused("`pause` it first"),
            (Verb::Rewind, S::Completed | S::Cancelled) => {
                Refused("It is over, and others may have its outcome: `fork` it")
            }

            (Verb::Fork, _) => Directly,

            (Verb::Delete, S::Running) => Refused("`cancel` or `pause` it first"),
            (Verb::Delete, S::Waiting) => Refused("`cancel` or `pause` it first, or delete it by force"),
            (Verb::Delete, _) => Directly,
        }
    }

    /// What it does to what the run has.
    pub fn touches(self) -> Touches {
        match self {
            Verb::Signal => KEEPS,
            Verb::Cancel => Touches {
                attempts: "those that run may end within the grace, and are recorded",
                children: "cancelled, unless they were left",
                undos: "run, last first",
                ..KEEPS
            },
            Verb::Kill => Touches {
                attempts: "those that run are dropped",
                children: "cancelled, unless they were left",
                undos: "forgotten",
                ..KEEPS
            },
            Verb::Answer => Touches { attempts: "`retry`: counted anew", ..KEEPS },
            Verb::Retry => Touches { attempts: "of the step that failed: counted anew", ..KEEPS },
            Verb::Pause => Touches { attempts: "those that run end, and are recorded", ..KEEPS },
            Verb::Resume => KEEPS,
            Verb::SkipWait => Touches { attempts: "the next one is made now", ..KEEPS },
            Verb::Edit => Touches { attempts: "of the step: none follows", ..KEEPS },
            Verb::Rewind => Touches {
                attempts: "of steps from there on: counted anew",
                idempotency_keys: "of steps from there on: others",
                children: "those that were started from there on stay: the same start is the same child",
                undos: "of steps from there on: forgotten",
                signals: "from there on: taken again",
            },
            Verb::Fork => Touches {
                attempts: "the other run's: copied",
                idempotency_keys: "others",
                children: "of the run that was forked alone",
                undos: "of the run that was forked alone",
                signals: "those before the step: copied",
            },
            Verb::Delete => Touches {
                attempts: "gone",
                idempotency_keys: "gone",
                children: "kept",
                undos: "gone",
                signals: "gone",
            },
        }
    }
}
