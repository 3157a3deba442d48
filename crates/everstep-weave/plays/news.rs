use std::sync::Arc;

use shuttle::{future::block_on, thread};

use super::driver;
use crate::{driver::news::Trouble, engine::Wakes, store::StoreError};

/// Two turns become durable, the third is refused: the driver comes to know of the refusal, and has not told before
/// what the third turn was to make true.
pub(crate) fn nothing_refused_is_told() {
    let (news, root) = driver::new();
    let store = {
        let (news, root, wakes) = (news.clone(), root.clone(), Arc::new(Wakes::default()));
        thread::spawn(move || {
            news.settle(None, &root, &wakes);
            news.settle(None, &root, &wakes);
            news.settle(Some(Trouble::Refused(StoreError)), &root, &wakes);
        })
    };
    block_on(driver::drive(|waker| {
        let (settled, trouble) = driver::settled_and_trouble(&news, &root, waker);
        if trouble.is_some() {
            return true;
        }
        assert!(settled < 3, "the refused turn counts as durable");
        // As `all_durable` looks: after the count.
        let settled = news.settled_turns();
        assert!(news.is_troubled() || settled < 3, "the refused turn counts as durable");
        false
    }));
    store.join().expect("no panic");
}

/// A message and the engine's end reach a driver: it comes to know of both.
pub(crate) fn no_nudge_is_missed() {
    let (news, root) = driver::new();
    let others = [true, false].map(|nudges| {
        let (news, root) = (news.clone(), root.clone());
        thread::spawn(move || if nudges { news.nudge(&root) } else { news.stop(false, &root) })
    });
    let mut heard = false;
    block_on(driver::drive(|waker| {
        heard |= driver::nudged(&news, &root, waker);
        heard && news.stopping() == Some(false)
    }));
    others.into_iter().for_each(|thread| thread.join().expect("no panic"));
}
