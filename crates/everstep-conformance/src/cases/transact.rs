//! Transactional steps: the user's rows and the record, together or not at all.

use std::sync::atomic::Ordering;

use everstep_core::{
    Status,
    journal::Payload,
    store::{LetterKind, StoreError, Transacted, Turn},
};

use crate::{
    Deed,
    desk::Desk,
    load::{Heard, Load},
    sample::{at, finished, given_back, parked, post, steps},
};

/// What became of a transactional step: `committed 1: 2` is letter 1 with the value 2.
async fn told(load: &Load, key: &str, deeds: &[Deed]) -> String {
    said(load.transact(key, deeds).await)
}

fn said(answer: Result<Transacted, StoreError>) -> String {
    match answer {
        Ok(Transacted::Committed { n, body }) => {
            format!("committed {n}: {}", String::from_utf8_lossy(&body.bytes))
        }
        Ok(Transacted::RolledBack(error)) => format!("rolled back: {error}"),
        Err(error) => format!("{:?}", Heard::error(&error)),
    }
}

fn writes(row: &str) -> Deed {
    Deed::Write(row.into())
}

fn fails() -> Deed {
    Deed::Fail("no".into())
}

pub(crate) async fn rows_and_record_come_together(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    assert_eq!(told(&load, "pay", &[writes("x"), writes("y")]).await, "committed 1: 2");
    assert_eq!(desk.rows().await, ["x", "y"]);
    let inbox = desk.another().await.store.inbox(load.run, 0).await.expect("reads");
    assert_eq!(inbox.len(), 1);
    let letter = &inbox[0].letter;
    assert_eq!((inbox[0].n, letter.kind, &*letter.name), (1, LetterKind::Recorded as u16, "pay"));
    assert_eq!((&letter.body, letter.at), (&Payload::json("2"), at(5)));
}

pub(crate) async fn a_step_asked_for_again_is_answered_with_its_record(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "committed 1: 1");
    assert_eq!(told(&load, "pay", &[writes("y"), writes("z")]).await, "committed 1: 1");
    assert_eq!(told(&load, "pay", &[fails()]).await, "committed 1: 1", "its job does not run");
    assert_eq!((desk.rows().await, desk.letters(load.run).await), (vec!["x".to_string()], vec![1]));
}

pub(crate) async fn a_withdrawn_step_does_not_run(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "committed 1: 1");
    load.withdrawn.store(true, Ordering::Release);
    assert!(told(&load, "late", &[writes("y")]).await.starts_with("rolled back: "));
    assert_eq!(told(&load, "pay", &[writes("z")]).await, "committed 1: 1", "what is committed stays so");
    assert_eq!((desk.rows().await, desk.letters(load.run).await), (vec!["x".to_string()], vec![1]));
}

pub(crate) async fn a_record_outlives_its_worker(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.another().await.worker().await);
    let load = worker.start("a").await;
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "committed 1: 1");
    taker.takes_over(&worker).await;
    let (claimed, load) = taker.claims_one().await;
    assert_eq!(claimed.row.inbox_n, 1);
    assert_eq!(told(&load, "pay", &[writes("y")]).await, "committed 1: 1");
    assert_eq!(desk.rows().await, ["x"]);
}

pub(crate) async fn a_step_that_fails_leaves_nothing(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    assert_eq!(told(&load, "pay", &[writes("x"), fails()]).await, "rolled back: no");
    assert!(desk.rows().await.is_empty() && desk.letters(load.run).await.is_empty());
    assert_eq!(desk.row("a").await.inbox_n, 0);
}

pub(crate) async fn a_step_that_panics_leaves_nothing(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    let said = told(&load, "pay", &[writes("x"), Deed::Panic("oh".into())]).await;
    assert_eq!(said, "rolled back: panicked: oh");
    assert!(desk.rows().await.is_empty() && desk.letters(load.run).await.is_empty());
}

pub(crate) async fn a_step_that_failed_may_be_tried_again(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(told(&load, "pay", &[fails()]).await, "rolled back: no");
    assert_eq!(load.adds([1]).await, Heard::Next(2), "its load goes on");
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "committed 1: 1");
}

pub(crate) async fn a_step_that_fails_hinders_no_other(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, b) = (worker.start("a").await, worker.start("b").await);
    let bad = b.transact("bad", &[writes("x"), fails()]);
    a.send(Turn { entries: steps([1]), ..a.turn() });
    let good = b.transact("good", &[writes("y")]);
    assert_eq!(said(bad.await), "rolled back: no");
    assert_eq!(a.hears().await, Heard::Next(2));
    assert_eq!(said(good.await), "committed 1: 1");
    assert_eq!(desk.rows().await, ["y"]);
}

pub(crate) async fn each_step_of_each_run_records_for_itself(desk: Desk) {
    let worker = desk.worker().await;
    let (a, b) = (worker.start("a").await, worker.start("b").await);
    assert_eq!(told(&a, "pay", &[writes("1")]).await, "committed 1: 1");
    assert_eq!(told(&b, "pay", &[writes("2")]).await, "committed 1: 1");
    assert_eq!(told(&a, "pay#2", &[writes("3")]).await, "committed 2: 1");
    assert_eq!(desk.rows().await, ["1", "2", "3"]);
}

pub(crate) async fn a_step_comes_after_the_turns_before_it(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    load.send(Turn { entries: steps([1]), ..load.turn() });
    let first = load.transact("pay", &[writes("x")]);
    load.send(Turn { entries: steps([2]), end: parked(None, 0), ..load.turn() });
    load.send(Turn { entries: steps([2]), end: parked(None, 1), ..load.turn() });
    let late = load.transact("late", &[writes("y")]);
    assert_eq!(load.hears().await, Heard::Next(2));
    assert_eq!(said(first.await), "committed 1: 1");
    assert_eq!(load.hears().await, Heard::Moved(1), "the record is a letter that came before");
    assert_eq!(load.hears().await, Heard::Next(3));
    assert_eq!(said(late.await), "Refused", "its load has ended by then");
    assert_eq!(desk.rows().await, ["x"]);
}

pub(crate) async fn a_step_that_nobody_waits_for_is_done(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    drop(load.transact("pay", &[writes("x")]));
    assert_eq!(told(&load, "pay", &[writes("y")]).await, "committed 1: 1");
    assert_eq!(desk.rows().await, ["x"]);
}

pub(crate) async fn a_record_counts_as_a_letter(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(told(&load, "pay", &[]).await, "committed 1: 0");
    assert_eq!(desk.row("a").await.inbox_n, 1);
    assert_eq!(load.ends(finished(Status::Completed, 0)).await, Heard::Moved(1));
    let turn = Turn { entries: steps([1]), takes: vec![1], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert!(desk.letters(load.run).await.is_empty());
    assert_eq!(load.ends(finished(Status::Completed, 1)).await, Heard::Next(2));
}

pub(crate) async fn a_record_nudges_nobody(desk: Desk) {
    let worker = desk.worker().await;
    let load = worker.start("a").await;
    assert_eq!(told(&load, "pay", &[]).await, "committed 1: 0");
    assert!(worker.nudged().await.is_empty());
}

pub(crate) async fn letters_and_records_are_numbered_together(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    assert_eq!(told(&load, "pay", &[]).await, "committed 2: 0");
    desk.post(post("a", 2)).await;
    assert_eq!(told(&load, "ship", &[]).await, "committed 4: 0");
    assert_eq!(desk.letters(load.run).await, [1, 2, 3, 4]);
}

pub(crate) async fn a_load_that_has_ended_makes_no_step(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.ends(given_back(at(0))).await, Heard::Next(1));
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "Refused");
    assert!(desk.rows().await.is_empty() && desk.letters(load.run).await.is_empty());
}

pub(crate) async fn a_load_that_was_refused_makes_no_step(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.adds([9]).await, Heard::Refused);
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "Refused");
    assert!(desk.rows().await.is_empty());
}

pub(crate) async fn another_workers_load_makes_no_step(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    let forged = Load::new(&other, load.run, load.load);
    assert_eq!(told(&forged, "pay", &[writes("x")]).await, "Refused");
    assert!(desk.rows().await.is_empty());
    assert_eq!(load.adds([1]).await, Heard::Next(2), "its owner is not hindered");
}

pub(crate) async fn a_fenced_worker_makes_no_step(desk: Desk) {
    let (slow, taker) = (desk.worker().await, desk.worker().await);
    let load = slow.start("a").await;
    taker.fences(&slow).await;
    assert_eq!(told(&load, "pay", &[writes("x")]).await, "Fenced");
    assert!(desk.rows().await.is_empty() && desk.letters(load.run).await.is_empty());
}

pub(crate) async fn the_job_of_another_store_is_refused(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let refused = load.transact_job("pay", Box::new("no job of any store")).await;
    assert!(matches!(refused, Err(StoreError::Unusable(_))), "{refused:?}");
    assert!(desk.letters(load.run).await.is_empty());
    assert_eq!(load.adds([1]).await, Heard::Next(2), "its load goes on");
}

pub(crate) async fn every_text_is_a_step(desk: Desk) {
    let load = desk.worker().await.start("a").await;
    let texts = ["", "ü/日本#2", "'; DROP TABLE everstep_run; --", "a\0b"];
    for (n, text) in (1..).zip(texts) {
        assert_eq!(told(&load, text, &[writes(text)]).await, format!("committed {n}: 1"));
        assert_eq!(told(&load, text, &[fails()]).await, format!("committed {n}: 1"));
    }
    let inbox = desk.store.inbox(load.run, 0).await.expect("reads");
    assert_eq!(inbox.iter().map(|received| &*received.letter.name).collect::<Vec<_>>(), texts);
    assert_eq!(desk.rows().await.len(), 4);
}
