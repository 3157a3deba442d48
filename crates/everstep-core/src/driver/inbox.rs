//! What has reached a run from outside and is not in its journal, as one load knows it. Pure bookkeeping: a letter is
//! handed out once, however late a read of the store is answered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::store::{LetterKind, Received};

/// The unread letters of a run.
#[derive(Default)]
pub(super) struct Inbox {
    /// All that are neither queued nor keyed, by number.
    letters: BTreeMap<u64, Received>,
    /// Signals by name, in the order in which they came: many may wait that nobody asks for.
    pub(super) signals: Queues,
    /// Requests alike.
    pub(super) requests: Queues,
    /// What became of promises and children, by key. What came last is how it is.
    keyed: HashMap<Arc<str>, Vec<Received>>,
    /// Numbers and keys of those that somebody waits for, or did.
    wanted: BTreeMap<u64, Arc<str>>,
    /// Keys of those that have come since somebody looked.
    came: Vec<Arc<str>>,
    /// All letters up to this number are known: what the end of a load compares.
    known: u64,
    /// Letters with higher numbers that this load took: those of the run's own transactions.
    ahead: BTreeSet<u64>,
}

/// Letters of one kind, by name.
#[derive(Default)]
pub(super) struct Queues(HashMap<Arc<str>, VecDeque<Received>>);

impl Queues {
    /// The first of this name.
    pub(super) fn first(&self, name: &str) -> Option<&Received> {
        self.0.get(name)?.front()
    }

    /// The first of this name goes into the journal.
    pub(super) fn take(&mut self, name: &str) -> Option<Received> {
        let waiting = self.0.get_mut(name)?;
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.0.remove(name);
        }
        first
    }

    fn add(&mut self, received: Received) {
        self.0.entry(received.letter.name.clone()).or_default().push_back(received);
    }
}

impl Inbox {
    pub(super) fn new(letters: Vec<Received>, inbox_n: u64) -> Inbox {
        let mut inbox = Inbox::default();
        inbox.hear(letters);
        inbox.known = inbox.known.max(inbox_n);
        inbox
    }

    /// How many messages the run has ever received, as far as this load knows. A read gives those that came after.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// All that are neither queued nor keyed, by number.
    pub(super) fn letters(&self) -> impl Iterator<Item = &Received> {
        self.letters.values()
    }

    /// Whether it holds letters that wait for an operation of some key.
    pub(super) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// The letter `n` goes into the journal.
    pub(super) fn take(&mut self, n: u64) {
        self.letters.remove(&n);
        if n > self.known {
            self.ahead.insert(n);
            self.catch_up();
        }
    }

    /// The first letter that tells what became of a key for which `waits` says that somebody waits; `begun` are the keys
    /// for which that is new. Looks only at what is new: a thousand letters may wait for nobody.
    pub(super) fn first_keyed(
        &mut self,
        begun: Vec<Arc<str>>,
        waits: impl Fn(&str) -> bool,
    ) -> Option<(u64, Arc<str>)> {
        for key in begun.into_iter().chain(std::mem::take(&mut self.came)) {
            if let Some(first) = self.keyed.get(&key).and_then(|letters| letters.first())
                && waits(&key)
            {
                self.wanted.insert(first.n, key);
            }
        }
        while let Some((n, key)) = self.wanted.first_key_value() {
            if waits(key) && self.keyed.contains_key(key) {
                return Some((*n, key.clone()));
            }
            self.wanted.pop_first();
        }
        None
    }

    /// What became of this key goes into the journal: all its letters, in their order.
    pub(super) fn take_keyed(&mut self, key: &str) -> Vec<Received> {
        self.keyed.remove(key).unwrap_or_default()
    }

    /// What a read found that began when fewer letters were known, or as many.
    pub(super) fn hear(&mut self, read: Vec<Received>) {
        let last = read.last().map(|last| last.n);
        for received in read {
            if received.n > self.known && !self.ahead.contains(&received.n) {
                self.add(received);
            }
        }
        self.known = self.known.max(last.unwrap_or(0));
        self.ahead = self.ahead.split_off(&(self.known + 1));
        self.catch_up();
    }

    fn add(&mut self, received: Received) {
        match LetterKind::from_code(received.letter.kind) {
            Some(LetterKind::Signal) => self.signals.add(received),
            Some(LetterKind::Request) => self.requests.add(received),
            Some(LetterKind::PromiseSettled | LetterKind::ChildEnded) => {
                let key = &received.letter.name;
                self.came.push(key.clone());
                self.keyed.entry(key.clone()).or_default().push(received);
            }
            _ => drop(self.letters.insert(received.n, received)),
        }
    }

    fn catch_up(&mut self) {
        while self.ahead.remove(&(self.known + 1)) {
            self.known += 1;
        }
    }

    /// The first letter that ends the run at once.
    pub(super) fn kill(&self) -> Option<&Received> {
        self.letters().find(|received| is_of(received, LetterKind::Kill))
    }

    /// The first letter that asks to cancel.
    pub(super) fn cancel(&self) -> Option<&Received> {
        self.letters().find(|received| is_of(received, LetterKind::Cancel))
    }
}

/// The first letter that asks to cancel.
pub(crate) fn find_cancel(letters: &[Received]) -> Option<&Received> {
    letters.iter().find(|received| is_of(received, LetterKind::Cancel))
}

/// The first letter that ends the run at once.
pub(crate) fn find_kill(letters: &[Received]) -> Option<&Received> {
    letters.iter().find(|received| is_of(received, LetterKind::Kill))
}

fn is_of(received: &Received, kind: LetterKind) -> bool {
    received.letter.kind == kind as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        journal::Payload,
        store::{Letter, LetterId},
    };

    fn received(n: u64, kind: LetterKind, name: &str) -> Received {
        let (kind, body) = (kind as u16, Payload::default());
        let letter = Letter { id: LetterId(n.into()), kind, name: name.into(), body, at: Timestamp(0) };
        Received { n, letter }
    }

    fn letter(n: u64) -> Received {
        received(n, LetterKind::Cancel, "cancel")
    }

    fn numbers(inbox: &Inbox) -> Vec<u64> {
        inbox.letters().map(|letter| letter.n).collect()
    }

    #[test]
    fn a_letter_is_heard_once_however_often_it_is_read() {
        let mut inbox = Inbox::new(vec![letter(1), letter(2)], 2);
        inbox.take(1);
        inbox.hear(vec![letter(1), letter(2), letter(3)]);
        assert_eq!((numbers(&inbox), inbox.known()), (vec![2, 3], 3));
        inbox.hear(vec![letter(2), letter(3)]);
        assert_eq!(numbers(&inbox), [2, 3]);
    }

    #[test]
    fn own_letters_are_known_without_a_read() {
        let mut inbox = Inbox::new(Vec::new(), 0);
        inbox.take(1);
        assert_eq!(inbox.known(), 1);
        // Somebody else's letter 2 came between.
        inbox.take(3);
        assert_eq!(inbox.known(), 1);
        inbox.hear(vec![letter(2), letter(3)]);
        assert_eq!((numbers(&inbox), inbox.known()), (vec![2], 3));
    }

    #[test]
    fn an_own_letter_that_a_read_under_way_still_finds_is_not_heard() {
        let mut inbox = Inbox::new(Vec::new(), 4);
        inbox.take(5);
        inbox.hear(vec![letter(5), letter(6)]);
        assert_eq!((numbers(&inbox), inbox.known()), (vec![6], 6));
    }

    #[test]
    fn signals_come_in_order_per_name() {
        let signal = |n, name| received(n, LetterKind::Signal, name);
        let mut inbox = Inbox::new(vec![signal(1, "a"), signal(2, "b"), letter(3), signal(4, "a")], 4);
        assert_eq!(numbers(&inbox), [3]);
        let mut taken = || inbox.signals.take("a").map(|received| received.n);
        assert_eq!([taken(), taken(), taken()], [Some(1), Some(4), None]);
        assert_eq!(inbox.signals.first("b").map(|received| received.n), Some(2));
    }

    #[test]
    fn keyed_letters_are_found_when_somebody_waits_for_them() {
        let settled = |n, key| received(n, LetterKind::PromiseSettled, key);
        let mut inbox = Inbox::new(vec![settled(1, "a"), settled(2, "b"), settled(3, "a")], 3);
        let mut first = |begun: &[&str], waits: &'static str| {
            let begun = begun.iter().map(|key| Arc::from(*key)).collect();
            let found = inbox.first_keyed(begun, |key| key == waits)?;
            Some((found.0, inbox.take_keyed(&found.1).iter().map(|received| received.n).collect::<Vec<_>>()))
        };
        assert_eq!(first(&[], "c"), None);
        assert_eq!(first(&["b"], "b"), Some((2, vec![2])));
        assert_eq!(first(&["a"], "a"), Some((1, vec![1, 3])), "all of them at once");
        assert_eq!(first(&["a"], "a"), None);
    }
}
