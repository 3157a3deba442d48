//! From where on claims look for due runs.
//!
//! The due index keeps an entry of each run that was claimed for as long as somebody's snapshot may see it, and for a while
//! after: whoever looks from its beginning passes them all. So a look begins where the last claim ended. What this opening
//! itself puts before that lowers the bound or has the runs that are due at once looked for; what others put there is
//! found by a look from the beginning. There is one whenever a claim could take more, as long as such looks take no more than
//! a part of the time, all together: the more is dead, the rarer they are, but one in [`HIDDEN_MAX`] always.
//!
//! Letters make runs due at once, before all times, and so does whoever gives runs back, in one place of the index: what
//! they leave there is passed over in the same way. For that they say in negative numbers when they came ([`AT_ONCE`]), and
//! looks begin a moment before the last that was found ([`LATE`]), because what came earlier may have been committed
//! later. Once in a second a look begins a longer moment before ([`VERY_LATE`]).
//!
//! In memory alone: a new opening looks from the beginning.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use everstep_core::Timestamp;
use foldhash::HashMap;

use crate::{
    purse::{PART, Purse},
    stopwatch::Stopwatch,
};

/// There is no look from the beginning sooner than this for no reason.
const HIDDEN_MIN: Duration = Duration::from_secs(1);
/// For so long, and the moment that one look takes, may a run that another opening made due be hidden from this one.
const HIDDEN_MAX: Duration = Duration::from_secs(30);

/// Before the time at which a run becomes due at once: whatever clock asks, it is due. The last of these times is in the year
/// 2286.
pub(crate) const AT_ONCE: i64 = 10_000_000_000_000_000;
/// Nothing that says so says a later time.
pub(crate) const DATED_END: i64 = -AT_ONCE / 2;
/// Microseconds. Writers commit within a few milliseconds, and within seconds when a lock or the disk is in the way; what is
/// committed later than that is found from the beginning.
const LATE: i64 = 200_000;
const VERY_LATE: i64 = 10_000_000;
const VERY_LATE_EACH: Duration = Duration::from_secs(1);

/// The bounds of one opening.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    of: Mutex<HashMap<Arc<str>, Bound>>,
    /// Among the letters for the runs of each worker.
    letters: Mutex<HashMap<i64, Letters>>,
    purse: Mutex<Purse>,
    /// When somebody last looked for what was committed very late.
    looked_very_late: Mutex<Option<Stopwatch>>,
    /// There are none: each look begins at the beginning.
    none: bool,
}

/// Of the runs of one workflow.
#[derive(Clone, Copy, Debug)]
struct Bound {
    from: i64,
    /// Among those that are due at once.
    first: i64,
    /// When there was a look from the beginning, and how long it took; `None`: one is owed.
    looked: Option<(Stopwatch, Duration)>,
    /// Runs may have become due at once.
    at_once: bool,
    /// Something that was committed very late may be there.
    very_late: bool,
}

/// What one worker has found of them.
#[derive(Clone, Copy, Debug)]
struct Letters {
    last: i64,
    looked: Stopwatch,
    took: Duration,
    /// As in [`Bound`].
    very_late: bool,
}

/// How a claim looks for runs of one workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// From the beginning.
    Whole,
    /// At those that are due at once, if so said, from there on, and then from this time on.
    From { at_once: Option<i64>, from: i64 },
}

impl Bounds {
    /// For who must find in each look whatever is there.
    pub(crate) fn none() -> Bounds {
        Bounds { none: true, ..Bounds::default() }
    }

    /// How the next claim is to look.
    pub(crate) fn look(&self, workflow: &str) -> Look {
        let mut of = self.lock();
        let bounds = of.len();
        let Some(bound) = of.get_mut(workflow).filter(|bound| !bound.is_overdue(bounds)) else {
            return Look::Whole;
        };
        let very_late = mem::take(&mut bound.very_late);
        let (first, from) = bound.since(very_late);
        Look::From { at_once: (bound.at_once || very_late).then_some(first), from }
    }

    /// From where to read what is due at once, and what is due at a time; if so said, with what was committed very late.
    pub(crate) fn read_from(&self, workflow: &str, very_late: bool) -> (i64, i64) {
        let of = self.lock();
        match of.get(workflow) {
            Some(bound) if !bound.is_overdue(of.len()) && !self.purse().is_filled() => bound.since(very_late),
            _ => (i64::MIN, i64::MIN),
        }
    }

    /// Whether it is time to look for what was committed very late; whoever is told so does.
    pub(crate) fn looks_very_late(&self) -> bool {
        let mut looked = self.looked_very_late.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked.is_none_or(|looked| looked.elapsed() >= VERY_LATE_EACH);
        if is_time {
            *looked = Some(Stopwatch::start());
        }
        is_time
    }

    /// Such a look has found something: the next claims begin where it began.
    pub(crate) fn found_very_late(&self) {
        self.lock().values_mut().for_each(|bound| bound.very_late = true);
        self.of_workers().values_mut().for_each(|letters| letters.very_late = true);
    }

    /// From where to look for letters for the runs of this worker. A look from the beginning costs at most a part of the
    /// time too.
    pub(crate) fn letters(&self, worker: i64) -> i64 {
        let very_late = self.of_workers().get_mut(&worker).is_some_and(|of| mem::take(&mut of.very_late));
        self.read_letters_from(worker, very_late)
    }

    /// From where to read whether there are any; if so said, with what was committed very late.
    pub(crate) fn read_letters_from(&self, worker: i64, very_late: bool) -> i64 {
        match self.of_workers().get(&worker) {
            Some(of) if of.looked.elapsed() < hidden_for(of.took) => a_moment_before(of.last, very_late),
            _ => i64::MIN,
        }
    }

    /// Such a look took so long, and this is the last that it found.
    pub(crate) fn found_letters(&self, worker: i64, from: i64, last: Option<i64>, took: Duration) {
        if self.none {
            return;
        }
        let mut letters = self.of_workers();
        let before = letters.get(&worker).copied();
        match (before, last.filter(|last| is_dated(*last))) {
            // A clock that was set back is followed then.
            (_, last) if from == i64::MIN => {
                let last = last.or(before.map(|of| of.last)).unwrap_or(i64::MIN);
                letters.insert(worker, Letters { last, looked: Stopwatch::start(), took, very_late: false });
            }
            (Some(of), Some(last)) => {
                letters.insert(worker, Letters { last: of.last.max(last), ..of });
            }
            _ => {}
        }
    }

    /// Whether a claim that has found less than it could take is to look from the beginning too.
    pub(crate) fn may_look_again(&self, workflow: &str) -> bool {
        self.lock().get(workflow).is_none() || self.purse().is_filled()
    }

    /// Runs were found that are due at once, the last of those that say since when with this time; all of them, if so said.
    pub(crate) fn took_at_once(&self, workflow: &str, last: Option<i64>, all: bool) {
        self.change(workflow, |bound| {
            bound.at_once &= !all;
            bound.first = last.map_or(bound.first, |last| bound.first.max(last));
        });
    }

    /// The latest of the runs that a claim found was due since `last`.
    pub(crate) fn took(&self, workflow: &str, last: i64) {
        self.change(workflow, |bound| bound.from = bound.from.max(last));
    }

    /// A look from the beginning took so long, and what it found was due until `last`; it found all, if so said.
    pub(crate) fn took_whole(&self, workflow: &Arc<str>, last: Option<i64>, all: bool, took: Duration) {
        if self.none {
            return;
        }
        self.purse().spend(took);
        let mut of = self.lock();
        let before = of.get(workflow).copied();
        // Whatever is due is found in the order of times: nothing is left before the last one. If that is due at once, and
        // all were found, nothing is due at a time.
        let at_a_time = last.filter(|last| *last > 0 || !all);
        let Some(from) = at_a_time.or(before.map(|bound| bound.from)).or(last) else { return };
        // A clock that was set back is followed.
        let first = last.filter(|last| is_dated(*last)).or(before.map(|bound| bound.first));
        let looked = Some((Stopwatch::start(), took));
        let first = first.unwrap_or(i64::MIN);
        of.insert(workflow.clone(), Bound { from, first, looked, at_once: false, very_late: false });
    }

    /// A read from the beginning of these took so long, and the first of their free runs is due at `first`.
    pub(crate) fn has_read(&self, workflows: &[&Arc<str>], first: Option<i64>, took: Duration) {
        self.purse().spend(took);
        let each = took / u32::try_from(workflows.len().max(1)).unwrap_or(u32::MAX);
        for workflow in workflows {
            self.change(workflow, |bound| {
                // Nothing is before the bound.
                if first.is_none_or(|first| first >= bound.from) {
                    bound.looked = Some((Stopwatch::start(), each));
                }
            });
        }
    }

    /// This opening has made runs due, of whatever workflow, the first of them at `at`.
    pub(crate) fn came(&self, at: i64) {
        for bound in self.lock().values_mut() {
            match at {
                ..=0 => (bound.at_once, bound.first) = (true, bound.first.min(at)),
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
        self.of_workers().clear();
    }

    fn change(&self, workflow: &str, change: impl FnOnce(&mut Bound)) {
        if let Some(bound) = self.lock().get_mut(workflow) {
            change(bound);
        }
    }

    fn purse(&self) -> MutexGuard<'_, Purse> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_workers(&self) -> MutexGuard<'_, HashMap<i64, Letters>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Bound>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bound {
    /// From where to look at what is due at once, and at what is due at a time.
    fn since(&self, very_late: bool) -> (i64, i64) {
        // What others have told of may have been committed after what was found.
        let from = if self.at_once || very_late { a_moment_before(self.from, very_late) } else { self.from };
        (a_moment_before(self.first, very_late), timed(from))
    }

    fn unseen(&self) -> Duration {
        self.looked.map_or(Duration::MAX, |(at, _)| at.elapsed())
    }

    fn costs(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |(_, took)| took)
    }

    /// As one of so many bounds.
    fn is_overdue(&self, bounds: usize) -> bool {
        self.unseen() >= hidden_for(self.costs() * u32::try_from(bounds).unwrap_or(u32::MAX))
    }
}

/// Since when a free run is due, as its row says it.
pub(crate) fn due(wake_at: i64) -> Timestamp {
    // Since when it is due at once is nobody's business.
    Timestamp(if is_dated(wake_at) { 0 } else { wake_at })
}

/// Whether it is due at once, and says since when. Those that do not say so stand behind all that do, and tell nothing of them.
pub(crate) fn is_dated(wake_at: i64) -> bool {
    (-AT_ONCE..DATED_END).contains(&wake_at)
}

/// Those that are due at once have a bound of their own: another one that stood among them would go over what they left.
fn timed(from: i64) -> i64 {
    from.max(1)
}

/// What was committed late is not passed over.
fn a_moment_before(at: i64, very_late: bool) -> i64 {
    at.saturating_sub(if very_late { VERY_LATE } else { LATE })
}

/// For how long what is before a bound may stay unseen, if a look from the beginning costs so much.
fn hidden_for(costs: Duration) -> Duration {
    (costs * PART).clamp(HIDDEN_MIN, HIDDEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purse::KEPT;

    const SLOW: Duration = Duration::from_secs(1);

    fn at(from: i64, at_once: bool) -> Look {
        Look::From {
            at_once: at_once.then_some(i64::MIN),
            from: if at_once { timed(from - LATE) } else { from },
        }
    }

    /// The last look from the beginning took long, and what it found last was due at 500.
    fn looked() -> (Bounds, Arc<str>) {
        let (bounds, name) = (Bounds::default(), Arc::<str>::from("flow"));
        bounds.took_whole(&name, Some(500), true, SLOW);
        (bounds, name)
    }

    #[test]
    fn the_first_look_is_from_the_beginning() {
        let bounds = Bounds::default();
        assert_eq!((bounds.look("flow"), bounds.read_from("flow", false).1), (Look::Whole, i64::MIN));
        assert!(bounds.may_look_again("flow"));
    }

    #[test]
    fn a_look_begins_where_the_last_claim_ended() {
        let (bounds, name) = looked();
        assert_eq!((bounds.look(&name), bounds.read_from(&name, false).1), (at(500, false), 500));
        bounds.took(&name, 800);
        assert_eq!((bounds.look(&name), bounds.read_from(&name, false).1), (at(800, false), 800));
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
        bounds.took_at_once(&name, Some(-5), false);
        assert_eq!(bounds.look(&name), Look::From { at_once: Some(-5 - LATE), from: 1 });
        bounds.came(-10);
        assert_eq!(bounds.look(&name), Look::From { at_once: Some(-10 - LATE), from: 1 });
        bounds.took_at_once(&name, None, true);
        assert_eq!(bounds.look(&name), at(300, false));
    }

    #[test]
    fn a_look_at_letters_begins_a_moment_before_the_last() {
        let (bounds, name) = looked();
        let last = 1_800_000_000_000_000 - AT_ONCE;
        bounds.took_at_once(&name, Some(last), false);
        bounds.heard();
        assert_eq!(bounds.look(&name), Look::From { at_once: Some(last - LATE), from: 1 });
        assert_eq!(bounds.read_from(&name, false).0, last - LATE);
        bounds.took_whole(&name, Some(last), false, SLOW);
        assert_eq!(
            bounds.look(&name),
            Look::From { at_once: None, from: 1 },
            "no time of day is before that"
        );
        bounds.took(&name, 500);
        bounds.took_whole(&name, Some(last), true, SLOW);
        assert_eq!(bounds.look(&name), at(500, false), "nothing is due at a time");
        assert_eq!(bounds.letters(7), i64::MIN, "nothing is known of its letters");
        bounds.found_letters(7, i64::MIN, None, SLOW);
        assert_eq!(bounds.letters(7), i64::MIN);
        bounds.found_letters(7, i64::MIN, Some(last), SLOW);
        bounds.found_letters(7, last - LATE, Some(last - 5), SLOW);
        bounds.found_letters(7, last - LATE, Some(0), SLOW);
        bounds.found_letters(7, i64::MIN, Some(0), SLOW);
        assert_eq!((bounds.letters(7), bounds.letters(8)), (last - LATE, i64::MIN));
        // Set back by an hour: the next look from the beginning knows no other.
        bounds.found_letters(7, i64::MIN, Some(last - 3_600_000_000), SLOW);
        assert_eq!(bounds.letters(7), last - 3_600_000_000 - LATE);
    }

    #[test]
    fn what_is_due_at_once_and_does_not_say_since_when_hides_nothing() {
        let (bounds, name) = looked();
        let last = 1_800_000_000_000_000 - AT_ONCE;
        bounds.took_at_once(&name, Some(last), false);
        bounds.took_whole(&name, Some(0), true, SLOW);
        bounds.came(0);
        assert_eq!(bounds.look(&name), Look::From { at_once: Some(last - LATE), from: 1 });
    }

    #[test]
    fn once_in_a_second_somebody_looks_for_what_was_committed_very_late() {
        let (bounds, name) = (Bounds::default(), Arc::<str>::from("flow"));
        let (now, last) = (1_800_000_000_000_000, 1_800_000_000_000_000 - AT_ONCE);
        bounds.took_whole(&name, Some(now), true, SLOW);
        bounds.took_at_once(&name, Some(last), true);
        bounds.found_letters(7, i64::MIN, Some(last), SLOW);
        assert_eq!((bounds.looks_very_late(), bounds.looks_very_late()), (true, false));
        assert_eq!(bounds.read_from(&name, true), (last - VERY_LATE, now - VERY_LATE));
        assert_eq!(bounds.read_letters_from(7, true), last - VERY_LATE);
        assert_eq!(bounds.look(&name), Look::From { at_once: None, from: now });
        bounds.found_very_late();
        assert_eq!(bounds.look(&name), Look::From { at_once: Some(last - VERY_LATE), from: now - VERY_LATE });
        assert_eq!((bounds.letters(7), bounds.letters(7)), (last - VERY_LATE, last - LATE));
        assert_eq!(bounds.look(&name), Look::From { at_once: None, from: now }, "it was looked for");
    }

    #[test]
    fn a_read_from_the_beginning_that_finds_nothing_hidden_counts_as_a_look() {
        let (bounds, name) = looked();
        let set_back = |bounds: &Bounds| bounds.change(&name, |bound| bound.looked = None);
        set_back(&bounds);
        assert_eq!(bounds.look(&name), Look::Whole);
        bounds.has_read(&[&name], Some(499), SLOW);
        assert_eq!(bounds.look(&name), Look::Whole, "something is hidden");
        for first in [None, Some(500)] {
            set_back(&bounds);
            bounds.has_read(&[&name], first, SLOW);
            assert_eq!(bounds.look(&name), at(500, false));
        }
    }

    #[test]
    fn only_what_is_dated_is_told_otherwise() {
        let now = 1_800_000_000_000_000;
        assert_eq!(due(now - AT_ONCE), Timestamp(0));
        for at in [i64::MIN, -now, -1, 0, 1, now, i64::MAX] {
            assert_eq!(due(at), Timestamp(at));
        }
    }

    #[test]
    fn after_a_hint_those_that_are_due_at_once_are_looked_for() {
        let (bounds, name) = looked();
        bounds.heard();
        assert_eq!(bounds.look(&name), at(500, true));
    }

    #[test]
    fn a_look_from_the_beginning_is_repeated_at_will_only_while_all_take_little() {
        let (bounds, [name, other]) = (Bounds::default(), ["flow", "other"].map(Arc::<str>::from));
        bounds.took_whole(&name, Some(500), true, KEPT / 2);
        assert_eq!(bounds.look(&name), at(500, false));
        assert!(bounds.may_look_again(&name));
        assert_eq!(
            bounds.read_from(&name, false).1,
            i64::MIN,
            "nothing is hidden from who asks when something is due"
        );
        bounds.took_whole(&other, Some(700), true, KEPT);
        assert!(!bounds.may_look_again(&name) && !bounds.may_look_again(&other));
        assert_eq!((bounds.read_from(&name, false).1, bounds.read_from(&other, false).1), (500, 700));
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
        bounds.took_whole(&name, Some(500), true, SLOW);
        assert_eq!((bounds.look(&name), bounds.read_from(&name, false).1), (Look::Whole, i64::MIN));
    }
}
