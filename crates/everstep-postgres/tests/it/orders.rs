//! Openings that lock the same rows: they do it in one order.

use std::time::Duration;

use everstep_cluster::proxy::{Direction, Fault, Moment};
use everstep_core::store::{NewRun, Posted, Store as _};

use crate::{
    hand::{new_run, post},
    world::{World, another_client},
};

/// Letters of one drain were locked as they came. Two openings that sent to the same runs the other way round waited for each
/// other until the server ended one of their transactions, after a second; which came back with more, and after ten times
/// those who sent or started something heard that the store cannot write.
#[tokio::test(flavor = "multi_thread")]
async fn letters_that_cross_do_not_wait_for_each_other() {
    let world = World::new().await;
    let other = world.desk.options().open(&world.proxy.url()).await.expect("opens");
    // Harms nothing: what counts is how often it comes.
    let ended = world
        .proxy
        .at(Moment::before("ROLLBACK").every(), Fault::Delay(Direction::Both, Duration::from_micros(1)));
    let runs =
        ["a", "b", "mine", "yours", "first", "second"].map(|id| NewRun { claim: false, ..new_run(id) });
    world.store.start(runs.into(), None).await.expect("starts");
    let (begins, goes_on) = (another_client().await, another_client().await);
    let run = world.table("run");
    let locks = |ids: &str| format!("BEGIN; SELECT 1 FROM {run} WHERE text_id IN ({ids}) FOR UPDATE");
    begins.batch_execute(&locks("'first', 'second'")).await.expect("locks them");
    goes_on.batch_execute(&locks("'mine', 'yours'")).await.expect("locks them");
    // While a writer waits, what comes goes together into its next transaction.
    let mut sent = vec![world.store.post(post("first", 1)), other.post(post("second", 2))];
    world.waiting(2).await;
    sent.extend(["a", "mine", "b"].map(|to| world.store.post(post(to, 3))));
    sent.extend(["b", "yours", "a"].map(|to| other.post(post(to, 4))));
    begins.batch_execute("COMMIT").await.expect("lets them go");
    for sent in sent.drain(..2) {
        assert!(matches!(sent.await, Ok(Posted::Added)));
    }
    world.waiting(2).await;
    goes_on.batch_execute("COMMIT").await.expect("lets them go");
    for sent in sent {
        assert!(matches!(sent.await, Ok(Posted::Added)));
    }
    assert_eq!(ended.count(), 0);
}
