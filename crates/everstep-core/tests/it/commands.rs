//! Commands: what a run says by a call. Recorded once, found again on replay wherever the call is made, told to readers
//! only when durable.

use std::future::Future;

use crate::common::{
    Outcome, W, after, check_replays, engine, engine_with, finish, journal, nap, plain, settings, settle,
    soon, told, virtual_time,
};
use everstep_core::{
    AttributeValue, Code, Ctx, ErrorKind, Published, Result, Settings, Signal, Simulation, Stream,
    StuckReason, join,
    journal::{Entry, Kind, Payload},
    seconds,
    store::{Inspect, Memory, PatchRow},
};

const PROGRESS: Published<u64> = Published::new("progress");
const LOG: Stream<String> = Stream::new("log");

async fn says_much(ctx: Ctx, _: u64) -> Result<String> {
    ctx.publish(PROGRESS, &0);
    ctx.emit(LOG, &"begins".to_string());
    ctx.set_attribute("team", "blue");
    for n in 1..=3u64 {
        ctx.step("part", async || Ok(n)).await?;
        ctx.publish(PROGRESS, &n);
        ctx.emit(LOG, &format!("part {n}"));
    }
    ctx.set_attribute("amount", 7);
    ctx.remove_attribute("team");
    ctx.sleep(seconds(1)).await;
    ctx.emit(LOG, &"ends".to_string());
    Ok("said".to_string())
}

/// What readers see of run `r`.
async fn seen(memory: &Memory) -> (Vec<(String, String)>, Vec<String>, Vec<(String, AttributeValue)>) {
    let run = memory.run("r".into()).await.expect("reads").expect("there").run;
    let text = |body: &Payload| String::from_utf8_lossy(&body.bytes).into_owned();
    let published = memory.published(run, "progress".into()).await.expect("reads");
    let stream = memory.stream(run, "log".into(), 0, 100).await.expect("reads");
    let attributes = memory.attributes(run).await.expect("reads");
    (
        published.iter().map(|p| (p.seq.to_string(), text(&p.body))).collect(),
        stream.iter().map(|item| format!("{} {}", item.n, text(&item.body))).collect(),
        attributes.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
    )
}

#[test]
fn what_is_said_is_recorded_once_and_replays() {
    assert_eq!(check_replays(says_much), "said");
}

#[test]
fn readers_see_what_was_said_whatever_entry_was_the_last() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        finish(&memory, &world, says_much).await.0.expect("it ends");
        let (whole, all) = (journal(&memory).await, seen(&memory).await);
        assert_eq!(all.0, [("11".to_string(), "3".to_string())]);
        let items = ["begins", "part 1", "part 2", "part 3", "ends"];
        let items: Vec<_> = items.iter().enumerate().map(|(n, text)| format!("{n} \"{text}\"")).collect();
        assert_eq!((&all.1, &all.2), (&items, &vec![("amount".to_string(), AttributeValue::Integer(7))]));
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let (out, again, _) = finish(&memory, &world, says_much).await;
            assert_eq!(out.as_deref(), Ok("said"), "cut after {cut}");
            assert_eq!(kinds(&again), kinds(&whole), "cut after {cut}");
            assert_eq!(seen(&memory).await, all, "cut after {cut}");
        }
    });
}

fn kinds(entries: &[Entry]) -> Vec<Kind> {
    entries.iter().filter_map(Entry::known_kind).collect()
}

/// Counterexample 13: between two arrivals branches may call in any order, and only arrivals move the time.
#[test]
fn the_order_of_calls_between_two_arrivals_does_not_count() {
    let outcomes = crate::common::check_cuts(async |ctx: Ctx, _| {
        let say = async |name: &str| {
            ctx.sleep(seconds(1)).await;
            ctx.emit(LOG, &name.to_string());
            let before = ctx.now();
            ctx.publish(PROGRESS, &1);
            assert_eq!(before, ctx.now());
        };
        tokio::join!(say("a"), say("b"), say("c"));
        Ok("all".to_string())
    });
    assert!(outcomes.iter().all(|outcome| outcome.as_deref() == Ok("all")), "{outcomes:?}");
}

/// Runs `old` under build `a` up to `cut`, then `new` under `build` to its end.
fn change<F, Fut, G, Gut>(old: F, cut: usize, build: &str, new: G) -> (Outcome, Vec<Entry>)
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
    G: Fn(Ctx, u64) -> Gut + Send + Sync + Clone + 'static,
    Gut: Future<Output = Result<String>> + Send + 'static,
{
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let of = |build: &str| Settings { build: Some(build.to_string()), ..settings() };
        let first = engine_with(&memory, &world, of("a"), old).await;
        first.run(W, "r", 7).await.expect("it ends");
        first.shutdown().await.expect("it leaves");
        memory.truncate("r", cut);
        let next = engine_with(&memory, &world, of(build), new).await;
        let run = next.get(W, "r").await.expect("found");
        let outcome = plain(soon(run.result()).await);
        (outcome, journal(&memory).await)
    })
}

async fn unpatched(ctx: Ctx, _: u64) -> Result<String> {
    ctx.step("first", async || Ok(())).await?;
    ctx.step("second", async || Ok(())).await?;
    Ok("old".to_string())
}

async fn patched(ctx: Ctx, _: u64) -> Result<String> {
    ctx.step("first", async || Ok(())).await?;
    let mut went = Vec::new();
    for _ in 0..2 {
        went.push(ctx.patched("checked"));
    }
    if went[0] {
        ctx.step("check", async || Ok(())).await?;
    }
    ctx.step("second", async || Ok(())).await?;
    went.push(ctx.patched("checked"));
    Ok(format!("{went:?}"))
}

#[test]
fn a_run_that_had_passed_the_place_goes_the_old_way_and_the_others_the_new() {
    let (old, new) = ("[false, false, false]", "[true, true, true]");
    // Entries: start, first, second, outcome.
    for (cut, expected) in [(1, new), (2, new), (3, old)] {
        let (out, entries) = change(unpatched, cut, "b", patched);
        assert_eq!(out.as_deref(), Ok(expected), "cut after {cut}: {:?}", told(&entries));
    }
    assert_eq!(check_replays(patched), new);
}

/// Counterexample 37: the first call in a run decides for all, also in a loop that goes on live.
#[test]
fn a_patch_in_a_loop_is_decided_once() {
    let turns = async |ctx: Ctx, patches: bool| {
        let mut went = String::new();
        for _ in 0..4 {
            if patches && ctx.patched("loop") {
                went.push('n');
            }
            ctx.step("turn", async || Ok(())).await?;
        }
        Ok(went)
    };
    for cut in 1..5 {
        let (out, entries) =
            change(move |ctx, _| turns(ctx, false), cut, "b", move |ctx, _| turns(ctx, true));
        let expected = if cut == 1 { "nnnn" } else { "" };
        assert_eq!(out.as_deref(), Ok(expected), "cut after {cut}: {:?}", told(&entries));
    }
}

async fn waits(ctx: &Ctx) -> Result<String> {
    Ok(ctx.signal(Signal::<u64>::new("go")).await?.to_string())
}

/// When nobody needs the old way any more, its code can go.
#[test]
fn patches_tell_how_many_runs_still_need_the_old_code() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let old = engine(&memory, &world, async |ctx: Ctx, _| waits(&ctx).await).await;
        old.start(W, "old", 1).await.expect("it starts");
        settle().await;
        old.shutdown().await.expect("it leaves");
        let new = engine(&memory, &world, async |ctx: Ctx, _| {
            let waited = waits(&ctx).await;
            if ctx.patched("late") {
                ctx.step("more", async || Ok(1)).await?;
            }
            waited
        });
        let new = new.await;
        assert!(new.patches().await.expect("reads").is_empty(), "nobody has come to it");
        new.start(W, "new", 1).await.expect("it starts");
        settle().await;
        let told = async || {
            let patches = new.patches().await.expect("reads");
            let counts = |p: &PatchRow| (p.patch.to_string(), [p.open, p.over, p.old_open, p.old_over]);
            patches.iter().map(counts).collect::<Vec<_>>()
        };
        new.signal("new", "go", 1u64).await.expect("sent");
        settle().await;
        assert_eq!(told().await, [("late".to_string(), [0, 1, 1, 0])]);
        assert!(new.attributes("new").await.expect("reads").is_empty(), "people do not see how it is kept");
        // Who comes to the place only now goes the new way, and nobody is left.
        new.signal("old", "go", 1u64).await.expect("sent");
        settle().await;
        assert_eq!(told().await, [("late".to_string(), [0, 2, 0, 0])]);
        new.shutdown().await.expect("it leaves");
    });
}

/// The call may go with the old code, once no run needs that.
#[test]
fn a_patch_that_the_code_asks_for_no_more_is_no_divergence() {
    let (out, _) = change(patched, 4, "b", async |ctx: Ctx, _| {
        ctx.step("first", async || Ok(())).await?;
        ctx.step("check", async || Ok(())).await?;
        ctx.step("second", async || Ok(())).await?;
        Ok("clean".to_string())
    });
    assert_eq!(out.as_deref(), Ok("clean"));
}

/// Under the same build the code cannot have changed: it is not deterministic.
#[test]
fn the_same_build_must_say_the_same_again() {
    let (out, _) = change(says_much, 10, "a", async |ctx: Ctx, _| {
        for n in 1..=3u64 {
            ctx.step("part", async || Ok(n)).await?;
        }
        Ok(String::new())
    });
    let why = out.expect_err("stuck");
    assert!(why.contains("diverged") && why.contains("progress"), "{why}");
    let (out, _) = change(says_much, 10, "b", async |ctx: Ctx, _| {
        for n in 1..=3u64 {
            ctx.step("part", async || Ok(n)).await?;
        }
        ctx.sleep(seconds(1)).await;
        Ok("quiet".to_string())
    });
    assert_eq!(out.as_deref(), Ok("quiet"), "other code may say less");
}

/// What other code says where arrivals were recorded without it is said as soon as the run is live again.
#[test]
fn other_code_may_say_more() {
    let (out, entries) = change(unpatched, 3, "b", async |ctx: Ctx, _| {
        ctx.publish(PROGRESS, &1);
        ctx.step("first", async || Ok(())).await?;
        ctx.step("second", async || Ok(())).await?;
        ctx.step("third", async || Ok(())).await?;
        Ok("more".to_string())
    });
    assert_eq!(out.as_deref(), Ok("more"));
    assert_eq!(
        kinds(&entries)[1..],
        [Kind::StepDone, Kind::StepDone, Kind::Published, Kind::StepDone, Kind::Completed]
    );
}

/// They have no `Result`: what is wrong with them is a panic with advice, and the run stays as it is until it is mended.
#[test]
fn a_call_that_cannot_be_makes_the_run_stuck_with_advice() {
    type Says = fn(&Ctx);
    let calls: [(Says, &str); 5] = [
        (|ctx| ctx.publish("a/b", &1u64), "a/b"),
        (|ctx| ctx.publish("nan", &f64::NAN), "does not come back"),
        (|ctx| ctx.emit("big", &"x".repeat(3 << 20)), "bytes"),
        (|ctx| ctx.set_attribute("text", "x".repeat(2_000)), "bytes"),
        (|ctx| _ = ctx.patched(""), "patch"),
    ];
    for (call, advice) in calls {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine(&memory, &world, move |ctx: Ctx, _| async move {
                call(&ctx);
                Ok(String::new())
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let stuck = soon(run.result()).await.expect_err("stuck");
            assert_eq!((stuck.kind(), stuck.code()), (ErrorKind::Stuck, Code::STUCK));
            assert!(stuck.to_string().contains(advice), "{stuck}");
            assert_eq!(run.stuck().await.expect("reads").expect("it is").reason, StuckReason::Panicked);
        });
    }
}

/// Nothing outside sees a consequence of an entry that is not durable.
#[test]
fn nobody_reads_what_is_not_durable() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, says_much).await;
        engine.start(W, "r", 7).await.expect("it starts");
        memory.hold_commits();
        nap(100).await;
        let before = seen(&memory).await;
        nap(5_000).await;
        assert_eq!(seen(&memory).await, before);
        memory.release_commits();
        nap(5_000).await;
        assert_eq!(seen(&memory).await.1.len(), 5);
    });
}

#[test]
fn branches_side_by_side_may_say_the_same_name() {
    let out = check_replays(async |ctx: Ctx, _| {
        let say = async |ctx: Ctx, n: u64| {
            ctx.publish(PROGRESS, &n);
            ctx.step("work", async || after(n, 0).await).await?;
            ctx.publish(PROGRESS, &(n + 1));
            Ok(n)
        };
        let (left, right) = join!(
            ctx.scope("left", async |ctx| say(ctx, 10).await),
            ctx.scope("right", async |ctx| say(ctx, 20).await)
        );
        Ok(format!("{} {}", left?, right?))
    });
    assert_eq!(out, "10 20");
}

/// Each patch is decided for itself, whatever else was said since the last arrival.
#[test]
fn two_patches_side_by_side_are_both_recorded() {
    let both = async |ctx: Ctx, _| {
        ctx.publish(PROGRESS, &1);
        let went = [ctx.patched("one"), ctx.patched("two"), ctx.patched("one")];
        ctx.step("then", async || Ok(())).await?;
        Ok(format!("{went:?}"))
    };
    let (out, entries) = change(both, 1, "a", both);
    assert_eq!(out.as_deref(), Ok("[true, true, true]"));
    assert_eq!(
        kinds(&entries)[1..],
        [Kind::Published, Kind::Patched, Kind::Patched, Kind::StepDone, Kind::Completed]
    );
    assert_eq!(check_replays(both), "[true, true, true]");
}
