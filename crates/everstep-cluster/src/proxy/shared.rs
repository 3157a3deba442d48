//! What all connections of a proxy know: what they suffer, and what was ordered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    fault::{Fault, Line},
    moment::Order,
};

/// What all connections know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) cuts: watch::Sender<usize>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// What a new connection suffers.
    line: Line,
    pub(super) lines: HashMap<u64, watch::Sender<Line>>,
    pub(super) orders: Vec<Arc<Order>>,
    next: u64,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done by a panic in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection's number and line.
    pub(super) fn enter(&self) -> (u64, watch::Receiver<Line>) {
        let mut state = self.state();
        let (id, (line, suffers)) = (state.next, watch::channel(state.line));
        state.next += 1;
        state.lines.insert(id, line);
        (id, suffers)
    }

    pub(super) fn leave(&self, id: u64) {
        let left = self.state().lines.remove(&id);
        // Counted when both ends are told.
        if left.is_some_and(|line| line.borrow().cut) {
            self.cuts.send_modify(|cuts| *cuts += 1);
        }
    }

    /// One connection suffers a fault.
    pub(super) fn strike(&self, id: u64, fault: Fault) {
        if let Some(line) = self.state().lines.get(&id) {
            line.send_modify(|line| line.suffer(fault));
        }
    }

    /// The orders whose moment a part with these statements is, in a transaction that has executed those `before`.
    pub(super) fn due(&self, statements: &[String], before: &[String]) -> Vec<Arc<Order>> {
        let orders = self.state().orders.clone();
        orders.into_iter().filter(|order| order.comes_with(statements, before)).collect()
    }
}

impl State {
    pub(super) fn suffer(&mut self, fault: Fault) {
        if fault != Fault::Cut {
            self.line.suffer(fault);
        }
        self.lines.values().for_each(|line| line.send_modify(|line| line.suffer(fault)));
    }

    pub(super) fn heal(&mut self) {
        self.orders.clear();
        self.line.heal();
        self.lines.values().for_each(|line| line.send_modify(Line::heal));
    }
}
