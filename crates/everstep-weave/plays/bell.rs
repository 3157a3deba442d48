use std::sync::Arc;

use everstep_weave::sync::Mutex;
use shuttle::{future::block_on, thread};

use crate::{
    status::Status,
    store::{Bell, RunId, bell::{Ended, Heard}},
};

const RUN: RunId = RunId(1);

/// A run's row, as a commit leaves it.
#[derive(Default)]
struct Row(Mutex<(bool, usize)>);

impl Row {
    fn end(&self) {
        self.0.lock().expect("no panic with it").0 = true;
    }

    fn is_over(&self) -> bool {
        self.0.lock().expect("no panic with it").0
    }

    fn become_due(&self) {
        self.0.lock().expect("no panic with it").1 += 1;
    }

    fn claim(&self) -> usize {
        std::mem::take(&mut self.0.lock().expect("no panic with it").1)
    }
}

fn ended() -> Ended {
    Ended { status: Status::Completed, outcome: None }
}

/// Listen, look, wait, and look again after what others did: as `Run::result` does.
fn waits_for_the_end(bell: &Arc<Bell>, row: &Row) {
    let mut listener = bell.listen(RUN);
    let mut over = row.is_over();
    while !over {
        over = match block_on(listener.next()) {
            Heard::Ended(_) => true,
            Heard::Foreign => row.is_over(),
        };
    }
}

/// A run ends while two wait for it and a third gives up: both hear it, and nobody is counted as waiting afterwards.
pub(crate) fn an_end_is_heard() {
    check(|bell| bell.ring_ended(RUN, ended));
}

/// The same, when another process ends it.
pub(crate) fn an_end_made_by_others_is_heard() {
    check(Bell::ring_foreign);
}

fn check(ring: impl FnOnce(&Bell)) {
    let (bell, row) = (Arc::new(Bell::default()), Arc::new(Row::default()));
    let waiting = (0..2).map(|_| {
        let (bell, row) = (bell.clone(), row.clone());
        thread::spawn(move || waits_for_the_end(&bell, &row))
    });
    let waiting: Vec<_> = waiting.collect();
    let gives_up = {
        let bell = bell.clone();
        thread::spawn(move || drop(bell.listen(RUN)))
    };
    row.end();
    ring(&bell);
    waiting.into_iter().chain([gives_up]).for_each(|thread| thread.join().expect("no panic"));
    assert!(!bell.has_listeners(), "somebody who left is still counted");
}

/// Listen, look, wait: as one reads a stream. One reads two items, another gives up.
pub(crate) fn what_a_run_says_is_read() {
    let (bell, said) = (Arc::new(Bell::default()), Arc::new(Row::default()));
    let reads = {
        let (bell, said) = (bell.clone(), said.clone());
        thread::spawn(move || block_on(read_all(&bell, &said)))
    };
    let gives_up = {
        let bell = bell.clone();
        thread::spawn(move || drop(bell.read(RUN)))
    };
    for _ in 0..2 {
        said.become_due();
        bell.ring_said(RUN);
    }
    [reads, gives_up].into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert!(!bell.has_readers(), "somebody who left is still counted");
}

async fn read_all(bell: &Arc<Bell>, said: &Row) {
    let mut read = 0;
    while read < 2 {
        let mut reading = bell.read(RUN);
        let new = said.claim();
        if new == 0 {
            reading.said().await;
        }
        read += new;
    }
}

/// Forget, look, wait: as the claiming of a worker does, without the time after which it looks anyway.
pub(crate) fn what_becomes_claimable_is_claimed() {
    let (bell, row) = (Arc::new(Bell::default()), Arc::new(Row::default()));
    let claims = {
        let (bell, row) = (bell.clone(), row.clone());
        thread::spawn(move || block_on(claim_all(&bell, &row)))
    };
    let makes = (0..2).map(|_| {
        let (bell, row) = (bell.clone(), row.clone());
        thread::spawn(move || {
            row.become_due();
            bell.ring_claimable();
        })
    });
    makes.collect::<Vec<_>>().into_iter().chain([claims]).for_each(|thread| thread.join().expect("no panic"));
}

async fn claim_all(bell: &Bell, row: &Row) {
    let (mut claimable, mut taken) = (bell.claimable(), 0);
    while taken < 2 {
        claimable.mark_unchanged();
        taken += row.claim();
        if taken < 2 {
            claimable.changed().await.expect("the bell is there");
        }
    }
}
