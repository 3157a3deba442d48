//! Letters: numbered, known by their ids, and whom they wake.

use everstep_core::{
    Status, StatusSet, Timestamp,
    store::{Claim, Cut, Letter, LetterKind, Post, Posted, StoreError, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{
        at, begins, cancel, claim, cut, finished, given_back, letter, parked, post, revive, run_of, steps,
        stuck, stuck_end,
    },
};

pub(crate) async fn a_letter_is_kept_as_it_is(desk: Desk) {
    let run = desk.start_pending("a").await;
    assert_eq!(desk.post(post("a", 8)).await, Posted::Added);
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    assert_eq!(inbox.len(), 1);
    assert_eq!((inbox[0].n, &inbox[0].letter), (1, &letter(8)));
    assert_eq!(desk.loaded(run).await.inbox, inbox);
}

pub(crate) async fn a_letter_to_a_run_that_has_not_begun_is_kept_until_it_is_due(desk: Desk) {
    let worker = desk.worker().await;
    let run = desk.start_one(run_of("flow", "a", at(9000))).await;
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    let row = desk.row("a").await;
    assert_eq!((row.status, row.wake_at, row.inbox_n), (Status::Pending, Some(at(9000)), 1));
    assert!(worker.claims(claim()).await.is_empty());
    assert_eq!(desk.letters(run).await, [1]);
}

pub(crate) async fn a_cancel_makes_a_pending_run_due(desk: Desk) {
    let worker = desk.worker().await;
    desk.start(vec![run_of("flow", "a", at(9000))]).await;
    assert_eq!(desk.post(cancel("a", 1)).await, Posted::Added);
    let row = desk.row("a").await;
    assert_eq!((row.status, row.wake_at, row.inbox_n), (Status::Pending, Some(Timestamp(0)), 1));
    worker.claims_one().await;
}

pub(crate) async fn a_letter_makes_a_run_due_that_was_given_back(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.ends(given_back(at(9000))).await, Heard::Next(1));
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    assert_eq!(desk.row("a").await.wake_at, Some(Timestamp(0)));
    worker.claims_one().await;
}

pub(crate) async fn a_letter_nudges_a_running_run(desk: Desk) {
    let worker = desk.worker().await;
    let load = worker.start("a").await;
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Running, Some(worker.fence.worker), None));
    assert_eq!(worker.nudged().await, [load.run]);
    assert!(worker.claims(claim()).await.is_empty(), "it is not free");
}

pub(crate) async fn a_letter_wakes_a_waiting_run(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.ends(parked(Some(at(9000)), 0)).await, Heard::Next(1));
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    let (claimed, _) = worker.claims_one().await;
    assert_eq!((claimed.row.status, claimed.row.inbox_n), (Status::Waiting, 1));
}

pub(crate) async fn a_signal_to_a_stuck_run_is_kept_and_wakes_nobody(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    let row = desk.row("a").await;
    assert_eq!((row.status, row.wake_at, row.inbox_n), (Status::Stuck, None, 1));
    assert!(worker.claims(claim()).await.is_empty());
    assert_eq!(desk.letters(run).await, [1]);
}

pub(crate) async fn a_cancel_wakes_a_stuck_run_and_leaves_it_stuck(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    assert_eq!(desk.post(cancel("a", 1)).await, Posted::Added);
    assert_eq!(desk.row("a").await.status, Status::Stuck);
    assert_eq!(desk.store.stuck(run).await.expect("reads"), Some(stuck()));
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(claimed.row.status, Status::Stuck);
}

pub(crate) async fn a_persons_letter_sets_a_stuck_run_going(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    assert_eq!(desk.post(revive("a", 1)).await, Posted::Added);
    assert_eq!(desk.row("a").await.status, Status::Pending);
    assert_eq!(desk.store.stuck(run).await.expect("reads"), None);
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 1)]);
    worker.claims_one().await;
}

pub(crate) async fn a_persons_letter_forgets_takeovers(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    let mut load = worker.start("a").await;
    assert_eq!(load.commit(Turn { marks: vec![begins("k")], ..load.turn() }).await, Heard::Next(1));
    taker.takes_over(&worker).await;
    let (claimed, mut load) = taker.claims_one().await;
    assert_eq!(claimed.row.takeovers, 1);
    assert_eq!(load.ends(stuck_end(0)).await, Heard::Next(1));
    assert_eq!(desk.row("a").await.takeovers, 1);
    assert_eq!(desk.post(revive("a", 1)).await, Posted::Added);
    assert_eq!(desk.row("a").await.takeovers, 0);
}

pub(crate) async fn a_persons_letter_leaves_an_owned_run_to_its_worker(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Stuck).await;
    desk.post(cancel("a", 1)).await;
    worker.claims_one().await;
    assert_eq!(desk.post(revive("a", 2)).await, Posted::Added);
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner), (Status::Stuck, Some(worker.fence.worker)));
    assert_eq!(desk.store.stuck(run).await.expect("reads"), Some(stuck()));
    assert_eq!(worker.nudged().await, [run]);
}

pub(crate) async fn a_letter_is_taken_only_in_its_statuses(desk: Desk) {
    let worker = desk.worker().await;
    let run = worker.brings("a", Status::Waiting).await;
    let only = |statuses: &[Status]| Post { only: StatusSet::of(statuses), ..post("a", 1) };
    let refused = desk.post(only(&[Status::Stuck, Status::Pending])).await;
    assert_eq!(refused, Posted::Refused(Status::Waiting));
    assert_eq!(desk.row("a").await.inbox_n, 0);
    assert!(worker.claims(claim()).await.is_empty());
    assert_eq!(desk.post(only(&[Status::Waiting])).await, Posted::Added, "a refused one is not known");
    assert_eq!(desk.letters(run).await, [1]);
}

pub(crate) async fn a_run_that_is_over_refuses_ordinary_letters(desk: Desk) {
    let worker = desk.worker().await;
    for status in [Status::Completed, Status::Failed, Status::Cancelled] {
        let run = worker.brings(&status.to_string(), status).await;
        assert_eq!(desk.post(post(&status.to_string(), 1)).await, Posted::Refused(status));
        assert!(desk.letters(run).await.is_empty());
    }
}

pub(crate) async fn a_letter_never_wakes_a_run_that_is_over(desk: Desk) {
    let worker = desk.worker().await;
    for status in [Status::Completed, Status::Failed, Status::Cancelled] {
        let id = status.to_string();
        let run = worker.brings(&id, status).await;
        assert_eq!(desk.post(revive(&id, 1)).await, Posted::Added);
        assert_eq!(desk.letters(run).await, [1], "it is kept");
        let row = desk.row(&id).await;
        assert_eq!((row.status, row.wake_at, row.inbox_n), (status, None, 1));
        assert_eq!(row.finished_at, Some(at(9)));
    }
    let everything = Claim { due: Timestamp::NEVER, ..claim() };
    assert!(worker.claims(everything.clone()).await.is_empty());
    assert_eq!(desk.store.next_due(everything.workflows).await.expect("asks"), None);
}

pub(crate) async fn a_letter_sent_twice_is_one(desk: Desk) {
    let run = desk.start_pending("a").await;
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    let mut other = post("a", 1);
    other.letter.name = "another".into();
    assert_eq!(desk.post(other).await, Posted::Known, "the id decides");
    assert_eq!(desk.another().await.post(post("a", 1)).await, Posted::Known);
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    assert_eq!((inbox.len(), &inbox[0].letter), (1, &letter(1)));
    assert_eq!(desk.row("a").await.inbox_n, 1);
}

pub(crate) async fn a_letter_is_known_after_it_was_taken(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    let turn = Turn { entries: steps([1]), takes: vec![1], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!(desk.post(post("a", 1)).await, Posted::Known);
    assert_eq!(load.ends(finished(Status::Completed, 1)).await, Heard::Next(2));
    assert_eq!(desk.post(post("a", 1)).await, Posted::Known, "also when the run is over");
    assert!(desk.letters(load.run).await.is_empty());
}

pub(crate) async fn a_known_letter_wakes_nobody(desk: Desk) {
    let worker = desk.worker().await;
    desk.start_pending("a").await;
    desk.post(post("a", 1)).await;
    let (_, mut load) = worker.claims_one().await;
    assert_eq!(desk.post(post("a", 1)).await, Posted::Known);
    assert!(worker.nudged().await.is_empty());
    assert_eq!(load.ends(parked(None, 1)).await, Heard::Next(1));
    assert_eq!(desk.post(post("a", 1)).await, Posted::Known);
    assert!(worker.claims(claim()).await.is_empty());
}

pub(crate) async fn two_runs_may_get_letters_of_one_id(desk: Desk) {
    let (a, b) = (desk.start_pending("a").await, desk.start_pending("b").await);
    assert_eq!(desk.post(post("a", 1)).await, Posted::Added);
    assert_eq!(desk.post(post("b", 1)).await, Posted::Added);
    assert_eq!((desk.letters(a).await, desk.letters(b).await), (vec![1], vec![1]));
}

pub(crate) async fn letters_are_numbered_densely_from_1(desk: Desk) {
    let run = desk.start_pending("a").await;
    for id in [9, 9, 3, 7, 3, 1] {
        desk.post(post("a", id)).await;
    }
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    let told: Vec<_> = inbox.iter().map(|received| (received.n, received.letter.id.0)).collect();
    assert_eq!(told, [(1, 9), (2, 3), (3, 7), (4, 1)]);
}

/// faults.md row 29: numbers come from the run, not from a sequence.
pub(crate) async fn racing_letters_are_numbered_densely(desk: Desk) {
    let other = desk.another().await;
    let run = desk.start_pending("a").await;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..24)
            .map(|n: u128| (if n.is_multiple_of(2) { &desk } else { &other }, post("a", n / 2)))
            .map(|(desk, post)| scope.spawn(|| desk.store.post(post)))
            .collect();
        posts.into_iter().map(|post| post.join().expect("no panic")).collect()
    });
    let mut added = 0;
    for answer in answers {
        added += u64::from(answer.await.expect("posts") == Posted::Added);
    }
    assert_eq!(added, 12, "each was sent twice");
    assert_eq!(desk.letters(run).await, (1..=12).collect::<Vec<_>>());
    assert_eq!(desk.row("a").await.inbox_n, 12);
}

pub(crate) async fn a_letter_that_nobody_waits_for_arrives(desk: Desk) {
    let run = desk.start_pending("a").await;
    drop(desk.store.post(post("a", 1)));
    let second = desk.store.post(post("a", 2));
    assert_eq!(second.await.expect("posts"), Posted::Added);
    let inbox = desk.store.inbox(run, 0).await.expect("reads");
    let ids: Vec<_> = inbox.iter().map(|received| received.letter.id.0).collect();
    assert_eq!(ids, [1, 2], "in the order of the calls");
}

pub(crate) async fn a_letter_to_nobody_says_so(desk: Desk) {
    assert_eq!(desk.post(post("nobody", 1)).await, Posted::NoSuchRun);
    let run = desk.start_pending("nobody").await;
    assert!(desk.letters(run).await.is_empty());
    assert_eq!(desk.post(post("nobody", 1)).await, Posted::Added, "it was not kept");
}

pub(crate) async fn a_record_cannot_be_sent(desk: Desk) {
    let run = desk.start_pending("a").await;
    let record = Letter { kind: LetterKind::Recorded as u16, ..letter(1) };
    let sent = desk.store.post(Post { letter: record.clone(), ..post("a", 1) }).await;
    assert!(matches!(sent, Err(StoreError::Refused(_))), "{sent:?}");
    let sent = desk.cut(Cut { letters: vec![letter(2), record], ..cut(run, 0, 1) }).await;
    assert!(matches!(sent, Err(StoreError::Refused(_))), "{sent:?}");
    assert!(desk.letters(run).await.is_empty());
}

pub(crate) async fn a_nudge_is_told_once(desk: Desk) {
    let worker = desk.worker().await;
    let (a, b) = (worker.start("a").await, worker.start("b").await);
    worker.start("c").await;
    for (to, id) in [("a", 1), ("a", 2), ("b", 3)] {
        desk.post(post(to, id)).await;
    }
    let mut nudged = worker.nudged().await;
    nudged.sort();
    assert_eq!(nudged, [a.run, b.run]);
    assert!(worker.nudged().await.is_empty());
    desk.post(post("b", 4)).await;
    assert_eq!(worker.nudged().await, [b.run]);
}

pub(crate) async fn a_nudge_is_for_the_owner(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.another().await.worker().await);
    let (a, b) = (worker.start("a").await, other.start("b").await);
    desk.post(post("a", 1)).await;
    desk.post(post("b", 1)).await;
    assert_eq!(other.nudged().await, [b.run]);
    assert_eq!(worker.nudged().await, [a.run]);
}

pub(crate) async fn a_nudge_ends_with_its_load(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    assert_eq!(load.ends(given_back(at(0))).await, Heard::Next(1));
    assert!(worker.nudged().await.is_empty());
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(claimed.row.inbox_n, 1, "the claim tells of the letter");
    assert!(worker.nudged().await.is_empty());
}

/// The worker that takes a run again reads its inbox: a nudge would only wake it for nothing.
pub(crate) async fn a_nudge_ends_when_its_run_is_taken_again(desk: Desk) {
    let worker = desk.worker().await;
    let load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    let again = desk.store.reload(worker.fence, load.run).await.expect("it answers");
    assert_eq!(again.expect("it is this worker's").row.inbox_n, 1, "its row tells of the letter");
    assert!(worker.nudged().await.is_empty());
    desk.post(post("a", 2)).await;
    assert_eq!(worker.nudged().await, [load.run], "what comes later is another");
}

pub(crate) async fn a_letter_outlives_the_worker_it_was_for(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    let load = worker.start("a").await;
    desk.post(post("a", 1)).await;
    taker.takes_over(&worker).await;
    let (claimed, _) = taker.claims_one().await;
    assert_eq!((claimed.row.inbox_n, desk.letters(load.run).await), (1, vec![1]));
}

pub(crate) async fn a_fenced_worker_is_not_nudged(desk: Desk) {
    let (slow, taker) = (desk.worker().await, desk.worker().await);
    let load = slow.start("a").await;
    desk.post(post("a", 1)).await;
    taker.fences(&slow).await;
    let refused = desk.store.nudged(slow.fence).await;
    assert!(matches!(refused, Err(StoreError::Fenced(w)) if w == slow.fence.worker), "{refused:?}");
    assert_eq!(desk.letters(load.run).await, [1]);
}
