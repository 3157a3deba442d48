//! What a store keeps of a run besides: what exports tell.

use everstep_core::{
    Status, StatusSet,
    journal::{Entry, Kind, Payload},
    store::{
        Acted, Archived, Does, Edit, End, Kept, Letter, LetterId, LetterKind, NewRun, Post, PromiseRow,
        ReplyRow, RunId, Say, Started, To, Turn,
    },
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{act, at, cut, entry, finished, letter, new_run, parked, post, step, steps},
};

async fn kept(desk: &Desk, run: RunId) -> Kept {
    desk.store.kept(run).await.expect("reads")
}

fn promises(token: u8, key: &str) -> Say {
    Say::Promised { hash: [token; 32], key: key.into(), expires: Some(at(100)) }
}

fn answers(id: u128, json: &str) -> Say {
    Say::Answered { id: LetterId(id), body: Payload::json(json), at: at(1) }
}

pub(crate) async fn nothing_is_kept_of_a_new_run(desk: Desk) {
    let run = desk.start_pending("a").await;
    for run in [run, RunId(run.0 + 1), RunId(-1)] {
        assert_eq!(kept(&desk, run).await, Kept::default());
    }
}

pub(crate) async fn what_was_taken_out_of_a_journal_is_kept_whole(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps(1..4), end: parked(None, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(4));
    let edited = Entry { body: Payload::json("\"other\""), ..step(2) };
    let edit = Edit { run: load.run, only: StatusSet::OPEN, inbox_n: 0, entry: edited.clone() };
    assert_eq!(desk.store.act(Does::Edit(edit), act("edit")).await.expect("edits"), Acted::Done);
    assert!(desk.cut(cut(load.run, 0, 2)).await.expect("cuts"));
    assert!(desk.cut(cut(load.run, 0, 9)).await.expect("cuts nothing"));
    let (_, mut load) = worker.claims_one().await;
    let first = Entry { at: at(7), ..new_run("a").first };
    let turn = Turn {
        entries: vec![entry(2, Kind::Restarted, "1")],
        end: Some(End::Restarted { first: Box::new(first.clone()) }),
        ..load.turn()
    };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let archived =
        |why: &str, micros, entries| Archived { generation: 0, why: why.into(), at: at(micros), entries };
    let expected = [
        archived("edit", act("edit").at.0 - at(0).0, vec![step(2)]),
        archived("retry", 6, vec![edited, step(3)]),
        archived("retry", 6, vec![]),
        archived("restart", 7, vec![new_run("a").first, step(1), entry(2, Kind::Restarted, "1")]),
    ];
    assert_eq!(kept(&desk, load.run).await.archive, expected);
    assert_eq!(kept(&desk.another().await, load.run).await.archive, expected);
}

pub(crate) async fn inputs_and_bodies_of_every_encoding_are_kept(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let payloads = [
        Payload::json("{\"a\": [1, \"\u{e9}\"]}"),
        Payload::json(""),
        Payload::json([0xff, b'a', 0]),
        Payload { codec: 7, bytes: b"text".to_vec() },
        Payload { codec: 7, bytes: vec![0, 0xff] },
        Payload { codec: 255, bytes: vec![] },
    ];
    let inputs = payloads.iter().cloned().map(Some).chain([None]);
    let all = inputs.flat_map(|input| payloads.iter().map(move |body| (input.clone(), body.clone())));
    let bare = |seq| Entry { key: None, site: None, ..step(seq) };
    let entries: Vec<_> =
        all.zip(1..).map(|((input, body), seq)| Entry { input, body, ..bare(seq) }).collect();
    let turn = Turn { entries: entries.clone(), end: parked(None, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1 + entries.len() as u64));
    assert!(desk.cut(cut(load.run, 0, 1)).await.expect("cuts"));
    assert_eq!(kept(&desk, load.run).await.archive[0].entries, entries);
}

pub(crate) async fn what_was_promised_and_answered_is_told(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let says = vec![promises(2, "q"), promises(1, "p"), answers(8, "2"), answers(7, "1")];
    assert_eq!(load.commit(Turn { says, ..load.turn() }).await, Heard::Next(1));
    let settles = Letter { kind: LetterKind::PromiseSettled as u16, name: "".into(), ..letter(5) };
    desk.post(Post { to: To::Promise([1; 32]), letter: settles, ..post("", 5) }).await;
    let row = |token, key: &str, settled| PromiseRow {
        hash: [token; 32],
        key: key.into(),
        generation: 0,
        expires: Some(at(100)),
        settled,
    };
    let kept = kept(&desk, load.run).await;
    assert_eq!(kept.promises, [row(1, "p", true), row(2, "q", false)]);
    let reply = |id, json: &str| ReplyRow { id: LetterId(id), body: Payload::json(json), at: at(1) };
    let replies = [reply(7, "1"), reply(8, "2")];
    assert_eq!(kept.replies, replies);
}

pub(crate) async fn names_of_letters_are_kept(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    for id in [9, u128::MAX, 3] {
        desk.post(post("a", id)).await;
    }
    let turn = Turn { entries: steps([1]), takes: vec![1, 2], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(kept(&desk, load.run).await.seen, [3, 9, u128::MAX].map(LetterId));
}

pub(crate) async fn what_is_kept_is_of_one_run(desk: Desk) {
    let worker = desk.worker().await;
    let other = desk.start_pending("b").await;
    let mut load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    let turn = Turn {
        entries: vec![entry(1, Kind::Failed, "{}")],
        takes: vec![1],
        says: vec![promises(1, "p"), answers(7, "1")],
        end: finished(Status::Failed, 1),
        ..load.turn()
    };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(kept(&desk, other).await, Kept::default());
    let again = NewRun { reuse: StatusSet::ANY, ..new_run("a") };
    let (started, _) = worker.start_all(vec![again]).await;
    assert!(matches!(started[..], [Started::New(new)] if new == load.run), "{started:?}");
    let Kept { archive, promises, replies, seen } = kept(&desk, load.run).await;
    assert_eq!((promises, replies, seen), (vec![], vec![], vec![]));
    let whys: Vec<_> = archive.iter().map(|archived| (&*archived.why, archived.entries.len())).collect();
    assert_eq!(whys, [("reuse", 2)]);
}
