//! Acts: what people do to runs, and the record of it.

use everstep_core::{
    Status, StatusSet, Timestamp,
    journal::Payload,
    store::{Act, Acted, Does, Doomed, Edit, Letter, LetterKind, Post, Posted, RunId, StoreError, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{
        TEXTS, act, at, begins, claim, cut, emits, letter, parked, post, publishes, sets, step, steps,
        stuck_end,
    },
};

/// A person's wish to set a run aside.
fn pause(to: &str, id: u128) -> Does {
    let letter = Letter { kind: LetterKind::Pause as u16, ..letter(id) };
    Does::Pause(Post { letter, only: StatusSet::OPEN.without(Status::Paused), ..post(to, id) })
}

/// A person's wish that it goes on.
fn resume(to: &str, id: u128) -> Does {
    let letter = Letter { kind: LetterKind::Resume as u16, ..letter(id) };
    Does::Post(Post { letter, only: StatusSet::of(&[Status::Paused]), revive: true, ..post(to, id) })
}

async fn does(desk: &Desk, does: Does) -> Acted {
    desk.store.act(does, act("does")).await.expect("acts")
}

async fn verbs(desk: &Desk, run: RunId) -> Vec<String> {
    let acts = desk.store.acts(run, usize::MAX).await.expect("reads");
    acts.iter().map(|act| act.verb.to_string()).collect()
}

pub(crate) async fn an_act_is_recorded_with_what_it_does(desk: Desk) {
    let run = desk.start_pending("a").await;
    assert_eq!(desk.store.act(Does::Post(post("a", 1)), act("signal")).await.expect("acts"), Acted::Done);
    assert_eq!(desk.store.act(Does::Cut(cut(run, 1, 1)), act("retry")).await.expect("acts"), Acted::Done);
    assert_eq!((desk.letters(run).await, verbs(&desk, run).await.len()), (vec![1], 2));
    let acts = desk.store.acts(run, 10).await.expect("reads");
    assert_eq!(acts, [act("signal"), act("retry")]);
    assert_eq!(desk.store.acts(run, 1).await.expect("reads"), [act("retry")], "the last ones");
    assert_eq!(desk.store.acts(run, 0).await.expect("reads"), []);
}

pub(crate) async fn what_is_not_done_is_not_recorded(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Completed).await;
    assert_eq!(does(&desk, Does::Post(post("a", 1))).await, Acted::Refused(Status::Completed));
    assert_eq!(does(&desk, pause("a", 2)).await, Acted::Refused(Status::Completed));
    assert_eq!(does(&desk, Does::Post(post("nobody", 1))).await, Acted::NoSuchRun);
    assert_eq!(does(&desk, pause("nobody", 1)).await, Acted::NoSuchRun);
    assert_eq!(does(&desk, Does::Cut(cut(run, 1, 1))).await, Acted::Moved);
    let refused = desk.store.act(Does::Cut(cut(run, 0, 0)), act("cut")).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert!(verbs(&desk, run).await.is_empty());
}

pub(crate) async fn an_act_that_is_repeated_is_one(desk: Desk) {
    let worker = desk.worker().await;
    let (a, b) = (desk.start_pending("a").await, worker.start("b").await);
    for (id, run) in [("a", a), ("b", b.run)] {
        assert_eq!(does(&desk, Does::Post(post(id, 1))).await, Acted::Done);
        assert_eq!(does(&desk, Does::Post(post(id, 1))).await, Acted::Known);
        assert_eq!(does(&desk, pause(id, 2)).await, Acted::Done);
        assert_eq!(does(&desk, pause(id, 2)).await, Acted::Known);
        assert_eq!(verbs(&desk, run).await.len(), 2);
    }
}

pub(crate) async fn every_text_of_an_act_comes_back(desk: Desk) {
    let run = desk.start_pending("a").await;
    let mut acts = Vec::new();
    for (n, text) in TEXTS.into_iter().enumerate() {
        let text: std::sync::Arc<str> = text.into();
        let at = [Timestamp(i64::MIN), Timestamp(i64::MAX), at(0)][n % 3];
        let act = Act { verb: text.clone(), who: text.clone(), why: text.clone(), at, detail: text };
        let does = Does::Post(post("a", n as u128));
        assert_eq!(desk.store.act(does, act.clone()).await.expect("acts"), Acted::Done);
        acts.push(act);
    }
    assert_eq!(desk.store.acts(run, TEXTS.len()).await.expect("reads"), acts);
}

pub(crate) async fn a_free_run_is_paused_at_once(desk: Desk) {
    let worker = desk.worker().await;
    for (n, status) in [Status::Pending, Status::Waiting, Status::Stuck].into_iter().enumerate() {
        let id = status.to_string();
        let run = worker.brings(&id, status).await;
        assert_eq!(does(&desk, pause(&id, 1)).await, Acted::Done, "{status}");
        let row = desk.row(&id).await;
        assert_eq!((row.status, row.wake_at, row.inbox_n), (Status::Paused, None, 0), "{status}");
        assert_eq!(desk.store.stuck(run).await.expect("reads"), None);
        assert!(desk.letters(run).await.is_empty(), "its letter goes nowhere");
        let paused = ("flow".to_string(), Status::Paused, 1 + n as u64);
        assert_eq!(desk.counts().await, [paused]);
    }
    assert!(worker.claims(claim()).await.is_empty());
    assert_eq!(does(&desk, pause("stuck", 2)).await, Acted::Refused(Status::Paused));
}

pub(crate) async fn the_worker_of_a_run_is_asked_to_pause_it(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(does(&desk, pause("a", 1)).await, Acted::Done);
    assert_eq!(desk.row("a").await.status, Status::Running);
    assert_eq!((desk.letters(load.run).await, worker.nudged().await), (vec![1], vec![load.run]));
    let pauses = |inbox_n| Some(everstep_core::store::End::Paused { inbox_n });
    assert_eq!(load.ends(pauses(0)).await, Heard::Moved(1), "it has not looked");
    let turn = Turn { entries: steps([1]), takes: vec![1], end: pauses(1), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Paused, None, None));
    assert_eq!(load.adds([2]).await, Heard::Refused, "its load is over");
    assert!(worker.claims(claim()).await.is_empty());
}

pub(crate) async fn a_paused_run_keeps_letters_until_it_is_resumed(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.ends(parked(Some(at(5)), 0)).await, Heard::Next(1));
    assert_eq!(does(&desk, pause("a", 1)).await, Acted::Done);
    assert_eq!(does(&desk, Does::Post(post("a", 2))).await, Acted::Done);
    assert!(worker.claims(claim()).await.is_empty(), "neither its time nor a letter wakes it");
    assert_eq!(does(&desk, resume("a", 3)).await, Acted::Done);
    let row = desk.row("a").await;
    assert_eq!((row.status, row.wake_at), (Status::Pending, Some(Timestamp(0))));
    worker.claims_one().await;
    assert_eq!(desk.letters(load.run).await, [1, 2]);
}

pub(crate) async fn a_run_that_has_not_begun_is_resumed_too(desk: Desk) {
    let worker = desk.worker().await;
    desk.start_pending("a").await;
    assert_eq!(does(&desk, pause("a", 1)).await, Acted::Done);
    assert_eq!(does(&desk, resume("a", 2)).await, Acted::Done);
    worker.claims_one().await;
}

pub(crate) async fn an_edit_replaces_one_entry(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps(1..4), end: parked(None, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(4));
    let before = desk.row("a").await;
    let entry = everstep_core::journal::Entry { body: Payload::json("\"other\""), ..step(2) };
    let edit = Edit { run: load.run, only: StatusSet::OPEN, inbox_n: 0, entry: entry.clone() };
    assert_eq!(does(&desk, Does::Edit(edit)).await, Acted::Done);
    let entries = desk.loaded(load.run).await.entries;
    assert_eq!(entries[1..], [step(1), entry, step(3)]);
    assert_eq!(desk.row("a").await, before, "nothing else has changed");
}

pub(crate) async fn an_edit_of_a_run_that_has_moved_changes_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.adds([1]).await, Heard::Next(2));
    let edit = Edit { run: load.run, only: StatusSet::ANY, inbox_n: 0, entry: step(1) };
    assert_eq!(does(&desk, Does::Edit(edit.clone())).await, Acted::Moved, "a worker has it");
    assert_eq!(load.ends(parked(None, 0)).await, Heard::Next(2));
    let moved = [
        Edit { inbox_n: 1, ..edit.clone() },
        Edit { only: StatusSet::of(&[Status::Stuck]), ..edit.clone() },
        Edit { run: RunId(load.run.0 + 1), ..edit.clone() },
    ];
    for wrong in moved {
        assert_eq!(does(&desk, Does::Edit(wrong)).await, Acted::Moved);
    }
    for seq in [0, 2, u64::MAX] {
        let refused =
            desk.store.act(Does::Edit(Edit { entry: step(seq), ..edit.clone() }), act("edit")).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{seq}: {refused:?}");
    }
    assert_eq!(desk.loaded(load.run).await.entries[1..], steps([1]));
    assert!(verbs(&desk, load.run).await.is_empty());
}

async fn delete(desk: &Desk, ids: &[&str]) -> Vec<bool> {
    let mut doomed = Vec::new();
    for id in ids {
        doomed.push(Doomed::of(&desk.row(id).await));
    }
    desk.store.delete(doomed).await.expect("deletes")
}

pub(crate) async fn a_deleted_run_leaves_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    does(&desk, Does::Post(post("a", 2))).await;
    let says = vec![publishes("last", 1, "1"), emits("items", 0), sets("team", Some("a".into()))];
    let turn =
        Turn { entries: steps([1, 2]), marks: vec![begins("k")], says, end: stuck_end(2), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    does(&desk, Does::Cut(cut(load.run, 2, 2))).await;
    assert_eq!(does(&desk, pause("a", 3)).await, Acted::Done);
    assert_eq!(delete(&desk, &["a"]).await, [true]);
    let run = load.run;
    assert_eq!(desk.store.run("a".into()).await.expect("reads"), None);
    let loaded = desk.loaded(run).await;
    assert!(loaded.entries.is_empty() && loaded.inbox.is_empty() && loaded.started.is_empty());
    assert!(verbs(&desk, run).await.is_empty());
    assert!(desk.store.attributes(run).await.expect("reads").is_empty());
    assert!(desk.store.published_all(run, 9).await.expect("reads").is_empty());
    assert!(desk.store.stream(run, "items".into(), 0, 9).await.expect("reads").is_empty());
    assert!(desk.counts().await.is_empty());
    assert!(worker.claims(claim()).await.is_empty());
    assert_eq!(desk.post(post("a", 1)).await, Posted::NoSuchRun);
    // Its id is free, its number is not.
    let next = desk.start_pending("a").await;
    assert!(next > run, "{next:?}");
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added, "nobody remembers its letters");
}

pub(crate) async fn a_run_in_any_status_is_deleted_unless_a_worker_has_it(desk: Desk) {
    let worker = desk.worker().await;
    for status in Status::ALL {
        let id = status.to_string();
        worker.brings(&id, status).await;
        let gone = status != Status::Running;
        assert_eq!(delete(&desk, &[&id]).await, [gone], "{status}");
        assert_eq!(desk.store.run(id.into()).await.expect("reads").is_none(), gone, "{status}");
    }
    assert_eq!(desk.counts().await, [("flow".into(), Status::Running, 1)]);
}

pub(crate) async fn a_run_that_has_moved_is_not_deleted(desk: Desk) {
    let worker = desk.worker().await;
    worker.brings("a", Status::Waiting).await;
    let seen = Doomed::of(&desk.row("a").await);
    let moved = [
        Doomed { status: Status::Stuck, ..seen },
        Doomed { generation: 1, ..seen },
        Doomed { inbox_n: 1, ..seen },
        Doomed { began: false, ..seen },
    ];
    let missing = Doomed { run: RunId(seen.run.0 + 1), ..seen };
    assert_eq!(desk.store.delete(moved.to_vec()).await.expect("looks"), [false; 4]);
    assert_eq!(desk.store.delete(vec![missing, seen, seen]).await.expect("deletes"), [true, true, true]);
}

pub(crate) async fn who_waits_for_a_run_hears_that_it_is_deleted(desk: Desk) {
    let run = desk.start_pending("a").await;
    let mut listener = desk.store.bell().listen(run);
    assert_eq!(delete(&desk, &["a"]).await, [true]);
    listener.ended().await.expect("rung");
}
