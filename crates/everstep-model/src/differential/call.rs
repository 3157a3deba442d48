//! A call with everything in it, the same for every store; only the numbers of loads are each store's own.

use std::sync::Arc;

use everstep_conformance::Deed;
use everstep_core::store::{
    Act, Claim, Cut, Does, Doomed, Fence, Filter, LetterId, NewRun, Post, RunId, Turn, WorkerId,
};

/// A load, as its place in the list of all that were given; `None` is one that never was.
pub(super) type LoadAt = Option<usize>;

/// A call on one opening.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The opening's place in the list.
    pub(super) on: usize,
    pub(super) verb: Verb,
}

/// A verb with what it takes. The loads inside turns are set by each side.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    Open,
    Crash,
    Enroll,
    Beat(Fence),
    Workers,
    Fence(Fence, WorkerId, u64),
    Free(Fence, WorkerId, usize),
    Leave(Fence),
    Start(Option<Fence>, Vec<NewRun>),
    Claim(Fence, Claim),
    Reload(Fence, RunId),
    NextDue(Arc<[Arc<str>]>),
    Nudged(Fence),
    Commit(Fence, LoadAt, Turn),
    Transact(Fence, LoadAt, Job),
    Post(Post),
    Cut(Cut),
    Act(Does, Act),
    Delete(Vec<Doomed>),
    Run(Arc<str>),
    Find(Filter, Option<RunId>, usize),
    Load(RunId),
    Inbox(RunId, u64),
    Last(RunId),
    Stuck(RunId),
    Counts,
    Count(Filter, u64),
    Published(RunId, Arc<str>),
    PublishedAll(RunId, usize),
    Stream(RunId, Arc<str>, u64, usize),
    Attributes(RunId),
    Reply(RunId, LetterId),
    StreamNames(RunId),
    Acts(RunId, usize),
    Patches,
}

/// A transactional step.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) run: RunId,
    pub(super) key: Arc<str>,
    pub(super) deeds: Vec<Deed>,
    pub(super) withdrawn: bool,
    /// It was made for another store.
    pub(super) foreign: bool,
}

impl Verb {
    /// The run that it changes in more than its row, as far as can be told from the call.
    pub(super) fn touches(&self, number: impl Fn(&str) -> Option<RunId>) -> Option<RunId> {
        match self {
            Verb::Commit(_, _, turn) => Some(turn.run),
            Verb::Transact(_, _, job) => Some(job.run),
            Verb::Cut(cut) | Verb::Act(Does::Cut(cut), _) => Some(cut.run),
            Verb::Act(Does::Edit(edit), _) => Some(edit.run),
            Verb::Act(Does::Post(post) | Does::Pause(post), _) => post.to.run().and_then(|id| number(id)),
            Verb::Post(post) => post.to.run().and_then(|id| number(id)),
            _ => None,
        }
    }

    /// Whether nothing else may be on its way: what is not a write, or is several.
    pub(super) fn is_alone(&self) -> bool {
        match self {
            Verb::Open | Verb::Crash | Verb::Free(..) => true,
            Verb::Workers | Verb::NextDue(_) | Verb::Run(_) | Verb::Find(..) | Verb::Load(_) => true,
            Verb::Inbox(..) | Verb::Last(_) | Verb::Stuck(_) | Verb::Counts | Verb::Count(..) => true,
            Verb::Published(..) | Verb::PublishedAll(..) | Verb::Stream(..) | Verb::Attributes(_) => true,
            Verb::Reply(..) | Verb::StreamNames(_) | Verb::Acts(..) | Verb::Patches => true,
            Verb::Enroll | Verb::Beat(_) | Verb::Fence(..) | Verb::Leave(_) | Verb::Start(..) => false,
            Verb::Claim(..) | Verb::Reload(..) | Verb::Nudged(_) | Verb::Commit(..) => false,
            Verb::Transact(..) | Verb::Post(_) | Verb::Cut(_) | Verb::Act(..) | Verb::Delete(_) => false,
        }
    }
}
