//! Starts: decided by the id, each by itself.

use std::{collections::BTreeSet, sync::Arc};

use everstep_core::{
    AttributeValue, Status, StatusSet,
    journal::{Entry, Kind},
    store::{Forked, NewRun, Started, StoreError, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{act, at, claim, emits, entry, finished, names, new_run, publishes, run_of, sets, steps},
    worker::Taker,
};

pub(crate) async fn a_new_run_is_pending_with_its_first_entry(desk: Desk) {
    let run = desk.start_pending("a").await;
    let row = desk.row("a").await;
    assert_eq!((row.run, &*row.id, &*row.workflow), (run, "a", "flow"));
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Pending, None, Some(at(0))));
    assert_eq!((row.inbox_n, row.generation, row.takeovers), (0, 0, 0));
    assert_eq!((row.created_at, row.began_at, row.finished_at), (new_run("a").first.at, None, None));
    let loaded = desk.loaded(run).await;
    assert_eq!(loaded.entries, [new_run("a").first]);
    assert!(loaded.inbox.is_empty() && loaded.started.is_empty());
}

pub(crate) async fn a_used_id_gives_that_run_and_its_first_entry(desk: Desk) {
    let run = desk.start_pending("a").await;
    let other = entry(0, Kind::Started, "{\"other\":1}");
    let again = NewRun { first: other, ..run_of("another", "a", at(77)) };
    let [Started::Known(row, first)] = &desk.start(vec![again]).await[..] else { panic!("it is known") };
    assert_eq!((row.run, &*row.workflow, row.wake_at), (run, "flow", Some(at(0))));
    assert_eq!(**first, new_run("a").first);
    assert_eq!(**row, desk.row("a").await, "nothing was changed");
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 1)]);
}

pub(crate) async fn a_used_id_is_known_whatever_became_of_its_run(desk: Desk) {
    let worker = desk.worker().await;
    for (n, status) in Status::ALL.into_iter().filter(|s| *s != Status::Paused).enumerate() {
        let id = format!("run {n}");
        let run = worker.brings(&id, status).await;
        let [Started::Known(row, first)] = &desk.start(vec![new_run(&id)]).await[..] else {
            panic!("a {status} run is known")
        };
        assert_eq!((row.run, row.status, first.seq), (run, status, 0));
    }
}

pub(crate) async fn each_start_of_a_batch_is_decided_by_itself(desk: Desk) {
    desk.start_pending("b").await;
    let started = desk.start(["a", "b", "c", "a"].map(new_run).to_vec()).await;
    let [Started::New(a), Started::Known(b, _), Started::New(c), Started::Known(again, _)] = &started[..]
    else {
        panic!("{started:?}")
    };
    assert_eq!((&*b.id, again.run), ("b", *a), "also an id that is twice in one batch");
    assert_ne!(a, c);
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 3)]);
}

pub(crate) async fn numbers_grow_in_the_order_of_starts(desk: Desk) {
    desk.start_pending("a").await;
    desk.start(["a", "b", "a", "c"].map(new_run).to_vec()).await;
    desk.start(vec![new_run("b")]).await;
    desk.start_pending("d").await;
    let mut numbers = Vec::new();
    for id in ["a", "b", "c", "d"] {
        numbers.push(desk.row(id).await.run.0);
    }
    assert!(numbers[0] > 0 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

pub(crate) async fn numbers_are_given_once_over_all_openings(desk: Desk) {
    let other = desk.another().await;
    let mut numbers = Vec::new();
    for (n, desk) in [&desk, &other, &desk, &other].into_iter().enumerate() {
        numbers.push(desk.start_pending(&format!("run {n}")).await.0);
    }
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), 4, "{numbers:?}");
    assert!(numbers[0] < numbers[2] && numbers[1] < numbers[3], "{numbers:?}");
    let known = other.start(vec![new_run("run 0")]).await;
    assert!(matches!(&known[..], [Started::Known(row, _)] if row.run.0 == numbers[0]), "{known:?}");
}

pub(crate) async fn an_empty_batch_starts_nothing(desk: Desk) {
    let worker = desk.worker().await;
    assert!(desk.start(vec![]).await.is_empty());
    let (started, claimed) = worker.start_all(vec![]).await;
    assert!(started.is_empty() && claimed.is_empty());
    assert!(desk.counts().await.is_empty());
}

pub(crate) async fn racing_starts_of_one_id_make_one_run(desk: Desk) {
    let other = desk.another().await;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let start = |desk: &Desk| desk.store.start(vec![new_run("a"), new_run("b")], None);
        let starts: Vec<_> =
            [&desk, &other, &desk, &other].map(|desk| scope.spawn(move || start(desk))).into();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect()
    });
    let mut new = 0;
    for answer in answers {
        new += answer.await.expect("starts").iter().filter(|s| matches!(s, Started::New(_))).count();
    }
    assert_eq!(new, 2);
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 2)]);
}

pub(crate) async fn a_claimed_start_is_adopted_before_its_answer(desk: Desk) {
    let worker = desk.worker().await;
    let (started, claimed) = worker.start_all(["a", "b"].map(new_run).to_vec()).await;
    let [Started::New(a), Started::New(b)] = started[..] else { panic!("{started:?}") };
    assert_eq!(claimed.iter().map(|c| c.row.run).collect::<Vec<_>>(), [a, b]);
    assert_ne!(claimed[0].load, claimed[1].load);
    for taken in &claimed {
        assert_eq!(taken.row.status, Status::Pending, "as it was before the claim");
        assert_eq!((taken.row.owner, taken.row.wake_at), (Some(worker.fence.worker), None));
    }
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner), (Status::Running, Some(worker.fence.worker)));
}

pub(crate) async fn a_claimed_start_is_adopted_after_its_commit(desk: Desk) {
    let worker = desk.worker().await;
    let (taker, mut adopted) = Taker::channel();
    let answer = desk.store.start(vec![new_run("a")], Some((worker.fence, taker)));
    let (claimed, first) = adopted.recv().await.expect("adopted, though nobody has polled the answer");
    assert_eq!(first, new_run("a").first);
    let seen = desk.another().await.loaded(claimed.row.run).await;
    assert_eq!(seen.entries, [first], "others can read it");
    drop(answer);
}

pub(crate) async fn a_start_that_nobody_waits_for_still_has_an_owner(desk: Desk) {
    let worker = desk.worker().await;
    let (taker, mut adopted) = Taker::channel();
    drop(desk.store.start(vec![new_run("a")], Some((worker.fence, taker))));
    let (claimed, _) = adopted.recv().await.expect("adopted");
    assert_eq!(worker.load(&claimed).adds(1..2).await, Heard::Next(2));
    assert_eq!(desk.row("a").await.owner, Some(worker.fence.worker));
}

pub(crate) async fn a_claimed_start_goes_on_at_entry_1(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { entries: steps(1..3), ..load.turn() }).await, Heard::Next(3));
    assert_eq!(desk.seqs(load.run).await, [0, 1, 2]);
}

pub(crate) async fn a_claimed_start_in_the_place_of_a_run_is_adopted(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Failed).await;
    let again = || NewRun { reuse: StatusSet::ANY, ..new_run("a") };
    let (started, claimed) = worker.start_all(vec![again()]).await;
    assert!(matches!(started[..], [Started::New(new)] if new == run), "{started:?}");
    let [claimed] = &claimed[..] else { panic!("adopted: {claimed:?}") };
    assert_eq!((claimed.row.status, claimed.row.generation), (Status::Pending, 1));
    let row = desk.row("a").await;
    assert_eq!(
        (row.status, row.owner, row.began_at),
        (Status::Running, Some(worker.fence.worker), Some(at(0)))
    );
    assert_eq!(worker.load(claimed).adds([1]).await, Heard::Next(2));
    assert_eq!(desk.counts().await, [("flow".into(), Status::Running, 1)]);
}

pub(crate) async fn a_run_in_the_place_of_another_has_said_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let says =
        vec![publishes("total", 1, "1"), sets("team", Some(AttributeValue::from("blue"))), emits("log", 0)];
    let turn = Turn { entries: steps([1]), says, ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let turn = Turn {
        entries: vec![entry(2, Kind::Completed, "1")],
        end: finished(Status::Completed, 0),
        ..load.turn()
    };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let again = NewRun { reuse: StatusSet::ANY, ..new_run("a") };
    let (started, _) = worker.start_all(vec![again]).await;
    assert!(matches!(started[..], [Started::New(new)] if new == load.run), "{started:?}");
    assert_eq!(desk.store.published_all(load.run, 9).await.expect("reads"), []);
    assert_eq!(desk.store.attributes(load.run).await.expect("reads"), []);
    let items = desk.store.stream(load.run, "log".into(), 0, 9).await.expect("reads");
    assert_eq!(items.len(), 1, "the numbers of items are good for ever");
}

pub(crate) async fn a_used_id_is_not_adopted(desk: Desk) {
    let worker = desk.worker().await;
    desk.start_pending("a").await;
    let (started, claimed) = worker.start_all(vec![new_run("a")]).await;
    assert!(matches!(started[..], [Started::Known(..)]) && claimed.is_empty());
    assert_eq!(desk.row("a").await.owner, None);
}

pub(crate) async fn only_marked_starts_are_claimed(desk: Desk) {
    let worker = desk.worker().await;
    let (_, claimed) = worker.start_all(vec![NewRun { claim: false, ..new_run("a") }, new_run("b")]).await;
    assert_eq!(claimed.iter().map(|c| &*c.row.id).collect::<Vec<_>>(), ["b"]);
    assert_eq!(desk.row("a").await.status, Status::Pending);
    assert_eq!(worker.claims_ids(claim()).await, ["a"]);
}

pub(crate) async fn without_a_worker_nothing_is_claimed(desk: Desk) {
    desk.start(vec![NewRun { claim: true, ..new_run("a") }]).await;
    assert_eq!(desk.row("a").await.owner, None);
    assert_eq!(desk.worker().await.claims_ids(claim()).await, ["a"]);
}

pub(crate) async fn a_claimed_start_begins_when_it_is_started(desk: Desk) {
    let worker = desk.worker().await;
    let first = Entry { at: at(70), ..new_run("a").first };
    let (_, claimed) = worker.start_all(vec![NewRun { first, due: at(90), ..new_run("a") }]).await;
    assert_eq!(claimed[0].row.began_at, Some(at(70)));
    let row = desk.row("a").await;
    assert_eq!((row.created_at, row.began_at), (at(70), Some(at(70))));
}

pub(crate) async fn a_start_for_later_waits_for_its_time(desk: Desk) {
    let worker = desk.worker().await;
    desk.start(vec![run_of("flow", "a", at(5000))]).await;
    assert!(worker.claims(claim()).await.is_empty());
    let next = desk.store.next_due(names(&["flow"])).await.expect("asks");
    assert_eq!((next, desk.row("a").await.wake_at), (Some(at(5000)), Some(at(5000))));
}

pub(crate) async fn a_start_with_a_trace_is_the_same_run(desk: Desk) {
    let trace = Some(Arc::from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    let [Started::New(run)] = desk.start(vec![NewRun { trace, ..new_run("a") }]).await[..] else {
        panic!("it is new")
    };
    let again = desk.start(vec![new_run("a")]).await;
    assert!(matches!(&again[..], [Started::Known(row, _)] if row.run == run), "{again:?}");
}

pub(crate) async fn a_run_begins_with_entry_0(desk: Desk) {
    for seq in [1, u64::MAX] {
        let wrong = NewRun { first: entry(seq, Kind::Started, "{}"), ..new_run("b") };
        let refused = desk.store.start(vec![new_run("a"), wrong], None).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        assert!(desk.counts().await.is_empty(), "nothing of the call happened");
    }
}

pub(crate) async fn a_fenced_worker_starts_nothing(desk: Desk) {
    let (slow, taker) = (desk.worker().await, desk.worker().await);
    taker.fences(&slow).await;
    let (adopt, mut adopted) = Taker::channel();
    let runs = vec![NewRun { claim: false, ..new_run("a") }, new_run("b")];
    let refused = desk.store.start(runs, Some((slow.fence, adopt))).await;
    assert!(matches!(refused, Err(StoreError::Fenced(w)) if w == slow.fence.worker), "{refused:?}");
    assert!(adopted.recv().await.is_none());
    assert!(desk.counts().await.is_empty(), "not even the run that it would not have claimed");
}

/// A fork that keeps two entries, one of which emits an item.
fn fork(id: &str) -> NewRun {
    let says = vec![publishes("last", 1, "1"), emits("items", 0), sets("team", Some("a".into()))];
    let forked = Forked { entries: steps(1..3), says, act: act("fork") };
    NewRun { claim: false, forked: Some(Box::new(forked)), ..new_run(id) }
}

pub(crate) async fn a_fork_begins_with_what_it_keeps(desk: Desk) {
    let worker = desk.worker().await;
    let run = desk.start_one(fork("a")).await;
    assert_eq!(desk.loaded(run).await.entries[1..], steps(1..3));
    assert_eq!(desk.store.acts(run, 9).await.expect("reads"), [act("fork")]);
    assert_eq!(desk.store.attributes(run).await.expect("reads"), [("team".into(), "a".into())]);
    assert!(desk.store.published(run, "last".into()).await.expect("reads").is_some());
    let (_, mut load) = worker.claims_one().await;
    let turn = Turn { entries: steps([3]), says: vec![emits("items", 1)], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(4));
    let items = desk.store.stream(run, "items".into(), 0, 9).await.expect("reads");
    assert_eq!(items.iter().map(|item| item.n).collect::<Vec<_>>(), [0, 1], "its items go on");
}

pub(crate) async fn a_fork_is_new_and_has_no_gap(desk: Desk) {
    let gap = |seqs: &[u64]| {
        let mut run = fork("a");
        run.forked.as_mut().expect("a fork").entries = steps(seqs.iter().copied());
        run
    };
    let reused = NewRun { reuse: StatusSet::ANY, ..fork("a") };
    for bad in [gap(&[0]), gap(&[2]), gap(&[1, 3]), gap(&[1, 1]), reused] {
        let refused = desk.store.start(vec![new_run("b"), bad], None).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    assert!(desk.counts().await.is_empty());
}
