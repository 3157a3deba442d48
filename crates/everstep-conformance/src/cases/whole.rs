//! Runs whole: read from one store with everything of them, and written into another.

use std::{collections::BTreeMap, sync::Arc};

use everstep_core::{
    AttributeValue, Copying, Digest, Status, StatusSet, Timestamp,
    journal::{Entry, Kind, Payload},
    store::{
        Acted, CopyId, CopyStage, Does, Doomed, Edit, End, Filter, Letter, LetterId, LetterKind, Mark,
        Memory, NewRun, Numbers, PAGE_BYTES, Parent, Post, Posted, RunId, Say, Started, StartedRow,
        StoreError, To, Transacted, Turn, Whole, WholeDigest,
    },
};

use super::mark::{mark, marks, transfer};
use crate::{
    Deed,
    desk::Desk,
    load::{Heard, Load},
    sample::{
        TEXTS, act, at, attribute, cancel, claim_of, cut, emits, entry, letter, new_run, parked, post,
        publishes, sets, started, step, steps, stuck_end,
    },
    worker::Worker,
};

async fn page(desk: &Desk, after: RunId, limit: usize) -> Vec<Whole> {
    transfer(desk).wholes(after, limit).await.expect("reads")
}

/// All runs whole.
async fn all(desk: &Desk) -> Vec<Whole> {
    let mut all: Vec<Whole> = Vec::new();
    loop {
        let after = all.last().map_or(RunId(i64::MIN), |whole| whole.row.run);
        match page(desk, after, 7).await {
            page if page.is_empty() => return all,
            page => all.extend(page),
        }
    }
}

fn digests(wholes: &[Whole]) -> BTreeMap<Arc<str>, WholeDigest> {
    wholes.iter().map(|whole| (whole.row.id.clone(), whole.digest())).collect()
}

async fn places(desk: &Desk, copy: u128, runs: Vec<Whole>) -> Result<usize, StoreError> {
    transfer(desk).place(CopyId(copy), Numbers::default(), runs).await
}

/// Deletes every run.
async fn empties(desk: &Desk) {
    let rows = desk.store.find(Filter::default(), None, 1000).await.expect("finds");
    let deleted = desk.store.delete(rows.iter().map(Doomed::of).collect()).await.expect("deletes");
    assert!(deleted.iter().all(|deleted| *deleted), "nobody has one");
}

/// Puts these runs into a store that has none, as a copy does.
async fn arrive(desk: &Desk, runs: Vec<Whole>) {
    let n = runs.len();
    marks(desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    assert_eq!(places(desk, 1, runs).await.expect("places"), n);
    marks(desk, mark(1, CopyStage::Arriving), None).await.expect("opens");
}

/// The runs of this content, away from their store and back in it.
async fn moved_and_back(desk: &Desk) {
    let runs = all(desk).await;
    empties(desk).await;
    arrive(desk, runs).await;
}

/// Runs of every kind and status, of no worker any more.
async fn full(desk: &Desk) {
    let (worker, other) = (desk.worker().await, desk.worker().await);
    rich(desk, &worker).await;
    for status in Status::ALL {
        worker.brings(status.word(), status).await;
    }
    odd(desk, &worker).await;
    other.takes_over(&worker).await;
    desk.store.leave(other.fence).await.expect("leaves");
}

/// A run that has something of everything: `rich`, its child, and what it was before.
async fn rich(desk: &Desk, worker: &Worker) {
    let attributes = [
        attribute("text", "ü"),
        attribute("integer", i64::MIN),
        attribute("float", -0.5),
        attribute("bool", true),
        attribute("time", Timestamp(-1)),
    ];
    let run = NewRun {
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        letters: vec![letter(1), letter(u128::MAX)],
        attributes: attributes.map(|(name, value)| (name.into(), value)).into(),
        claim: false,
        ..new_run("rich")
    };
    desk.start_one(run).await;
    let (_, mut load) = worker.claims_one().await;
    assert_eq!(load.commit(busy(&load)).await, Heard::Next(4));
    let recorded = load.transact("pay", &[Deed::Write("paid".into())]).await.expect("runs");
    assert!(matches!(recorded, Transacted::Committed { n: 3, .. }), "{recorded:?}");
    let settles = Letter { kind: LetterKind::PromiseSettled as u16, ..letter(5) };
    desk.post(Post { to: To::Promise([1; 32]), letter: settles, ..post("", 5) }).await;
    assert_eq!(load.ends(parked(None, 4)).await, Heard::Next(4));
    let edit = Edit {
        run: load.run,
        only: StatusSet::OPEN,
        inbox_n: 4,
        entry: Entry { body: Payload::json("\"other\""), ..step(2) },
    };
    assert_eq!(desk.store.act(Does::Edit(edit), act("edit")).await.expect("edits"), Acted::Done);
    assert!(desk.cut(cut(load.run, 4, 3)).await.expect("cuts"));
    let (_, mut load) = worker.claims_one().await;
    let first = Entry { at: at(7), ..new_run("rich").first };
    let restart = Turn {
        entries: vec![entry(3, Kind::Restarted, "1")],
        end: Some(End::Restarted { first: Box::new(first) }),
        ..load.turn()
    };
    assert_eq!(load.commit(restart).await, Heard::Next(4));
    let again = desk.store.reload(worker.fence, load.run).await.expect("reloads").expect("is ours");
    let mut load = worker.load(&again);
    let says = vec![
        Say::Promised { hash: [3; 32], key: "p".into(), expires: None },
        publishes("progress", 1, "2"),
        sets("team", Some("core".into())),
    ];
    let marks = vec![Mark::Started(started("slow", 2))];
    assert_eq!(load.commit(Turn { entries: steps([1]), marks, says, ..load.turn() }).await, Heard::Next(2));
}

/// The turn in which a run does everything that it can.
fn busy(load: &Load) -> Turn {
    let parent = Parent { run: load.run, generation: 0, key: "c".into(), closes: true, digest: Digest(7) };
    let child = NewRun { parent: Some(parent), due: at(5000), ..new_run("child") };
    let details = Some(Payload { codec: 3, bytes: vec![0, 255] });
    let abandoned = StartedRow { abandoned: true, details, ..started("left", 1) };
    let input = Some(Payload { codec: 9, bytes: vec![1, 0] });
    Turn {
        entries: vec![
            Entry { input, body: Payload::json([0xff, b'a', 0]), ..step(1) },
            Entry { key: None, site: None, fingerprint: u32::MAX, build: "b2".into(), ..step(2) },
            Entry { kind: 9999, ..step(3) },
        ],
        marks: vec![Mark::Started(abandoned)],
        takes: vec![1],
        says: vec![
            publishes("progress", 1, "1"),
            publishes("a", 1, "{}"),
            emits("lines", 0),
            emits("ü", 0),
            emits("lines", 1),
            Say::Promised { hash: [2; 32], key: "q".into(), expires: Some(at(100)) },
            Say::Promised { hash: [1; 32], key: "p".into(), expires: None },
            Say::Answered { id: LetterId(8), body: Payload { codec: 7, bytes: vec![0] }, at: at(2) },
            Say::Answered { id: LetterId(7), body: Payload::json("1"), at: at(3) },
            Say::Child { run: Box::new(child), answer: LetterId(77) },
        ],
        ..load.turn()
    }
}

/// Runs with every text that has broken somebody's store, in every place that has one.
async fn odd(desk: &Desk, worker: &Worker) {
    for (n, text) in TEXTS.iter().enumerate() {
        let mut load = worker.start(&format!("odd {text}")).await;
        let one = Entry { key: Some((*text).into()), build: (*text).into(), ..step(1) };
        let signal = Letter { name: (*text).into(), body: Payload::json(*text), ..letter(n as u128) };
        desk.post(Post { letter: signal, ..post(&format!("odd {text}"), 0) }).await;
        let says = vec![
            sets(text, Some((*text).into())),
            publishes(text, 1, text),
            Say::Promised { hash: [100 + n as u8; 32], key: (*text).into(), expires: None },
            Say::Emitted { name: (*text).into(), n: 0, body: Payload::json(*text), at: at(0) },
        ];
        let marks = vec![Mark::Started(started(text, 1))];
        let turn = Turn { entries: vec![one], says, marks, end: stuck_end(1), ..load.turn() };
        assert_eq!(load.commit(turn).await, Heard::Next(2));
        let acted = desk.store.act(Does::Cut(cut(load.run, 1, 2)), act(text)).await;
        assert_eq!(acted.expect("acts"), Acted::Done);
    }
}

pub(crate) async fn a_whole_run_is_what_readers_are_told(desk: Desk) {
    full(&desk).await;
    let (store, runs) = (&desk.store, all(&desk).await);
    assert_eq!(runs.len(), 2 + Status::ALL.len() + TEXTS.len());
    for whole in &runs {
        let run = whole.row.run;
        assert_eq!(desk.row(&whole.row.id).await, whole.row);
        assert_eq!(desk.loaded(run).await, whole.loaded);
        let stuck = whole.stuck.as_ref().map(|(stuck, _)| stuck.clone());
        assert_eq!(store.stuck(run).await.expect("reads"), stuck);
        assert_eq!(store.attributes(run).await.expect("reads"), whole.attributes);
        assert_eq!(store.published_all(run, usize::MAX).await.expect("reads"), whole.published);
        let mut streams = Vec::new();
        for name in store.stream_names(run).await.expect("reads") {
            streams.push((name.clone(), store.stream(run, name, 0, usize::MAX).await.expect("reads")));
        }
        assert_eq!(streams, whole.streams);
        assert_eq!(store.acts(run, usize::MAX).await.expect("reads"), whole.acts);
        assert_eq!(store.kept(run).await.expect("reads"), whole.kept);
    }
    let named = |id: &str| runs.iter().find(|whole| &*whole.row.id == id).expect("is there");
    let (rich, child) = (named("rich"), named("child"));
    assert!(rich.trace.as_deref().is_some_and(|trace| trace.ends_with("b7-01")));
    assert_eq!(child.parent.as_ref().map(|parent| (parent.run, &*parent.key)), Some((rich.row.run, "c")));
    assert_eq!(named("stuck").stuck.as_ref().map(|(_, at)| *at), Some(at(9)), "since when");
    let replies: Vec<_> = rich.kept.replies.iter().map(|reply| (reply.id.0, reply.at)).collect();
    assert_eq!(replies, [(7, at(3)), (8, at(2))]);
    assert_eq!((rich.row.takeovers, rich.row.generation, rich.kept.archive.len()), (1, 1, 3));
}

pub(crate) async fn runs_are_read_whole_by_number(desk: Desk) {
    let mut runs = Vec::new();
    for id in ["a", "b", "c", "d"] {
        runs.push(desk.start_pending(id).await);
    }
    let doomed = Doomed::of(&desk.row("b").await);
    assert_eq!(desk.store.delete(vec![doomed]).await.expect("deletes"), [true]);
    let ids = |page: Vec<Whole>| page.iter().map(|whole| whole.row.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(page(&desk, RunId(i64::MIN), 10).await), ["a", "c", "d"]);
    assert_eq!(ids(page(&desk, RunId(0), 2).await), ["a", "c"]);
    assert_eq!(ids(page(&desk, runs[0], 1).await), ["c"]);
    assert_eq!(ids(page(&desk, runs[1], 10).await), ["c", "d"], "one that is gone is a place");
    assert_eq!(ids(page(&desk, runs[3], 10).await), [""; 0]);
    assert_eq!(ids(page(&desk, RunId(i64::MAX), 10).await), [""; 0]);
}

pub(crate) async fn a_page_of_large_runs_is_short(desk: Desk) {
    let worker = desk.worker().await;
    for id in ["a", "b", "c"] {
        let mut load = worker.start(id).await;
        let large = Entry { body: Payload::json(vec![b' '; PAGE_BYTES * 2 / 3]), ..step(1) };
        let turn = Turn { entries: vec![large], end: parked(None, 0), ..load.turn() };
        assert_eq!(load.commit(turn).await, Heard::Next(2));
    }
    let first = page(&desk, RunId(0), 10).await;
    assert_eq!(first.len(), 2);
    assert_eq!(page(&desk, first[1].row.run, 10).await.len(), 1);
}

pub(crate) async fn a_placed_run_is_equal(desk: Desk) {
    full(&desk).await;
    let (before, counts) = (all(&desk).await, desk.counts().await);
    moved_and_back(&desk).await;
    let after = all(&desk.another().await).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
        assert_eq!(before.digest(), after.digest());
    }
    assert_eq!(before.len(), after.len());
    assert_eq!(desk.counts().await, counts, "kept counts are true");
}

/// The in-memory store is what every store is compared with.
pub(crate) async fn all_runs_move_to_another_store(desk: Desk) {
    full(&desk).await;
    let before = all(&desk).await;
    let other = Desk { store: Arc::new(Memory::default()), ..desk.clone() };
    let copied = Copying::new(desk.store.clone(), other.store.clone()).run(|_| {}).await.expect("copies");
    assert_eq!((copied.runs, copied.before), (before.len() as u64, 0));
    assert_eq!(digests(&all(&other).await), digests(&before));
    let refused = desk.store.start(vec![new_run("late")], None).await;
    assert!(matches!(refused, Err(StoreError::Moved(_))), "{refused:?}");
    other.start_pending("late").await;
}

pub(crate) async fn all_runs_come_from_another_store(desk: Desk) {
    full(&desk).await;
    let runs = all(&desk).await;
    empties(&desk).await;
    let other = Desk { store: Arc::new(Memory::default()), ..desk.clone() };
    arrive(&other, runs.clone()).await;
    Copying::new(other.store.clone(), desk.store.clone()).run(|_| {}).await.expect("copies");
    assert_eq!(digests(&all(&desk.another().await).await), digests(&runs));
    desk.start_pending("late").await;
}

pub(crate) async fn a_run_is_placed_once(desk: Desk) {
    full(&desk).await;
    let runs = all(&desk).await;
    empties(&desk).await;
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    assert_eq!(places(&desk, 1, runs[..3].to_vec()).await.expect("places"), 3);
    assert_eq!(places(&desk, 1, runs[1..5].to_vec()).await.expect("places"), 2, "the rest");
    assert_eq!(places(&desk.clone(), 1, runs[..5].to_vec()).await.expect("places"), 0);
    assert_eq!(digests(&all(&desk).await), digests(&runs[..5]));
    let counted: u64 = desk.counts().await.iter().map(|(_, _, n)| n).sum();
    assert_eq!(counted, 5);
}

pub(crate) async fn a_run_that_differs_is_not_placed(desk: Desk) {
    let (run, _) = (desk.start_pending("a").await, desk.start_pending("b").await);
    let runs = all(&desk).await;
    empties(&desk).await;
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    places(&desk, 1, runs[..1].to_vec()).await.expect("places");
    let changed = |change: fn(&mut Whole)| {
        let mut whole = runs[0].clone();
        change(&mut whole);
        whole
    };
    let wrong = [
        changed(|whole| whole.loaded.entries[0].fingerprint += 1),
        changed(|whole| whole.row.status = Status::Waiting),
        changed(|whole| whole.row.id = "other".into()),
        changed(|whole| whole.row.run = RunId(1_000)),
        changed(|whole| whole.kept.seen.push(LetterId(1))),
    ];
    for whole in wrong {
        let id = whole.row.id.to_string();
        let answer = places(&desk, 1, vec![runs[1].clone(), whole]).await;
        let named = matches!(&answer, Err(StoreError::Refused(why)) if why.contains(&format!("`{id}`")));
        assert!(named, "{id}: {answer:?}");
    }
    let twice = places(&desk, 1, vec![runs[1].clone(), runs[1].clone()]).await;
    assert!(matches!(twice, Err(StoreError::Refused(_))), "{twice:?}");
    assert_eq!(digests(&all(&desk).await), digests(&runs[..1]), "nothing of a refused call is written");
    assert_eq!(run, runs[0].row.run);
}

pub(crate) async fn a_run_that_a_worker_has_is_not_placed(desk: Desk) {
    let worker = desk.worker().await;
    let _load = worker.start("a").await;
    let runs = all(&desk).await;
    assert_eq!(runs[0].row.owner, Some(worker.fence.worker));
    let other = Desk { store: Arc::new(Memory::default()), ..desk.clone() };
    marks(&other, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    let answer = places(&other, 1, runs.clone()).await;
    assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    let free = Whole { row: desk.row("a").await, ..runs[0].clone() };
    assert_eq!(free.digest(), runs[0].digest(), "whose it is does not show in its digest");
    desk.store.leave(worker.fence).await.expect("leaves");
    empties(&desk).await;
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    let answer = places(&desk, 1, runs).await;
    assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
}

pub(crate) async fn runs_are_placed_by_their_own_copy(desk: Desk) {
    desk.start_pending("a").await;
    let runs = all(&desk).await;
    let answer = places(&desk, 1, runs.clone()).await;
    assert!(matches!(answer, Err(StoreError::Unusable(_))), "no copy is under way: {answer:?}");
    marks(&desk, None, mark(1, CopyStage::Leaving)).await.expect("marks");
    let answer = places(&desk, 1, runs.clone()).await;
    assert!(matches!(answer, Err(StoreError::Moved(_))), "they leave: {answer:?}");
    marks(&desk, mark(1, CopyStage::Leaving), None).await.expect("gives up");
    empties(&desk).await;
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    let answer = places(&desk, 2, runs.clone()).await;
    assert!(matches!(answer, Err(StoreError::Moved(_))), "another copy: {answer:?}");
    assert_eq!(places(&desk, 1, runs).await.expect("places"), 1);
}

pub(crate) async fn numbers_go_on_behind_those_of_the_other_store(desk: Desk) {
    let worker = desk.worker().await;
    desk.store.leave(worker.fence).await.expect("leaves");
    let run = desk.start_pending("a").await;
    let numbers = transfer(&desk).numbers().await.expect("reads");
    assert!(numbers.run >= run.0 && numbers.worker == worker.fence.worker.0, "{numbers:?}");
    let runs = all(&desk).await;
    empties(&desk).await;
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    let given = Numbers { run: 500, worker: 700 };
    assert_eq!(transfer(&desk).place(CopyId(1), given, vec![]).await.expect("raises"), 0);
    assert_eq!(places(&desk, 1, runs).await.expect("places"), 1, "lower ones lower nothing");
    assert_eq!(transfer(&desk.clone()).numbers().await.expect("reads"), given);
    marks(&desk, mark(1, CopyStage::Arriving), None).await.expect("opens");
    let other = desk.another().await;
    assert_eq!(other.start_pending("b").await, RunId(501));
    assert_eq!(other.worker().await.fence.worker.0, 701);
}

pub(crate) async fn a_new_store_has_given_no_numbers(desk: Desk) {
    assert_eq!(transfer(&desk).numbers().await.expect("reads"), Numbers::default());
    marks(&desk, None, mark(1, CopyStage::Arriving)).await.expect("marks");
    let given = Numbers { run: 5, worker: 7 };
    transfer(&desk).place(CopyId(1), given, vec![]).await.expect("raises");
    assert_eq!(transfer(&desk).numbers().await.expect("reads"), given);
    marks(&desk, mark(1, CopyStage::Arriving), None).await.expect("opens");
    assert_eq!(desk.worker().await.fence.worker.0, 8);
}

pub(crate) async fn a_placed_run_goes_on(desk: Desk) {
    full(&desk).await;
    moved_and_back(&desk).await;
    let worker = desk.worker().await;
    let taken = worker.claims(claim_of(&["flow"], 1000)).await;
    let rich = taken.iter().find(|claimed| &*claimed.row.id == "rich").expect("it is due");
    assert_eq!((rich.row.takeovers, rich.row.inbox_n), (1, 4));
    let mut load = worker.load(rich);
    assert_eq!(load.adds([1]).await, Heard::Refused, "its journal has that already");
    let again = desk.store.reload(worker.fence, load.run).await.expect("reloads").expect("is ours");
    let mut load = worker.load(&again);
    let turn = Turn {
        entries: steps([2]),
        takes: vec![2],
        says: vec![emits("lines", 2), publishes("progress", 2, "3")],
        ..load.turn()
    };
    assert_eq!(load.commit(turn).await, Heard::Next(3));
    let late = desk.post(post("rich", 1)).await;
    assert_eq!(late, Posted::Known, "taken long ago, in the other store");
    let settles = Letter { kind: LetterKind::PromiseSettled as u16, ..letter(6) };
    let settled = desk.post(Post { to: To::Promise([3; 32]), letter: settles, ..post("", 6) }).await;
    assert_eq!(settled, Posted::Added, "by a token of the other store");
    let used = desk.start(vec![new_run("rich")]).await;
    assert!(matches!(&used[..], [Started::Known(row, _)] if row.run == load.run), "{used:?}");
}

pub(crate) async fn a_placed_child_still_has_its_parent(desk: Desk) {
    let worker = desk.worker().await;
    let mut load = worker.start("parent").await;
    let parent = Parent { run: load.run, generation: 0, key: "c".into(), closes: true, digest: Digest(7) };
    let child = NewRun { parent: Some(parent), due: at(5000), ..new_run("child") };
    let says = vec![Say::Child { run: Box::new(child), answer: LetterId(77) }];
    assert_eq!(load.commit(Turn { says, end: parked(Some(at(1)), 0), ..load.turn() }).await, Heard::Next(1));
    desk.store.leave(worker.fence).await.expect("leaves");
    moved_and_back(&desk).await;
    let worker = desk.worker().await;
    let (_, mut load) = worker.claims_one().await;
    let cancels = Say::Cancel { child: None, letter: cancel("", 9).letter };
    assert_eq!(load.commit(Turn { says: vec![cancels], ..load.turn() }).await, Heard::Next(1));
    let (claimed, _) = worker.claims_one().await;
    assert_eq!(&*claimed.row.id, "child", "it is to be cancelled with its parent");
    let tell = Letter { kind: LetterKind::ChildEnded as u16, name: "c".into(), ..letter(5) };
    let says = vec![Say::Tell { run: load.run, generation: 0, letter: tell }];
    let mut child = worker.load(&claimed);
    assert_eq!(child.commit(Turn { says, ..child.turn() }).await, Heard::Next(1));
    assert_eq!(desk.letters(load.run).await, [1]);
}

pub(crate) async fn placed_runs_are_found_by_what_they_are(desk: Desk) {
    full(&desk).await;
    let filters = ["team = \"core\"", "integer < 0", "status = stuck", "status = waiting", "bool = true"];
    let mut before = Vec::new();
    for filter in filters {
        let filter = Filter::parse(filter, at(0)).expect("is one");
        before.push(desk.found(filter, None, 100).await);
    }
    assert!(before.iter().all(|found| !found.is_empty()), "{before:?}");
    moved_and_back(&desk).await;
    for (filter, before) in filters.iter().zip(before) {
        let filter = Filter::parse(filter, at(0)).expect("is one");
        assert_eq!(desk.found(filter, None, 100).await, before);
    }
    let value: AttributeValue = "core".into();
    let rich = desk.row("rich").await.run;
    let attributes = desk.store.attributes(rich).await.expect("reads");
    assert!(attributes.contains(&("team".into(), value)));
}
