//! Promises: settled once, by whoever has a token, for the run that made them.

use everstep_core::{
    Status, Timestamp,
    journal::Kind,
    store::{Cut, Doomed, End, Letter, LetterKind, Post, Posted, Received, RunId, Say, To, Turn},
};

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{at, cut, entry, finished, letter, parked, post, steps},
    worker::Worker,
};

/// The hash of a token.
fn hash(token: u8) -> [u8; 32] {
    [token; 32]
}

fn promises(token: u8, key: &str) -> Say {
    Say::Promised { hash: hash(token), key: key.into(), expires: None }
}

fn expires(token: u8, key: &str, at: Timestamp) -> Say {
    Say::Promised { hash: hash(token), key: key.into(), expires: Some(at) }
}

/// What settles a promise: a letter of this id.
fn settles(token: u8, id: u128) -> Post {
    let letter = Letter { kind: LetterKind::PromiseSettled as u16, name: "".into(), ..letter(id) };
    Post { to: To::Promise(hash(token)), letter, ..post("", id) }
}

fn sent_at(post: Post, at: Timestamp) -> Post {
    Post { letter: Letter { at, ..post.letter }, ..post }
}

/// A run in a worker's memory that has made these promises.
async fn made(worker: &Worker, id: &str, says: impl IntoIterator<Item = Say>) -> Load {
    let mut load = worker.start(id).await;
    let turn = Turn { says: says.into_iter().collect(), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    load
}

/// Keys and ids of what a run was told.
async fn told(desk: &Desk, run: RunId) -> Vec<(String, u128)> {
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    inbox.iter().map(|Received { letter, .. }| (letter.name.to_string(), letter.id.0)).collect()
}

/// Seed 988 of the differential: of two stores one knew a token of a run that was deleted.
pub(crate) async fn a_deleted_run_leaves_no_token(desk: Desk) {
    let worker = desk.worker().await;
    let mut gone = made(&worker, "a", [promises(1, "first")]).await;
    assert_eq!(gone.ends(finished(Status::Completed, 0)).await, Heard::Next(1));
    let doomed = Doomed::of(&desk.row("a").await);
    assert_eq!(desk.store.delete(vec![doomed]).await.expect("deletes"), [true]);
    assert_eq!(desk.post(settles(1, 8)).await, Posted::NoSuchRun);
    let load = made(&worker, "b", [promises(1, "second")]).await;
    assert_eq!(desk.post(settles(1, 9)).await, Posted::Added);
    assert_eq!(told(&desk, load.run).await, [("second".to_string(), 9)]);
}

pub(crate) async fn a_promise_is_settled_by_its_hash(desk: Desk) {
    let load = made(&desk.worker().await, "a", [promises(1, "left/payment#2")]).await;
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Added);
    let inbox = desk.store.inbox(load.run, 0).await.expect("reads");
    let expected = Letter { name: "left/payment#2".into(), ..settles(1, 8).letter };
    assert_eq!(inbox, [Received { n: 1, letter: expected }]);
}

pub(crate) async fn a_hash_that_nobody_made_is_no_promise(desk: Desk) {
    assert_eq!(desk.post(settles(1, 8)).await, Posted::NoSuchRun);
    let load = made(&desk.worker().await, "a", [promises(1, "p")]).await;
    for byte in 0..32 {
        let mut other = hash(1);
        other[byte] ^= 0x80;
        let post = Post { to: To::Promise(other), ..settles(1, 8) };
        assert_eq!(desk.post(post).await, Posted::NoSuchRun, "byte {byte}");
    }
    assert!(told(&desk, load.run).await.is_empty());
}

pub(crate) async fn a_promise_is_settled_once(desk: Desk) {
    let mut load = made(&desk.worker().await, "a", [promises(1, "p")]).await;
    let other = desk.another().await;
    assert_eq!(other.post(settles(1, 8)).await, Posted::Added);
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Known);
    assert_eq!(desk.post(settles(1, 9)).await, Posted::Settled);
    assert_eq!(other.post(settles(1, 9)).await, Posted::Settled);
    assert_eq!(told(&desk, load.run).await, [("p".into(), 8)]);
    let turn = Turn { entries: steps([1]), takes: vec![1], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Known, "also when it was taken");
    assert_eq!(desk.post(settles(1, 9)).await, Posted::Settled);
    assert_eq!(desk.row("a").await.inbox_n, 1);
}

pub(crate) async fn a_promise_that_has_expired_is_not_settled(desk: Desk) {
    let worker = desk.worker().await;
    let says = [expires(1, "late", at(50)), expires(2, "now", at(50)), expires(3, "in time", at(50))];
    let load = made(&worker, "a", says).await;
    assert_eq!(desk.post(sent_at(settles(1, 1), at(51))).await, Posted::Expired);
    assert_eq!(desk.post(sent_at(settles(2, 2), at(50))).await, Posted::Expired);
    assert_eq!(desk.post(sent_at(settles(3, 3), at(49))).await, Posted::Added);
    assert_eq!(desk.post(sent_at(settles(3, 3), at(99))).await, Posted::Known, "what arrived has arrived");
    assert_eq!(desk.post(sent_at(settles(3, 4), at(99))).await, Posted::Settled);
    assert_eq!(told(&desk, load.run).await, [("in time".into(), 3)]);
}

pub(crate) async fn all_tokens_of_a_key_are_settled_together(desk: Desk) {
    let mut load = made(&desk.worker().await, "a", [promises(1, "p"), promises(2, "p")]).await;
    assert_eq!(desk.post(settles(2, 8)).await, Posted::Added);
    assert_eq!(desk.post(settles(1, 9)).await, Posted::Settled);
    let turn = Turn { says: vec![promises(3, "p")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(desk.post(settles(3, 9)).await, Posted::Settled);
    assert_eq!(told(&desk, load.run).await, [("p".into(), 8)]);
}

pub(crate) async fn each_promise_of_each_run_is_settled_for_itself(desk: Desk) {
    let worker = desk.worker().await;
    let a = made(&worker, "a", [promises(1, "p"), promises(2, "p#2")]).await;
    let b = made(&worker, "b", [promises(3, "p")]).await;
    for token in [1, 2, 3] {
        assert_eq!(desk.post(settles(token, token.into())).await, Posted::Added);
    }
    assert_eq!(told(&desk, a.run).await, [("p".into(), 1), ("p#2".into(), 2)]);
    assert_eq!(told(&desk, b.run).await, [("p".into(), 3)]);
}

pub(crate) async fn a_hash_that_is_known_changes_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let a = made(&worker, "a", [expires(1, "p", at(50))]).await;
    let b = made(&worker, "b", [promises(1, "q")]).await;
    assert_eq!(desk.post(sent_at(settles(1, 1), at(50))).await, Posted::Expired);
    assert_eq!(desk.post(sent_at(settles(1, 2), at(49))).await, Posted::Added);
    assert_eq!(told(&desk, a.run).await, [("p".into(), 2)]);
    assert!(told(&desk, b.run).await.is_empty());
}

pub(crate) async fn a_turn_that_was_not_written_makes_no_promise(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps([2]), says: vec![promises(1, "p")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Refused);
    let mut load = worker.start("b").await;
    desk.post(post("b", 1)).await;
    let turn = Turn { says: vec![promises(1, "p")], end: parked(None, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Moved(1));
    assert_eq!(desk.post(settles(1, 8)).await, Posted::NoSuchRun);
}

pub(crate) async fn a_promise_of_a_run_that_is_over_is_not_settled(desk: Desk) {
    let mut load = made(&desk.worker().await, "a", [promises(1, "p"), promises(2, "q")]).await;
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Added);
    let entries = vec![entry(1, Kind::Completed, "1")];
    let turn = Turn { entries, end: finished(Status::Completed, 1), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(desk.post(settles(2, 9)).await, Posted::Refused(Status::Completed));
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Known);
    assert_eq!(told(&desk, load.run).await, [("p".into(), 8)]);
}

pub(crate) async fn a_letter_to_a_promise_wakes_its_run(desk: Desk) {
    let worker = desk.worker().await;
    let load = made(&worker, "a", [promises(1, "p"), promises(2, "q")]).await;
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Added);
    assert_eq!(worker.nudged().await, [load.run]);
    let mut load = load;
    assert_eq!(load.ends(parked(Some(at(9000)), 1)).await, Heard::Next(1));
    assert_eq!(desk.post(settles(2, 9)).await, Posted::Added);
    let (claimed, _) = worker.claims_one().await;
    assert_eq!((claimed.row.status, claimed.row.inbox_n), (Status::Waiting, 2));
}

pub(crate) async fn a_restart_ends_what_was_promised(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = made(&worker, "a", [promises(1, "p"), promises(2, "q")]).await;
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Added);
    assert_eq!(desk.post(post("a", 9)).await, Posted::Added);
    let first = Box::new(entry(0, Kind::Started, "{}"));
    let turn = Turn {
        entries: vec![entry(1, Kind::Restarted, "{}")],
        end: Some(End::Restarted { first }),
        ..load.turn()
    };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(told(&desk, load.run).await, [("go".into(), 9)], "a signal is for all generations");
    assert_eq!(desk.post(settles(2, 10)).await, Posted::NoSuchRun);
    let next = desk.store.reload(worker.fence, load.run).await.expect("reads").expect("is its own");
    let mut load = worker.load(&next);
    let turn = Turn { says: vec![promises(3, "p")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(desk.post(settles(3, 11)).await, Posted::Added);
    assert_eq!(told(&desk, load.run).await, [("go".into(), 9), ("p".into(), 11)]);
}

/// A failed run whose promise was made with token 1 by entry 1, which is cut off.
async fn cut_off(desk: &Desk, worker: &Worker, settled: bool, reopens: &[&str]) -> RunId {
    let mut load = worker.start("a").await;
    let says = vec![promises(1, "p")];
    let turn = Turn { entries: vec![entry(1, Kind::PromiseMade, "{}")], says, ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let n = u64::from(settled);
    if settled {
        assert_eq!(desk.post(settles(1, 8)).await, Posted::Added);
    }
    let entries = vec![entry(2, Kind::Failed, "{}")];
    let turn = Turn { entries, takes: vec![1], end: finished(Status::Failed, n), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let reopens = reopens.iter().map(|key| (*key).into()).collect();
    assert!(desk.cut(Cut { reopens, ..cut(load.run, n, 1) }).await.expect("cuts"));
    load.run
}

pub(crate) async fn a_cut_leaves_tokens_good(desk: Desk) {
    let worker = desk.worker().await;
    let run = cut_off(&desk, &worker, false, &[]).await;
    let (_, mut load) = worker.claims_one().await;
    let turn = Turn { says: vec![promises(2, "p")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(desk.post(settles(1, 8)).await, Posted::Added);
    assert_eq!(desk.post(settles(2, 9)).await, Posted::Settled);
    assert_eq!(told(&desk, run).await, [("p".into(), 8)]);
}

pub(crate) async fn a_cut_may_open_a_promise_again(desk: Desk) {
    let worker = desk.worker().await;
    let run = cut_off(&desk, &worker, true, &["p", "never was"]).await;
    let (_, mut load) = worker.claims_one().await;
    let turn = Turn { says: vec![promises(2, "p")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(desk.post(settles(1, 9)).await, Posted::Added);
    assert_eq!(desk.post(settles(2, 10)).await, Posted::Settled);
    assert_eq!(told(&desk, run).await, [("p".into(), 9)]);
}
