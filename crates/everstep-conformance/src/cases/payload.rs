//! What goes in comes out: every entry, every byte, every number.

use std::{panic::Location, sync::Arc};

use everstep_core::{
    Status, Timestamp,
    journal::{Entry, Kind, Payload, Site},
    store::{
        Claim, Condition, End, Field, Filter, Letter, LetterId, LetterKind, Mark, NewRun, Post, Posted,
        Started, StartedRow, Turn,
    },
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{TEXTS, at, claim, claim_of, given_back, letter, names, new_run, parked, post, run_of, step},
};

/// Writes these entries, numbered from 1, and asserts that they come back as they were.
async fn come_back(desk: &Desk, entries: Vec<Entry>) {
    let entries: Vec<_> = entries.into_iter().zip(1..).map(|(entry, seq)| Entry { seq, ..entry }).collect();
    let mut load = desk.worker().await.start("entries").await;
    let turn = Turn { entries: entries.clone(), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(1 + entries.len() as u64));
    let loaded = desk.another().await.loaded(load.run).await.entries;
    for (back, entry) in loaded[1..].iter().zip(&entries) {
        assert_eq!(back, entry);
    }
    assert_eq!(loaded.len(), 1 + entries.len());
    assert_eq!(desk.store.last(load.run).await.expect("reads").as_ref(), entries.last());
}

pub(crate) async fn every_kind_of_entry_comes_back(desk: Desk) {
    let known = Kind::ALL.map(|kind| kind.code());
    let kinds = known.into_iter().chain([999, u16::MAX]);
    come_back(&desk, kinds.map(|kind| Entry { kind, ..step(0) }).collect()).await;
}

pub(crate) async fn every_codec_comes_back(desk: Desk) {
    let entries = (0..=u8::MAX).map(|codec| Entry {
        body: Payload { codec, bytes: b"{\"a\":1}".to_vec() },
        input: Some(Payload { codec: codec.wrapping_add(1), bytes: vec![codec, 255] }),
        ..step(0)
    });
    come_back(&desk, entries.collect()).await;
}

pub(crate) async fn every_byte_comes_back(desk: Desk) {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let bytes = [all, vec![], vec![0], vec![0xff, 0xfe], vec![0xc3], b"a\0b".to_vec(), b"1".to_vec()];
    let payloads =
        bytes.into_iter().flat_map(|bytes| [0, 3].map(|codec| Payload { codec, bytes: bytes.clone() }));
    let entries = payloads.map(|body| Entry { input: Some(body.clone()), body, ..step(0) });
    come_back(&desk, entries.collect()).await;
}

pub(crate) async fn long_payloads_come_back(desk: Desk) {
    let long = |n: usize| (0..n).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    let json = format!("\"{}\"", "日".repeat(1 << 20));
    let bodies = [
        Payload { codec: 1, bytes: long(5 << 20) },
        Payload::json(json),
        Payload { codec: 0, bytes: long(4062) },
    ];
    come_back(&desk, bodies.into_iter().map(|body| Entry { body, ..step(0) }).collect()).await;
}

pub(crate) async fn an_input_of_nothing_is_not_no_input(desk: Desk) {
    let inputs = [None, Some(Payload::json("")), Some(Payload { codec: 9, bytes: vec![] })];
    come_back(&desk, inputs.into_iter().map(|input| Entry { input, ..step(0) }).collect()).await;
}

pub(crate) async fn every_text_comes_back_in_entries(desk: Desk) {
    let entries = TEXTS.map(|text| Entry {
        key: Some(text.into()),
        site: Some(Site::Recorded(text.into())),
        build: text.into(),
        body: Payload::json(text),
        ..step(0)
    });
    let without = Entry { key: None, site: None, ..step(0) };
    come_back(&desk, entries.into_iter().chain([without]).collect()).await;
}

pub(crate) async fn a_site_of_this_program_comes_back_as_text(desk: Desk) {
    let here = Location::caller();
    let mut load = desk.worker().await.start("a").await;
    let sites = [Site::Here(here), Site::Recorded(here.to_string().into())];
    let entries: Vec<_> =
        (1..).zip(sites).map(|(seq, site)| Entry { site: Some(site), ..step(seq) }).collect();
    assert_eq!(load.commit(Turn { entries, ..load.turn() }).await, Heard::Next(3));
    for entry in &desk.loaded(load.run).await.entries[1..] {
        assert_eq!(entry.site.as_ref().map(ToString::to_string), Some(here.to_string()));
    }
}

pub(crate) async fn every_number_comes_back_in_entries(desk: Desk) {
    let times = [i64::MIN, -1, 0, 1, i64::MAX].map(|at| Entry { at: Timestamp(at), ..step(0) });
    let counts = [0, 1, u32::MAX].map(|n| Entry { attempt: n, fingerprint: u32::MAX - n, ..step(0) });
    come_back(&desk, times.into_iter().chain(counts).collect()).await;
}

pub(crate) async fn every_text_is_a_run_and_a_workflow(desk: Desk) {
    let worker = desk.worker().await;
    for text in TEXTS {
        let [Started::New(_)] = desk.start(vec![run_of(text, text, at(0))]).await[..] else {
            panic!("{text:?} is new")
        };
        let row = desk.row(text).await;
        assert_eq!((&*row.id, &*row.workflow), (text, text));
        assert_eq!(desk.post(post(text, 1)).await, Posted::Added);
        let only = |field| Filter {
            conditions: vec![Condition::Text { field, not: false, values: vec![text.to_string()] }],
        };
        assert_eq!(desk.found(only(Field::Id), None, 9).await, [text]);
        assert_eq!(desk.found(only(Field::Workflow), None, 9).await, [text]);
        assert_eq!(worker.claims_ids(claim_of(&[text], 9)).await, [text]);
    }
    assert_eq!(desk.counts().await.len(), TEXTS.len());
}

pub(crate) async fn every_letter_comes_back(desk: Desk) {
    let run = desk.start_pending("a").await;
    let mut sent = Vec::new();
    for (n, name) in TEXTS.into_iter().enumerate() {
        sent.push(Letter { name: name.into(), ..letter(n as u128) });
    }
    let kinds = [
        LetterKind::Signal,
        LetterKind::Request,
        LetterKind::ChildEnded,
        LetterKind::PromiseSettled,
        LetterKind::Cancel,
        LetterKind::Answer,
        LetterKind::Kill,
    ];
    sent.extend((100..).zip(kinds).map(|(n, kind)| Letter { kind: kind as u16, ..letter(n) }));
    sent.push(Letter { kind: u16::MAX, at: Timestamp(i64::MIN), ..letter(u128::MAX) });
    let bytes = (0..=u8::MAX).collect();
    sent.push(Letter { body: Payload { codec: 7, bytes }, at: Timestamp(i64::MAX), ..letter(u128::MAX - 1) });
    for letter in &sent {
        let post = Post { letter: letter.clone(), ..post("a", 0) };
        assert_eq!(desk.post(post).await, Posted::Added);
    }
    let inbox = desk.another().await.loaded(run).await.inbox;
    let letters: Vec<_> = inbox.into_iter().map(|received| received.letter).collect();
    assert_eq!(letters, sent);
}

pub(crate) async fn letter_ids_differ_in_every_bit(desk: Desk) {
    let run = desk.start_pending("a").await;
    let ids = (0..128).map(|bit| 1u128 << bit).chain([0, u128::MAX]);
    for id in ids.clone() {
        assert_eq!(desk.post(post("a", id)).await, Posted::Added, "{id:x}");
    }
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    let told: Vec<_> = inbox.iter().map(|received| received.letter.id).collect();
    assert_eq!(told, ids.map(LetterId).collect::<Vec<_>>());
}

pub(crate) async fn every_mark_comes_back(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let bytes = Payload { codec: 7, bytes: vec![0, 159, 255] };
    let mut details =
        [Some(Payload::json("[1]")), None, Some(bytes), Some(Payload::json(""))].into_iter().cycle();
    let mut rows: Vec<_> = TEXTS
        .iter()
        .zip([i64::MIN, i64::MAX, 0].into_iter().cycle())
        .map(|(key, at)| StartedRow {
            key: Arc::from(*key),
            attempt: if at == 0 { 0 } else { u32::MAX },
            at: Timestamp(at),
            abandoned: at == 0,
            details: details.next().expect("a cycle"),
        })
        .collect();
    let marks = rows.iter().cloned().map(Mark::Started).collect();
    assert_eq!(load.commit(Turn { marks, ..load.turn() }).await, Heard::Next(1));
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(desk.loaded(load.run).await.started, rows);
}

pub(crate) async fn every_time_comes_back_in_rows(desk: Desk) {
    let worker = desk.worker().await;
    let times = [i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX].map(Timestamp);
    // When a start is due that has no delay, a store with a clock of its own may say.
    for (time, due) in times.into_iter().zip(times.into_iter().cycle().skip(1)) {
        let id = time.0.to_string();
        let first = Entry { at: time, ..new_run(&id).first };
        desk.start(vec![NewRun { first, due, ..new_run(&id) }]).await;
        let row = desk.row(&id).await;
        assert_eq!((row.created_at, row.wake_at), (time, Some(due)));
        if due.0 <= 1 {
            let claimed = worker.claims(Claim { due, ..claim() }).await;
            assert_eq!(claimed.len(), 1, "due at {due:?}");
            assert_eq!((claimed[0].row.began_at, desk.row(&id).await.began_at), (Some(due), Some(due)));
        }
        let id = format!("owned {id}");
        let first = Entry { at: time, ..new_run(&id).first };
        let (_, adopted) = worker.start_all(vec![NewRun { first, due, ..new_run(&id) }]).await;
        assert_eq!(adopted[0].row.began_at, Some(time));
        let mut load = worker.load(&adopted[0]);
        let end = Some(End::Finished { status: Status::Completed, inbox_n: 0, at: time });
        assert_eq!(load.ends(end).await, Heard::Next(1));
        let row = desk.row(&id).await;
        assert_eq!((row.began_at, row.finished_at), (Some(time), Some(time)));
    }
}

pub(crate) async fn runs_wake_at_every_time(desk: Desk) {
    let worker = desk.worker().await;
    for time in [i64::MIN, -1, 0, 1, i64::MAX].map(Timestamp) {
        for (n, end) in [parked(Some(time), 0), given_back(time)].into_iter().enumerate() {
            let id = format!("{} {n}", time.0);
            let mut load = worker.start(&id).await;
            assert_eq!(load.ends(end).await, Heard::Next(1));
            assert_eq!(desk.row(&id).await.wake_at, Some(time));
            assert_eq!(desk.store.next_due(names(&["flow"])).await.expect("asks"), Some(time));
            if let Some(earlier) = time.0.checked_sub(1) {
                let early = Claim { due: Timestamp(earlier), ..claim() };
                assert!(worker.claims(early).await.is_empty());
            }
            // What is not due by the database's own clock, no store need give.
            if time.0 <= 1 {
                let claimed = worker.claims_ids(Claim { due: time, ..claim() }).await;
                assert_eq!(claimed, [id]);
            }
        }
    }
}
