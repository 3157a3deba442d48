//! What has reached a run from outside and is not in its journal, as one load knows it. Pure bookkeeping: a letter is
//! handed out once, however late a read of the store is answered.

use std::collections::BTreeSet;

use crate::store::{LetterKind, Received};

/// The unread letters of a run.
pub(super) struct Inbox {
    letters: Vec<Received>,
    /// All letters up to this number are known: what the end of a load compares.
    known: u64,
    /// Known letters with higher numbers: those of the run's own transactions.
    ahead: BTreeSet<u64>,
    /// Letters that this load took, and the turn that says so: a read may be older than that turn.
    taken: Vec<(u64, u64)>,
}

impl Inbox {
    pub(super) fn new(letters: Vec<Received>, inbox_n: u64) -> Inbox {
        let mut inbox =
            Inbox { letters: Vec::new(), known: inbox_n, ahead: BTreeSet::new(), taken: Vec::new() };
        inbox.hear(letters);
        inbox
    }

    /// How many messages the run has ever received, as far as this load knows.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    pub(super) fn letters(&self) -> &[Received] {
        &self.letters
    }

    /// The letter `n` goes into the journal with turn `turn`.
    pub(super) fn take(&mut self, n: u64, turn: u64) {
        self.letters.retain(|letter| letter.n != n);
        self.taken.push((turn, n));
        if n > self.known {
            self.ahead.insert(n);
        }
        self.catch_up();
    }

    /// A read begins; `settled` turns are durable, and it sees what they did.
    pub(super) fn read_begins(&mut self, settled: u64) {
        self.taken.retain(|(turn, _)| *turn > settled);
    }

    /// What a read found.
    pub(super) fn hear(&mut self, mut read: Vec<Received>) {
        self.known = read.last().map_or(self.known, |last| last.n.max(self.known));
        self.ahead = self.ahead.split_off(&(self.known + 1));
        self.catch_up();
        read.retain(|letter| !self.taken.iter().any(|(_, n)| *n == letter.n));
        self.letters = read;
    }

    fn catch_up(&mut self) {
        while self.ahead.remove(&(self.known + 1)) {
            self.known += 1;
        }
    }

    /// The first letter that asks to cancel.
    pub(super) fn cancel(&self) -> Option<&Received> {
        find_cancel(&self.letters)
    }
}

/// The first letter that asks to cancel, and its reason.
pub(crate) fn find_cancel(letters: &[Received]) -> Option<&Received> {
    letters.iter().find(|r| LetterKind::from_code(r.letter.kind) == Some(LetterKind::Cancel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        journal::Payload,
        store::{Letter, LetterId},
    };

    fn letter(n: u64) -> Received {
        let (kind, body) = (LetterKind::Cancel as u16, Payload::default());
        let letter = Letter { id: LetterId(n.into()), kind, name: "cancel".into(), body, at: Timestamp(0) };
        Received { n, letter }
    }

    fn numbers(inbox: &Inbox) -> Vec<u64> {
        inbox.letters().iter().map(|letter| letter.n).collect()
    }

    #[test]
    fn a_taken_letter_comes_back_with_no_read_that_began_before_its_turn_was_durable() {
        let mut inbox = Inbox::new(vec![letter(1), letter(2)], 2);
        inbox.take(1, 7);
        inbox.read_begins(6);
        inbox.hear(vec![letter(1), letter(2), letter(3)]);
        assert_eq!((numbers(&inbox), inbox.known()), (vec![2, 3], 3));
        inbox.read_begins(7);
        inbox.hear(vec![letter(2), letter(3)]);
        assert_eq!((numbers(&inbox), inbox.taken.len()), (vec![2, 3], 0));
    }

    #[test]
    fn own_letters_are_known_without_a_read() {
        let mut inbox = Inbox::new(Vec::new(), 0);
        inbox.take(1, 1);
        assert_eq!(inbox.known(), 1);
        // Somebody else's letter 2 came between.
        inbox.take(3, 2);
        assert_eq!(inbox.known(), 1);
        inbox.hear(vec![letter(2)]);
        assert_eq!((numbers(&inbox), inbox.known()), (vec![2], 3));
    }
}
