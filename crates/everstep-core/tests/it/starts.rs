//! What a start can be told: later, with a signal, with attributes; and what becomes of a used id.

use crate::common::{W, engine, journal, nap, plain, settle, soon, told, virtual_time};
use everstep_core::{
    AttributeValue, Code, Ctx, Engine, ErrorKind, OnOpen, Published, Result, Reuse, Signal, Simulation,
    Status, days, hours,
    journal::Kind,
    seconds,
    store::{Inspect, Memory},
};

const GO: Signal<u64> = Signal::new("go");

/// Completes with 1, fails with 2, waits for a signal otherwise.
async fn by_input(ctx: Ctx, n: u64) -> Result<String> {
    match n {
        1 => Ok("one".to_string()),
        2 => Err("two".into()),
        _ => Ok(format!("{n} and {}", ctx.signal(GO).await?)),
    }
}

async fn world() -> (Memory, Engine) {
    let (memory, world) = (Memory::default(), Simulation::new(1));
    let engine = engine(&memory, &world, by_input).await;
    (memory, engine)
}

#[test]
fn a_run_that_is_to_begin_later_does_so_and_keeps_what_comes_before() {
    virtual_time(async {
        let (memory, engine) = world().await;
        let run = engine.start(W, "r", 7).delay(days(2)).await.expect("it starts");
        engine.signal("r", GO, 5).await.expect("it is open");
        nap(hours(47).as_millis() as u64).await;
        assert_eq!(run.status().await.ok(), Some(Status::Pending));
        nap(hours(2).as_millis() as u64).await;
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("7 and 5"));
        let journal = journal(&memory).await;
        assert_eq!(
            journal[1].known_kind(),
            Some(Kind::Began),
            "its time counts from then: {:?}",
            told(&journal)
        );
        let now = engine.start(W, "r", 7).delay(days(9)).await.expect("the same start is the same run");
        assert_eq!(now.status().await.ok(), Some(Status::Completed));
        let never = engine.start(W, "never", 7).delay(std::time::Duration::MAX).await.expect("it starts");
        nap(days(3).as_millis() as u64).await;
        assert_eq!(never.status().await.ok(), Some(Status::Pending));
        engine.cancel("never", "too late").await.expect("it is open");
        assert_eq!(soon(never.result()).await.expect_err("cancelled").kind(), ErrorKind::Cancelled);
    });
}

#[test]
fn a_signal_and_attributes_come_with_the_start() {
    virtual_time(async {
        let (memory, engine) = world().await;
        let start = || engine.start(W, "r", 7).with_signal(GO, 5).attribute("team", "blue").attribute("n", 7);
        let run = start().await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("7 and 5"));
        let number = memory.run("r".into()).await.expect("reads").expect("there").run;
        let attributes = memory.attributes(number).await.expect("reads");
        assert_eq!(
            attributes,
            [("n".into(), AttributeValue::Integer(7)), ("team".into(), AttributeValue::from("blue"))]
        );
        let late = start().await.expect_err("nobody would take the signal");
        assert_eq!(late.code(), Code::NOT_ALLOWED);
        let open = engine.start(W, "s", 7).await.expect("it starts");
        settle().await;
        engine.start(W, "s", 7).with_signal(GO, 6).await.expect("the open run gets it");
        assert_eq!(plain(soon(open.result()).await).as_deref(), Ok("7 and 6"));
        let other = engine.start(W, "s", 8).with_signal(GO, 6).await.expect_err("another input");
        assert!(other.is_conflict());
        for bad in [
            engine.start(W, "x", 7).attribute("", 1).await,
            engine.start(W, "x", 7).attribute("t", "x".repeat(2_000)).await,
            engine.start(W, "x", 7).with_signal("a/b", 1u64).await,
        ] {
            bad.expect_err("refused");
        }
        assert!(memory.run("x".into()).await.expect("reads").is_none());
    });
}

/// The table of used ids: what the first run was, the policy, the second start's input, and what comes of it.
#[test]
fn used_ids_follow_their_policy() {
    #[derive(Debug, PartialEq)]
    enum Comes {
        Same,
        New,
        Conflict,
    }
    use Comes::{Conflict, New, Same};
    let table = [
        (1, Reuse::Same, 1, Same),
        (1, Reuse::Same, 2, Conflict),
        (1, Reuse::Reject, 1, Conflict),
        (1, Reuse::AfterFailure, 1, Same),
        (1, Reuse::AfterFailure, 2, Conflict),
        (1, Reuse::Always, 1, New),
        (1, Reuse::Always, 2, New),
        (2, Reuse::Same, 2, Same),
        (2, Reuse::Reject, 2, Conflict),
        (2, Reuse::AfterFailure, 2, New),
        (2, Reuse::AfterFailure, 1, New),
        (2, Reuse::Always, 1, New),
        // An open run is no finished one.
        (7, Reuse::Always, 7, Same),
        (7, Reuse::Reject, 7, Same),
        (7, Reuse::Always, 1, Conflict),
    ];
    for (first, reuse, second, expected) in table {
        virtual_time(async {
            let (memory, engine) = world().await;
            let run = engine.start(W, "r", first).await.expect("it starts");
            nap(100).await;
            let before = journal(&memory).await;
            let again = engine.start(W, "r", second).reuse(reuse).await;
            nap(100).await;
            let row = memory.run("r".into()).await.expect("reads").expect("there");
            let came = match &again {
                Err(error) if error.is_conflict() => Conflict,
                Err(error) => panic!("{error}"),
                Ok(_) if row.generation == 0 => Same,
                Ok(_) => New,
            };
            assert_eq!(came, expected, "{first} {reuse:?} {second}");
            match expected {
                New => {
                    let outcome = plain(soon(again.expect("new").result()).await);
                    assert_eq!(outcome.is_ok(), second == 1, "{outcome:?}");
                    assert_eq!(row.takeovers, 0);
                }
                Same | Conflict => assert_eq!(journal(&memory).await, before),
            }
            drop(run);
        });
    }
}

#[test]
fn open_runs_follow_their_policy() {
    virtual_time(async {
        let (memory, engine) = world().await;
        let first = engine.start(W, "r", 7).await.expect("it starts");
        settle().await;
        let fails = engine.start(W, "r", 7).on_open(OnOpen::Fail).await.expect_err("it is open");
        assert!(fails.is_conflict() && fails.to_string().contains("running"), "{fails}");
        let existing = engine.start(W, "r", 8).on_open(OnOpen::UseExisting).await.expect("the open one");
        let other = everstep_core::Workflow::<u64, String>::new("other");
        assert!(
            engine.start(other, "r", 8).on_open(OnOpen::UseExisting).await.is_err_and(|e| e.is_conflict())
        );
        let next = engine.start(W, "r", 9).on_open(OnOpen::CancelExisting).await.expect("it takes its place");
        assert_eq!(memory.run("r".into()).await.expect("reads").expect("there").generation, 1);
        settle().await;
        engine.signal("r", GO, 1).await.expect("it is open");
        assert_eq!(plain(soon(next.result()).await).as_deref(), Ok("9 and 1"));
        // Who waited since the start has heard of that run's end; who comes later sees the id's run as it is now.
        assert_eq!(soon(first.result()).await.expect_err("it was cancelled").kind(), ErrorKind::Cancelled);
        assert_eq!(plain(soon(existing.result()).await).as_deref(), Ok("9 and 1"));
    });
}

/// Also one that is stuck, which only a worker can cancel.
#[test]
fn a_stuck_run_gives_its_place_when_it_is_cancelled() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |_: Ctx, n: u64| {
            assert_ne!(n, 7, "it panics");
            Ok(n.to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(soon(run.result()).await.expect_err("stuck").kind(), ErrorKind::Stuck);
        let next = soon(async { engine.start(W, "r", 8).on_open(OnOpen::CancelExisting).await }).await;
        assert_eq!(plain(soon(next.expect("it takes its place").result()).await).as_deref(), Ok("8"));
    });
}

/// What reached the old run is not for the new one, and keys that it knew are free.
#[test]
fn a_new_run_in_an_old_place_has_an_empty_inbox() {
    virtual_time(async {
        let (memory, engine) = world().await;
        let old = engine.start(W, "r", 7).await.expect("it starts");
        for (name, key) in [("other", "k"), ("go", "k")] {
            engine.signal("r", name, 1u64).key(key).await.expect("it is open");
        }
        plain(soon(old.result()).await).expect("it ends");
        let new = engine.start(W, "r", 7).reuse(Reuse::Always).await.expect("it starts");
        nap(100).await;
        assert_eq!(new.undelivered().await.expect("reads"), []);
        engine.signal("r", GO, 2).key("k").await.expect("it is open");
        assert_eq!(plain(soon(new.result()).await).as_deref(), Ok("7 and 2"));
        let number = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((number.generation, number.inbox_n), (1, 3));
    });
}

/// A new run under the id of one that is over shows none of its progress; a reader of its stream goes on where he was.
#[test]
fn a_run_in_the_place_of_another_has_published_nothing_yet() {
    const PROGRESS: Published<u64> = Published::new("progress");
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, n: u64| -> Result<String> {
            if n > 1 {
                ctx.sleep(seconds(10)).await;
            }
            ctx.publish(PROGRESS, &n);
            ctx.emit("log", &n);
            Ok(String::new())
        };
        let engine = crate::common::engine(&memory, &world, workflow).await;
        soon(engine.run(W, "r", 1)).await.expect("it ends");
        assert_eq!(engine.published("r", PROGRESS).await.expect("reads"), Some(1));
        let again = engine.start(W, "r", 2).reuse(Reuse::Always).await.expect("a new run");
        assert_eq!(engine.published("r", PROGRESS).await.expect("reads"), None);
        soon(again.result()).await.expect("it ends");
        assert_eq!(engine.published("r", PROGRESS).await.expect("reads"), Some(2));
        let items = engine.stream::<u64>("r", "log").page(9).await.expect("reads");
        assert_eq!(items.iter().map(|item| (item.n, item.value)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
    });
}
