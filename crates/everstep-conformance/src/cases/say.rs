//! What runs tell their readers: published values, items of streams, attributes.

use everstep_core::{
    AttributeValue, Status, Timestamp,
    journal::{Entry, Kind, Payload},
    store::{NewRun, PatchRow, RunId, Say, Turn},
};

use crate::{
    desk::Desk,
    load::{Heard, Load},
    sample::{
        TEXTS, at, attribute, cut, emits, entry, finished, parked, post, publishes, run_of, sets, steps,
    },
    worker::Worker,
};

/// A turn that only says this.
fn saying(load: &Load, says: impl IntoIterator<Item = Say>) -> Turn {
    Turn { says: says.into_iter().collect(), ..load.turn() }
}

/// A run that has emitted items 0 to 3 of `log` with entries 1 to 4, and has failed.
async fn failed(worker: &Worker, id: &str) -> RunId {
    let mut load = worker.start(id).await;
    let says = (0..4).map(|n| emits("log", n)).collect();
    let entries = steps(1..5).into_iter().chain([entry(5, Kind::Failed, "{}")]).collect();
    let turn = Turn { entries, says, end: finished(Status::Failed, 0), ..load.turn() };
    assert_eq!(load.commit(turn).await, Heard::Next(6));
    load.run
}

/// Numbers and bodies of a stream's items.
async fn items(desk: &Desk, run: RunId, stream: &str) -> Vec<(u64, String)> {
    let items = desk.store.stream(run, stream.into(), 0, 1000).await.expect("reads");
    items.iter().map(|item| (item.n, String::from_utf8_lossy(&item.body.bytes).into_owned())).collect()
}

async fn numbers(desk: &Desk, run: RunId, stream: &str) -> Vec<u64> {
    items(desk, run, stream).await.into_iter().map(|(n, _)| n).collect()
}

/// The numbers of the entries that published the values of a run, by name.
async fn published(desk: &Desk, run: RunId) -> Vec<(String, u64)> {
    let all = desk.store.published_all(run, 1000).await.expect("reads");
    all.iter().map(|row| (row.name.to_string(), row.seq)).collect()
}

async fn attributes(desk: &Desk, run: RunId) -> Vec<(String, AttributeValue)> {
    let all = desk.store.attributes(run).await.expect("reads");
    all.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

async fn has_said_nothing(desk: &Desk, run: RunId) -> bool {
    published(desk, run).await.is_empty()
        && items(desk, run, "log").await.is_empty()
        && attributes(desk, run).await.is_empty()
}

pub(crate) async fn nothing_is_said_before_it_is_said(desk: Desk) {
    let run = desk.start_pending("a").await;
    for run in [run, RunId(run.0 + 1), RunId(-1)] {
        assert_eq!(desk.store.published(run, "total".into()).await.expect("reads"), None);
        assert!(has_said_nothing(&desk, run).await);
    }
}

pub(crate) async fn a_published_value_is_told_whole(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let turn = Turn { entries: steps([1]), ..saying(&load, [publishes("total", 1, "[1, 2]")]) };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let row = desk.store.published(load.run, "total".into()).await.expect("reads").expect("is there");
    assert_eq!((&*row.name, row.body, row.seq, row.at), ("total", Payload::json("[1, 2]"), 1, at(1)));
    assert_eq!(desk.store.published(load.run, "Total".into()).await.expect("reads"), None);
}

/// A run of this workflow, created at `created`, which has the patch `new` since a time, or has not.
fn with_patch(id: &str, workflow: &str, created: i64, patched: Option<i64>) -> NewRun {
    let patched = patched.map(|n| ("$patched/new".into(), AttributeValue::Time(at(n))));
    let first = Entry { at: at(created), ..entry(0, Kind::Started, "{}") };
    NewRun { first, attributes: patched.into_iter().collect(), ..run_of(workflow, id, at(0)) }
}

async fn patches(desk: &Desk) -> Vec<(String, String, Timestamp, [u64; 4])> {
    let all = desk.store.patches().await.expect("reads");
    let told = |row: &PatchRow| {
        let counts = [row.open, row.over, row.old_open, row.old_over];
        (row.patch.to_string(), row.workflow.to_string(), row.first, counts)
    };
    all.iter().map(told).collect()
}

pub(crate) async fn patches_tell_who_has_them_and_who_needs_the_old_way(desk: Desk) {
    assert!(patches(&desk).await.is_empty());
    let worker = desk.worker().await;
    let runs = [("a", 1, None), ("b", 2, Some(30)), ("c", 19, None), ("d", 20, None), ("e", 21, Some(20))];
    let runs = runs.map(|(id, created, patched)| with_patch(id, "flow", created, patched));
    let (_, claimed) = worker.start_all(runs.into()).await;
    assert_eq!(patches(&desk).await, [("new".into(), "flow".into(), at(20), [2, 0, 2, 0])]);
    // Of `a`, `c` and `d`, which have it not, `d` was started when it was recorded already.
    for over in [0, 1] {
        let mut load = worker.load(&claimed[over]);
        let turn = Turn {
            entries: vec![entry(1, Kind::Completed, "1")],
            end: finished(Status::Completed, 0),
            ..load.turn()
        };
        assert_eq!(load.commit(turn).await, Heard::Next(2));
    }
    assert_eq!(patches(&desk).await, [("new".into(), "flow".into(), at(20), [1, 1, 1, 1])]);
}

pub(crate) async fn each_patch_of_each_workflow_counts_for_itself(desk: Desk) {
    let other = AttributeValue::Time(at(9));
    let mut both = with_patch("c", "other", 1, Some(5));
    both.attributes.push(("$patched/Also/new".into(), other.clone()));
    // Not a patch, whatever it looks like.
    let mut none = with_patch("d", "other", 1, None);
    none.attributes.extend([("$patched0".into(), other.clone()), ("patched/new".into(), other)]);
    let runs = [with_patch("a", "flow", 1, Some(7)), with_patch("b", "third", 1, None), both, none];
    desk.start(runs.into()).await;
    for desk in [desk.another().await, desk] {
        assert_eq!(
            patches(&desk).await,
            [
                ("Also/new".into(), "other".into(), at(9), [1, 0, 1, 0]),
                ("new".into(), "flow".into(), at(7), [1, 0, 0, 0]),
                ("new".into(), "other".into(), at(5), [1, 0, 1, 0]),
            ]
        );
    }
}

pub(crate) async fn the_last_published_value_counts(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let turn = saying(&load, [publishes("a", 7, "1"), publishes("b", 8, "2"), publishes("a", 9, "3")]);
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    assert_eq!(published(&desk, load.run).await, [("a".into(), 9), ("b".into(), 8)]);
    // After a cut numbers come again: the last one counts, not the highest.
    assert_eq!(load.commit(saying(&load, [publishes("a", 2, "4")])).await, Heard::Next(1));
    assert_eq!(published(&desk, load.run).await, [("a".into(), 2), ("b".into(), 8)]);
    let row = desk.store.published(load.run, "a".into()).await.expect("reads").expect("is there");
    assert_eq!((row.body, row.at), (Payload::json("4"), at(2)));
}

pub(crate) async fn published_values_are_told_by_name(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let names = ["b", "ü", "a", "a b", "B"];
    let turn = saying(&load, names.map(|name| publishes(name, 1, "1")));
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    let told = async |limit| {
        let all = desk.store.published_all(load.run, limit).await.expect("reads");
        all.iter().map(|row| row.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(9).await, ["B", "a", "a b", "b", "ü"]);
    assert_eq!((told(2).await.len(), told(0).await.len(), told(usize::MAX).await.len()), (2, 0, 5));
}

pub(crate) async fn items_come_in_their_order(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    assert_eq!(load.commit(saying(&load, [emits("log", 0), emits("log", 1)])).await, Heard::Next(1));
    let turn = Turn { entries: steps([1]), ..saying(&load, [emits("log", 2)]) };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let told = items(&desk, load.run, "log").await;
    assert_eq!(told, [(0, "0".into()), (1, "1".into()), (2, "2".into())]);
    let items = desk.store.stream(load.run, "log".into(), 2, 9).await.expect("reads");
    assert_eq!(items.iter().map(|item| item.at).collect::<Vec<_>>(), [at(2)]);
}

pub(crate) async fn items_are_read_from_a_number_on(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let turn = saying(&load, (0..10).map(|n| emits("log", n)));
    assert_eq!(load.commit(turn).await, Heard::Next(1));
    for (from, limit, expected) in [
        (0, 3, vec![0, 1, 2]),
        (3, 3, vec![3, 4, 5]),
        (8, 3, vec![8, 9]),
        (9, usize::MAX, vec![9]),
        (10, 3, vec![]),
        (u64::MAX, 3, vec![]),
        (0, 0, vec![]),
    ] {
        let page = desk.store.stream(load.run, "log".into(), from, limit).await.expect("reads");
        let told: Vec<_> = page.iter().map(|item| item.n).collect();
        assert_eq!(told, expected, "{limit} from {from}");
    }
}

pub(crate) async fn each_stream_of_each_run_counts_for_itself(desk: Desk) {
    let worker = desk.worker().await;
    let (mut a, mut b) = (worker.start("a").await, worker.start("b").await);
    let says =
        [emits("x", 0), emits("y", 0), emits("x", 1), publishes("x", 1, "1"), sets("x", Some(1.into()))];
    assert_eq!(a.commit(saying(&a, says)).await, Heard::Next(1));
    assert_eq!(b.commit(saying(&b, [emits("x", 0)])).await, Heard::Next(1));
    assert_eq!((numbers(&desk, a.run, "x").await, numbers(&desk, a.run, "y").await), (vec![0, 1], vec![0]));
    assert_eq!(numbers(&desk, b.run, "x").await, [0]);
    assert!(numbers(&desk, b.run, "y").await.is_empty());
    assert!(published(&desk, b.run).await.is_empty() && attributes(&desk, b.run).await.is_empty());
}

pub(crate) async fn streams_are_told_by_name(desk: Desk) {
    let worker = desk.worker().await;
    let (mut load, other) = (worker.start("a").await, worker.start("b").await);
    let names = async |run| {
        let names = desk.store.stream_names(run).await.expect("reads");
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(names(load.run).await.is_empty());
    let says = [emits("b", 0), emits("ü", 0), emits("B", 0), emits("b", 1), publishes("c", 1, "1")];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    assert_eq!(names(load.run).await, ["B", "b", "ü"]);
    assert!(names(other.run).await.is_empty() && names(RunId(-1)).await.is_empty());
}

pub(crate) async fn an_item_out_of_order_is_refused(desk: Desk) {
    let worker = desk.worker().await;
    let wrong = [vec![1], vec![3], vec![2, 4], vec![2, 2], vec![2, 3, 0], vec![u64::MAX]];
    for (n, wrong) in wrong.into_iter().enumerate() {
        let mut load = worker.start(&format!("run {n}")).await;
        assert_eq!(load.commit(saying(&load, [emits("log", 0), emits("log", 1)])).await, Heard::Next(1));
        let says =
            wrong.iter().map(|n| emits("log", *n)).chain([publishes("total", 1, "1"), emits("new", 0)]);
        let turn = Turn { entries: steps([1]), ..saying(&load, says) };
        assert_eq!(load.commit(turn).await, Heard::Refused, "{wrong:?}");
        assert_eq!(desk.seqs(load.run).await, [0], "nothing of it is written");
        assert_eq!(numbers(&desk, load.run, "log").await, [0, 1]);
        assert!(published(&desk, load.run).await.is_empty());
        assert_eq!(load.adds([1]).await, Heard::Refused, "its load has ended");
    }
}

pub(crate) async fn a_wrong_item_is_refused_even_if_the_run_has_moved(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    let turn = Turn { end: parked(None, 0), ..saying(&load, [emits("log", 1)]) };
    assert_eq!(load.commit(turn).await, Heard::Refused);
    assert_eq!(desk.row("a").await.status, Status::Running);
}

pub(crate) async fn a_turn_that_moved_has_said_nothing(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    desk.post(post("a", 1)).await;
    let says = [publishes("total", 1, "1"), emits("log", 0), sets("team", Some("x".into()))];
    let turn = |inbox_n| Turn { end: parked(None, inbox_n), ..saying(&load, says.clone()) };
    let (stale, fresh) = (turn(0), turn(1));
    assert_eq!(load.commit(stale).await, Heard::Moved(1));
    assert!(has_said_nothing(&desk, load.run).await);
    assert_eq!(load.commit(fresh).await, Heard::Next(1), "and the same comes again");
    assert_eq!(numbers(&desk, load.run, "log").await, [0]);
    assert_eq!((published(&desk, load.run).await.len(), attributes(&desk, load.run).await.len()), (1, 1));
}

pub(crate) async fn a_refused_turn_has_said_nothing(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("a").await;
    let says = || [publishes("total", 1, "1"), emits("log", 0), sets("team", Some("x".into()))];
    let turn = Turn { entries: steps([2]), ..saying(&load, says()) };
    assert_eq!(load.commit(turn).await, Heard::Refused);
    assert!(has_said_nothing(&desk, load.run).await);
    let late = saying(&load, says());
    assert_eq!(load.commit(late).await, Heard::Refused, "its load has ended");
    assert!(has_said_nothing(&desk, load.run).await);
}

pub(crate) async fn attributes_are_set_and_taken_away(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let says = [sets("team", Some("x".into())), sets("amount", Some(7.into())), sets("never was", None)];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    assert_eq!(
        attributes(&desk, load.run).await,
        [attribute("amount", 7), attribute("team", "x")],
        "by name"
    );
    let says = [sets("team", Some(true.into())), sets("amount", None), sets("never was", None)];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    assert_eq!(attributes(&desk, load.run).await, [attribute("team", true)], "also of another type");
}

pub(crate) async fn what_is_said_in_one_turn_is_said_in_its_order(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let says = [
        sets("a", None),
        sets("a", Some(1.into())),
        sets("b", Some(1.into())),
        sets("a", Some(2.into())),
        sets("b", None),
        emits("log", 0),
        publishes("p", 2, "1"),
        emits("log", 1),
        publishes("p", 1, "2"),
    ];
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    assert_eq!(attributes(&desk, load.run).await, [attribute("a", 2)]);
    assert_eq!(published(&desk, load.run).await, [("p".into(), 1)]);
    assert_eq!(numbers(&desk, load.run, "log").await, [0, 1]);
}

pub(crate) async fn an_attribute_that_is_none_is_refused(desk: Desk) {
    let worker = desk.worker().await;
    let bad = [f64::NAN.into(), f64::INFINITY.into(), f64::NEG_INFINITY.into(), "x".repeat(1025).into()];
    for (n, value) in bad.into_iter().enumerate() {
        let mut load = worker.start(&format!("run {n}")).await;
        let says = [publishes("total", 1, "1"), sets("team", Some(value))];
        let turn = Turn { entries: steps([1]), ..saying(&load, says) };
        assert_eq!(load.commit(turn).await, Heard::Refused);
        assert_eq!(desk.seqs(load.run).await, [0]);
        assert!(has_said_nothing(&desk, load.run).await);
    }
}

pub(crate) async fn every_attribute_comes_back(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let integers = [i64::MIN, -1, 0, 1, (1 << 53) + 1, i64::MAX].map(AttributeValue::from);
    let floats = [f64::MIN, -1.5, 0.0, 1.0, f64::MIN_POSITIVE, 0.1, f64::MAX].map(AttributeValue::from);
    let times = [i64::MIN, i64::MIN + 1, -10, -9, -1, 0, 9, 10, i64::MAX].map(|at| Timestamp(at).into());
    let texts = TEXTS.map(AttributeValue::from);
    let others = [true.into(), false.into(), "日".repeat(341).into(), "true".into(), "7".into()];
    for value in [&integers[..], &floats, &times, &texts, &others].concat() {
        let turn = saying(&load, [sets("value", Some(value.clone()))]);
        assert_eq!(load.commit(turn).await, Heard::Next(1));
        assert_eq!(attributes(&desk, load.run).await, [("value".into(), value)]);
    }
}

pub(crate) async fn every_payload_comes_back_from_readers(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let bytes = [all, vec![], vec![0], vec![0xff, 0xfe], b"a\0b".to_vec(), b"1".to_vec(), vec![b'x'; 70_000]];
    let payloads =
        bytes.iter().flat_map(|bytes| [0, 3, 255].map(|codec| Payload { codec, bytes: bytes.clone() }));
    for (body, n) in payloads.zip(0..) {
        let says = [
            Say::Emitted { name: "log".into(), n, body: body.clone(), at: at(0) },
            Say::Published { name: "p".into(), body: body.clone(), seq: n, at: Timestamp(i64::MIN) },
        ];
        assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
        let item = desk.store.stream(load.run, "log".into(), n, 1).await.expect("reads").remove(0);
        let row = desk.store.published(load.run, "p".into()).await.expect("reads").expect("is there");
        assert_eq!((item.n, &item.body), (n, &body));
        assert_eq!((row.seq, &row.body, row.at), (n, &body, Timestamp(i64::MIN)));
    }
}

pub(crate) async fn every_text_is_a_name_to_readers(desk: Desk) {
    let mut load = desk.worker().await.start("a").await;
    let says = TEXTS.into_iter().zip(1..).flat_map(|(text, seq)| {
        [publishes(text, seq, "1"), emits(text, 0), sets(text, Some(text.into())), emits(text, 1)]
    });
    assert_eq!(load.commit(saying(&load, says)).await, Heard::Next(1));
    for (text, seq) in TEXTS.into_iter().zip(1..) {
        let row = desk.store.published(load.run, text.into()).await.expect("reads").expect("is there");
        assert_eq!((&*row.name, row.seq), (text, seq));
        assert_eq!(numbers(&desk, load.run, text).await, [0, 1]);
        assert!(attributes(&desk, load.run).await.contains(&attribute(text, text)));
    }
}

pub(crate) async fn what_was_said_stays_said_after_a_cut(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    assert!(desk.cut(cut(run, 0, 3)).await.expect("cuts"));
    assert_eq!(numbers(&desk, run, "log").await, [0, 1, 2, 3], "somebody may have read it");
    let (_, mut load) = worker.claims_one().await;
    // Its journal has two items; the run counts from there.
    let again =
        |n| Say::Emitted { name: "log".into(), n, body: Payload::json(format!("\"again {n}\"")), at: at(9) };
    let says = [again(2), again(3), publishes("total", 3, "1"), sets("team", Some("x".into()))];
    let turn = Turn { entries: steps([3]), ..saying(&load, says) };
    assert_eq!(load.commit(turn).await, Heard::Next(4));
    let told = items(&desk, run, "log").await;
    assert_eq!(told[4..], [(4, "\"again 2\"".into()), (5, "\"again 3\"".into())]);
    assert_eq!(told[..4].iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let turn = Turn { entries: steps([4]), end: finished(Status::Failed, 0), ..saying(&load, [again(4)]) };
    assert_eq!(load.commit(turn).await, Heard::Next(5));
    assert!(desk.cut(cut(run, 0, 1)).await.expect("cuts"));
    assert_eq!(numbers(&desk, run, "log").await.len(), 7);
    assert_eq!(published(&desk, run).await, [("total".into(), 3)], "its entry is gone, and it stands");
    assert_eq!(attributes(&desk, run).await, [attribute("team", "x")]);
}

pub(crate) async fn an_item_is_missed_after_a_cut_too(desk: Desk) {
    let worker = desk.worker().await;
    let run = failed(&worker, "a").await;
    assert!(desk.cut(cut(run, 0, 3)).await.expect("cuts"));
    let (_, mut load) = worker.claims_one().await;
    assert_eq!(load.commit(saying(&load, [emits("log", 5)])).await, Heard::Refused, "it has four");
    assert_eq!(numbers(&desk, run, "log").await, [0, 1, 2, 3]);
}

pub(crate) async fn a_cut_of_one_run_lets_no_other_repeat_items(desk: Desk) {
    let worker = desk.worker().await;
    let (a, _) = (failed(&worker, "a").await, failed(&worker, "b").await);
    let mut c = worker.start("c").await;
    assert_eq!(c.commit(saying(&c, [emits("log", 0)])).await, Heard::Next(1));
    assert!(desk.cut(cut(a, 0, 3)).await.expect("cuts"));
    assert_eq!(c.commit(saying(&c, [emits("log", 0)])).await, Heard::Refused);
}

pub(crate) async fn what_was_said_is_read_in_every_opening_and_for_good(desk: Desk) {
    let early = desk.another().await;
    let mut load = early.worker().await.start("a").await;
    let says = [publishes("total", 1, "1"), emits("log", 0), sets("team", Some("x".into()))];
    let turn = Turn { entries: steps([1]), end: finished(Status::Completed, 0), ..saying(&load, says) };
    assert_eq!(load.commit(turn).await, Heard::Next(2));
    let run = load.run;
    drop((load, early));
    for desk in [desk.another().await, desk] {
        assert_eq!(published(&desk, run).await, [("total".into(), 1)]);
        assert_eq!(numbers(&desk, run, "log").await, [0]);
        assert_eq!(attributes(&desk, run).await, [attribute("team", "x")]);
    }
}
