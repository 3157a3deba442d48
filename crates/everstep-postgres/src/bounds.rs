//! From where on claims look for due runs.
//!
//! The due index keeps an entry of each run that was claimed for as long as somebody's snapshot may see it, and for a while
//! after: whoever looks from its beginning passes them all. So a look begins where the last claim ended. What this opening
//! itself puts before that lowers the bound or has the runs that are due at once looked for; what others put there is
//! found by a look from the beginning. There is one now and then: each costs at most a part of the time, so that the
//! more is dead, the rarer they are, but one in [`HIDDEN_MAX`] always.
//!
//! In memory alone: a new opening looks from the beginning.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::HashMap;

use crate::stopwatch::Stopwatch;

/// A look from the beginning that takes no longer is made whenever a claim could take more than it has found.
const CHEAP: Duration = Duration::from_millis(5);
/// Of the time that passes, looks from the beginning may take one part in so many.
const PART: u32 = 20;
/// There is no look from the beginning sooner than this for no reason.
const HIDDEN_MIN: Duration = Duration::from_secs(1);
/// For so long, and the moment that one look takes, may a run that another opening made due be hidden from this one.
const HIDDEN_MAX: Duration = Duration::from_secs(10);

/// The bounds of one opening.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    of: Mutex<HashMap<Arc<str>, Bound>>,
    /// There are none: each look begins at the beginning.
    none: bool,
}

/// Of the runs of one workflow.
#[derive(Clone, Copy, Debug)]
struct Bound {
    from: i64,
    /// When there was a look from the beginning, and how long it took; `None`: one is owed.
    looked: Option<(Stopwatch, Duration)>,
    /// Runs may have become due at once.
    at_once: bool,
}

/// How a claim looks for runs of one workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// From the beginning.
    Whole,
    /// At those that are due at once, if so said, and then from this time on.
    From { at_once: bool, from: i64 },
}

impl Bounds {
    /// For who must find in each look whatever is there.
    pub(crate) fn none() -> Bounds {
        Bounds { none: true, ..Bounds::default() }
    }

    /// How the next claim is to look.
    pub(crate) fn look(&self, workflow: &str) -> Look {
        match self.lock().get(workflow) {
            Some(bound) if !bound.is_overdue() => Look::From { at_once: bound.at_once, from: bound.from },
            _ => Look::Whole,
        }
    }

    /// From where to read what is due.
    pub(crate) fn read_from(&self, workflow: &str) -> i64 {
        match self.lock().get(workflow) {
            Some(bound) if !bound.is_cheap() && !bound.is_overdue() => bound.from,
            _ => i64::MIN,
        }
    }

    /// Whether a claim that has found less than it could take is to look from the beginning too.
    pub(crate) fn may_look_again(&self, workflow: &str) -> bool {
        let of = self.lock();
        of.get(workflow).is_none_or(|bound| bound.is_cheap() || bound.since() >= bound.costs() * PART)
    }

    /// All runs were found that are due at once.
    pub(crate) fn took_at_once(&self, workflow: &str) {
        self.change(workflow, |bound| bound.at_once = false);
    }

    /// The latest of the runs that a claim found was due since `last`.
    pub(crate) fn took(&self, workflow: &str, last: i64) {
        self.change(workflow, |bound| bound.from = bound.from.max(last));
    }

    /// A look from the beginning took so long, and what it found was due until `last`.
    pub(crate) fn took_whole(&self, workflow: &Arc<str>, last: Option<i64>, took: Duration) {
        if self.none {
            return;
        }
        let mut of = self.lock();
        let before = of.get(workflow).map(|bound| bound.from);
        // Whatever is due is found in the order of times: nothing is left before the last one.
        let Some(from) = last.or(before) else { return };
        let looked = Some((Stopwatch::start(), took));
        of.insert(workflow.clone(), Bound { from, looked, at_once: false });
    }

    /// Such a look found nothing.
    pub(crate) fn saw_nothing(&self, workflow: &str, took: Duration) {
        self.change(workflow, |bound| bound.looked = Some((Stopwatch::start(), took)));
    }

    /// This opening has made runs due, of whatever workflow, the first of them at `at`.
    pub(crate) fn came(&self, at: i64) {
        for bound in self.lock().values_mut() {
            match at {
                ..=0 => bound.at_once = true,
                _ => bound.from = bound.from.min(at),
            }
        }
    }

    /// Others may have made runs due.
    pub(crate) fn heard(&self) {
        self.lock().values_mut().for_each(|bound| bound.at_once = true);
    }

    /// Nobody knows what is before the bounds.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn change(&self, workflow: &str, change: impl FnOnce(&mut Bound)) {
        if let Some(bound) = self.lock().get_mut(workflow) {
            change(bound);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Bound>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bound {
    fn since(&self) -> Duration {
        self.looked.map_or(Duration::MAX, |(at, _)| at.elapsed())
    }

    fn costs(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |(_, took)| took)
    }

    fn is_cheap(&self) -> bool {
        self.costs() < CHEAP
    }

    fn is_overdue(&self) -> bool {
        self.since() >= hidden_for(self.costs())
    }
}

/// For how long what is before a bound may stay unseen, if a look from the beginning costs so much.
fn hidden_for(costs: Duration) -> Duration {
    (costs * PART).clamp(HIDDEN_MIN, HIDDEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(1);

    fn at(from: i64, at_once: bool) -> Look {
        Look::From { at_once, from }
    }

    /// The last look from the beginning took long, and what it found last was due at 500.
    fn looked() -> (Bounds, Arc<str>) {
        let (bounds, name) = (Bounds::default(), Arc::<str>::from("flow"));
        bounds.took_whole(&name, Some(500), SLOW);
        (bounds, name)
    }

    #[test]
    fn the_first_look_is_from_the_beginning() {
        let bounds = Bounds::default();
        assert_eq!((bounds.look("flow"), bounds.read_from("flow")), (Look::Whole, i64::MIN));
        assert!(bounds.may_look_again("flow"));
    }

    #[test]
    fn a_look_begins_where_the_last_claim_ended() {
        let (bounds, name) = looked();
        assert_eq!((bounds.look(&name), bounds.read_from(&name)), (at(500, false), 500));
        bounds.took(&name, 800);
        assert_eq!((bounds.look(&name), bounds.read_from(&name)), (at(800, false), 800));
    }

    #[test]
    fn what_this_opening_makes_due_is_not_hidden() {
        let (bounds, name) = looked();
        bounds.came(300);
        assert_eq!(bounds.look(&name), at(300, false));
        bounds.came(900);
        assert_eq!(bounds.look(&name), at(300, false));
        bounds.came(0);
        assert_eq!(bounds.look(&name), at(300, true));
        bounds.took_at_once(&name);
        assert_eq!(bounds.look(&name), at(300, false));
    }

    #[test]
    fn after_a_hint_those_that_are_due_at_once_are_looked_for() {
        let (bounds, name) = looked();
        bounds.heard();
        assert_eq!(bounds.look(&name), at(500, true));
    }

    #[test]
    fn a_look_from_the_beginning_is_repeated_at_will_only_while_it_is_cheap() {
        let (bounds, name) = looked();
        assert!(!bounds.may_look_again(&name));
        bounds.took_whole(&name, None, CHEAP / 2);
        assert_eq!(bounds.look(&name), at(500, false));
        assert!(bounds.may_look_again(&name));
        assert_eq!(
            bounds.read_from(&name),
            i64::MIN,
            "nothing is hidden from who asks when something is due"
        );
    }

    #[test]
    fn a_claim_that_was_undone_hides_nothing() {
        let (bounds, name) = looked();
        bounds.forget();
        assert_eq!(bounds.look(&name), Look::Whole);
    }

    #[test]
    fn nothing_is_hidden_for_longer_than_was_said() {
        for costs in [0, 1, 49, 50, 499, 500, 60_000].map(Duration::from_millis) {
            let hidden = hidden_for(costs);
            assert!((HIDDEN_MIN..=HIDDEN_MAX).contains(&hidden), "{hidden:?}");
            assert!(hidden == HIDDEN_MAX || hidden >= costs * PART, "{hidden:?}");
        }
    }

    #[test]
    fn without_bounds_each_look_is_from_the_beginning() {
        let (bounds, name) = (Bounds::none(), Arc::<str>::from("flow"));
        bounds.took_whole(&name, Some(500), SLOW);
        assert_eq!((bounds.look(&name), bounds.read_from(&name)), (Look::Whole, i64::MIN));
    }
}
