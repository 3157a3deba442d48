//! Reads: everything that is committed, and nothing else.

use std::sync::Arc;

use everstep_core::{
    AttributeValue, Status, StatusSet, Timestamp,
    journal::{Entry, Kind},
    store::{Condition, Field, Filter, NewRun, Operator, RunId, Started, Turn},
};

use crate::{
    desk::Desk,
    load::Heard,
    sample::{at, begins, claim, cut, entry, finished, new_run, post, revive, run_of, sets, started, steps},
};

fn filter(conditions: impl IntoIterator<Item = Condition>) -> Filter {
    Filter { conditions: conditions.into_iter().collect() }
}

fn text(field: Field, not: bool, values: &[&str]) -> Condition {
    Condition::Text { field, not, values: values.iter().map(ToString::to_string).collect() }
}

/// The ids that a filter finds.
async fn found(desk: &Desk, condition: Condition) -> Vec<String> {
    desk.found(filter([condition]), None, 100).await
}

/// Runs `a` to `d`, created at 1 to 4; `a` and `b` of `flow`, `c` and `d` of `other`.
async fn start_four(desk: &Desk) {
    let runs = ["a", "b", "c", "d"].into_iter().zip(1..).map(|(id, n)| {
        let first = Entry { at: at(n), ..entry(0, Kind::Started, "{}") };
        NewRun { first, ..run_of(if n < 3 { "flow" } else { "other" }, id, at(0)) }
    });
    desk.start(runs.collect()).await;
}

pub(crate) async fn what_is_not_there_is_nothing(desk: Desk) {
    let run = desk.start_pending("a").await;
    assert_eq!(desk.store.run("A".into()).await.expect("reads"), None, "ids tell upper from lower case");
    assert_eq!(desk.store.run("".into()).await.expect("reads"), None);
    assert_eq!(desk.store.stuck(run).await.expect("reads"), None);
    for missing in [run.0 + 1, 0, -1, i64::MIN, i64::MAX].map(RunId) {
        let loaded = desk.loaded(missing).await;
        assert!(loaded.entries.is_empty() && loaded.inbox.is_empty() && loaded.started.is_empty());
        assert!(desk.store.inbox(missing, 0).await.expect("reads").is_empty());
        assert_eq!(desk.store.last(missing).await.expect("reads"), None);
        assert_eq!(desk.store.stuck(missing).await.expect("reads"), None);
    }
}

pub(crate) async fn an_empty_store_has_nothing(desk: Desk) {
    assert!(desk.counts().await.is_empty());
    assert!(desk.found(Filter::default(), None, 9).await.is_empty());
    assert!(desk.store.workers().await.expect("sees").is_empty());
}

pub(crate) async fn runs_are_found_newest_first(desk: Desk) {
    start_four(&desk).await;
    assert_eq!(desk.found(Filter::default(), None, 100).await, ["d", "c", "b", "a"]);
    assert_eq!(desk.found(Filter::default(), None, usize::MAX).await.len(), 4);
    assert!(desk.found(Filter::default(), None, 0).await.is_empty());
}

pub(crate) async fn runs_are_found_page_by_page(desk: Desk) {
    start_four(&desk).await;
    assert_eq!(desk.found(Filter::default(), None, 2).await, ["d", "c"]);
    let before = desk.row("c").await.run;
    assert_eq!(desk.found(Filter::default(), Some(before), 2).await, ["b", "a"]);
    let before = desk.row("a").await.run;
    assert!(desk.found(Filter::default(), Some(before), 2).await.is_empty());
    assert!(desk.found(Filter::default(), Some(RunId(i64::MIN)), 2).await.is_empty());
    let flow = filter([text(Field::Workflow, false, &["flow"])]);
    assert_eq!(desk.found(flow.clone(), None, 1).await, ["b"]);
    let before = desk.row("b").await.run;
    assert_eq!(desk.found(flow, Some(before), 1).await, ["a"]);
}

pub(crate) async fn runs_are_found_by_id(desk: Desk) {
    start_four(&desk).await;
    assert_eq!(found(&desk, text(Field::Id, false, &["b"])).await, ["b"]);
    assert_eq!(found(&desk, text(Field::Id, false, &["d", "x", "a"])).await, ["d", "a"]);
    assert_eq!(found(&desk, text(Field::Id, true, &["d", "a"])).await, ["c", "b"]);
    assert!(found(&desk, text(Field::Id, false, &[])).await.is_empty());
    assert_eq!(found(&desk, text(Field::Id, true, &[])).await.len(), 4);
}

pub(crate) async fn runs_are_found_by_workflow(desk: Desk) {
    start_four(&desk).await;
    assert_eq!(found(&desk, text(Field::Workflow, false, &["flow"])).await, ["b", "a"]);
    assert_eq!(found(&desk, text(Field::Workflow, false, &["other", "flow"])).await.len(), 4);
    assert_eq!(found(&desk, text(Field::Workflow, true, &["flow", "never was"])).await, ["d", "c"]);
    assert!(found(&desk, text(Field::Workflow, false, &["never was"])).await.is_empty());
}

pub(crate) async fn runs_are_found_by_status(desk: Desk) {
    let worker = desk.worker().await;
    for status in Status::ALL.into_iter().filter(|status| *status != Status::Paused) {
        worker.brings(&status.to_string(), status).await;
    }
    for status in Status::ALL {
        let ids = found(&desk, Condition::Status(StatusSet::of(&[status]))).await;
        let expected: Vec<_> = (status != Status::Paused).then(|| status.to_string()).into_iter().collect();
        assert_eq!(ids, expected);
    }
    let attention = StatusSet::of(&[Status::Failed, Status::Stuck]);
    assert_eq!(found(&desk, Condition::Status(attention)).await, ["stuck", "failed"]);
    assert_eq!(found(&desk, Condition::Status(StatusSet::OPEN)).await.len(), 4);
    assert_eq!(found(&desk, Condition::Status(StatusSet::ANY)).await.len(), 7);
    assert!(found(&desk, Condition::Status(StatusSet::default())).await.is_empty());
}

pub(crate) async fn runs_are_found_by_when_they_were_created(desk: Desk) {
    start_four(&desk).await;
    let created = |operator, micros| Condition::Time { field: Field::Created, operator, at: at(micros) };
    assert_eq!(found(&desk, created(Operator::Before, 2)).await, ["a"]);
    assert_eq!(found(&desk, created(Operator::UpTo, 2)).await, ["b", "a"]);
    assert_eq!(found(&desk, created(Operator::After, 3)).await, ["d"]);
    assert_eq!(found(&desk, created(Operator::From, 3)).await, ["d", "c"]);
}

pub(crate) async fn runs_are_found_by_when_they_were_over(desk: Desk) {
    let worker = desk.worker().await;
    worker.brings("running", Status::Running).await;
    worker.brings("over", Status::Completed).await;
    let over = |operator, at| Condition::Time { field: Field::Finished, operator, at };
    assert_eq!(found(&desk, over(Operator::UpTo, at(9))).await, ["over"]);
    assert_eq!(found(&desk, over(Operator::From, at(9))).await, ["over"]);
    assert!(found(&desk, over(Operator::Before, at(9))).await.is_empty());
    assert!(found(&desk, over(Operator::After, at(9))).await.is_empty());
    assert_eq!(found(&desk, over(Operator::UpTo, Timestamp::NEVER)).await, ["over"]);
    assert_eq!(found(&desk, over(Operator::From, Timestamp(i64::MIN))).await, ["over"]);
}

pub(crate) async fn all_conditions_must_hold(desk: Desk) {
    start_four(&desk).await;
    let conditions = || {
        [
            text(Field::Workflow, false, &["other"]),
            text(Field::Id, true, &["d"]),
            Condition::Status(StatusSet::of(&[Status::Pending, Status::Failed])),
        ]
    };
    assert_eq!(desk.found(filter(conditions()), None, 9).await, ["c"]);
    let more = conditions().into_iter().chain([text(Field::Id, false, &["a", "b"])]);
    assert!(desk.found(filter(more), None, 9).await.is_empty());
}

/// Runs `a`, `b`, ... with this value of `x` each, and `none` without.
async fn start_with(desk: &Desk, values: &[AttributeValue]) {
    let worker = desk.worker().await;
    worker.start("none").await;
    for (id, value) in ('a'..='z').zip(values) {
        let mut load = worker.start(&id.to_string()).await;
        let says = vec![sets("x", Some(value.clone())), sets("other", Some(1.into()))];
        assert_eq!(load.commit(Turn { says, ..load.turn() }).await, Heard::Next(1));
    }
}

fn is(not: bool, values: &[AttributeValue]) -> Condition {
    Condition::AttributeIs { name: "x".into(), not, values: values.to_vec() }
}

fn lies(operator: Operator, value: impl Into<AttributeValue>) -> Condition {
    Condition::AttributeLies { name: "x".into(), operator, value: value.into() }
}

pub(crate) async fn runs_are_found_by_an_attribute(desk: Desk) {
    start_with(&desk, &["blue".into(), "red".into(), 7.into(), true.into(), at(5).into(), 7.5.into()]).await;
    let ids = async |condition| found(&desk, condition).await.concat();
    assert_eq!(ids(is(false, &["blue".into()])).await, "a");
    assert_eq!(ids(is(false, &["blue".into(), "green".into(), 7.into(), at(5).into()])).await, "eca");
    assert_eq!(ids(is(false, &[true.into()])).await, "d");
    assert_eq!(ids(is(false, &[7.0.into()])).await, "c", "a number is what it is");
    assert_eq!(
        ids(is(false, &["Blue".into(), "7".into(), "true".into(), 1.into(), at(5).0.into()])).await,
        ""
    );
    assert_eq!(ids(is(false, &[])).await, "");
    assert_eq!(ids(is(true, &["blue".into()])).await, "fedcb", "whatever else it is");
    assert_eq!(ids(is(true, &["blue".into(), 7.into(), false.into()])).await, "fedb");
    assert_eq!(ids(is(true, &[])).await, "fedcba", "whatever it is");
}

pub(crate) async fn runs_are_found_by_how_an_attribute_lies(desk: Desk) {
    let values = [
        (-3).into(),
        0.5.into(),
        7.into(),
        "a".into(),
        "b".into(),
        at(1).into(),
        at(2).into(),
        false.into(),
        true.into(),
        Timestamp(i64::MIN).into(),
    ];
    start_with(&desk, &values).await;
    let ids = async |condition| found(&desk, condition).await.concat();
    assert_eq!(ids(lies(Operator::Before, 7)).await, "ba");
    assert_eq!(ids(lies(Operator::UpTo, 7.0)).await, "cba");
    assert_eq!(ids(lies(Operator::After, -3)).await, "cb");
    assert_eq!(ids(lies(Operator::From, -3.5)).await, "cba");
    assert_eq!(ids(lies(Operator::Before, "b")).await, "d");
    assert_eq!(ids(lies(Operator::From, "")).await, "ed");
    assert_eq!(ids(lies(Operator::UpTo, at(1))).await, "jf");
    assert_eq!(ids(lies(Operator::After, Timestamp(0))).await, "gf");
    assert_eq!(ids(lies(Operator::Before, true)).await, "h");
    assert_eq!(ids(lies(Operator::From, false)).await, "ih");
    assert_eq!(ids(lies(Operator::After, true)).await, "");
}

pub(crate) async fn a_run_without_an_attribute_matches_nothing_about_it(desk: Desk) {
    start_with(&desk, &[1.into()]).await;
    let about = |name: &str| {
        let (name, values, value) =
            (Arc::<str>::from(name), vec![AttributeValue::from(5)], AttributeValue::from(0));
        [
            Condition::AttributeIs { name: name.clone(), not: true, values },
            Condition::AttributeIs { name: name.clone(), not: true, values: vec![] },
            Condition::AttributeLies { name, operator: Operator::From, value },
        ]
    };
    for condition in about("x") {
        assert_eq!(found(&desk, condition).await, ["a"]);
    }
    for condition in [about("never set by any"), about("X"), about("x ")].concat() {
        assert!(found(&desk, condition.clone()).await.is_empty(), "{condition:?}");
        assert_eq!(desk.store.count(filter([condition]), 9).await.expect("counts"), 0);
    }
}

pub(crate) async fn runs_are_found_by_what_an_attribute_is_now(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    for (value, is_one) in
        [(Some(1.into()), true), (Some(2.into()), false), (Some(1.0.into()), true), (None, false)]
    {
        let says = vec![sets("x", value)];
        assert_eq!(load.commit(Turn { says, ..load.turn() }).await, Heard::Next(1));
        assert_eq!(found(&desk, is(false, &[1.into()])).await.len(), usize::from(is_one));
    }
    assert!(found(&desk, is(true, &[])).await.is_empty(), "it has none any more");
}

pub(crate) async fn conditions_about_attributes_and_fields_are_joined(desk: Desk) {
    let worker = desk.worker().await;
    for (id, x, status) in [
        ("a", 1, Status::Failed),
        ("b", 2, Status::Failed),
        ("c", 1, Status::Completed),
        ("d", 1, Status::Failed),
    ] {
        let mut load = worker.start(id).await;
        let says = vec![sets("x", Some(x.into())), sets("y", Some("z".into()))];
        let end = finished(status, 0);
        assert_eq!(load.commit(Turn { says, end, entries: steps([1]), ..load.turn() }).await, Heard::Next(2));
    }
    let failed = || Condition::Status(StatusSet::of(&[Status::Failed]));
    let y = || Condition::AttributeIs { name: "y".into(), not: false, values: vec!["z".into()] };
    let both = || filter([is(false, &[1.into()]), failed(), y()]);
    assert_eq!(desk.found(both(), None, 9).await, ["d", "a"]);
    assert_eq!(desk.found(both(), None, 1).await, ["d"]);
    let d = desk.row("d").await.run;
    assert_eq!(desk.found(both(), Some(d), 9).await, ["a"], "page by page");
    let ids = text(Field::Id, false, &["a", "b", "c"]);
    assert_eq!(desk.found(filter([ids, y(), lies(Operator::Before, 2), failed()]), None, 9).await, ["a"]);
    assert_eq!(desk.found(filter([is(true, &[1.into()]), is(true, &[3.into()])]), None, 9).await, ["b"]);
}

pub(crate) async fn runs_that_match_are_counted_up_to_a_limit(desk: Desk) {
    start_with(&desk, &[1.into(), 1.into(), 2.into(), "a".into()]).await;
    desk.start_pending("pending").await;
    let count = async |conditions: Vec<Condition>, at_most| {
        desk.store.count(filter(conditions), at_most).await.expect("counts")
    };
    let running = || Condition::Status(StatusSet::of(&[Status::Running]));
    let flow = || text(Field::Workflow, false, &["flow"]);
    for (conditions, all) in [
        (vec![], 6),
        (vec![running()], 5),
        (vec![running(), flow()], 5),
        (vec![text(Field::Workflow, true, &["flow"])], 0),
        (vec![text(Field::Workflow, true, &["other"])], 6),
        (vec![is(false, &[1.into()])], 2),
        (vec![is(false, &[1.into()]), running()], 2),
        (vec![lies(Operator::From, 1), flow()], 3),
        (vec![text(Field::Id, true, &["a"])], 5),
        (vec![Condition::Status(StatusSet::default())], 0),
    ] {
        for at_most in [0, 1, 2, 5, 6, 100, u64::MAX] {
            assert_eq!(count(conditions.clone(), at_most).await, all.min(at_most), "{conditions:?}");
        }
    }
}

pub(crate) async fn found_rows_are_whole(desk: Desk) {
    let worker = desk.worker().await;
    for status in [Status::Pending, Status::Running, Status::Waiting, Status::Stuck, Status::Completed] {
        worker.brings(&status.to_string(), status).await;
        desk.post(post(&status.to_string(), 1)).await;
    }
    for row in desk.store.find(Filter::default(), None, 9).await.expect("finds") {
        assert_eq!(row, desk.row(&row.id).await);
        let known = desk.start(vec![new_run(&row.id)]).await;
        let [Started::Known(known, _)] = &known[..] else { panic!("known") };
        assert_eq!(**known, row, "a start tells the same");
    }
}

pub(crate) async fn a_loaded_run_is_whole(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    for id in 1..4 {
        desk.post(post("a", id)).await;
    }
    let turn =
        Turn { entries: steps(1..3), marks: vec![begins("z"), begins("k")], takes: vec![2], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let loaded = desk.loaded(load.run).await;
    let entries: Vec<_> = [new_run("a").first].into_iter().chain(steps(1..3)).collect();
    assert_eq!(loaded.entries, entries);
    assert_eq!(loaded.inbox.iter().map(|received| received.n).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(loaded.started, [started("k", 1), started("z", 1)]);
    assert_eq!(desk.store.inbox(load.run, 0).await.expect("reads"), loaded.inbox);
    assert_eq!(desk.store.last(load.run).await.expect("reads"), loaded.entries.last().cloned());
}

pub(crate) async fn runs_that_are_loaded_together_are_each_as_if_loaded_alone(desk: Desk) {
    let worker = desk.worker().await;
    let mut runs = vec![RunId(i64::MAX)];
    for id in ["a", "b", "c"] {
        let mut load = worker.start(id).await;
        desk.post(post(id, 1)).await;
        assert_eq!(load.commit(Turn { marks: vec![begins(id)], ..load.turn() }).await, Heard::Next(1));
        runs.extend([load.run, load.run]);
    }
    let mut rest = &runs[..];
    while !rest.is_empty() {
        let some = desk.store.load_some(rest.to_vec()).await.expect("reads");
        assert!(!some.is_empty() && some.len() <= rest.len(), "{} of {}", some.len(), rest.len());
        for (run, together) in rest.iter().zip(&some) {
            let together = together.as_ref().expect("readable");
            let alone = desk.loaded(*run).await;
            assert_eq!(together.entries, alone.entries);
            assert_eq!(together.inbox, alone.inbox);
            assert_eq!(together.started, alone.started);
        }
        rest = &rest[some.len()..];
    }
    assert!(desk.store.load_some(Vec::new()).await.expect("reads").is_empty());
}

pub(crate) async fn every_opening_reads_the_same(desk: Desk) {
    let other = desk.another().await;
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    let turn = Turn { entries: steps(1..3), marks: vec![begins("k")], ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let (here, there) = (desk.loaded(load.run).await, other.loaded(load.run).await);
    assert_eq!(here.entries, there.entries);
    assert_eq!((here.inbox, here.started), (there.inbox, there.started));
    assert_eq!(desk.row("a").await, other.row("a").await);
    assert_eq!(desk.counts().await, other.counts().await);
}

pub(crate) async fn a_later_opening_reads_what_an_earlier_wrote(desk: Desk) {
    let run = {
        let early = desk.another().await;
        let mut load = early.worker().await.start("a").await;
        assert_eq!(load.adds(1..4).await, Heard::Next(4));
        load.run
    };
    assert_eq!(desk.another().await.loaded(run).await.entries[1..], steps(1..4));
}

pub(crate) async fn counts_equal_a_recount(desk: Desk) {
    let (mut worker, other) = (desk.worker().await, desk.another().await);
    for n in 0..3 {
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Paused) {
            worker.brings(&format!("{status} {n}"), status).await;
        }
    }
    other.start(vec![run_of("other", "x", at(0)), run_of("other", "x", at(0)), new_run("pending 0")]).await;
    desk.post(post("waiting 1", 1)).await;
    desk.post(revive("stuck 1", 1)).await;
    let failed = desk.row("failed 2").await.run;
    assert!(desk.cut(cut(failed, 0, 1)).await.expect("cuts"));
    let taker = desk.worker().await;
    assert_eq!(taker.takes_over(&worker).await, 3);
    worker = other.worker().await;
    let claimed = worker.claims(claim()).await;
    let mut first = worker.load(&claimed[0]);
    let end = finished(Status::Completed, claimed[0].row.inbox_n);
    assert!(matches!(first.ends(end).await, Heard::Next(_)));
    desk.store.leave(worker.fence).await.expect("leaves");

    let mut recount = std::collections::BTreeMap::new();
    for row in desk.store.find(Filter::default(), None, 999).await.expect("finds") {
        *recount.entry((row.workflow.to_string(), row.status)).or_insert(0) += 1;
    }
    let recount: Vec<_> = recount.into_iter().map(|((workflow, status), n)| (workflow, status, n)).collect();
    assert_eq!((desk.counts().await, other.counts().await), (recount.clone(), recount));
}
