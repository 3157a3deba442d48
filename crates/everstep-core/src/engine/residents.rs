//! The runs in memory: who is there, who is on the way, and what must not be forgotten about them meanwhile.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    driver::run::RunCore,
    store::RunId,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The runs in memory.
#[derive(Default)]
pub(crate) struct Residents(Mutex<State>);

#[derive(Default)]
struct State {
    runs: HashMap<RunId, Arc<RunCore>>,
    /// Places taken by runs on their way here.
    coming: usize,
    /// Who got messages while on the way. Forgotten when nobody is coming any more.
    nudged: HashSet<RunId>,
    /// How often turns of a run were refused, one load after the other.
    refused: HashMap<RunId, Refused>,
    /// Set when the engine leaves: whoever comes now is given back, at once or when no body runs.
    leaving: Option<bool>,
}

/// Refusals of one run without an entry between them.
#[derive(Default)]
struct Refused {
    times: u32,
    /// Its last entry at the last of them.
    last: Option<u64>,
}

impl Residents {
    /// Takes a place for `wanted` runs, of `max` in all; how many there were.
    pub(crate) fn reserve(&self, wanted: usize, max: usize) -> usize {
        let mut state = self.state();
        if state.leaving.is_some() {
            return 0;
        }
        let got = wanted.min(max.saturating_sub(state.runs.len() + state.coming));
        state.coming += got;
        got
    }

    /// Takes a place for a run that this worker has anyway.
    pub(crate) fn reserve_one(&self) {
        self.state().coming += 1;
    }

    /// Gives places back that nobody came for.
    pub(crate) fn unreserve(&self, count: usize) {
        self.state().arrived(count);
    }

    /// A run is here; its place was reserved. Tells it what came while it was on its way.
    pub(crate) fn enter(&self, core: &Arc<RunCore>) {
        let mut state = self.state();
        let run = core.claimed.row.run;
        core.nudge_if(state.nudged.remove(&run));
        state.arrived(1);
        state.runs.insert(run, core.clone());
        if let Some(at_once) = state.leaving {
            core.stop(at_once);
        }
    }

    /// This load of the run is over. Another one may be here already, and stays.
    pub(crate) fn leave(&self, core: &Arc<RunCore>) {
        let mut state = self.state();
        let run = core.claimed.row.run;
        if state.runs.get(&run).is_some_and(|here| Arc::ptr_eq(here, core)) {
            state.runs.remove(&run);
        }
    }

    /// Counts a refusal; how many there were in a row, as far as is known.
    pub(crate) fn refused(&self, run: RunId) -> u32 {
        let mut state = self.state();
        let refused = state.refused.entry(run).or_default();
        refused.times += 1;
        refused.times
    }

    /// The run was read after a refusal: how many there were in a row. An entry since the one before says that they are
    /// not in a row.
    pub(crate) fn refused_at(&self, run: RunId, last: u64) -> u32 {
        let mut state = self.state();
        let refused = state.refused.entry(run).or_default();
        if refused.last.is_some_and(|before| last > before) {
            refused.times = 1;
        }
        refused.last = Some(last);
        refused.times
    }

    /// A load of the run came to its end.
    pub(crate) fn accepted(&self, run: RunId) {
        let mut state = self.state();
        if !state.refused.is_empty() {
            state.refused.remove(&run);
        }
    }

    /// Lets the drivers of these runs read their inbox, at once or when they are here.
    pub(crate) fn nudge(&self, runs: Vec<RunId>) {
        let mut state = self.state();
        for run in runs {
            match state.runs.get(&run) {
                Some(core) => core.nudge(),
                None if state.coming > 0 => drop(state.nudged.insert(run)),
                // Its load ends just now: the end compares how many messages there are, and finds it.
                None => {}
            }
        }
    }

    /// Wakes `wanted` runs that only wait, the oldest first: they see that room is needed.
    pub(crate) fn press(&self, wanted: usize) {
        let mut idle = self.those(|core| core.news.is_idle());
        let oldest = |core: &Arc<RunCore>| core.claimed.row.run;
        if idle.len() > wanted {
            idle.select_nth_unstable_by_key(wanted, oldest);
            idle.truncate(wanted);
        }
        // In the order of the runs, not in a map's: a simulation must go the same way again.
        idle.sort_unstable_by_key(oldest);
        idle.iter().for_each(|core| core.root.wake_task());
    }

    /// The runs here of which it is so.
    pub(crate) fn those(&self, so: impl Fn(&RunCore) -> bool) -> Vec<Arc<RunCore>> {
        self.state().runs.values().filter(|core| so(core)).cloned().collect()
    }

    /// Tells all that the engine leaves.
    pub(crate) fn stop(&self, at_once: bool) {
        let mut state = self.state();
        state.leaving = Some(state.leaving.unwrap_or(false) | at_once);
        let mut cores: Vec<_> = state.runs.values().cloned().collect();
        drop(state);
        // In the order of the runs, not in a map's: a simulation must go the same way again.
        cores.sort_unstable_by_key(|core| core.claimed.row.run);
        cores.iter().for_each(|core| core.stop(at_once));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arrived(&mut self, count: usize) {
        self.coming -= count;
        if self.coming == 0 {
            self.nudged.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(7);

    fn remembered(residents: &Residents) -> bool {
        residents.state().nudged.contains(&RUN)
    }

    #[test]
    fn a_message_is_remembered_only_while_its_run_may_be_on_the_way() {
        let residents = Residents::default();
        residents.nudge(vec![RUN]);
        assert!(!remembered(&residents), "nobody is coming");
        assert_eq!(residents.reserve(2, 9), 2);
        residents.nudge(vec![RUN]);
        residents.unreserve(1);
        assert!(remembered(&residents), "one is still coming");
        residents.unreserve(1);
        assert!(!remembered(&residents));
    }

    #[test]
    fn places_are_given_up_to_the_bound_and_to_nobody_once_the_engine_leaves() {
        let residents = Residents::default();
        assert_eq!((residents.reserve(2, 3), residents.reserve(2, 3), residents.reserve(2, 3)), (2, 1, 0));
        residents.unreserve(2);
        assert_eq!(residents.reserve(9, 3), 2);
        residents.unreserve(3);
        residents.stop(false);
        assert_eq!(residents.reserve(1, 3), 0);
    }

    #[test]
    fn refusals_count_until_a_load_comes_to_its_end() {
        let residents = Residents::default();
        assert_eq!((residents.refused(RUN), residents.refused(RUN), residents.refused(RunId(8))), (1, 2, 1));
        residents.accepted(RUN);
        assert_eq!((residents.refused(RUN), residents.refused(RunId(8))), (1, 2));
    }

    #[test]
    fn whoever_is_to_leave_at_once_is_not_told_to_take_its_time() {
        let residents = Residents::default();
        let told = |at_once| {
            residents.stop(at_once);
            residents.state().leaving
        };
        assert_eq!([false, true, true, false].map(told), [false, true, true, true].map(Some));
        let residents = Residents::default();
        residents.stop(true);
        assert_eq!(residents.state().leaving, Some(true));
    }
}
