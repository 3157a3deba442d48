//! Children: what a turn of one run does to others.

use everstep_core::{
    Digest, Status,
    journal::{Kind, Reply, decode},
    store::{Cut, Doomed, End, Letter, LetterId, LetterKind, NewRun, Parent, RunId, Say, Turn},
};

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{at, cancel, claim, cut, entry, finished, letter, new_run, parked, post, steps, stuck_end},
    worker::Worker,
};

/// The child `id` of the run that has this load, under `key`.
fn child(load: &Load, id: &str, key: &str) -> NewRun {
    let parent = Parent { run: load.run, generation: 0, key: key.into(), closes: true, digest: Digest(7) };
    NewRun { parent: Some(parent), ..new_run(id) }
}

fn left(run: NewRun) -> NewRun {
    NewRun { parent: run.parent.map(|parent| Parent { closes: false, ..parent }), ..run }
}

/// Starts it; the parent may hear of it by a letter of this id.
fn starts(run: NewRun, answer: u128) -> Say {
    Say::Child { run: Box::new(run), answer: LetterId(answer) }
}

fn saying(load: &Load, says: impl IntoIterator<Item = Say>) -> Turn {
    Turn { says: says.into_iter().collect(), ..load.turn() }
}

fn tells(run: RunId, generation: u32, id: u128) -> Say {
    let letter = Letter { kind: LetterKind::ChildEnded as u16, name: "c".into(), ..letter(id) };
    Say::Tell { run, generation, letter }
}

fn cancels(child: Option<&str>, id: u128) -> Say {
    Say::Cancel { child: child.map(Into::into), letter: cancel("", id).letter }
}

/// What a run was told: the key, and what came of it.
async fn told(desk: &Desk, run: RunId) -> Vec<String> {
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    let text = |letter: &Letter| match decode::<Reply>(&letter.body) {
        Ok(Reply::Value(value)) => format!("{} {value}", letter.name),
        Ok(Reply::Failure(failure)) => format!("{} {}", letter.name, failure.message),
        Err(_) => format!("{} {}", letter.name, letter.id.0),
    };
    inbox.iter().map(|received| text(&received.letter)).collect()
}

/// Ends a run that is free.
async fn ends(worker: &Worker, kind: Kind, body: &str, status: Status) {
    let (_, mut load) = worker.claims_one().await;
    let turn = Turn { entries: vec![entry(1, kind, body)], end: finished(status, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
}

pub(crate) async fn a_child_is_pending_with_its_first_entry(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let run = NewRun { due: at(50), ..child(&load, "c", "c") };
    let turn = Turn { entries: steps([1]), ..saying(&load, [starts(run.clone(), 1)]) };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let row = desk.row("c").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Pending, None, Some(at(50))));
    assert_eq!((&*row.workflow, row.created_at), ("flow", run.first.at));
    assert!(row.run > load.run, "numbers grow");
    assert_eq!(desk.loaded(row.run).await.entries, [run.first]);
    let other = desk.another().await.worker().await;
    let (claimed, _) = other.claims_one().await;
    assert_eq!(&*claimed.row.id, "c");
    assert!(told(&desk, load.run).await.is_empty());
}

pub(crate) async fn a_child_comes_with_its_turn_or_not_at_all(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps([2]), ..saying(&load, [starts(child(&load, "c", "c"), 1)]) };
    assert_eq!(load.commit(turn).await, Heard::Refused);
    let mut load = worker.start("b").await;
    desk.post(post("b", 1)).await;
    let turn = Turn { end: parked(None, 0), ..saying(&load, [starts(child(&load, "c", "c"), 1)]) };
    assert_eq!(load.commit(turn).await, Heard::Moved(1));
    assert_eq!(desk.store.run("c".into()).await.expect("reads"), None);
    assert!(worker.claims(claim()).await.is_empty());
}

pub(crate) async fn a_run_that_is_nobodys_child_is_no_child(desk: Desk) {
    let worker = desk.worker().await;
    for (n, wrong) in [
        |load: &Load| NewRun { parent: None, ..child(load, "c", "c") },
        |load: &Load| NewRun { first: entry(1, Kind::Started, "{}"), ..child(load, "c", "c") },
    ]
    .iter()
    .enumerate()
    {
        let mut load = worker.start(&format!("run {n}")).await;
        let turn = Turn { entries: steps([1]), ..saying(&load, [starts(wrong(&load), 1)]) };
        assert_eq!(load.commit(turn).await, Heard::Refused);
        assert_eq!(desk.seqs(load.run).await, [0]);
    }
    assert_eq!(desk.store.run("c".into()).await.expect("reads"), None);
}

pub(crate) async fn the_same_start_again_is_the_same_child(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    for answer in [1, 2] {
        let run = child(&load, "c", "c");
        assert_eq!(load.commit(saying(&load, [starts(run, answer)])).await, Heard::Next(1));
    }
    assert!(told(&desk, load.run).await.is_empty());
    assert_eq!(
        desk.counts().await,
        [("flow".into(), Status::Pending, 1), ("flow".into(), Status::Running, 1)]
    );
}

pub(crate) async fn a_child_that_is_over_is_heard_of_at_once(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let failure = r#"{"kind":"raised","code":"EV0001","message":"bad"}"#;
    for (id, kind, body, status, heard) in [
        ("c", Kind::Completed, "[7]", Status::Completed, "[7]"),
        ("d", Kind::Failed, failure, Status::Failed, "bad"),
        ("e", Kind::Cancelled, "\"why\"", Status::Cancelled, "run `e` was cancelled: why"),
        ("f", Kind::Failed, "?", Status::Failed, "run `f` is over, and its outcome cannot be read"),
    ] {
        let run = child(&load, id, id);
        assert_eq!(load.commit(saying(&load, [starts(run.clone(), 1)])).await, Heard::Next(1));
        ends(&worker, kind, body, status).await;
        let turn = saying(&load, [starts(run, u128::from(id.as_bytes()[0]))]);
        assert_eq!(load.commit(turn).await, Heard::Next(1));
        assert_eq!(told(&desk, load.run).await.last(), Some(&format!("{id} {heard}")));
        assert_eq!(desk.row(id).await.status, status);
    }
    assert_eq!(worker.nudged().await, [load.run]);
}

pub(crate) async fn an_id_that_is_in_use_is_a_conflict(desk: Desk) {
    let worker = desk.worker().await;
    desk.start_pending("nobody's").await;
    let mut other = worker.start("other").await;
    let turn = saying(&other, [starts(child(&other, "other's", "c"), 1)]);
    assert_eq!(other.commit(turn).await, Heard::Next(1));
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(saying(&load, [starts(child(&load, "own", "c"), 1)])).await, Heard::Next(1));
    let own = child(&load, "own", "c");
    let parent = own.parent.clone().expect("it has one");
    let with = |parent| NewRun { parent: Some(parent), ..own.clone() };
    let used = [
        (child(&load, "nobody's", "x"), "it was not started by this run"),
        (child(&load, "other's", "c"), "it was not started by this run"),
        (child(&load, "a", "c"), "it was not started by this run"),
        (with(Parent { generation: 1, ..parent.clone() }), "it was not started by this run"),
        (
            NewRun { workflow: "flow 2".into(), ..own.clone() },
            "it belongs to workflow `flow`, and this start is of `flow 2`",
        ),
        (child(&load, "own", "c#2"), "this run has started it as `c`, and now starts it as `c#2`"),
        (with(Parent { digest: Digest(8), ..parent }), "it was started with another input"),
    ];
    for (n, (run, why)) in (1..).zip(used) {
        let (id, key) = (run.id.clone(), run.parent.as_ref().expect("it has one").key.clone());
        // The letter is for this generation, whatever the start says.
        let generation = run.parent.as_ref().map_or(0, |parent| parent.generation);
        let turn = Turn { entries: steps([n]), ..saying(&load, [starts(run, n.into())]) };
        assert_eq!(load.commit(turn).await, Heard::Next(n + 1));
        if generation == 0 {
            let last = told(&desk, load.run).await.last().cloned();
            assert_eq!(last, Some(format!("{key} run id `{id}` is in use: {why}")));
        }
    }
    assert_eq!(told(&desk, load.run).await.len(), 6);
    assert_eq!(desk.row("own").await.workflow, "flow".into());
}

pub(crate) async fn a_parent_hears_of_its_child_whatever_its_status(desk: Desk) {
    let worker = desk.worker().await;
    let mut child = worker.start("child").await;
    let statuses =
        [Status::Pending, Status::Running, Status::Waiting, Status::Completed, Status::Failed, Status::Stuck];
    for (status, n) in statuses.into_iter().zip(1..) {
        let run = worker.brings(&status.to_string(), status).await;
        assert_eq!(child.commit(saying(&child, [tells(run, 0, n)])).await, Heard::Next(1));
        assert_eq!(told(&desk, run).await, [format!("c {n}")], "{status}");
        assert_eq!(desk.row(&status.to_string()).await.status, status);
    }
    let taken = worker.claims(claim()).await;
    let mut taken: Vec<_> = taken.iter().map(|claimed| claimed.row.id.to_string()).collect();
    taken.sort();
    assert_eq!(taken, ["pending", "waiting"], "what is over or stuck is not woken");
    // A cut that was decided before does not take it for nothing.
    let failed = desk.row("failed").await;
    assert!(!desk.cut(cut(failed.run, 0, 1)).await.expect("looks"));
    assert!(desk.cut(Cut { ..cut(failed.run, 1, 1) }).await.expect("cuts"));
}

pub(crate) async fn a_parent_that_waits_is_woken(desk: Desk) {
    let worker = desk.worker().await;
    let mut parent = worker.start("a").await;
    let mut child = worker.start("child").await;
    assert_eq!(parent.ends(parked(None, 0)).await, Heard::Next(1));
    let entries = vec![entry(1, Kind::Completed, "1")];
    let turn =
        Turn { entries, end: finished(Status::Completed, 0), ..saying(&child, [tells(parent.run, 0, 1)]) };
    assert_eq!(child.commit(turn).await, Heard::Next(2));
    let (claimed, _) = worker.claims_one().await;
    assert_eq!((&*claimed.row.id, claimed.row.inbox_n), ("a", 1));
}

pub(crate) async fn another_generation_hears_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let mut parent = worker.start("a").await;
    let mut child = worker.start("child").await;
    let wrong = [tells(parent.run, 1, 1), tells(RunId(parent.run.0 + 99), 0, 2)];
    assert_eq!(child.commit(saying(&child, wrong)).await, Heard::Next(1));
    assert_eq!(child.commit(saying(&child, [tells(parent.run, 0, 3)])).await, Heard::Next(1));
    let first = Box::new(entry(0, Kind::Started, "{}"));
    let end = Some(End::Restarted { first });
    let turn = Turn { entries: vec![entry(1, Kind::Restarted, "{}")], end, ..parent.turn() };
    assert_eq!(parent.commit(turn).await, Heard::Next(2));
    assert_eq!(child.commit(saying(&child, [tells(parent.run, 0, 4)])).await, Heard::Next(1));
    assert!(told(&desk, parent.run).await.is_empty());
}

pub(crate) async fn a_letter_to_a_parent_is_one(desk: Desk) {
    let worker = desk.worker().await;
    let (parent, mut child) = (worker.start("a").await, worker.start("child").await);
    let says = [tells(parent.run, 0, 1), tells(parent.run, 0, 1), tells(parent.run, 0, 2)];
    assert_eq!(child.commit(saying(&child, says)).await, Heard::Next(1));
    assert_eq!(told(&desk, parent.run).await, ["c 1", "c 2"]);
    assert_eq!(desk.row("a").await.inbox_n, 2);
}

/// A parent with children that close, are left, are over; and a child of another.
async fn with_children(worker: &Worker) -> Load {
    let mut load = worker.start("a").await;
    let over = child(&load, "over", "over");
    assert_eq!(load.commit(saying(&load, [starts(over, 1)])).await, Heard::Next(1));
    ends(worker, Kind::Completed, "1", Status::Completed).await;
    let mut other = worker.start("other").await;
    let says = [starts(child(&other, "other's", "c"), 1)];
    assert_eq!(other.commit(saying(&other, says)).await, Heard::Next(1));
    let says = [
        starts(child(&load, "c", "c"), 1),
        starts(child(&load, "d", "d"), 1),
        starts(left(child(&load, "left", "left")), 1),
    ];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    load
}

/// How many letters each of these runs has.
async fn heard(desk: &Desk) -> Vec<(&'static str, u64)> {
    let mut heard = Vec::new();
    for id in ["over", "other's", "c", "d", "left"] {
        heard.push((id, desk.row(id).await.inbox_n));
    }
    heard
}

pub(crate) async fn a_cancel_reaches_the_children_that_close(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = with_children(&worker).await;
    let entries = vec![entry(1, Kind::Failed, "{}")];
    let turn = Turn { entries, end: finished(Status::Failed, 0), ..saying(&load, [cancels(None, 9)]) };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(heard(&desk).await, [("over", 0), ("other's", 0), ("c", 1), ("d", 1), ("left", 0)]);
    let inbox = desk.store.inbox(desk.row("c").await.run, 0).await.expect("reads");
    assert_eq!(inbox[0].letter, cancel("", 9).letter);
}

pub(crate) async fn a_cancel_sets_a_stuck_or_paused_child_going(desk: Desk) {
    let worker = desk.worker().await;
    let mut parent = worker.start("a").await;
    let says = ["stuck", "paused"].map(|id| starts(child(&parent, id, id), 1));
    assert_eq!(parent.commit(saying(&parent, says)).await, Heard::Next(1));
    for claimed in worker.claims(claim()).await {
        let end = match &*claimed.row.id {
            "stuck" => stuck_end(0),
            _ => Some(End::Paused { inbox_n: 0 }),
        };
        assert_eq!(worker.load(&claimed).ends(end).await, Heard::Next(1));
    }
    assert_eq!(parent.commit(saying(&parent, [cancels(None, 9)])).await, Heard::Next(1));
    for id in ["stuck", "paused"] {
        let row = desk.row(id).await;
        assert_eq!((row.status, row.takeovers, row.inbox_n), (Status::Pending, 0, 1), "{id}");
        assert_eq!(desk.store.stuck(row.run).await.expect("reads"), None, "{id}");
    }
    assert_eq!(worker.claims(claim()).await.len(), 2);
}

pub(crate) async fn a_cancel_of_one_child_reaches_that_one(desk: Desk) {
    let mut load = with_children(&desk.worker().await).await;
    let says =
        [cancels(Some("left"), 8), cancels(Some("d"), 9), cancels(Some("over"), 10), cancels(Some("x"), 11)];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    assert_eq!(heard(&desk).await, [("over", 0), ("other's", 0), ("c", 0), ("d", 1), ("left", 1)]);
}

pub(crate) async fn a_cancel_of_one_child_is_for_the_generation_that_asks_for_it(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let first = Box::new(new_run("a").first);
    let turn = Turn {
        entries: vec![entry(1, Kind::Restarted, "{}")],
        end: Some(End::Restarted { first }),
        ..saying(&load, [starts(left(child(&load, "old", "c")), 1)])
    };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let next = desk.store.reload(worker.fence, load.run).await.expect("reads").expect("it is this worker's");
    let mut load = worker.load(&next);
    let new = child(&load, "new", "c");
    let parent = new.parent.clone().map(|parent| Parent { generation: 1, ..parent });
    let says = [starts(left(NewRun { parent, ..new }), 2), cancels(Some("c"), 9)];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    assert_eq!((desk.row("old").await.inbox_n, desk.row("new").await.inbox_n), (0, 1));
}

pub(crate) async fn what_a_turn_starts_and_cancels_is_cancelled(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let later = NewRun { due: at(9000), ..child(&load, "c", "c") };
    let entries = vec![entry(1, Kind::Completed, "1")];
    let says = [starts(later, 1), cancels(None, 9), starts(child(&load, "late", "late"), 1)];
    let turn = Turn { entries, end: finished(Status::Completed, 0), ..saying(&load, says) };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!((desk.row("c").await.inbox_n, desk.row("late").await.inbox_n), (1, 0));
    assert_eq!(worker.claims_ids(claim()).await, ["c", "late"], "a cancel makes it due");
}

pub(crate) async fn a_child_that_was_deleted_is_not_missed(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = with_children(&worker).await;
    let doomed = Doomed::of(&desk.row("c").await);
    assert_eq!(desk.store.delete(vec![doomed]).await.expect("deletes"), [true]);
    assert_eq!(load.commit(saying(&load, [cancels(None, 9)])).await, Heard::Next(1));
    assert_eq!((desk.row("d").await.inbox_n, desk.row("left").await.inbox_n), (1, 0));
}
