use std::sync::Arc;

use everstep_weave::sync::Mutex;
use shuttle::{future::block_on, thread};
use tokio::sync::watch;

use super::driver;
use crate::{driver::run::RunCore, engine::residents::Residents, store::RunId};

const RUN: RunId = RunId(1);
const OTHER: RunId = RunId(2);
const MAX: usize = 10;

/// A run's row and inbox in the store.
#[derive(Default)]
struct Store(Mutex<Row>);

#[derive(Default)]
struct Row {
    owned: bool,
    letters: usize,
    nudged: bool,
}

impl Store {
    fn claim(&self) {
        self.0.lock().expect("no panic with it").owned = true;
    }

    fn letters(&self) -> usize {
        self.0.lock().expect("no panic with it").letters
    }

    /// Whether somebody owns the run, and is to be told.
    fn post(&self) -> bool {
        let mut row = self.0.lock().expect("no panic with it");
        row.letters += 1;
        row.nudged |= row.owned;
        row.owned
    }

    fn nudged(&self) -> Vec<RunId> {
        let mut row = self.0.lock().expect("no panic with it");
        if std::mem::take(&mut row.nudged) { vec![RUN] } else { Vec::new() }
    }
}

/// A run comes into memory, is read and driven, while two messages reach it and another run comes and goes: its driver
/// hears of all messages.
pub(crate) fn a_message_finds_its_run() {
    let (residents, store) = (Arc::new(Residents::default()), Arc::new(Store::default()));
    let inbox = Arc::new(watch::Sender::new(0u64));
    let nudges = {
        let (residents, store, mut inbox) = (residents.clone(), store.clone(), inbox.subscribe());
        // As the duty of the worker does.
        thread::spawn(move || block_on(async move {
            loop {
                inbox.mark_unchanged();
                residents.nudge(store.nudged());
                if inbox.changed().await.is_err() {
                    return;
                }
            }
        }))
    };
    let comes_and_goes = {
        let residents = residents.clone();
        thread::spawn(move || {
            assert_eq!(residents.reserve(2, MAX), 2);
            let core = RunCore::new(OTHER);
            residents.unreserve(1);
            residents.enter(&core);
            residents.leave(&core);
        })
    };
    let posts = {
        let store = store.clone();
        thread::spawn(move || for _ in 0..2 {
            if store.post() {
                inbox.send_modify(|n| *n += 1);
            }
        })
    };
    residents.reserve_one();
    store.claim();
    let mut known = store.letters();
    let core = RunCore::new(RUN);
    residents.enter(&core);
    block_on(driver::drive(|waker| {
        if driver::nudged(&core.news, &core.root, waker) {
            known = store.letters();
        }
        known == 2
    }));
    residents.leave(&core);
    [posts, comes_and_goes, nudges].into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// The engine leaves while a run is in memory and another comes: both hear of it, or the other gets no place.
pub(crate) fn all_hear_of_the_end() {
    let residents = Arc::new(Residents::default());
    let drives = [RUN, OTHER].map(|run| {
        let residents = residents.clone();
        thread::spawn(move || {
            if residents.reserve(1, MAX) == 0 {
                return;
            }
            let core = RunCore::new(run);
            residents.enter(&core);
            block_on(driver::drive(|waker| {
                core.root.register_task(waker);
                core.news.stopping() == Some(true)
            }));
            residents.leave(&core);
        })
    });
    residents.stop(false);
    residents.stop(true);
    drives.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(residents.reserve(1, MAX), 0, "nobody comes any more");
}
