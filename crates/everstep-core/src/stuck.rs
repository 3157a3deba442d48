//! Why a run needs a person: a closed list.

use std::fmt;

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum StuckReason {
    /// The code asked for something else than the journal holds.
    Diverged = 1,
    /// An undo failed.
    UndoFailed = 2,
    /// An attempt was started and its end is unknown; its step asks a person.
    InDoubt = 3,
    /// The workflow function panicked.
    Panicked = 4,
    /// Its worker died again and again while it was inside a step.
    CrashesWorker = 5,
    /// A step used up its retries and asks a person (`then_stuck`).
    RetriesSpent = 6,
    /// A record does not decode as the type that the code asks for.
    Undecodable = 7,
    /// The journal has a gap, or lost its end.
    JournalDamaged = 8,
    /// The function waits for something that is not durable.
    WaitsForNothing = 9,
}

impl StuckReason {
    /// All of them.
    pub const ALL: [StuckReason; 9] = [
        StuckReason::Diverged,
        StuckReason::UndoFailed,
        StuckReason::InDoubt,
        StuckReason::Panicked,
        StuckReason::CrashesWorker,
        StuckReason::RetriesSpent,
        StuckReason::Undecodable,
        StuckReason::JournalDamaged,
        StuckReason::WaitsForNothing,
    ];

    /// Whether other code might have gone on.
    pub(crate) fn is_of_code(self) -> bool {
        matches!(self, StuckReason::Diverged | StuckReason::Panicked | StuckReason::Undecodable)
    }

    /// The number that stores keep.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a stored number.
    pub fn from_code(code: u8) -> Option<StuckReason> {
        StuckReason::ALL.into_iter().find(|r| r.code() == code)
    }

    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            StuckReason::Diverged => "diverged",
            StuckReason::UndoFailed => "undo failed",
            StuckReason::InDoubt => "in doubt",
            StuckReason::Panicked => "panicked",
            StuckReason::CrashesWorker => "crashes its worker",
            StuckReason::RetriesSpent => "retries spent",
            StuckReason::Undecodable => "undecodable record",
            StuckReason::JournalDamaged => "journal damaged",
            StuckReason::WaitsForNothing => "waits for nothing durable",
        }
    }

    /// The verbs that lead out of it.
    pub fn way_out(self) -> &'static str {
        match self {
            StuckReason::Diverged => {
                "run the code that wrote the journal, or mend the code so that it asks for the same again, then `retry`; or `cancel`"
            }
            StuckReason::UndoFailed => {
                "mend the cause, then `retry`; or undo it by hand, then `answer` with done; or `kill`"
            }
            StuckReason::Panicked => "mend the code, then `retry`; or `cancel`",
            StuckReason::InDoubt => {
                "look whether the effect happened, then `answer` with done, retry or fail; or `cancel`"
            }
            StuckReason::CrashesWorker => "find what kills the process, then `retry`; or `cancel`",
            StuckReason::RetriesSpent => "mend the cause, then `retry`; or `answer`; or `cancel`",
            StuckReason::Undecodable => {
                "make the type read what was recorded (serde's `default`, `alias`), then `retry`; or `cancel`"
            }
            StuckReason::JournalDamaged => "restore the database from a backup; or `cancel`",
            StuckReason::WaitsForNothing => {
                "wait for a step, timer or signal instead of a channel or a task, then `retry`; or `cancel`"
            }
        }
    }
}

impl fmt::Display for StuckReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Why a run is stuck, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// One of the closed list.
    pub reason: StuckReason,
    /// The key of the step it is about, if it is about one.
    pub key: Option<std::sync::Arc<str>>,
    /// What happened, in full.
    pub detail: String,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. What helps: {}", self.reason, self.detail, self.reason.way_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_numbers_and_words() {
        let table = StuckReason::ALL.map(|reason| format!("{} {reason}", reason.code()));
        assert_eq!(
            table.join("\n"),
            "\
1 diverged
2 undo failed
3 in doubt
4 panicked
5 crashes its worker
6 retries spent
7 undecodable record
8 journal damaged
9 waits for nothing durable"
        );
        for reason in StuckReason::ALL {
            assert_eq!(StuckReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!((StuckReason::from_code(0), StuckReason::from_code(10)), (None, None));
    }
}
