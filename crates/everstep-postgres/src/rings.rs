//! Whom to ring for after a commit.

use std::collections::BTreeSet;

use everstep_core::{
    Status,
    store::{Bell, Ended, RunId, WorkerId},
};

use crate::{hints::Hints, listen::Notices};

/// Whom to ring for after the commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rings {
    /// The first of what became claimable is due then.
    pub(crate) claimable: Option<i64>,
    /// Workers that have runs for which letters came.
    pub(crate) letters: BTreeSet<WorkerId>,
    /// Somebody may wait for what happened to a run.
    pub(crate) said: bool,
    /// Runs that were set aside; those that ended by a turn are told of by the turn.
    pub(crate) ended: Vec<(RunId, Status)>,
}

impl Rings {
    /// A run became claimable that is due at `at`.
    pub(crate) fn due(&mut self, at: i64) {
        self.claimable = Some(self.claimable.map_or(at, |first| first.min(at)));
    }

    pub(crate) fn add(&mut self, more: Rings) {
        more.claimable.into_iter().for_each(|at| self.due(at));
        self.letters.extend(more.letters);
        self.said |= more.said;
        self.ended.extend(more.ended);
    }

    /// Rings in this opening, and tells the others.
    pub(crate) fn ring(self, bell: &Bell, notices: &Notices) {
        if let Some(at) = self.claimable {
            notices.bounds.came(at);
            bell.ring_claimable();
        }
        if !self.letters.is_empty() {
            bell.ring_inbox();
        }
        for (run, status) in self.ended {
            bell.ring_ended(run, || Ended { status, outcome: None });
        }
        notices.tell(Hints { due: self.claimable.is_some(), said: self.said, letters: self.letters });
    }
}
