//! How a store tells workers and waiting clients that something happened. A hint that is never lost: listen, then
//! look, then wait.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::RunId;
use crate::{
    journal::Outcome,
    status::Status,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        watch,
    },
};

/// What a listener is told: the run ended so, or has come to a status in which nothing more happens by itself.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its status.
    pub status: Status,
    /// Its outcome, if whoever rang had it at hand; else it is read from the store.
    pub outcome: Option<Outcome>,
}

/// A listener's number, and how it is told.
type Waiting = (u64, oneshot::Sender<Ended>);

/// Rung by the store after its commits.
#[derive(Debug)]
pub struct Bell {
    claimable: watch::Sender<u64>,
    inbox: watch::Sender<u64>,
    foreign: watch::Sender<u64>,
    /// As `foreign`, for workers: that runs may be due.
    foreign_due: watch::Sender<u64>,
    /// As `foreign`, for workers: that messages may have come.
    foreign_letters: watch::Sender<u64>,
    settled: watch::Sender<u64>,
    next: AtomicU64,
    waiting: AtomicUsize,
    listeners: Mutex<HashMap<RunId, Vec<Waiting>>>,
    /// How many readers there are, of all runs.
    reading: AtomicUsize,
    readers: Mutex<HashMap<RunId, Said>>,
}

/// What the readers of one run wait for, and how many they are.
#[derive(Debug)]
struct Said {
    rung: watch::Sender<u64>,
    readers: usize,
}

impl Default for Bell {
    fn default() -> Self {
        Bell {
            claimable: watch::Sender::new(0),
            inbox: watch::Sender::new(0),
            foreign: watch::Sender::new(0),
            foreign_due: watch::Sender::new(0),
            foreign_letters: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            next: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            listeners: Mutex::default(),
            reading: AtomicUsize::new(0),
            readers: Mutex::default(),
        }
    }
}

impl Bell {
    /// A free run became claimable, or is to become so at a new time.
    pub fn ring_claimable(&self) {
        self.claimable.send_modify(|n| *n += 1);
    }

    /// A message reached a run that some worker owns.
    pub fn ring_inbox(&self) {
        self.inbox.send_modify(|n| *n += 1);
    }

    /// Another process, or another opening of the store, has committed something.
    pub fn ring_foreign(&self) {
        self.ring_foreign_said();
        self.ring_foreign_due();
        self.ring_foreign_letters();
    }

    /// As [`Bell::ring_foreign`], when it is known to be no more than runs that are due, or will be.
    pub fn ring_foreign_due(&self) {
        self.foreign_due.send_modify(|n| *n += 1);
    }

    /// As [`Bell::ring_foreign`], when it is known to be no more than messages for runs that some worker owns.
    pub fn ring_foreign_letters(&self) {
        self.foreign_letters.send_modify(|n| *n += 1);
    }

    /// As [`Bell::ring_foreign`], when it is known to be nothing that a worker has to do something about.
    pub fn ring_foreign_said(&self) {
        self.foreign.send_modify(|n| *n += 1);
    }

    /// Whether anybody waits for whatever others commit, the ends of runs included: a store that has to look for that need
    /// not look for nobody. Workers are not meant: what concerns them is less, and a store looks for it in any case.
    pub fn has_hearers(&self) -> bool {
        self.foreign.is_heard()
    }

    /// The receipts of one transaction were all told that it is durable: who waits for them is woken now, not one by
    /// one.
    pub fn ring_settled(&self) {
        self.settled.send_modify(|n| *n += 1);
    }

    /// Whether anybody waits for the end of any run: a store need not make an [`Ended`] for nobody.
    pub fn has_listeners(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// A run ended or became stuck. `ended` is called only if somebody waits for it.
    pub fn ring_ended(&self, run: RunId, ended: impl FnOnce() -> Ended) {
        if !self.has_listeners() {
            return;
        }
        let heard = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        let Some(heard) = heard else { return };
        self.waiting.fetch_sub(heard.len(), Ordering::AcqRel);
        let ended = ended();
        for (_, listener) in heard {
            let _ = listener.send(ended.clone());
        }
    }

    /// Whether anybody waits for what any run says.
    pub fn has_readers(&self) -> bool {
        self.reading.load(Ordering::Acquire) > 0
    }

    /// A run said something to its readers.
    pub fn ring_said(&self, run: RunId) {
        if !self.has_readers() {
            return;
        }
        if let Some(said) = self.readers.lock().unwrap_or_else(PoisonError::into_inner).get(&run) {
            said.rung.send_modify(|n| *n += 1);
        }
    }

    /// Counts up when free runs become claimable, or are to become so at a new time.
    pub fn claimable(&self) -> watch::Receiver<u64> {
        self.claimable.subscribe()
    }

    /// Counts up when messages reach owned runs.
    pub fn inbox(&self) -> watch::Receiver<u64> {
        self.inbox.subscribe()
    }

    /// Counts up with [`Bell::ring_settled`].
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// Counts up with commits of others.
    pub fn foreign(&self) -> watch::Receiver<u64> {
        self.foreign.subscribe()
    }

    /// As [`Bell::foreign`], for who looks for due runs.
    pub fn foreign_due(&self) -> watch::Receiver<u64> {
        self.foreign_due.subscribe()
    }

    /// As [`Bell::foreign`], for who looks for messages.
    pub fn foreign_letters(&self) -> watch::Receiver<u64> {
        self.foreign_letters.subscribe()
    }

    /// Listens for the end of `run`, from now on: look at its row after this, then wait. Also counts what others do from
    /// now on: they may end it, and ring only [`Bell::foreign`].
    pub fn listen(self: &std::sync::Arc<Self>, run: RunId) -> Listener {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let foreign = self.foreign();
        let (send, ended) = oneshot::channel();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.entry(run).or_default().push((number, send));
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Listener { bell: self.clone(), run, number, ended, foreign }
    }

    /// Listens for what `run` says to its readers, from now on: read what there is after this, then wait. What others
    /// commit rings only [`Bell::foreign`].
    pub fn read(self: &std::sync::Arc<Self>, run: RunId) -> Reading {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let said = readers.entry(run).or_insert_with(|| Said { rung: watch::Sender::new(0), readers: 0 });
        said.readers += 1;
        self.reading.fetch_add(1, Ordering::AcqRel);
        Reading { bell: self.clone(), run, rung: said.rung.subscribe() }
    }
}

/// Hears whenever one run says something to its readers.
#[derive(Debug)]
pub struct Reading {
    bell: std::sync::Arc<Bell>,
    run: RunId,
    rung: watch::Receiver<u64>,
}

impl Reading {
    /// Resolves when the run has said something since this was last heard. Cancel-safe.
    pub async fn said(&mut self) {
        self.rung.changed().await.expect("the bell keeps the sender as long as somebody reads");
    }

    /// Whether it has.
    pub fn has_said(&self) -> bool {
        self.rung.has_changed().expect("as above")
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut readers = self.bell.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(said) = readers.get_mut(&self.run) else { return };
        said.readers -= 1;
        self.bell.reading.fetch_sub(1, Ordering::AcqRel);
        if said.readers == 0 {
            readers.remove(&self.run);
        }
    }
}

/// Waits for the end of one run; does not hold up others when it is dropped.
#[derive(Debug)]
pub struct Listener {
    bell: std::sync::Arc<Bell>,
    run: RunId,
    number: u64,
    ended: oneshot::Receiver<Ended>,
    foreign: watch::Receiver<u64>,
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// The end of its run.
    Ended(Ended),
    /// Something of others: perhaps that end.
    Foreign,
}

impl Listener {
    /// Whatever comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Heard {
        tokio::select! {
            biased;
            ended = &mut self.ended => Heard::Ended(ended.expect("the bell keeps the sender until it is rung")),
            _ = self.foreign.changed() => Heard::Foreign,
        }
    }

    /// The end of the run, as soon as the bell is rung for it. Cancel-safe.
    pub async fn ended(&mut self) -> Option<Ended> {
        (&mut self.ended).await.ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.bell.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = listeners.get_mut(&self.run) else { return };
        let before = all.len();
        all.retain(|(number, _)| *number != self.number);
        self.bell.waiting.fetch_sub(before - all.len(), Ordering::AcqRel);
        if all.is_empty() {
            listeners.remove(&self.run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// faults.md rows 17 to 19: a listener that gave up neither wakes others nor swallows what was theirs.
    #[tokio::test]
    async fn one_listener_that_gives_up_takes_nothing_from_the_others() {
        let bell = std::sync::Arc::new(Bell::default());
        let mut stays = bell.listen(RunId(1));
        let leaves = bell.listen(RunId(1));
        let mut other = bell.listen(RunId(2));
        drop(leaves);
        let ended = || Ended { status: Status::Completed, outcome: None };
        bell.ring_ended(RunId(1), ended);
        assert_eq!(stays.ended().await.map(|e| e.status), Some(Status::Completed));
        assert!(bell.has_listeners(), "run 2 is still waited for");
        bell.ring_ended(RunId(2), ended);
        assert!(other.ended().await.is_some());
        drop((stays, other));
        assert!(!bell.has_listeners());
    }

    #[tokio::test]
    async fn readers_hear_of_their_run_as_long_as_they_read() {
        let bell = std::sync::Arc::new(Bell::default());
        let (mut one, mut two, other) = (bell.read(RunId(1)), bell.read(RunId(1)), bell.read(RunId(2)));
        bell.ring_said(RunId(1));
        bell.ring_said(RunId(1));
        one.said().await;
        assert!(!one.has_said(), "what rang before is one ring");
        assert!(!other.has_said(), "another run's");
        drop(one);
        two.said().await;
        bell.ring_said(RunId(1));
        two.said().await;
        drop((two, other));
        bell.ring_said(RunId(1));
        assert!(!bell.has_readers());
        assert!(bell.readers.lock().expect("unpoisoned").is_empty());
    }
}
