//! From where on claims look for due runs.
//!
//! The due index keeps an entry of each run that was claimed for as long as somebody's snapshot may see it, and for a while
//! after: whoever looks from its beginning passes them all. So a look begins where the last claim ended. What this opening
//! itself puts before that lowers the bound or has the runs that are due at once looked for; what others put there is
//! found by a look from the beginning. There is one whenever a claim could take more, as long as such looks take no more than
//! a part of the time, all together: the more is dead, the rarer they are, but one in [`HIDDEN_MAX`] always.
//!
//! Letters make runs due at once, before all times, and so in one place of the index: what they leave there is passed over in
//! the same way. For that a letter says in negative numbers when it came ([`AT_ONCE`]), and looks begin a moment before
//! the last that was found ([`LATE`]), because letters that came earlier may have been committed later.
//!
//! In memory alone: a new opening looks from the beginning.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use everstep_core::Timestamp;
use foldhash::HashMap;

use crate::stopwatch::Stopwatch;

/// Of the time that passes, looks from the beginning may take one part in so many.
const PART: u32 = 20;
/// What they have not taken so far is kept for them up to so long, and what they have taken too much is remembered up to
/// so long.
const KEPT: Duration = Duration::from_millis(100);
const OWED: Duration = Duration::from_millis(500);
/// There is no look from the beginning sooner than this for no reason.
const HIDDEN_MIN: Duration = Duration::from_secs(1);
/// For so long, and the moment that one look takes, may a run that another opening made due be hidden from this one.
const HIDDEN_MAX: Duration = Duration::from_secs(10);

/// Before the time at which a letter comes: whatever clock asks, its run is due. The last of these times is in the year 2286.
pub(crate) const AT_ONCE: i64 = 10_000_000_000_000_000;
/// Microseconds. Writers commit within a few milliseconds; what one does later than that is found from the beginning.
const LATE: i64 = 200_000;

/// The bounds of one opening.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    of: Mutex<HashMap<Arc<str>, Bound>>,
    /// Among the letters for the runs of each worker.
    letters: Mutex<HashMap<i64, Letters>>,
    purse: Mutex<Purse>,
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
}

/// The time that looks from the beginning may take.
#[derive(Debug)]
struct Purse {
    /// Microseconds; below 0 they have taken too much.
    left: i64,
    since: Option<Stopwatch>,
}

/// What one worker has found of them.
#[derive(Clone, Copy, Debug)]
struct Letters {
    last: i64,
    looked: Stopwatch,
    took: Duration,
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
        let of = self.lock();
        match of.get(workflow) {
            Some(bound) if bound.is_overdue(of.len()) => Look::Whole,
            // What others have told of may have been committed after what was found.
            Some(bound) if bound.at_once => {
                let (first, from) = (a_moment_before(bound.first), timed(a_moment_before(bound.from)));
                Look::From { at_once: Some(first), from }
            }
            Some(bound) => Look::From { at_once: None, from: timed(bound.from) },
            None => Look::Whole,
        }
    }

    /// From where to read what is due at once, and what is due at a time.
    pub(crate) fn read_from(&self, workflow: &str) -> (i64, i64) {
        let of = self.lock();
        match of.get(workflow) {
            Some(bound) if !bound.is_overdue(of.len()) && !self.purse().is_filled() => {
                // As a claim looks after a hint.
                let from = if bound.at_once { a_moment_before(bound.from) } else { bound.from };
                (a_moment_before(bound.first), timed(from))
            }
            _ => (i64::MIN, i64::MIN),
        }
    }

    /// From where to look for letters for the runs of this worker. A look from the beginning costs at most a part of the
    /// time too.
    pub(crate) fn letters_from(&self, worker: i64) -> i64 {
        match self.letters().get(&worker) {
            Some(of) if of.looked.elapsed() < hidden_for(of.took) => a_moment_before(of.last),
            _ => i64::MIN,
        }
    }

    /// Such a look took so long, and this is the last that it found.
    pub(crate) fn found_letters(&self, worker: i64, from: i64, last: Option<i64>, took: Duration) {
        if self.none {
            return;
        }
        let mut letters = self.letters();
        let before = letters.get(&worker).copied();
        match (before, last) {
            // A clock that was set back is followed then.
            (_, _) if from == i64::MIN => {
                let last = last.or(before.map(|of| of.last)).unwrap_or(i64::MIN);
                letters.insert(worker, Letters { last, looked: Stopwatch::start(), took });
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

    /// Runs were found that are due at once, the last of them with this time; all of them, if so said.
    pub(crate) fn took_at_once(&self, workflow: &str, last: Option<i64>, all: bool) {
        self.change(workflow, |bound| {
            bound.at_once &= !all;
            let dated = last.filter(|last| is_at_once(*last));
            bound.first = dated.map_or(bound.first, |last| bound.first.max(last));
        });
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
        self.purse().spend(took);
        let mut of = self.lock();
        let before = of.get(workflow).copied();
        // Whatever is due is found in the order of times: nothing is left before the last one.
        let Some(from) = last.or(before.map(|bound| bound.from)) else { return };
        // A clock that was set back is followed.
        let first =
            last.filter(|last| is_at_once(*last)).or(before.map(|bound| bound.first)).unwrap_or(i64::MIN);
        let looked = Some((Stopwatch::start(), took));
        of.insert(workflow.clone(), Bound { from, first, looked, at_once: false });
    }

    /// A read from the beginning took so long.
    pub(crate) fn has_read(&self, took: Duration) {
        self.purse().spend(took);
    }

    /// Such a look found nothing.
    pub(crate) fn saw_nothing(&self, workflow: &str, took: Duration) {
        self.change(workflow, |bound| bound.looked = Some((Stopwatch::start(), took)));
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
        self.letters().clear();
    }

    fn change(&self, workflow: &str, change: impl FnOnce(&mut Bound)) {
        if let Some(bound) = self.lock().get_mut(workflow) {
            change(bound);
        }
    }

    fn purse(&self) -> MutexGuard<'_, Purse> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn letters(&self) -> MutexGuard<'_, HashMap<i64, Letters>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// As one of so many bounds.
    fn is_overdue(&self, bounds: usize) -> bool {
        self.since() >= hidden_for(self.costs() * u32::try_from(bounds).unwrap_or(u32::MAX))
    }
}

impl Default for Purse {
    fn default() -> Purse {
        Purse { left: micros(KEPT), since: None }
    }
}

impl Purse {
    fn fill(&mut self) {
        let passed = self.since.replace(Stopwatch::start()).map_or(Duration::ZERO, |since| since.elapsed());
        self.left = (self.left + micros(passed / PART)).min(micros(KEPT));
    }

    fn is_filled(&mut self) -> bool {
        self.fill();
        self.left > 0
    }

    fn spend(&mut self, took: Duration) {
        self.fill();
        self.left = (self.left - micros(took)).max(-micros(OWED));
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Since when a free run is due, as its row says it.
pub(crate) fn due(wake_at: i64) -> Timestamp {
    // When a letter came is nobody's business: it is due at once.
    Timestamp(if (-AT_ONCE..-AT_ONCE / 2).contains(&wake_at) { 0 } else { wake_at })
}

/// Whether it stands among those that are due at once. What is so without a date stands behind all that have one, and hides those
/// from looks that do not begin at the beginning.
pub(crate) fn is_at_once(at: i64) -> bool {
    at <= 0
}

/// Those that are due at once have a bound of their own: another one that stood among them would go over what they left.
fn timed(from: i64) -> i64 {
    from.max(1)
}

/// What was committed late is not passed over.
fn a_moment_before(at: i64) -> i64 {
    at.saturating_sub(LATE)
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
        Look::From {
            at_once: at_once.then_some(i64::MIN),
            from: if at_once { timed(from - LATE) } else { from },
        }
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
        assert_eq!((bounds.look("flow"), bounds.read_from("flow").1), (Look::Whole, i64::MIN));
        assert!(bounds.may_look_again("flow"));
    }

    #[test]
    fn a_look_begins_where_the_last_claim_ended() {
        let (bounds, name) = looked();
        assert_eq!((bounds.look(&name), bounds.read_from(&name).1), (at(500, false), 500));
        bounds.took(&name, 800);
        assert_eq!((bounds.look(&name), bounds.read_from(&name).1), (at(800, false), 800));
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
        assert_eq!(bounds.read_from(&name).0, last - LATE);
        bounds.took_whole(&name, Some(last), SLOW);
        assert_eq!(
            bounds.look(&name),
            Look::From { at_once: None, from: 1 },
            "no time of day is before that"
        );
        assert_eq!(bounds.letters_from(7), i64::MIN, "nothing is known of its letters");
        bounds.found_letters(7, i64::MIN, None, SLOW);
        assert_eq!(bounds.letters_from(7), i64::MIN);
        bounds.found_letters(7, i64::MIN, Some(last), SLOW);
        bounds.found_letters(7, last - LATE, Some(last - 5), SLOW);
        assert_eq!((bounds.letters_from(7), bounds.letters_from(8)), (last - LATE, i64::MIN));
        // Set back by an hour: the next look from the beginning knows no other.
        bounds.found_letters(7, i64::MIN, Some(last - 3_600_000_000), SLOW);
        assert_eq!(bounds.letters_from(7), last - 3_600_000_000 - LATE);
    }

    #[test]
    fn only_what_a_letter_woke_is_told_otherwise() {
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
        bounds.took_whole(&name, Some(500), KEPT / 2);
        assert_eq!(bounds.look(&name), at(500, false));
        assert!(bounds.may_look_again(&name));
        assert_eq!(
            bounds.read_from(&name).1,
            i64::MIN,
            "nothing is hidden from who asks when something is due"
        );
        bounds.took_whole(&other, Some(700), KEPT);
        assert!(!bounds.may_look_again(&name) && !bounds.may_look_again(&other));
        assert_eq!((bounds.read_from(&name).1, bounds.read_from(&other).1), (500, 700));
    }

    #[test]
    fn what_looks_have_taken_too_much_is_paid_back() {
        let mut purse = Purse::default();
        purse.spend(SLOW);
        assert_eq!(purse.left, -micros(OWED));
        assert!(!purse.is_filled());
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
        assert_eq!((bounds.look(&name), bounds.read_from(&name).1), (Look::Whole, i64::MIN));
    }
}
