//! Where Everstep's own tests may kill, stop or fail a process, and which of its guards they may switch off. Without the
//! feature `failpoints`, which nobody but those tests turns on, all of it is nothing.
//!
//! Told from outside, by environment variables that are read once:
//! - `EVERSTEP_FAILPOINT=turn.sent:3:kill`: the third time somebody passes `turn.sent`, the process kills itself
//!   (`kill`), stops until it is told to go on (`stop`), or the call fails (`fail`, where a failpoint can). Several are
//!   separated by commas.
//! - `EVERSTEP_FAILPOINT_LOG=FILE`: each pass appends the failpoint's name to the file.
//! - `EVERSTEP_BREAK=fence`: a [`Guard`] is off.

mod guard;

#[cfg(feature = "failpoints")]
mod armed;

pub use guard::{Guard, broken};

macro_rules! failpoints {
    ($($(#[$doc:meta])+ $point:ident = $name:literal,)+) => {
        /// A boundary at which what is durable and what was promised may differ.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[$doc])+ $point,)+
        }

        impl Failpoint {
            /// All of them.
            pub const ALL: &'static [Failpoint] = &[$(Failpoint::$point),+];

            /// Its name outside.
            pub fn name(self) -> &'static str {
                match self {
                    $(Failpoint::$point => $name,)+
                }
            }
        }
    };
}

failpoints! {
    /// The database file was made, and is empty.
    FileMade = "file.made",
    /// A migration holds the lock, and has changed nothing.
    MigrationBegins = "migration.begins",
    /// A migration has changed everything, and nothing is committed. Can fail.
    MigrationDone = "migration.done",
    /// The schema is this version's.
    MigrationCommitted = "migration.committed",
    /// The log was made long enough, without syncs.
    LogWarmed = "log.warmed",
    /// The file is marked as open, in the log.
    FileMarked = "file.marked",
    /// The store is about to be handed out.
    StoreOpened = "store.opened",
    /// The log goes into the database.
    CheckpointBegins = "checkpoint.begins",
    /// The log is in the database.
    CheckpointDone = "checkpoint.done",
    /// The mark is taken away, in the log.
    FileUnmarked = "file.unmarked",
    /// The store was closed cleanly.
    StoreClosed = "store.closed",

    /// A transaction has its lock, and nothing is written. Can fail: somebody else writes.
    TransactionBegins = "transaction.begins",
    /// Everything is written, and nothing is committed. Can fail: the disk is full.
    TransactionWritten = "transaction.written",
    /// Everything is committed, and nobody knows. Can fail: nobody ever learns whether it was.
    TransactionCommitted = "transaction.committed",
    /// Everybody knows.
    TransactionAnswered = "transaction.answered",
    /// A user's transaction begins.
    JobBegins = "job.begins",
    /// A user's rows are written, and the step's record is not.
    JobDone = "job.done",
    /// A user's rows and the record are written.
    JobRecorded = "job.recorded",

    /// A start goes to the store. Can fail: nothing can be written now.
    StartSent = "start.sent",
    /// A start is durable, and its caller does not know.
    StartDurable = "start.durable",
    /// A started run has come to its worker.
    RunAdopted = "run.adopted",
    /// A message goes to the store. Can fail: nothing can be written now.
    LetterSent = "letter.sent",
    /// A message is durable, and its sender does not know.
    LetterDurable = "letter.durable",
    /// The worker knows who got messages, and they do not.
    LettersSeen = "letters.seen",

    /// A run is claimed, and not read yet. Can fail: it cannot be read.
    RunClaimed = "run.claimed",
    /// A run is read, and was not polled yet.
    RunRead = "run.read",
    /// Before a body.
    BodyBegins = "body.begins",
    /// After a body, before its record.
    BodyReturned = "body.returned",
    /// Before it is decided what becomes of an attempt in doubt.
    DoubtDecided = "doubt.decided",
    /// The function has failed or was dropped, and nothing is undone yet.
    UndoingBegins = "undoing.begins",
    /// A step's undo is to begin.
    UndoBegins = "undo.begins",
    /// A step is undone, and there is no record of it.
    UndoDone = "undo.done",
    /// Before a turn goes to the store.
    TurnSent = "turn.sent",
    /// A turn is durable, and its run does not know.
    TurnDurable = "turn.durable",
    /// The function is over or dropped, and the last turn is not sent.
    RunEnds = "run.ends",
    /// A run that waits is to leave memory.
    RunParks = "run.parks",
    /// A run is to be given back.
    RunGivenBack = "run.given_back",

    /// The lease is to be renewed. Can fail: nothing can be written now.
    BeatSent = "beat.sent",
    /// The lease is renewed, and the worker does not know. Can fail: it hears of an error.
    BeatDurable = "beat.durable",
    /// A dead worker is to be fenced. Can fail.
    TakeoverBegins = "takeover.begins",
    /// It is fenced, and still owns its runs.
    TakeoverFenced = "takeover.fenced",
    /// Its runs are free.
    TakeoverDone = "takeover.done",

    /// An engine is to stop.
    ShutdownBegins = "shutdown.begins",
    /// Nothing runs any more, and the worker has not left.
    ShutdownQuiet = "shutdown.quiet",
    /// The worker has left.
    ShutdownDone = "shutdown.done",
}

/// Passes a failpoint that cannot fail.
#[inline(always)]
pub fn pass(point: Failpoint) {
    let _ = fails(point);
}

/// Passes a failpoint; whether it is to fail.
#[inline(always)]
pub fn fails(point: Failpoint) -> bool {
    #[cfg(feature = "failpoints")]
    return armed::pass(point);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = point;
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_different() {
        let names: BTreeSet<_> = Failpoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
    }
}
