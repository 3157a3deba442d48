use std::sync::Arc;

use everstep_weave::sync::atomic::{AtomicBool, Ordering};
use futures_util::future::{Either, select};
use shuttle::{future, thread};
use tokio::sync::watch;

use super::driver;
use crate::engine::Wakes;

/// A writer settles the turns of three runs, rings after each two, and the task that passes wakes on is dropped
/// somewhere: every driver hears of its turn, and nothing else wakes it.
pub(crate) fn every_driver_is_woken() {
    let wakes = Arc::new(Wakes::default());
    let (settled, stop) = (watch::Sender::new(0u64), watch::Sender::new(false));
    let passer = {
        let (wakes, settled, mut stop) = (wakes.clone(), settled.subscribe(), stop.subscribe());
        future::spawn(async move {
            let passing = std::pin::pin!(wakes.pass_on(settled));
            let stopped = std::pin::pin!(stop.changed());
            match select(stopped, passing).await {
                Either::Left(..) | Either::Right(..) => {}
            }
        })
    };
    let runs: Vec<_> = (0..3).map(|_| driver::new()).collect();
    let drivers: Vec<_> = runs.iter().cloned().map(|(news, root)| {
        future::spawn(driver::drive(move |waker| driver::settled_and_trouble(&news, &root, waker).0 == 1))
    }).collect();
    let is_rung = Arc::new(AtomicBool::new(false));
    let writer = {
        let (wakes, is_rung) = (wakes.clone(), is_rung.clone());
        thread::spawn(move || {
            for (i, (news, root)) in runs.iter().enumerate() {
                news.settle(None, root, &wakes);
                if i > 0 {
                    settled.send_modify(|n| *n += 1);
                }
            }
            is_rung.store(true, Ordering::SeqCst);
            settled
        })
    };
    stop.send_modify(|stop| *stop = true);
    for driver in drivers {
        future::block_on(driver).expect("no panic");
    }
    writer.join().expect("no panic");
    future::block_on(passer).expect("no panic");
    assert!(is_rung.load(Ordering::SeqCst));
}
