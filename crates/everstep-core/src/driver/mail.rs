//! The mailbox of a run: signals that its journal has taken, and the waits for them. Pure. Who gets a signal follows
//! from the journal and the code alone: the open wait that was claimed first and has been polled. A wait that is dropped
//! before it returned gives its signal back to the head of its name.

use std::{collections::BTreeMap, sync::Arc};

use crate::journal::{Carried, Failure, Payload};

/// Signals that a restart carried over have numbers from here on. They come before all that entries have taken.
pub(crate) const CARRIED: u64 = 1 << 63;

/// What a wait was given: the payload, or why it is none that the wait could take.
pub(crate) type Taken = Result<Payload, Failure>;

/// Whether a payload decodes as what a wait asks for.
pub(crate) type Decodes = fn(&Payload) -> Result<(), String>;

/// A wait that has been polled and has no signal yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) op: usize,
    pub(crate) decodes: Decodes,
}

/// Where a wait stands among all waits of its run: claimed first, served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// Signals and waits, by name.
#[derive(Default)]
pub(crate) struct Mail {
    names: BTreeMap<Arc<str>, Named>,
    claimed: u64,
    /// How many signals were brought from elsewhere.
    brought: u64,
}

#[derive(Default)]
struct Named {
    /// By the number of the entry that took it, as [`order`] has them.
    taken: BTreeMap<u64, Taken>,
    waits: BTreeMap<Place, Waiter>,
}

impl Mail {
    /// The place of a wait that is claimed now.
    pub(crate) fn claim(&mut self) -> Place {
        self.claimed += 1;
        Place(self.claimed)
    }

    /// A wait was polled for the first time.
    pub(crate) fn wait(&mut self, name: &str, place: Place, waiter: Waiter) {
        self.named(name).waits.insert(place, waiter);
    }

    /// Names whose first wait would take a signal from outside, with that wait.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&Arc<str>, Waiter)> {
        self.names
            .iter()
            .filter(|(_, named)| named.taken.is_empty())
            .filter_map(|(name, named)| Some((name, *named.waits.values().next()?)))
    }

    /// A signal was taken by entry `seq`, or comes back from a wait that was dropped.
    pub(crate) fn put(&mut self, name: &str, seq: u64, taken: Taken) {
        self.named(name).taken.insert(order(seq), taken);
    }

    /// Signals that the generation before has left, or the end of a journal that was taken back.
    pub(crate) fn bring(&mut self, carried: Vec<Carried>) {
        for Carried { name, value, refused } in carried {
            self.put(&name, CARRIED + self.brought, refused.map_or(Ok(value), Err));
            self.brought += 1;
        }
    }

    /// What the next generation gets.
    pub(crate) fn carry(&mut self) -> Vec<Carried> {
        let mut left: Vec<_> = Vec::new();
        for (name, named) in &mut self.names {
            for (order, taken) in std::mem::take(&mut named.taken) {
                let (value, refused) = taken.map_or_else(|e| (Payload::default(), Some(e)), |v| (v, None));
                left.push((order, Carried { name: name.to_string(), value, refused }));
            }
        }
        left.sort_unstable_by_key(|(order, _)| *order);
        left.into_iter().map(|(_, carried)| carried).collect()
    }

    /// Hands the first signal to the first wait of its name.
    pub(crate) fn hand_out(&mut self) -> Option<(usize, u64, Taken)> {
        let named = self.names.values_mut().find(|n| !n.taken.is_empty() && !n.waits.is_empty())?;
        let (seq, taken) = named.taken.pop_first()?;
        let (_, waiter) = named.waits.pop_first()?;
        Some((waiter.op, order(seq), taken))
    }

    /// The wait is over, if it is still waiting.
    pub(crate) fn leave(&mut self, name: &str, op: usize) {
        if let Some(named) = self.names.get_mut(name) {
            named.waits.retain(|_, waiter| waiter.op != op);
            if named.waits.is_empty() && named.taken.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// The entries whose signals nobody has, by number.
    pub(crate) fn left(&self) -> Vec<u64> {
        let mut left: Vec<u64> = self.names.values().flat_map(|named| named.taken.keys().copied()).collect();
        left.sort_unstable();
        left.into_iter().map(order).collect()
    }

    fn named(&mut self, name: &str) -> &mut Named {
        self.names.entry(name.into()).or_default()
    }
}

/// What was carried over first, then by entry. Its own inverse.
fn order(seq: u64) -> u64 {
    seq ^ CARRIED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(op: usize) -> Waiter {
        Waiter { op, decodes: |_| Ok(()) }
    }

    fn told(mail: &mut Mail) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| mail.hand_out()).map(|(op, seq, _)| (op, seq)).collect()
    }

    #[test]
    fn the_wait_that_was_claimed_first_is_served_first() {
        let mut mail = Mail::default();
        let (first, second) = (mail.claim(), mail.claim());
        mail.wait("go", second, waiter(0));
        mail.wait("go", first, waiter(7));
        for seq in [4, 3] {
            mail.put("go", seq, Ok(Payload::json("1")));
        }
        mail.put("other", 5, Ok(Payload::json("1")));
        assert_eq!(told(&mut mail), [(7, 3), (0, 4)]);
        assert_eq!(mail.left(), [5]);
    }

    #[test]
    fn what_a_dropped_wait_gives_back_comes_before_what_came_later() {
        let mut mail = Mail::default();
        mail.put("go", 9, Ok(Payload::json("2")));
        mail.put("go", 3, Ok(Payload::json("1")));
        let place = mail.claim();
        mail.wait("go", place, waiter(1));
        assert_eq!(told(&mut mail), [(1, 3)]);
    }

    #[test]
    fn what_a_restart_carries_comes_first_and_in_order() {
        let mut mail = Mail::default();
        for seq in [9, 3] {
            mail.put("go", seq, Ok(Payload::json(seq.to_string())));
        }
        let mut next = Mail::default();
        next.bring(mail.carry());
        assert!(mail.left().is_empty());
        next.put("go", 1, Ok(Payload::json("1")));
        for op in 0..3 {
            let place = next.claim();
            next.wait("go", place, waiter(op));
        }
        let values: Vec<_> = std::iter::from_fn(|| next.hand_out())
            .map(|(_, _, taken)| String::from_utf8(taken.expect("good").bytes).expect("text"))
            .collect();
        assert_eq!(values, ["3", "9", "1"]);
    }

    #[test]
    fn a_name_is_wanted_while_a_wait_has_nothing_to_take() {
        let mut mail = Mail::default();
        let wanted = |mail: &Mail| {
            mail.wanted().map(|(name, waiter)| (name.to_string(), waiter.op)).collect::<Vec<_>>()
        };
        let place = mail.claim();
        mail.wait("go", place, waiter(1));
        assert_eq!(wanted(&mail), [("go".to_string(), 1)]);
        mail.put("go", 3, Ok(Payload::json("1")));
        assert_eq!(wanted(&mail), []);
        mail.leave("go", 1);
        assert_eq!((wanted(&mail), mail.left()), (vec![], vec![3]));
    }
}
