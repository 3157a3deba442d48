use std::{sync::Arc, time::Duration};

use everstep_weave::sync::{FOR_EVER, Mutex};
use shuttle::{future::block_on, rand::Rng, thread};
use tokio::sync::oneshot;

use crate::{
    op::{Op, Weight},
    queue::{Linger, Queue, Taken},
    store::RunId,
};

/// A time that may run out at any moment.
const A_WHILE: Duration = Duration::from_micros(100);

/// What became of every operation, by pusher and number.
#[derive(Default)]
struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    taken: Vec<(usize, usize)>,
    /// Dropped without having been taken: its caller hears that the store is closed.
    closed: Vec<(usize, usize)>,
    dropped: usize,
}

struct Item {
    label: (usize, usize),
    weight: Weight,
    /// Gone when it is taken: that answers whoever pushed it.
    answer: Mutex<Option<oneshot::Sender<()>>>,
    ledger: Arc<Ledger>,
}

impl Op for Item {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn label(&self) -> (usize, usize) {
        self.label
    }

    fn taken(&self) {
        let answer = self.answer.lock().expect("no panic with it").take();
        self.ledger.0.lock().expect("no panic with it").taken.push(self.label);
        let _ = answer.unwrap_or_else(|| panic!("{:?} was taken twice", self.label)).send(());
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let closed = self.answer.lock().expect("no panic with it").is_some();
        let mut state = self.ledger.0.lock().expect("no panic with it");
        state.dropped += 1;
        if closed {
            state.closed.push(self.label);
        }
    }
}

/// Pushes one; the answer says whether it was taken.
fn push(
    queue: &Queue,
    ledger: &Arc<Ledger>,
    label: (usize, usize),
    weight: Weight,
) -> oneshot::Receiver<()> {
    let (send, answer) = oneshot::channel();
    let (answers, ledger) = (Mutex::new(Some(send)), ledger.clone());
    queue.push(Box::new(Item { label, weight, answer: answers, ledger }));
    answer
}

/// Pushes so many and waits for all answers, as callers do; how many were taken.
fn call(queue: &Queue, ledger: &Arc<Ledger>, pusher: usize, count: usize, weight: Weight) -> usize {
    let answers: Vec<_> = (0..count).map(|n| push(queue, ledger, (pusher, n), weight)).collect();
    answers.into_iter().filter_map(|answer| block_on(answer).ok()).count()
}

fn linger() -> Linger {
    let until = shuttle::rand::thread_rng().gen_range(0..4);
    Linger { until, at_most: if until == 0 { Duration::ZERO } else { A_WHILE } }
}

/// Takes as the writer does, until it is to stop; `idle` is how long it trusts its wakes.
fn write_all(queue: &Queue, idle: Duration) {
    loop {
        match queue.take(idle, linger()) {
            Taken::Ops(ops) => {
                ops.iter().for_each(|op| op.taken());
                queue.leave(ops);
            }
            Taken::Idle => {}
            Taken::Stop => return queue.end(),
        }
    }
}

fn check_order(state: &State, pushers: usize) {
    for pusher in 0..pushers {
        let taken: Vec<_> = state.taken.iter().filter(|(by, _)| *by == pusher).collect();
        assert!(taken.is_sorted(), "{pusher} is out of order: {taken:?}");
    }
}

/// Three push, one takes, and the last handle goes when all have pushed: each is taken once, in its pusher's order, and
/// nobody relies on a time that runs out.
pub(crate) fn everything_is_taken() {
    let (queue, ledger) = (Arc::new(Queue::default()), Arc::<Ledger>::default());
    let writer = {
        let queue = queue.clone();
        thread::spawn(move || write_all(&queue, FOR_EVER))
    };
    let pushers = [2, 2, 1].into_iter().enumerate().map(|(pusher, count)| {
        let (queue, ledger) = (queue.clone(), ledger.clone());
        thread::spawn(move || assert_eq!(call(&queue, &ledger, pusher, count, Weight::Client), count))
    });
    pushers.collect::<Vec<_>>().into_iter().for_each(|pusher| pusher.join().expect("no panic"));
    queue.stop();
    writer.join().expect("no panic");
    let state = ledger.0.lock().expect("no panic with it");
    assert_eq!((state.taken.len(), state.dropped), (5, 5));
    check_order(&state, 3);
}

/// As it never should be: somebody still pushes when the writer ends. Who is not taken is dropped, which answers him.
pub(crate) fn who_pushes_at_the_end_is_answered() {
    let (queue, ledger) = (Arc::new(Queue::default()), Arc::<Ledger>::default());
    let writer = {
        let queue = queue.clone();
        thread::spawn(move || write_all(&queue, A_WHILE))
    };
    let pushers = (0..2).map(|pusher| {
        let (queue, ledger) = (queue.clone(), ledger.clone());
        thread::spawn(move || {
            call(&queue, &ledger, pusher, 2, Weight::Client);
        })
    });
    let pushers: Vec<_> = pushers.collect();
    queue.stop();
    pushers.into_iter().for_each(|pusher| pusher.join().expect("no panic"));
    writer.join().expect("no panic");
    let state = ledger.0.lock().expect("no panic with it");
    assert_eq!(state.dropped, 4, "an answer is still waited for");
    assert_eq!(state.taken.len() + state.closed.len(), 4);
    check_order(&state, 2);
}

/// The disk is full until a client has heard so: clients are taken out at once, turns stay in their order.
pub(crate) fn clients_do_not_wait_for_space() {
    let (queue, ledger) = (Arc::new(Queue::default()), Arc::<Ledger>::default());
    let writer = {
        let queue = queue.clone();
        thread::spawn(move || {
            let mut clients = 0;
            while clients < 2 {
                // For ever: a client that does not wake the writer would wait for space.
                for op in queue.take_impatient(FOR_EVER) {
                    assert_eq!(op.weight(), Weight::Client, "{:?} waits for space", op.label());
                    op.taken();
                    clients += 1;
                }
            }
            write_all(&queue, FOR_EVER);
        })
    };
    let runs = {
        let (queue, ledger) = (queue.clone(), ledger.clone());
        thread::spawn(move || assert_eq!(call(&queue, &ledger, 0, 2, Weight::Turn(RunId(1))), 2))
    };
    // One after the other: each has heard before the next comes.
    for n in 0..2 {
        assert!(block_on(push(&queue, &ledger, (1, n), Weight::Client)).is_ok());
    }
    runs.join().expect("no panic");
    queue.stop();
    writer.join().expect("no panic");
    let state = ledger.0.lock().expect("no panic with it");
    assert_eq!((state.taken.len(), state.dropped), (4, 4));
    check_order(&state, 2);
}
