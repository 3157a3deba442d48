//! Marks of copies: who is let in while runs move to another store, or come from one.

use everstep_core::{
    Status,
    store::{CopyId, CopyMark, CopyStage, Does, Doomed, Filter, StoreError, Transfer, WorkerSeen},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{act, at, claim, cut, info, new_run, parked, post},
};

const STAGES: [CopyStage; 3] = [CopyStage::Leaving, CopyStage::Moved, CopyStage::Arriving];

pub(crate) fn transfer(desk: &Desk) -> &dyn Transfer {
    desk.store.transfer().expect("runs of every store can be copied")
}

pub(crate) fn mark(copy: u128, stage: CopyStage) -> Option<CopyMark> {
    Some(CopyMark { copy: CopyId(copy), stage, other: "the other: ü/日本".into(), at: at(1) })
}

pub(crate) async fn marks(
    desk: &Desk,
    from: Option<CopyMark>,
    to: Option<CopyMark>,
) -> Result<(), StoreError> {
    transfer(desk).set_copy_mark(from, to).await
}

async fn marked(desk: &Desk) -> Option<CopyMark> {
    transfer(desk).copy_mark().await.expect("reads")
}

/// Brings a store without a mark and workers to this stage of copy 1.
async fn brings_to(desk: &Desk, stage: CopyStage) {
    if stage == CopyStage::Moved {
        marks(desk, None, mark(1, CopyStage::Leaving)).await.expect("leaves");
        return marks(desk, mark(1, CopyStage::Leaving), mark(1, stage)).await.expect("is gone");
    }
    marks(desk, None, mark(1, stage)).await.expect("marks");
}

fn is_blocked(answer: Result<(), StoreError>) -> String {
    match answer {
        Err(StoreError::Unusable(why)) => why.to_string(),
        other => panic!("something is in the way: {other:?}"),
    }
}

pub(crate) async fn a_store_has_no_mark_before_a_copy(desk: Desk) {
    desk.start_pending("a").await;
    assert_eq!(marked(&desk).await, None);
}

pub(crate) async fn a_mark_is_told_whole_in_every_opening(desk: Desk) {
    let other = desk.another().await;
    marks(&desk, None, mark(u128::MAX, CopyStage::Leaving)).await.expect("marks");
    for desk in [&desk, &other] {
        assert_eq!(marked(desk).await, mark(u128::MAX, CopyStage::Leaving));
    }
}

pub(crate) async fn marks_follow_each_other(desk: Desk) {
    use CopyStage as S;
    let sides = [None, mark(1, S::Leaving), mark(1, S::Arriving), mark(2, S::Moved), mark(1, S::Moved)];
    // Each stage in turn, and back from it; from the last one there is no way back.
    for from in [None, mark(1, S::Leaving), mark(1, S::Arriving), mark(1, S::Moved)] {
        if let Some(from) = &from {
            brings_to(&desk, from.stage).await;
        }
        for to in &sides {
            let follows = CopyMark::needs(from.as_ref(), to.as_ref()).is_ok();
            if !follows {
                let answer = marks(&desk, from.clone(), to.clone()).await;
                assert!(matches!(answer, Err(StoreError::Refused(_))), "{from:?} {to:?}: {answer:?}");
            }
        }
        assert_eq!(marked(&desk).await, from);
        if from.as_ref().is_some_and(|from| from.stage != S::Moved) {
            marks(&desk, from, None).await.expect("goes back");
        }
    }
}

pub(crate) async fn a_mark_is_changed_by_whoever_knows_it(desk: Desk) {
    let gone = marks(&desk, mark(1, CopyStage::Leaving), None).await;
    assert!(matches!(gone, Err(StoreError::Unusable(_))), "there is none: {gone:?}");
    marks(&desk, None, mark(1, CopyStage::Leaving)).await.expect("marks");
    for from in [None, mark(2, CopyStage::Leaving), mark(1, CopyStage::Arriving)] {
        for to in [None, mark(2, CopyStage::Leaving), mark(1, CopyStage::Moved)] {
            let answer = marks(&desk, from.clone(), to).await;
            assert!(matches!(answer, Err(StoreError::Moved(_))), "{from:?}: {answer:?}");
        }
    }
    assert_eq!(marked(&desk).await, mark(1, CopyStage::Leaving));
}

pub(crate) async fn no_mark_is_made_while_a_worker_is_there(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.another().await.worker().await);
    let mut load = worker.start("a").await;
    let closes = [CopyStage::Leaving, CopyStage::Arriving];
    for stage in closes {
        is_blocked(marks(&desk, None, mark(1, stage)).await);
    }
    // Fenced, it still has a run that nobody has freed; and the other one lives.
    other.fences(&worker).await;
    for stage in closes {
        is_blocked(marks(&desk, None, mark(1, stage)).await);
    }
    desk.store.leave(other.fence).await.expect("leaves");
    for stage in closes {
        is_blocked(marks(&desk, None, mark(1, stage)).await);
    }
    assert_eq!(marked(&desk).await, None);
    let third = desk.worker().await;
    third.frees(&worker, 10).await;
    desk.store.leave(third.fence).await.expect("leaves");
    marks(&desk, None, mark(1, CopyStage::Leaving)).await.expect("nobody is there");
    assert_eq!(load.adds([1]).await, Heard::Fenced, "the mark is not what a stale worker hears of");
}

pub(crate) async fn runs_arrive_in_an_empty_store(desk: Desk) {
    desk.start_pending("only").await;
    let why = is_blocked(marks(&desk, None, mark(1, CopyStage::Arriving)).await);
    assert!(why.contains("`only`"), "{why}");
    let doomed = Doomed::of(&desk.row("only").await);
    assert_eq!(desk.store.delete(vec![doomed]).await.expect("deletes"), [true]);
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("it is empty");
}

/// Every call that writes without a worker's fence, made in an opening; how each was refused.
async fn refusals(desk: &Desk) -> Vec<(&'static str, Option<StoreError>)> {
    let row = desk.store.run("a".into()).await.expect("reads");
    let mut answers = vec![
        ("enroll", desk.store.enroll(info()).await.err()),
        ("start", desk.store.start(vec![new_run("new")], None).await.err()),
        ("start again", desk.store.start(vec![new_run("a")], None).await.err()),
        ("post", desk.store.post(post("a", 9)).await.err()),
        ("act", desk.store.act(Does::Post(post("a", 8)), act("signal")).await.err()),
        ("pause", desk.store.act(Does::Pause(post("a", 7)), act("pause")).await.err()),
    ];
    if let Some(row) = row {
        answers.push(("cut", desk.store.cut(cut(row.run, row.inbox_n, 1)).await.err()));
        answers.push(("delete", desk.store.delete(vec![Doomed::of(&row)]).await.err()));
    }
    answers
}

pub(crate) async fn a_mark_keeps_clients_and_new_workers_out(desk: Desk) {
    let older = desk.another().await;
    desk.start_pending("a").await;
    for stage in [CopyStage::Leaving, CopyStage::Moved] {
        match stage {
            CopyStage::Moved => {
                marks(&desk, mark(1, CopyStage::Leaving), mark(1, stage)).await.expect("marks")
            }
            _ => brings_to(&desk, stage).await,
        }
        let expected = mark(1, stage).expect("one").to_string();
        for opening in [&desk, &older] {
            for (call, refusal) in refusals(opening).await {
                let is_refused = matches!(&refusal, Some(StoreError::Moved(why)) if **why == *expected);
                assert!(is_refused, "{stage:?} {call}: {refusal:?}");
            }
        }
    }
    let row = older.row("a").await;
    assert_eq!((row.status, row.inbox_n), (Status::Pending, 0), "reads go on, and nothing has changed");
    assert!(desk.store.acts(row.run, 10).await.expect("reads").is_empty());
    assert_eq!(desk.store.workers().await.expect("sees"), Vec::<WorkerSeen>::new());
}

pub(crate) async fn an_arrival_keeps_clients_and_new_workers_out(desk: Desk) {
    let older = desk.another().await;
    brings_to(&desk, CopyStage::Arriving).await;
    for opening in [&desk, &older] {
        for (call, refusal) in refusals(opening).await {
            assert!(matches!(refusal, Some(StoreError::Moved(_))), "{call}: {refusal:?}");
        }
    }
    assert_eq!(desk.store.count(Filter::default(), 10).await.expect("counts"), 0);
}

pub(crate) async fn a_copy_that_is_given_up_lets_everybody_in_again(desk: Desk) {
    let other = desk.another().await;
    desk.start_pending("a").await;
    brings_to(&desk, CopyStage::Leaving).await;
    marks(&other, mark(1, CopyStage::Leaving), None).await.expect("gives up");
    desk.post(post("a", 9)).await;
    let worker = desk.worker().await;
    let mut taken = worker.claims(claim()).await;
    let mut load = worker.load(&taken.remove(0));
    assert_eq!(load.ends(parked(None, 1)).await, Heard::Next(1));
}

pub(crate) async fn a_worker_that_came_first_is_in_the_way(desk: Desk) {
    for stage in STAGES {
        // In one queue, and perhaps in one transaction: whoever is first decides.
        let (enrolled, marked) = {
            let enrolls = desk.store.enroll(info());
            let marks = transfer(&desk).set_copy_mark(None, mark(1, stage));
            (enrolls.await, marks.await)
        };
        desk.store.leave(enrolled.expect("enrolls")).await.expect("leaves");
        assert!(marked.is_err(), "{stage:?}");
    }
}

pub(crate) async fn a_worker_that_came_second_is_kept_out(desk: Desk) {
    let marks = transfer(&desk).set_copy_mark(None, mark(1, CopyStage::Leaving));
    let (enrolls, starts) = (desk.store.enroll(info()), desk.store.start(vec![new_run("a")], None));
    marks.await.expect("marks");
    assert!(matches!(enrolls.await, Err(StoreError::Moved(_))));
    assert!(matches!(starts.await, Err(StoreError::Moved(_))));
    assert_eq!(desk.store.count(Filter::default(), 10).await.expect("counts"), 0);
}
