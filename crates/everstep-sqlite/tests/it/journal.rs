//! Runs, turns and messages in the file.

use std::sync::Arc;

use everstep_core::{
    Status, StatusSet, Stuck, StuckReason,
    journal::{Kind, Outcome, Payload},
    store::{
        Claim, Condition, Cut, End, Ended, Filter, Inspect, Mark, Posted, Started, StartedRow, Store, Turn,
    },
};

use crate::fixture::{Desk, Load, Worker, at, entry, new_run, signal};

fn claim_all() -> Claim {
    Claim { workflows: Arc::from(["flow".into(), "unknown".into()]), due: at(1000), limit: 100 }
}

#[tokio::test]
async fn the_first_write_of_a_number_wins_and_ends_the_load_of_the_second() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    run.send(1..3);
    run.send(2..3);
    run.send(3..4);
    assert_eq!(run.hears().await, "next 3");
    assert!(run.hears().await.starts_with("refused: "));
    assert!(run.hears().await.starts_with("refused: "), "nothing of that load passes any more");
    assert_eq!(worker.store.load(run.run).await.expect("loads").entries.len(), 3);
}

#[tokio::test]
async fn one_refused_turn_does_not_hinder_its_neighbours() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    a.send(7..8);
    b.send(1..2);
    assert!(a.hears().await.starts_with("refused: "));
    assert_eq!(b.hears().await, "next 2");
}

/// The gate knows only this opening; the primary key stands behind it when something else wrote into the journal.
#[tokio::test]
async fn an_entry_that_somebody_else_wrote_is_never_overwritten() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    desk.run_sql("INSERT INTO everstep_journal SELECT run, 1, kind, 'foreign', attempt, input, input_codec, body, codec, site, build, fingerprint, at FROM everstep_journal WHERE run = 1");
    a.send(1..2);
    b.send(1..2);
    assert!(a.hears().await.contains("UNIQUE"));
    assert_eq!(b.hears().await, "next 2");
    assert_eq!(desk.number("SELECT count(*) FROM everstep_journal WHERE key = 'foreign'"), 1);
}

#[tokio::test]
async fn what_was_written_survives_and_comes_back_equal() {
    let desk = Desk::new();
    let mut written = vec![entry(0, Kind::Started, "{}"), entry(1, Kind::StepDone, "{\"ü\":1}")];
    written[1].input = Some(Payload::json("[1]"));
    written.push(entry(2, Kind::Published, ""));
    written[2].body = Payload { codec: 3, bytes: vec![0, 159, 255] };
    written[2].site = None;
    let run = {
        let worker = Worker::of(&desk.open()).await;
        let mut run = worker.start("a").await;
        let mark = Mark::Started(StartedRow {
            key: "k".into(),
            attempt: 2,
            at: at(1),
            abandoned: true,
            details: None,
        });
        let entries = written[1..].to_vec();
        let turn = Turn {
            run: run.run,
            load: run.load,
            entries,
            marks: vec![mark],
            takes: vec![],
            says: vec![],
            end: None,
        };
        run.send_as_is(turn);
        assert_eq!(run.hears().await, "next 3");
        run.run
    };
    let store = desk.open();
    let loaded = store.load(run).await.expect("loads");
    assert_eq!(loaded.entries, written);
    assert_eq!(loaded.started.len(), 1);
    let last = store.last(run).await.expect("reads");
    assert_eq!(last.as_ref(), written.last());
}

#[tokio::test]
async fn a_used_id_answers_what_was_started_first() {
    let desk = Desk::new();
    let store = desk.open();
    let started = store.start(vec![new_run("a"), new_run("a"), new_run("b")], None).await.expect("starts");
    let [Started::New(a), Started::Known(row, first), Started::New(b)] = &started[..] else {
        panic!("{started:?}")
    };
    assert_eq!((row.run, first.seq, row.status), (*a, 0, Status::Pending));
    assert_eq!(b.0, a.0 + 1, "no gap");
}

#[tokio::test]
async fn run_ids_are_not_given_again_after_the_newest_run_is_deleted() {
    let desk = Desk::new();
    let first = {
        let store = desk.open();
        let started = store.start(vec![new_run("a")], None).await.expect("starts");
        let [Started::New(run)] = started[..] else { panic!("{started:?}") };
        run
    };
    desk.run_sql("DELETE FROM everstep_run; DELETE FROM everstep_journal");
    let started = desk.open().start(vec![new_run("b")], None).await.expect("starts");
    let [Started::New(second)] = started[..] else { panic!("{started:?}") };
    assert!(second > first, "{second:?}");
}

/// faults.md row 2: whoever owns the run next hears of it.
#[tokio::test]
async fn a_message_that_the_driver_has_not_seen_keeps_its_run_awake() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    assert_eq!(signal(&worker.store, "a", 1).await, Posted::Added);
    assert_eq!(signal(&worker.store, "a", 1).await, Posted::Known);
    assert_eq!(signal(&worker.store, "nobody", 1).await, Posted::NoSuchRun);
    run.finish(1, 0);
    assert_eq!(run.hears().await, "moved 1");
    assert_eq!(worker.store.nudged(worker.fence).await.expect("asks"), [run.run]);
    assert_eq!(worker.store.nudged(worker.fence).await.expect("asks"), []);
    run.finish(1, 1);
    assert_eq!(run.hears().await, "next 2");
    assert_eq!(
        signal(&worker.store, "a", 1).await,
        Posted::Known,
        "also after it was taken or the run is over"
    );
    assert_eq!(signal(&worker.store, "a", 2).await, Posted::Refused(Status::Completed));
}

#[tokio::test]
async fn the_end_of_a_run_is_heard_with_its_outcome() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    let mut listener = worker.store.bell().listen(run.run);
    run.finish(1, 0);
    let Some(Ended { status: Status::Completed, outcome: Some(Outcome::Completed(body)) }) =
        listener.ended().await
    else {
        panic!("no outcome")
    };
    assert_eq!(body, Payload::json("\"done\""));
    assert_eq!(run.hears().await, "next 2");
    let counts = worker.store.counts().await.expect("counts");
    assert_eq!(counts, [("flow".into(), Status::Completed, 1)]);
}

#[tokio::test]
async fn a_stuck_run_is_found_and_cut_back() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    let stuck = Stuck { reason: StuckReason::Panicked, key: None, detail: "boom".into() };
    run.send_turn(1..3, Some(End::Stuck { stuck: stuck.clone(), inbox_n: 0, at: at(4) }));
    assert_eq!(run.hears().await, "next 3");
    assert_eq!(worker.store.stuck(run.run).await.expect("reads"), Some(stuck));
    let only = StatusSet::of(&[Status::Stuck]);
    let filter = Filter { conditions: vec![Condition::Status(only)] };
    assert_eq!(worker.store.find(filter, None, 10).await.expect("finds").len(), 1);
    let cut = Cut {
        run: run.run,
        only,
        inbox_n: 0,
        last: None,
        from: 2,
        letters: vec![],
        reopens: vec![],
        why: "retry".into(),
        at: at(6),
    };
    assert!(worker.store.cut(cut.clone()).await.expect("cuts"));
    assert!(!worker.store.cut(cut).await.expect("looks"), "it has moved");
    assert_eq!(worker.store.stuck(run.run).await.expect("reads"), None);
    assert_eq!(desk.number("SELECT json_array_length(body) FROM everstep_archive"), 1);
    let claimed = worker.store.claim(worker.fence, claim_all()).await.expect("claims");
    assert_eq!(claimed.iter().map(|c| c.row.status).collect::<Vec<_>>(), [Status::Pending]);
    let mut again = Load::new(&worker, run.run, claimed[0].load);
    again.send(2..3);
    assert_eq!(again.hears().await, "next 3");
}

#[tokio::test]
async fn a_parked_run_is_claimed_when_it_is_due() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    run.send_turn(1..1, Some(End::Parked { wake_at: Some(at(500)), inbox_n: 0 }));
    assert_eq!(run.hears().await, "next 1");
    let flow = claim_all().workflows;
    assert_eq!(worker.store.next_due(flow).await.expect("asks"), Some(at(500)));
    let early = Claim { due: at(499), ..claim_all() };
    assert!(worker.store.claim(worker.fence, early).await.expect("claims").is_empty());
    let claimed = worker.store.claim(worker.fence, claim_all()).await.expect("claims");
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].row.status, Status::Waiting);
}

#[tokio::test]
async fn people_can_read_the_timeline() {
    let desk = Desk::new();
    let worker = Worker::of(&desk.open()).await;
    let mut run = worker.start("a").await;
    let failure = entry(1, Kind::StepFailed, "{\"message\":\"no route\"}");
    let turn = Turn {
        run: run.run,
        load: run.load,
        entries: vec![failure],
        marks: vec![],
        takes: vec![],
        says: vec![],
        end: None,
    };
    run.send_as_is(turn);
    assert_eq!(run.hears().await, "next 2");
    let line: String = desk
        .outside()
        .query_row(
            "SELECT concat_ws(' ', run, seq, time, what, error, line) FROM everstep_timeline WHERE seq = 1",
            [],
            |row| row.get(0),
        )
        .expect("a line");
    assert_eq!(line, "a 1 2026-01-01T00:00:00.000Z failed no route src/flow.rs:1:2");
}
