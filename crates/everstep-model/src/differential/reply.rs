//! What a store answers, without what may differ between stores: texts of errors, numbers of loads, the names of
//! records in inboxes, and whether a process is known to be dead.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Status, Stuck, Timestamp,
    journal::{Entry, Payload},
    store::{
        Act, Acted, Letter, LetterId, LetterKind, Loaded, PatchRow, Posted, PublishedRow, Received, RunId,
        RunRow, Settled, Started, StartedRow, StoreError, StreamRow, Transacted, WorkerId, WorkerSeen,
    },
};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Done,
    Is(bool),
    /// How many runs each call freed.
    Freed(Vec<usize>),
    Enrolled(WorkerId),
    Workers(Vec<WorkerSeen>),
    Started(Vec<Start>, Vec<(RunRow, Entry)>),
    Claimed(Vec<RunRow>),
    Reloaded(Option<RunRow>),
    Due(Option<Timestamp>),
    Nudged(Vec<RunId>),
    Durable(u64),
    Moved(u64),
    Recorded(u64, Payload),
    RolledBack,
    Posted(Posted),
    Row(Option<RunRow>),
    Rows(Vec<RunRow>),
    Loaded(Whole),
    Letters(Vec<Received>),
    Entry(Option<Entry>),
    Stuck(Option<Stuck>),
    Counts(Vec<(Arc<str>, Status, u64)>),
    Counted(u64),
    Published(Option<PublishedRow>),
    PublishedAll(Vec<PublishedRow>),
    Items(Vec<StreamRow>),
    Attributes(Vec<(Arc<str>, AttributeValue)>),
    Acted(Acted),
    /// What became of each of several.
    Each(Vec<bool>),
    Answer(Option<Payload>),
    Names(Vec<Arc<str>>),
    Acts(Vec<Act>),
    Patches(Vec<PatchRow>),
    Fenced(WorkerId),
    Failed(Failure),
}

/// A run as it is read whole.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Whole {
    pub(super) entries: Vec<Entry>,
    pub(super) inbox: Vec<Received>,
    pub(super) started: Vec<StartedRow>,
}

/// What became of one start.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Start {
    New(RunId),
    Known(Box<(RunRow, Entry)>),
}

/// The kinds of errors beside [`Reply::Fenced`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Unusable,
    Damaged,
    Full,
    Closed,
    Other,
}

impl Reply {
    /// The answer that `well` makes of a value.
    pub(super) fn of<T>(answer: Result<T, StoreError>, well: impl FnOnce(T) -> Reply) -> Reply {
        answer.map_or_else(|error| Reply::error(&error), well)
    }

    fn error(error: &StoreError) -> Reply {
        Reply::Failed(match error {
            StoreError::Fenced(worker) => return Reply::Fenced(*worker),
            StoreError::Refused(_) => Failure::Refused,
            StoreError::Unusable(_) => Failure::Unusable,
            StoreError::Damaged(_) => Failure::Damaged,
            StoreError::Full(_) => Failure::Full,
            StoreError::Closed(_) => Failure::Closed,
            _ => Failure::Other,
        })
    }

    pub(super) fn settled(settled: Settled) -> Reply {
        match settled {
            Settled::Durable { next } => Reply::Durable(next),
            Settled::Moved { inbox_n } => Reply::Moved(inbox_n),
            Settled::Refused(error) => Reply::error(&error),
        }
    }

    pub(super) fn transacted(done: Transacted) -> Reply {
        match done {
            Transacted::Committed { n, body } => Reply::Recorded(n, body),
            Transacted::RolledBack(_) => Reply::RolledBack,
        }
    }

    /// In whatever order a store told them.
    pub(super) fn nudged(mut runs: Vec<RunId>) -> Reply {
        runs.sort();
        Reply::Nudged(runs)
    }

    pub(super) fn counts(mut counts: Vec<(Arc<str>, Status, u64)>) -> Reply {
        counts.sort();
        Reply::Counts(counts)
    }

    pub(super) fn workers(seen: Vec<WorkerSeen>) -> Reply {
        let mut seen: Vec<_> = seen.into_iter().map(|worker| WorkerSeen { gone: false, ..worker }).collect();
        seen.sort_by_key(|worker| worker.worker);
        Reply::Workers(seen)
    }

    pub(super) fn letters(inbox: Vec<Received>) -> Reply {
        Reply::Letters(nameless_records(inbox))
    }
}

impl Whole {
    pub(super) fn of(loaded: Loaded) -> Whole {
        let Loaded { entries, inbox, started } = loaded;
        Whole { entries, inbox: nameless_records(inbox), started }
    }
}

impl Start {
    pub(super) fn of(started: Started) -> Start {
        match started {
            Started::New(run) => Start::New(run),
            Started::Known(row, first) => Start::Known(Box::new((*row, *first))),
        }
    }
}

/// A record's name is its store's own affair: nobody looks for it.
fn nameless_records(inbox: Vec<Received>) -> Vec<Received> {
    let nameless = |letter: Letter| match letter.kind == LetterKind::Recorded as u16 {
        true => Letter { id: LetterId(0), ..letter },
        false => letter,
    };
    inbox.into_iter().map(|Received { n, letter }| Received { n, letter: nameless(letter) }).collect()
}
