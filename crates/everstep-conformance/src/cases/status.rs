//! Statuses: [`Status::after`] decides, and what it does not allow is an error and never a panic.

use everstep_core::{
    Change, Status, Timestamp,
    store::{Claim, End, Posted, StoreError},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{at, cancel, claim, cut, finished, given_back, parked, revive, stuck_end},
};

pub(crate) async fn every_end_follows_the_table(desk: Desk) {
    let worker = desk.worker().await;
    for held in [Status::Running, Status::Stuck] {
        let ends = [
            finished(Status::Completed, 1),
            finished(Status::Failed, 1),
            finished(Status::Cancelled, 1),
            parked(None, 1),
            stuck_end(1),
            Some(End::Paused { inbox_n: 1 }),
            given_back(Timestamp::NEVER),
        ];
        for (n, end) in ends.into_iter().flatten().enumerate() {
            let id = format!("{held} {n}");
            let before = if held == Status::Stuck { held } else { Status::Pending };
            worker.brings(&id, before).await;
            desk.post(cancel(&id, 1)).await;
            let (_, mut load) = worker.claims_one().await;
            let after = end.change().and_then(|change| held.after(change).ok());
            let expected = after.map_or(Heard::Refused, |_| Heard::Next(1));
            assert_eq!(load.ends(Some(end.clone())).await, expected, "{held}, {end:?}");
            assert_eq!(desk.row(&id).await.status, after.unwrap_or(held), "{held}, {end:?}");
        }
    }
}

pub(crate) async fn every_cut_follows_the_table(desk: Desk) {
    let worker = desk.worker().await;
    for status in Status::ALL {
        let id = status.to_string();
        let run = worker.brings(&id, status).await;
        let before = desk.row(&id).await;
        let answer = desk.cut(cut(run, 0, u64::MAX)).await;
        let expected = match status {
            Status::Pending | Status::Waiting => Some(status),
            other => other.after(Change::Revived).ok(),
        };
        match (status, expected) {
            (Status::Running, _) => assert!(matches!(answer, Ok(false)), "a worker has it: {answer:?}"),
            (_, Some(after)) => {
                assert!(matches!(answer, Ok(true)), "{status}: {answer:?}");
                assert_eq!(desk.row(&id).await.status, after);
            }
            (_, None) => {
                assert!(matches!(answer, Err(StoreError::Refused(_))), "{status}: {answer:?}");
                assert_eq!(desk.row(&id).await, before);
            }
        }
    }
}

pub(crate) async fn every_letter_of_a_person_follows_the_table(desk: Desk) {
    let worker = desk.worker().await;
    for status in Status::ALL {
        let id = status.to_string();
        worker.brings(&id, status).await;
        assert_eq!(desk.post(revive(&id, 1)).await, Posted::Added, "{status}");
        let revived = matches!(status, Status::Stuck | Status::Paused);
        let after = if revived { Status::Pending } else { status };
        assert_eq!(desk.row(&id).await.status, after);
    }
}

pub(crate) async fn only_runs_that_may_run_are_claimed(desk: Desk) {
    let worker = desk.worker().await;
    for status in Status::ALL {
        let id = status.to_string();
        worker.brings(&id, status).await;
        desk.post(revive(&id, 1)).await;
    }
    let mut ids = worker.claims_ids(Claim { due: Timestamp::NEVER, ..claim() }).await;
    ids.sort();
    assert_eq!(ids, ["paused", "pending", "stuck", "waiting"]);
}

pub(crate) async fn a_worker_that_dies_leaves_statuses_that_may_follow(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.worker().await);
    worker.start("running").await;
    worker.brings("stuck", Status::Stuck).await;
    desk.post(cancel("stuck", 1)).await;
    worker.claims_one().await;
    assert_eq!(taker.takes_over(&worker).await, 2);
    assert_eq!(desk.row("running").await.status, Status::Pending);
    assert_eq!(desk.row("stuck").await.status, Status::Stuck);
    for id in ["running", "stuck"] {
        let row = desk.row(id).await;
        assert_eq!((row.owner, row.wake_at), (None, Some(Timestamp(0))));
    }
    assert_eq!(taker.claims(Claim { due: at(0), ..claim() }).await.len(), 2);
}
