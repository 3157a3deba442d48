//! Claims: who gets which runs, and when.

use std::collections::BTreeSet;

use everstep_core::{
    Status, Timestamp,
    store::{Claim, RunId, StoreError, Turn},
};

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{
        at, cancel, claim, claim_of, cut, finished, given_back, names, parked, post, revive, run_of, steps,
        stuck_end,
    },
};

/// Runs `{workflow} 0`, `{workflow} 1`, ..., each due a microsecond after the other.
async fn start_some(desk: &Desk, workflow: &str, count: i64) {
    let runs = (0..count).map(|n| run_of(workflow, &format!("{workflow} {n}"), at(n)));
    desk.start(runs.collect()).await;
}

pub(crate) async fn a_claimed_run_belongs_to_its_worker(desk: Desk) {
    let worker = desk.worker().await;
    let run = desk.start_pending("a").await;
    let (claimed, mut load) = worker.claims_one().await;
    assert_eq!((claimed.row.run, claimed.row.status), (run, Status::Pending), "as before the claim");
    assert_eq!((claimed.row.owner, claimed.row.wake_at), (Some(worker.fence.worker), None));
    let row = desk.row("a").await;
    assert_eq!((row.status, row.owner, row.wake_at), (Status::Running, Some(worker.fence.worker), None));
    assert_eq!(load.adds(1..2).await, Heard::Next(2));
    assert_eq!(desk.counts().await, [("flow".into(), Status::Running, 1)]);
}

pub(crate) async fn a_claim_takes_no_more_than_its_limit(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "flow", 5).await;
    assert_eq!(worker.claims(claim_of(&["flow"], 2)).await.len(), 2);
    assert_eq!(worker.claims(claim_of(&["flow"], usize::MAX)).await.len(), 3);
}

pub(crate) async fn a_claim_of_nothing_takes_nothing(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "flow", 2).await;
    assert!(worker.claims(claim_of(&["flow"], 0)).await.is_empty());
    assert!(worker.claims(claim_of(&[], 9)).await.is_empty());
    assert_eq!(desk.counts().await, [("flow".into(), Status::Pending, 2)]);
}

pub(crate) async fn what_is_due_longest_comes_first(desk: Desk) {
    let worker = desk.worker().await;
    let dues = [("c", 30), ("a", 10), ("d", 40), ("b", 20)];
    desk.start(dues.map(|(id, due)| run_of("flow", id, at(due))).to_vec()).await;
    assert_eq!(worker.claims_ids(claim_of(&["flow"], 3)).await, ["a", "b", "c"]);
}

pub(crate) async fn a_run_is_due_from_its_microsecond_on(desk: Desk) {
    let worker = desk.worker().await;
    desk.start(vec![run_of("flow", "a", at(500))]).await;
    assert!(worker.claims(Claim { due: at(499), ..claim() }).await.is_empty());
    assert_eq!(worker.claims_ids(Claim { due: at(500), ..claim() }).await, ["a"]);
}

pub(crate) async fn unknown_workflows_are_left_alone(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "foreign", 3).await;
    start_some(&desk, "flow", 1).await;
    assert_eq!(worker.claims_ids(claim_of(&["flow", "never heard of"], 9)).await, ["flow 0"]);
    assert!(worker.claims(claim_of(&["never heard of"], 9)).await.is_empty());
    let row = desk.row("foreign 0").await;
    assert_eq!((row.status, row.owner), (Status::Pending, None));
}

pub(crate) async fn a_run_is_claimed_once(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.another().await.worker().await);
    desk.start_pending("a").await;
    worker.claims_one().await;
    assert!(worker.claims(claim()).await.is_empty(), "not again");
    assert!(other.claims(claim()).await.is_empty(), "nor by another");
}

/// faults.md row 22: who loses a race for one run gets another.
pub(crate) async fn racing_claims_share_the_runs(desk: Desk) {
    let others = [desk.clone(), desk.another().await];
    start_some(&desk, "flow", 40).await;
    let mut workers = Vec::new();
    for n in 0..4 {
        workers.push(others[n % 2].worker().await);
    }
    let answers: Vec<_> = std::thread::scope(|scope| {
        let claims: Vec<_> = workers
            .iter()
            .flat_map(|worker| [worker; 5])
            .map(|worker| scope.spawn(|| worker.desk.store.claim(worker.fence, claim_of(&["flow"], 3))))
            .collect();
        claims.into_iter().map(|claim| claim.join().expect("no panic")).collect()
    });
    let mut ids = Vec::new();
    for answer in answers {
        ids.extend(answer.await.expect("claims").iter().map(|claimed| claimed.row.run));
    }
    assert_eq!(ids.len(), 40, "20 claims of 3 empty it");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40, "each run once");
}

pub(crate) async fn each_load_has_a_number_of_its_own(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "flow", 3).await;
    let mut numbers = BTreeSet::new();
    for _ in 0..3 {
        for claimed in worker.claims(claim()).await {
            assert!(numbers.insert(claimed.load), "given twice");
            assert_eq!(worker.load(&claimed).ends(given_back(at(0))).await, Heard::Next(1));
        }
    }
    assert_eq!(numbers.len(), 9);
}

pub(crate) async fn a_claimed_run_goes_on_after_its_last_entry(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let turn = Turn { entries: steps(1..4), end: given_back(at(0)), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(4));
    let (_, mut load) = worker.claims_one().await;
    assert_eq!(load.adds(4..5).await, Heard::Next(5));
}

pub(crate) async fn a_claim_tells_the_status_before(desk: Desk) {
    let worker = desk.worker().await;
    let statuses = [Status::Pending, Status::Waiting, Status::Stuck];
    for status in statuses {
        worker.brings(&status.to_string(), status).await;
        desk.post(cancel(&status.to_string(), 1)).await;
    }
    let claimed = worker.claims(claim()).await;
    assert_eq!(claimed.len(), 3);
    for claimed in claimed {
        assert_eq!(claimed.row.status.to_string(), *claimed.row.id);
    }
}

pub(crate) async fn no_workflow_waits_behind_another(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "a", 9).await;
    start_some(&desk, "b", 9).await;
    let mut ids = worker.claims_ids(claim_of(&["a", "b"], 4)).await;
    ids.sort();
    assert_eq!(ids, ["a 0", "a 1", "b 0", "b 1"]);
}

pub(crate) async fn what_one_workflow_does_not_need_goes_to_others(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "a", 9).await;
    start_some(&desk, "b", 1).await;
    let mut ids = worker.claims_ids(claim_of(&["a", "b"], 4)).await;
    ids.sort();
    assert_eq!(ids, ["a 0", "a 1", "a 2", "b 0"]);
}

pub(crate) async fn claims_begin_with_another_workflow_each(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "a", 9).await;
    start_some(&desk, "b", 9).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.extend(worker.claims_ids(claim_of(&["a", "b"], 1)).await);
    }
    ids.sort();
    assert_eq!(ids, ["a 0", "b 0"]);
}

pub(crate) async fn a_workflow_named_twice_gives_each_run_once(desk: Desk) {
    let worker = desk.worker().await;
    start_some(&desk, "flow", 3).await;
    assert_eq!(worker.claims(claim_of(&["flow", "flow"], 9)).await.len(), 3);
}

pub(crate) async fn a_fenced_worker_claims_nothing(desk: Desk) {
    let (slow, taker) = (desk.worker().await, desk.worker().await);
    desk.start_pending("a").await;
    taker.fences(&slow).await;
    let refused = desk.store.claim(slow.fence, claim()).await;
    assert!(matches!(refused, Err(StoreError::Fenced(w)) if w == slow.fence.worker), "{refused:?}");
    assert_eq!(desk.row("a").await.owner, None);
}

pub(crate) async fn the_next_due_run_is_told(desk: Desk) {
    let worker = desk.worker().await;
    let next = async |workflows: &[&str]| desk.store.next_due(names(workflows)).await.expect("asks");
    assert_eq!(next(&["flow"]).await, None);
    desk.start(vec![run_of("flow", "late", at(70)), run_of("flow", "soon", at(50))]).await;
    desk.start(vec![run_of("other", "other", at(60)), run_of("third", "third", at(10))]).await;
    assert_eq!(next(&["flow"]).await, Some(at(50)));
    assert_eq!(next(&["other", "flow"]).await, Some(at(50)));
    assert_eq!(next(&["other", "unknown"]).await, Some(at(60)));
    assert_eq!(next(&[]).await, None);
    worker.claims(Claim { due: at(50), ..claim() }).await;
    assert_eq!(next(&["flow"]).await, Some(at(70)), "a claimed run is not due");
}

pub(crate) async fn a_run_that_waits_for_no_time_is_not_due(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    assert_eq!(load.ends(parked(None, 0)).await, Heard::Next(1));
    assert_eq!(desk.store.next_due(names(&["flow"])).await.expect("asks"), None);
    assert!(worker.claims(Claim { due: Timestamp::NEVER, ..claim() }).await.is_empty());
}

pub(crate) async fn a_run_begins_with_its_first_claim(desk: Desk) {
    let worker = desk.worker().await;
    desk.start_pending("a").await;
    worker.claims(Claim { due: Timestamp(0), ..claim() }).await;
    assert_eq!(desk.row("a").await.began_at, None, "a claim that does not take it");
    let claimed = worker.claims(Claim { due: at(50), ..claim() }).await;
    assert_eq!(claimed[0].row.began_at, Some(at(50)));
    assert_eq!(desk.row("a").await.began_at, Some(at(50)));
}

pub(crate) async fn a_run_begins_once(desk: Desk) {
    let (worker, taker) = (desk.worker().await, desk.another().await.worker().await);
    let began = Some(at(50));
    let run = desk.start_pending("a").await;
    let load = worker.claims(Claim { due: at(50), ..claim() }).await[0].load;
    let mut load = Load::new(&worker, run, load);
    assert_eq!(load.ends(parked(None, 0)).await, Heard::Next(1));
    assert_eq!(desk.row("a").await.began_at, began, "parked");
    desk.post(post("a", 1)).await;
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(claimed.row.began_at, began, "claimed again, with a letter");
    let again = desk.store.reload(worker.fence, run).await.expect("it answers").expect("it is this worker's");
    assert_eq!(again.row.began_at, began, "reloaded");
    taker.takes_over(&worker).await;
    assert_eq!(desk.row("a").await.began_at, began, "freed");
    let (claimed, mut load) = taker.claims_one().await;
    assert_eq!(claimed.row.began_at, began, "taken over");
    assert_eq!(load.ends(stuck_end(1)).await, Heard::Next(1));
    desk.post(revive("a", 2)).await;
    assert!(desk.cut(cut(run, 2, 1)).await.expect("cuts"));
    assert_eq!(desk.row("a").await.began_at, began, "set going by people");
    let (claimed, mut load) = taker.claims_one().await;
    let turn = Turn { entries: steps(1..2), end: finished(Status::Completed, 2), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    assert_eq!((claimed.row.began_at, desk.row("a").await.began_at), (began, began), "over");
}

pub(crate) async fn an_owned_run_can_be_taken_again(desk: Desk) {
    let worker = desk.worker().await;
    desk.start_pending("a").await;
    let (_, mut first) = worker.claims_one().await;
    assert_eq!(first.adds(1..3).await, Heard::Next(3));
    let again =
        desk.store.reload(worker.fence, first.run).await.expect("it answers").expect("it is this worker's");
    assert_eq!((again.row.run, again.row.status), (first.run, Status::Running));
    assert_eq!(again.row.owner, Some(worker.fence.worker));
    assert_eq!(first.adds(3..4).await, Heard::Refused, "the load before is over");
    let mut second = Load::new(&worker, again.row.run, again.load);
    assert_eq!(second.adds(3..4).await, Heard::Next(4));
    assert_eq!(desk.counts().await, [("flow".into(), Status::Running, 1)]);
}

pub(crate) async fn only_the_owner_takes_a_run_again(desk: Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    let free = desk.start_pending("a").await;
    assert!(desk.store.reload(worker.fence, free).await.expect("it answers").is_none());
    let (_, mut load) = worker.claims_one().await;
    assert!(desk.store.reload(other.fence, load.run).await.expect("it answers").is_none());
    assert_eq!(load.adds(1..2).await, Heard::Next(2), "its load goes on");
    assert!(desk.store.reload(worker.fence, RunId(99)).await.expect("it answers").is_none());
    desk.store.leave(worker.fence).await.expect("it leaves");
    assert!(matches!(desk.store.reload(worker.fence, load.run).await, Err(StoreError::Fenced(_))));
}
