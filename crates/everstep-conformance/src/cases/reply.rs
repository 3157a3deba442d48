//! Answers to requests, for whoever has asked.

use everstep_core::{
    Status,
    journal::{Kind, Payload},
    store::{LetterId, RunId, Say, Turn},
};

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{at, cut, entry, finished, parked, post, steps},
};

fn answers(id: u128, json: &str) -> Say {
    Say::Answered { id: LetterId(id), body: Payload::json(json), at: at(1) }
}

fn saying(load: &Load, says: impl IntoIterator<Item = Say>) -> Turn {
    Turn { says: says.into_iter().collect(), ..load.turn() }
}

async fn answer(desk: &Desk, run: RunId, id: u128) -> Option<Payload> {
    desk.store.reply(run, LetterId(id)).await.expect("reads")
}

pub(crate) async fn an_answer_is_found_by_its_request(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, b) = (worker.start("a").await, worker.start("b").await);
    assert_eq!(answer(&desk, a.run, 7).await, None);
    let turn = Turn { entries: steps([1]), ..saying(&a, [answers(7, "1"), answers(8, "2")]) };
    assert_eq!(a.commit(turn).await, Heard::Next(2));
    let other = desk.another().await;
    assert_eq!(answer(&other, a.run, 7).await, Some(Payload::json("1")));
    assert_eq!(answer(&other, a.run, 8).await, Some(Payload::json("2")));
    assert_eq!((answer(&desk, a.run, 9).await, answer(&desk, b.run, 7).await), (None, None));
}

pub(crate) async fn the_first_answer_counts(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let entries = vec![entry(1, Kind::RequestAnswered, "1"), entry(2, Kind::Failed, "{}")];
    let says = [answers(7, "1"), answers(7, "2")];
    let turn = Turn { entries, end: finished(Status::Failed, 0), ..saying(&load, says) };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    assert!(desk.cut(cut(load.run, 0, 1)).await.expect("cuts"));
    let (_, mut load) = worker.claims_one().await;
    assert_eq!(load.commit(saying(&load, [answers(7, "3")])).await, Heard::Next(1));
    assert_eq!(answer(&desk, load.run, 7).await, Some(Payload::json("1")));
}

pub(crate) async fn an_answer_comes_with_its_turn_or_not_at_all(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps([2]), ..saying(&load, [answers(7, "1")]) };
    assert_eq!(load.commit(turn).await, Heard::Refused);
    assert_eq!(answer(&desk, load.run, 7).await, None);
    let mut load = worker.start("b").await;
    desk.post(post("b", 1)).await;
    let turn = Turn { end: parked(None, 0), ..saying(&load, [answers(7, "1")]) };
    assert_eq!(load.commit(turn).await, Heard::Moved(1));
    assert_eq!(answer(&desk, load.run, 7).await, None);
}

pub(crate) async fn every_answer_comes_back(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let bytes = [all, vec![], vec![0], vec![0xff, 0xfe], b"1".to_vec(), vec![b'x'; 70_000]];
    let payloads =
        bytes.iter().flat_map(|bytes| [0, 3, 255].map(|codec| Payload { codec, bytes: bytes.clone() }));
    for (bit, body) in (0..).zip(payloads) {
        let id = LetterId(1 << (7 * bit));
        let says = [Say::Answered { id, body: body.clone(), at: at(i64::MIN / 2) }];
        assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
        assert_eq!(desk.store.reply(load.run, id).await.expect("reads"), Some(body));
    }
}
