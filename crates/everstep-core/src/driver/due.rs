//! What is due when. A sorted queue: nearly always there is one deadline or they come in order, and a tree would take a
//! node of eleven places for one.

use std::collections::VecDeque;

use crate::time::Timestamp;

/// The deadlines of operations, the earliest first.
#[derive(Default)]
pub(crate) struct Due(VecDeque<(Timestamp, usize)>);

impl Due {
    pub(crate) fn first(&self) -> Option<(Timestamp, usize)> {
        self.0.front().copied()
    }

    pub(crate) fn insert(&mut self, at: Timestamp, op: usize) {
        let Err(place) = self.0.binary_search(&(at, op)) else { return };
        if self.0.capacity() == 0 {
            self.0.reserve_exact(1);
        }
        self.0.insert(place, (at, op));
    }

    pub(crate) fn remove(&mut self, at: Timestamp, op: usize) {
        if let Ok(place) = self.0.binary_search(&(at, op)) {
            self.0.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_each_is_there_once() {
        let mut due = Due::default();
        for (at, op) in [(5, 1), (3, 2), (5, 0), (9, 3), (3, 2)] {
            due.insert(Timestamp(at), op);
        }
        due.remove(Timestamp(5), 0);
        due.remove(Timestamp(5), 7);
        let mut told = Vec::new();
        while let Some((at, op)) = due.first() {
            due.remove(at, op);
            told.push((at.0, op));
        }
        assert_eq!(told, [(3, 2), (5, 1), (9, 3)]);
    }
}
