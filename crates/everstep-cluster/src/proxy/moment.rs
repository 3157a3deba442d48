//! When a fault strikes: told by the statement that a connection executes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use super::fault::Fault;

type IsIt = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The first time that a connection executes a statement of some kind, in any protocol. A statement that is prepared
/// does not count before it is executed, and then each time.
#[derive(Clone)]
pub struct Moment {
    is_it: IsIt,
    pub(super) when: When,
    /// Counted from one, over all connections; `None` is every one.
    nth: Option<usize>,
    /// What the transaction that it stands in has executed before.
    before: Option<String>,
}

/// On which side of the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    During,
    After,
}

impl Moment {
    /// Before the server gets a statement that contains this text, and everything that the client sends in one piece
    /// with it: until the next Sync. What it sent before is delivered.
    pub fn before(text: &str) -> Moment {
        Moment::new(text, When::Before)
    }

    /// As soon as the server has got it, and executes it in any case; whether before or after the client sees the fault
    /// is open. A cut cuts the client at once, and the server when it has answered: until then, what it does may still
    /// come into effect.
    pub fn during(text: &str) -> Moment {
        Moment::new(text, When::During)
    }

    /// When the server has executed it, so that a transaction which ends with it is committed, and the client has not
    /// got one byte of the answer. What it asked before is answered.
    pub fn after(text: &str) -> Moment {
        Moment::new(text, When::After)
    }

    fn new(text: &str, when: When) -> Moment {
        let text = text.to_string();
        Moment {
            is_it: Arc::new(move |statement| statement.contains(&text)),
            when,
            nth: Some(1),
            before: None,
        }
    }

    /// The statement must be one of these too.
    #[must_use]
    pub fn if_it(self, is_it: impl Fn(&str) -> bool + Send + Sync + 'static) -> Moment {
        let before = self.is_it;
        Moment { is_it: Arc::new(move |statement| before(statement) && is_it(statement)), ..self }
    }

    /// Only in a transaction that has executed a statement with this text before: of all commits, for instance, those of one
    /// kind of transaction.
    #[must_use]
    pub fn behind(self, text: &str) -> Moment {
        Moment { before: Some(text.to_string()), ..self }
    }

    /// The n-th such statement, counted from one over all connections from now on.
    #[must_use]
    pub fn nth(self, nth: usize) -> Moment {
        Moment { nth: Some(nth), ..self }
    }

    /// Every such statement, until it is healed.
    #[must_use]
    pub fn every(self) -> Moment {
        Moment { nth: None, ..self }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moment").field("when", &self.when).field("nth", &self.nth).finish_non_exhaustive()
    }
}

/// What was ordered for a moment.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) moment: Moment,
    pub(super) fault: Fault,
    seen: AtomicUsize,
    struck: watch::Sender<usize>,
}

impl Order {
    pub(super) fn new(moment: Moment, fault: Fault) -> Order {
        Order { moment, fault, seen: AtomicUsize::new(0), struck: watch::Sender::default() }
    }

    /// Whether the moment comes with statements that are executed together, in a transaction that has executed those
    /// `before`; that they came is counted.
    pub(super) fn comes_with(&self, statements: &[String], before: &[String]) -> bool {
        let Some(at) = statements.iter().position(|statement| (self.moment.is_it)(statement)) else {
            return false;
        };
        let mut earlier = before.iter().chain(&statements[..at]);
        if self.moment.before.as_ref().is_some_and(|text| !earlier.any(|statement| statement.contains(text)))
        {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        self.moment.nth.is_none_or(|nth| nth == seen)
    }

    pub(super) fn strikes(&self) {
        self.struck.send_modify(|struck| *struck += 1);
    }
}

/// What becomes of a fault that waits for its moment.
#[derive(Debug, Clone)]
pub struct Strike(pub(super) Arc<Order>);

impl Strike {
    /// How often it has struck.
    pub fn count(&self) -> usize {
        *self.0.struck.borrow()
    }

    /// Waits until it has struck; without end, if its moment never comes.
    pub async fn happened(&self) {
        self.reaches(1).await;
    }

    /// Waits until it has struck so often.
    pub async fn reaches(&self, many: usize) {
        let mut struck = self.0.struck.subscribe();
        struck.wait_for(|struck| *struck >= many).await.map(drop).expect("we hold who strikes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn come(moment: Moment) -> Vec<bool> {
        let order = Order::new(moment, Fault::Cut);
        let sent = [&["BEGIN"][..], &["COMMIT"], &["INSERT", "COMMIT"], &["ROLLBACK"], &["COMMIT"]];
        sent.iter()
            .map(|texts| order.comes_with(&texts.iter().map(ToString::to_string).collect::<Vec<_>>(), &[]))
            .collect()
    }

    #[test]
    fn the_first_the_nth_or_every_one_that_is_meant() {
        assert_eq!(come(Moment::before("COMMIT")), [false, true, false, false, false]);
        assert_eq!(come(Moment::after("COMMIT").nth(3)), [false, false, false, false, true]);
        assert_eq!(come(Moment::during("COMMIT").every()), [false, true, true, false, true]);
        assert_eq!(
            come(Moment::before("").if_it(|text| text.starts_with('R'))),
            [false, false, false, true, false]
        );
    }
}
