//! The store on a database that is as unkind as any that accepts its SQL: it does all that it must; and what that once
//! found.

use std::{collections::BTreeSet, time::Duration};

use everstep_cluster::proxy::{Direction, Fault, Moment, Proxy};
use everstep_conformance::conformance_tests;
use everstep_core::store::{Inspect as _, NewRun, Store as _, Transacted};

use crate::{
    conformance::with_table,
    fixture::Desk,
    hand::{Hand, new_run},
    world::another_client,
};

fn bench() -> Desk {
    with_table(Desk::hostile())
}

conformance_tests!(bench);

/// A read that cannot be put in an order was tried three times, and one in some hundred came to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_does_not_hear_of_disorder() {
    let desk = Desk::hostile();
    let store = desk.open().await;
    for n in 0..2000 {
        assert!(store.run("a".into()).await.unwrap_or_else(|error| panic!("read {n}: {error}")).is_none());
    }
}

/// The first statements of an opening were tried once.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_does_not_hear_of_disorder() {
    let desk = Desk::hostile();
    let Some(seed) = desk.seed() else { unreachable!("it is hostile") };
    for more in 0..40 {
        let options = desk.options().hostile(seed.wrapping_add(more));
        options.open(&Desk::url()).await.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A look before the step that could not be put in an order counted as a try of the step.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_does_not_fail_for_looks_that_were_out_of_order() {
    let desk = with_table(Desk::hostile());
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let held = hand.start(new_run("a")).await;
    for n in 0..300 {
        let text = n.to_string();
        let done = held.transacts(&format!("t{n}"), &desk.table("mine"), &text).await.expect("is answered");
        assert!(matches!(done, Transacted::Committed { .. }), "step {n}: {done:?}");
    }
    let count = format!("SELECT count(*), count(DISTINCT text) FROM {}", desk.table("mine"));
    let rows = desk.asks(async |client| client.query_one(&count, &[]).await.expect("counts"));
    assert_eq!((rows.get::<_, i64>(0), rows.get::<_, i64>(1)), (300, 300));
}

/// Runs that `SKIP LOCKED` passed over waited for the next claim, which comes when something else is due.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_takes_also_what_skip_locked_steps_over() {
    let desk = Desk::hostile();
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let runs = (0..90).map(|n| NewRun { claim: false, ..new_run(&format!("r{n}")) }).collect();
    store.start(runs, None).await.expect("starts");
    assert_eq!(hand.claims().await.len(), 90);
    let other = Hand::of(&store).await;
    assert_eq!(other.takes_over(&hand).await, 90, "and so does whoever frees them");
    let freed: BTreeSet<_> = other.claims().await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(freed.len(), 90);
}

/// Claims waited for whoever had a due run locked, and with them everything behind them in the queue: for as long as the
/// transaction of a client that was gone stood.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_keeps_locked_holds_back_no_other() {
    let desk = Desk::hostile();
    let store = desk.open().await;
    let hand = Hand::of(&store).await;
    let runs = ["a", "b"].map(|id| NewRun { claim: false, ..new_run(id) }).into();
    store.start(runs, None).await.expect("starts");
    let somebody = another_client().await;
    let locks = format!("BEGIN; SELECT 1 FROM {} WHERE text_id = 'a' FOR UPDATE", desk.table("everstep_run"));
    somebody.batch_execute(&locks).await.expect("locks it");
    assert_eq!(hand.claims().await.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["b"]);
    somebody.batch_execute("COMMIT").await.expect("lets it go");
    assert_eq!(hand.claims().await.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["a"]);
}

/// After each hint that a database without hints refused, the connection was made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_hints_is_asked_for_them_once() {
    let desk = Desk::hostile();
    let proxy = Proxy::start(&Desk::url()).await.expect("listens");
    // Harms nothing: what counts is how often it comes.
    let asked = proxy.at(
        Moment::before("feature_not_supported").every(),
        Fault::Delay(Direction::Both, Duration::from_micros(1)),
    );
    let store = desk.options().open(&proxy.url()).await.expect("opens");
    let hand = Hand::of(&store).await;
    let mut held = hand.start(new_run("a")).await;
    for seq in 1..300 {
        assert_eq!(held.adds(seq).await, format!("next {}", seq + 1));
        // Tells others.
        store.post(crate::hand::post("a", u128::from(seq))).await.expect("is sent");
    }
    asked.happened().await;
    assert_eq!(asked.count(), 1);
}
