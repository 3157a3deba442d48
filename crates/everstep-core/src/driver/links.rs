//! What a run waits for by key: what becomes of its promises and children. Pure. What the journal has told of a key is a
//! fact: every wait for it gets the same, whenever it comes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::mail::{Taken, Waiter};
use crate::journal::{Payload, Reply};

/// Facts and waits, by key.
#[derive(Default)]
pub(crate) struct Links {
    facts: HashMap<Arc<str>, (u64, Taken)>,
    waits: HashMap<Arc<str>, Vec<Waiter>>,
    /// Waits whose fact is there.
    ready: VecDeque<(usize, u64, Taken)>,
    /// Keys that somebody has begun to wait for: perhaps their letter is there.
    pub(super) begun: Vec<Arc<str>>,
}

impl Links {
    /// A wait was polled for the first time.
    pub(crate) fn wait(&mut self, key: &Arc<str>, waiter: Waiter) {
        match self.facts.get(key) {
            Some((seq, taken)) => self.ready.push_back((waiter.op, *seq, taken.clone())),
            None => {
                self.waits.entry(key.clone()).or_default().push(waiter);
                self.begun.push(key.clone());
            }
        }
    }

    /// Who waits for this key, if anybody does: the one that was polled first.
    pub(crate) fn waits(&self, key: &str) -> Option<Waiter> {
        self.waits.get(key)?.first().copied()
    }

    /// Entry `seq` tells what became of it.
    pub(crate) fn put(&mut self, key: &Arc<str>, seq: u64, reply: Reply) {
        let taken: Taken = match reply {
            Reply::Value(value) => Ok(Payload::json(value.get())),
            Reply::Failure(failure) => Err(failure),
        };
        for waiter in self.waits.remove(key).into_iter().flatten() {
            self.ready.push_back((waiter.op, seq, taken.clone()));
        }
        self.facts.insert(key.clone(), (seq, taken));
    }

    /// Gives a wait its fact.
    pub(crate) fn hand_out(&mut self) -> Option<(usize, u64, Taken)> {
        self.ready.pop_front()
    }

    /// The wait is over, however it ended.
    pub(crate) fn leave(&mut self, key: &str, op: usize) {
        self.ready.retain(|(ready, ..)| *ready != op);
        if let Some(waits) = self.waits.get_mut(key) {
            waits.retain(|waiter| waiter.op != op);
            if waits.is_empty() {
                self.waits.remove(key);
            }
        }
    }

    /// Nobody can wait for this key any more.
    pub(crate) fn forget(&mut self, key: &str) {
        self.facts.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Reply {
        Reply::Value(serde_json::value::to_raw_value(&1).expect("a number"))
    }

    fn waiter(op: usize) -> Waiter {
        Waiter { op, decodes: |_| Ok(()) }
    }

    fn told(links: &mut Links) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| links.hand_out()).map(|(op, seq, _)| (op, seq)).collect()
    }

    #[test]
    fn every_wait_gets_the_same_fact_before_it_or_after() {
        let (mut links, key) = (Links::default(), Arc::from("child"));
        links.wait(&key, waiter(1));
        links.wait(&key, waiter(2));
        links.wait(&"other".into(), waiter(3));
        assert_eq!(told(&mut links), []);
        links.put(&key, 7, one());
        assert_eq!(told(&mut links), [(1, 7), (2, 7)]);
        links.wait(&key, waiter(4));
        assert_eq!(told(&mut links), [(4, 7)]);
        links.forget(&key);
        links.wait(&key, waiter(5));
        assert_eq!(told(&mut links), []);
    }

    #[test]
    fn a_wait_that_has_left_is_given_nothing() {
        let (mut links, key) = (Links::default(), Arc::from("child"));
        links.wait(&key, waiter(1));
        links.wait(&key, waiter(2));
        links.leave(&key, 1);
        assert_eq!(links.waits(&key).map(|waiter| waiter.op), Some(2));
        links.put(&key, 7, one());
        links.leave(&key, 2);
        assert_eq!((told(&mut links), links.waits(&key).is_none()), (vec![], true));
    }
}
