//! Copies of all runs: broken off anywhere, begun again, given up, refused; and what engines make of what has arrived.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use everstep_core::{
    Client, Code, Copied, CopyProgress, Copying, Ctx, Engine, EngineError, Result, Settings, Simulation,
    Timestamp, Workflow,
    journal::{Entry, Kind, Payload},
    seconds,
    store::{
        Adopt, Claimed, CopyId, CopyMark, CopyStage, Fence, Inspect as _, Memory, NewRun, RunId, Store,
        StoreError, Transfer, Whole, WholeDigest, WorkerInfo,
    },
};
use futures_util::FutureExt as _;

use crate::common::{W, nap, settings, soon, virtual_time};

fn first() -> Entry {
    Entry {
        seq: 0,
        kind: Kind::Started.code(),
        key: None,
        attempt: 0,
        input: None,
        body: Payload::json("{}"),
        site: None,
        build: "b".into(),
        fingerprint: 0,
        at: Timestamp(1),
    }
}

/// A store with so many pending runs.
fn store_with(runs: usize) -> Memory {
    let store = Memory::default();
    let all = (0..runs).map(|n| NewRun::of(format!("r{n}").into(), "flow".into(), first())).collect();
    now(store.start(all, None)).expect("starts");
    store
}

/// The in-memory store answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("is ready")
}

fn transfer(store: &Memory) -> &dyn Transfer {
    store.transfer().expect("runs of this store can be copied")
}

fn mark(store: &Memory) -> Option<CopyMark> {
    now(transfer(store).copy_mark()).expect("reads")
}

fn stage(store: &Memory) -> Option<CopyStage> {
    mark(store).map(|mark| mark.stage)
}

fn digests(store: &Memory) -> Vec<WholeDigest> {
    let wholes = now(transfer(store).wholes(RunId(i64::MIN), usize::MAX)).expect("reads");
    wholes.iter().map(Whole::digest).collect()
}

fn copying(from: &Memory, to: &Memory) -> Copying {
    Copying::new(Arc::new(from.clone()), Arc::new(to.clone())).names("from", "to")
}

fn copy(from: &Memory, to: &Memory) -> Result<Copied, EngineError> {
    now(copying(from, to).run(|_| {}))
}

/// Copies, and is broken off when it tells of its progress for the `n`th time, from 0; whether it was.
fn broken_off(from: &Memory, to: &Memory, n: usize) -> bool {
    let told = Cell::new(0);
    let breaks = |_| {
        assert_ne!(told.replace(told.get() + 1), n, "broken off");
    };
    let copied = catch_unwind(AssertUnwindSafe(|| now(copying(from, to).run(breaks)).map(drop)));
    copied.is_err()
}

fn assert_moved(from: &Memory, to: &Memory, runs: u64) {
    assert_eq!(digests(from), digests(to));
    assert_eq!(digests(to).len() as u64, runs);
    assert_eq!((stage(from), stage(to)), (Some(CopyStage::Moved), None));
    let late =
        |store: &Memory| now(store.start(vec![NewRun::of("late".into(), "flow".into(), first())], None));
    assert!(matches!(late(from), Err(StoreError::Moved(why)) if why.contains("`to`")));
    late(to).expect("it is open");
}

fn refused(copied: Result<Copied, EngineError>, code: Code) -> String {
    let error = copied.expect_err("is refused");
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

#[test]
fn all_runs_move_and_the_source_is_closed() {
    for runs in [0, 1, 249, 250, 251, 600] {
        let (from, to) = (store_with(runs), Memory::default());
        let mut told = Vec::new();
        let copied = now(copying(&from, &to).run(|progress| told.push(progress))).expect("copies");
        let runs = runs as u64;
        assert_eq!((copied.runs, copied.before), (runs, 0));
        assert!(told.contains(&CopyProgress::Copied { runs, of: runs }), "{told:?}");
        let last = CopyProgress::Verified { runs, of: runs };
        assert!(runs == 0 || told.last() == Some(&last), "{told:?}");
        assert_moved(&from, &to, runs);
    }
}

#[test]
fn a_copy_that_was_broken_off_goes_on() {
    let mut broken = 0;
    for (first, second) in (0..12).flat_map(|first| (0..12).map(move |second| (first, second))) {
        let (from, to) = (store_with(900), Memory::default());
        if !broken_off(&from, &to, first) {
            continue;
        }
        broken += 1;
        assert_eq!((stage(&from), stage(&to)), (Some(CopyStage::Leaving), Some(CopyStage::Arriving)));
        let there = digests(&to).len() as u64;
        let again = broken_off(&from, &to, second);
        assert!(!again || digests(&to).len() as u64 >= there, "nothing is lost");
        let there = digests(&to).len() as u64;
        let copied = copy(&from, &to).expect("goes on");
        assert_eq!((copied.runs, copied.before), (900, there));
        assert_moved(&from, &to, 900);
    }
    assert!(broken > 60, "{broken} copies were broken off");
}

#[test]
fn a_copy_goes_on_from_whatever_a_crash_has_left_of_its_marks() {
    let is =
        |stage, other: &str| Some(CopyMark { copy: CopyId(7), stage, other: other.into(), at: Timestamp(5) });
    let set = |store: &Memory, from, to| now(transfer(store).set_copy_mark(from, to)).expect("marks");
    // The source is closed, and the destination is not.
    let (from, to) = (store_with(3), Memory::default());
    set(&from, None, is(CopyStage::Leaving, "to"));
    copy(&from, &to).expect("copies");
    assert_moved(&from, &to, 3);
    // All is there, the source is closed for good, and the destination is not open.
    let (from, to) = (store_with(3), Memory::default());
    set(&from, None, is(CopyStage::Leaving, "to"));
    set(&to, None, is(CopyStage::Arriving, "from"));
    let wholes = now(transfer(&from).wholes(RunId(0), 9)).expect("reads");
    let numbers = now(transfer(&from).numbers()).expect("reads");
    now(transfer(&to).place(CopyId(7), numbers, wholes)).expect("places");
    set(&from, is(CopyStage::Leaving, "to"), is(CopyStage::Moved, "to"));
    assert_eq!(copy(&from, &to).expect("opens it").before, 3);
    assert_moved(&from, &to, 3);
    // Both are as they are afterwards, and whoever asks again hears that it is done.
    let copied = copy(&from, &to).expect("it is complete");
    assert_eq!((copied.runs, copied.before, copied.digest), (4, 4, None), "it went on");
    let why = refused(copy(&from, &Memory::default()), Code::MOVED);
    assert!(why.ends_with("and are not there: that store was removed or replaced since"), "{why}");
}

#[test]
fn a_copy_goes_into_an_empty_store() {
    let (from, to) = (store_with(3), store_with(1));
    let why = refused(copy(&from, &to), Code::CANNOT_COPY);
    assert_eq!(why, "`to` has runs of its own, like `r0`: a copy goes into an empty store");
    assert_eq!((stage(&from), stage(&to)), (None, None), "nothing has changed");
    let why = refused(copy(&from, &from), Code::CANNOT_COPY);
    assert!(why.contains("runs of its own"), "{why}");
    let empty = Memory::default();
    let why = refused(copy(&empty, &empty), Code::MOVED);
    assert!(why.contains("are being copied to"), "{why}");
    assert_eq!(mark(&empty), None, "taken off again");
}

#[test]
fn a_copy_stays_out_of_anothers() {
    let (from, to, third) = (store_with(900), Memory::default(), Memory::default());
    assert!(broken_off(&from, &to, 2));
    let elsewhere =
        now(Copying::new(Arc::new(from.clone()), Arc::new(third.clone())).names("from", "third").run(|_| {}));
    let why = refused(elsewhere, Code::MOVED);
    assert!(why.starts_with("`from`: the runs of this store are being copied to `to`"), "{why}");
    let why = refused(copy(&store_with(1), &to), Code::MOVED);
    assert!(why.starts_with("`to`: runs are being copied into this store from `from`"), "{why}");
    let onwards = now(Copying::new(Arc::new(to.clone()), Arc::new(third.clone())).run(|_| {}));
    let why = refused(onwards, Code::MOVED);
    assert!(why.contains("they are not all here yet"), "{why}");
    copy(&from, &to).expect("goes on");
    let again = now(Copying::new(Arc::new(from.clone()), Arc::new(third)).names("from", "third").run(|_| {}));
    let why = refused(again, Code::MOVED);
    assert!(why.starts_with("`from`: the runs of this store have moved to `to`: use that one"), "{why}");
}

#[test]
fn a_copy_that_is_given_up_leaves_the_source_as_it_was() {
    let (from, to) = (store_with(900), Memory::default());
    assert!(!now(Copying::abandon(&from)).expect("there is nothing to give up"));
    assert!(broken_off(&from, &to, 2));
    let before = digests(&from);
    assert!(now(Copying::abandon(&from)).expect("gives up"));
    assert_eq!((mark(&from), digests(&from)), (None, before));
    let why = now(Copying::abandon(&to)).expect_err("it has arrived there").to_string();
    assert!(why.contains("if it was given up, remove this store"), "{why}");
    refused(copy(&from, &to), Code::MOVED);
    let fresh = Memory::default();
    copy(&from, &fresh).expect("copies");
    assert_moved(&from, &fresh, 900);
    let why = now(Copying::abandon(&from)).expect_err("it is complete");
    assert_eq!(why.code(), Code::MOVED);
}

#[test]
fn a_copy_that_was_given_up_meanwhile_does_not_close_the_source() {
    let (from, to) = (store_with(300), Memory::default());
    let given_up = |progress| {
        if progress == (CopyProgress::Verified { runs: 250, of: 300 }) {
            now(Copying::abandon(&from)).expect("gives up");
        }
    };
    let why = refused(now(copying(&from, &to).run(given_up)), Code::CANNOT_COPY);
    assert_eq!(why, "the copy was given up or completed by somebody else");
    assert_eq!((stage(&from), stage(&to)), (None, Some(CopyStage::Arriving)));
}

#[test]
fn a_run_that_differs_is_found() {
    let (from, to) = (store_with(300), Memory::default());
    let damages = |progress| {
        if progress == (CopyProgress::Copied { runs: 300, of: 300 }) {
            to.rewrite("r270", |entries| entries[0].fingerprint = 9);
        }
    };
    let why = refused(now(copying(&from, &to).run(damages)), Code::CANNOT_COPY);
    assert!(why.starts_with("run `r270` differs: its digest is "), "{why}");
    assert_eq!((stage(&from), stage(&to)), (Some(CopyStage::Leaving), Some(CopyStage::Arriving)));
    refused(copy(&from, &to), Code::CANNOT_COPY);
}

struct Nobody;

impl Adopt for Nobody {
    fn adopt(&self, _: Claimed, _: Entry) {}
}

/// A worker that has the run `owned`.
fn worker(store: &Memory) -> Fence {
    let info = WorkerInfo { name: "here".into(), build: "b".into(), at: Timestamp(0) };
    let fence = now(store.enroll(info)).expect("enrolls");
    let run = NewRun { claim: true, ..NewRun::of("owned".into(), "flow".into(), first()) };
    now(store.start(vec![run], Some((fence, Arc::new(Nobody))))).expect("starts");
    fence
}

#[allow(clippy::disallowed_methods, reason = "virtual time")]
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_silent_for_its_lease_is_taken_over() {
    let world = Simulation::new(1);
    for is_gone in [false, true] {
        let (from, to) = (store_with(2), Memory::default());
        let fence = worker(&from);
        if is_gone {
            from.vanish(fence.worker);
        }
        let (mut told, began) = (Vec::new(), tokio::time::Instant::now());
        let copying = copying(&from, &to).simulated(&world).lease(Duration::from_secs(40));
        copying.run(|progress| told.push(progress)).await.expect("copies");
        let watching = CopyProgress::Watching { worker: fence.worker, lease: Duration::from_secs(40) };
        assert_eq!(told.contains(&watching), !is_gone, "{told:?}");
        let waited = began.elapsed();
        let expected = if is_gone { 0..=0 } else { 40..=45 };
        assert!(expected.contains(&waited.as_secs()), "{waited:?}");
        assert_moved(&from, &to, 3);
        let row = to.run("owned".into()).await.expect("reads").expect("is there");
        assert_eq!((row.owner, row.takeovers), (None, 1));
        let late = from.beat(fence).await;
        assert!(matches!(late, Err(StoreError::Fenced(_))), "{late:?}");
        let next = to.enroll(WorkerInfo { name: "n".into(), build: "b".into(), at: Timestamp(0) }).await;
        assert!(next.expect("enrolls").worker > fence.worker, "services outside may know the number");
    }
}

const CHILD: Workflow<u64, u64> = Workflow::new("child");

/// Waits in every way, one after the other: for a child, a signal, a promise, a time.
async fn waits(ctx: Ctx, n: u64) -> Result<String> {
    let doubled = ctx.step("double", async || Ok(n * 2)).await?;
    let (token, child) = (ctx.promise::<u64>("owed"), ctx.child(CHILD, doubled).await?);
    ctx.publish("token", &token.token().to_string());
    let told: u64 = ctx.signal("go").await?;
    ctx.emit("lines", &told);
    let owed = token.await?;
    ctx.sleep(seconds(60)).await;
    let random = ctx.step("again", async || Ok(doubled + told)).await?;
    Ok(format!("{doubled} {told} {owed} {random} {}", child.result().await?))
}

async fn child(ctx: Ctx, n: u64) -> Result<u64> {
    ctx.sleep(seconds(1000)).await;
    Ok(n + 1)
}

async fn engine(store: &Memory, world: &Simulation) -> Engine {
    let settings = Settings { park_after: Duration::ZERO, ..settings() };
    let builder = Engine::builder(store.clone()).register(W, waits).register(CHILD, child);
    builder.settings(settings).simulated(world).start().await.expect("the engine starts")
}

#[test]
fn open_runs_finish_where_they_have_moved() {
    virtual_time(async {
        let world = Simulation::new(1);
        let (from, to) = (Memory::default(), Memory::default());
        let here = engine(&from, &world).await;
        for n in 1..=4 {
            here.start(W, format!("w-{n}"), n).await.expect("starts");
        }
        nap(100).await;
        // They move at different places: before the signal, before the promise, in the sleep; one is paused.
        here.signal("w-2", "go", 20u64).await.expect("sends");
        here.signal("w-3", "go", 30u64).await.expect("sends");
        let token: String = here.published("w-3", "token").await.expect("reads").expect("is there");
        here.resolve(&token, 300u64).await.expect("resolves");
        nap(10_000).await;
        here.pause("w-4", "later").await.expect("pauses");
        nap(100).await;
        here.shutdown().await.expect("shuts down");

        copying(&from, &to).simulated(&world).run(|_| {}).await.expect("copies");
        let there = engine(&to, &world).await;
        there.resume("w-4").await.expect("resumes");
        for n in [1, 4] {
            there.signal(format!("w-{n}"), "go", n * 10).await.expect("sends");
        }
        for n in [1, 2, 4] {
            let token: String =
                there.published(&format!("w-{n}"), "token").await.expect("reads").expect("is there");
            there.resolve(&token, n * 100).await.expect("resolves a promise of the other store");
        }
        for n in 1..=4u64 {
            let run = there.get(W, format!("w-{n}")).await.expect("is there");
            let result = soon(run.result()).await.expect("ends");
            assert_eq!(result, format!("{} {} {} {} {}", n * 2, n * 10, n * 100, n * 12, n * 2 + 1));
            let lines = there.stream::<u64>(&format!("w-{n}"), "lines").page(10).await.expect("reads");
            assert_eq!(lines.iter().map(|item| item.value).collect::<Vec<_>>(), [n * 10]);
        }
        there.shutdown().await.expect("shuts down");
    });
}

#[test]
fn a_live_engine_refuses_the_copy_and_goes_on() {
    virtual_time(async {
        let world = Simulation::new(1);
        for engine_is_at in ["from", "to"] {
            let (from, to) = (Memory::default(), Memory::default());
            let engine = engine(if engine_is_at == "from" { &from } else { &to }, &world).await;
            let refusal = copying(&from, &to).simulated(&world).run(|_| {}).await;
            let why = refused(refusal, Code::CANNOT_COPY);
            assert!(why.contains(&format!("is at work on `{engine_is_at}`: shut it down first")), "{why}");
            assert_eq!((mark(&from), mark(&to)), (None, None));
            engine.start(W, "w-1", 1).await.expect("starts");
            engine.shutdown().await.expect("it was never fenced");
        }
    });
}

#[test]
fn no_engine_starts_and_no_client_writes_while_runs_move() {
    virtual_time(async {
        let world = Simulation::new(1);
        let (from, to) = (store_with(300), Memory::default());
        let client = Client::new(from.clone());
        assert!(broken_off(&from, &to, 2));
        for (store, says) in [(&from, "being copied to `to`"), (&to, "copied into this store from `from`")] {
            let builder = Engine::builder(store.clone()).register(W, waits).simulated(&world);
            let error = builder.start().await.expect_err("is refused");
            assert_eq!(error.code(), Code::MOVED);
            assert!(error.to_string().contains(says), "{error}");
        }
        let error = client.signal("r1", "go", 1u64).await.expect_err("is refused");
        assert_eq!(error.code(), Code::MOVED);
        let error = client.start(W, "new", 1).await.expect_err("is refused");
        assert_eq!(error.code(), Code::MOVED);
        let error = client.cancel("r1", "no").await.expect_err("is refused");
        assert_eq!(error.code(), Code::MOVED);
        assert_eq!(client.list("").limit(1).await.expect("reads").len(), 1);
    });
}
