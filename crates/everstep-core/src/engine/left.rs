//! Runs that this code cannot go on with while a worker lives whose build wrote their newest entries: they are left to it.
//! A deploy that rolls forward, or back, has both builds at work for a while.
//!
//! Absent on purpose: who of the others takes it. A claim does not ask for builds; whoever has left a run lets others go
//! first for a moment, and leaves it again if it comes back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{event::Event, worker::Worker};
use crate::{
    journal::Entry,
    store::{Claimed, End, Loaded, StoreError},
    stuck::Stuck,
};

/// How long a run is left alone: each vain try costs a replay, and a deploy takes minutes.
const LEAVE: Duration = Duration::from_secs(1);
/// How much later than others a worker looks for what is due after it has left a run: more than a claim takes.
const HEAD_START: Duration = Duration::from_millis(150);
/// For how long it does so after the last one.
const YIELDS: Duration = Duration::from_secs(10);

impl Worker {
    /// Whether the newest entry is of another build. A check asks what this code does, and leaves nothing.
    pub(crate) fn is_of_another_build(&self, entries: &[Entry]) -> bool {
        !self.checks && entries.last().is_some_and(|newest| newest.build != self.build)
    }

    /// A run that was read and that this code cannot begin.
    pub(super) fn settle_unfit(self: &Arc<Self>, claimed: &Claimed, loaded: &Loaded, stuck: Stuck) {
        if !self.is_of_another_build(&loaded.entries) {
            return self.settle_stuck(claimed, loaded, stuck);
        }
        let (worker, claimed) = (self.clone(), claimed.clone());
        self.spawn(async move { worker.leave_or_settle(&claimed, stuck).await });
    }

    /// A run whose newest entries are of another build and that this code cannot go on with: left to that build while a
    /// worker of it lives, stuck otherwise.
    pub(super) async fn leave_or_settle(self: &Arc<Self>, claimed: &Claimed, stuck: Stuck) {
        match self.living_build(claimed).await {
            Ok(None) => self.read_and_settle(claimed, stuck).await,
            Ok(Some(build)) => self.leave_to_build(claimed, build, &stuck),
            Err(error) => self.settle_unread(claimed, error),
        }
    }

    /// The build of its newest entry, if another worker of that build lives.
    async fn living_build(&self, claimed: &Claimed) -> Result<Option<Arc<str>>, StoreError> {
        let Some(newest) = self.store.last(claimed.row.run).await? else { return Ok(None) };
        let others = self.store.workers().await?;
        let mut others = others.iter().filter(|other| other.worker != self.fence.worker);
        let lives = others.any(|other| other.build == newest.build && !other.fenced && !other.gone);
        Ok(lives.then_some(newest.build))
    }

    fn leave_to_build(self: &Arc<Self>, claimed: &Claimed, build: Arc<str>, stuck: &Stuck) {
        tracing::info!(run = %claimed.row.id, %build, %stuck, "this code cannot go on with a run: it is left to a worker of its build");
        let until = self.age() + YIELDS.as_millis() as u64;
        self.others_first.fetch_max(until, Ordering::AcqRel);
        let end = End::GivenBack { wake_at: self.clock.now().after(LEAVE) };
        let event = Event::LeftToBuild { run: claimed.row.id.clone(), build };
        self.settle(claimed, Default::default(), (end, Some(event)));
    }

    /// How much later than others it looks for what is due.
    pub(super) fn head_start_of_others(&self) -> Duration {
        let yields = self.age() < self.others_first.load(Ordering::Acquire);
        if yields { HEAD_START } else { Duration::ZERO }
    }
}
