//! Children: started with the entry that says so, heard of by every wait, closed with their parent.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use crate::{
    common::{W, journal, nap, plain, settings, soon, stays, told, virtual_time},
    undo::Log,
};
use everstep_core::{
    Ctx, Doubt, Engine, ErrorKind, Result, Settings, Simulation, Status, StuckReason, Workflow, days, join,
    journal::{Entry, Kind},
    seconds, select,
    store::{Inspect, Memory},
    try_join,
};
use serde::{Deserialize, Serialize};

const CHILD: Workflow<u64, u64> = Workflow::new("child");

/// An engine with a parent and a child workflow.
async fn family<P, Pf, C, Cf>(
    memory: &Memory,
    world: &Simulation,
    settings: Settings,
    parent: P,
    child: C,
) -> Engine
where
    P: Fn(Ctx, u64) -> Pf + Send + Sync + 'static,
    Pf: Future<Output = Result<String>> + Send + 'static,
    C: Fn(Ctx, u64) -> Cf + Send + Sync + 'static,
    Cf: Future<Output = Result<u64>> + Send + 'static,
{
    let builder = Engine::builder(memory.clone()).register(W, parent).register(CHILD, child);
    builder.settings(settings).simulated(world).start().await.expect("the engine starts")
}

async fn status(memory: &Memory, id: &str) -> Status {
    memory.run(id.into()).await.expect("reads").unwrap_or_else(|| panic!("no run {id}")).status
}

fn count(entries: &[Entry], kind: Kind) -> usize {
    entries.iter().filter(|entry| entry.known_kind() == Some(kind)).count()
}

/// Doubles, in a step, after as many seconds.
async fn doubles(ctx: Ctx, n: u64) -> Result<u64> {
    ctx.sleep(seconds(n)).await;
    ctx.step("double", async || Ok(2 * n)).await
}

/// Never ends.
async fn waits(ctx: Ctx, _: u64) -> Result<u64> {
    ctx.sleep(days(1000)).await;
    Ok(0)
}

async fn asks_much(ctx: Ctx, _: u64) -> Result<String> {
    let first = ctx.start(CHILD, "chosen", 3).await?;
    let second = ctx.child(CHILD, 1).await?;
    let ids = format!("{} {}", first.id(), second.id());
    let third = ctx.run(CHILD, 2).await?;
    ctx.step("note", async || Ok(())).await?;
    let (a, b) = try_join!(first.result(), second.result())?;
    // The same again, long after.
    ctx.sleep(seconds(10)).await;
    let again = first.result().await?;
    Ok(format!("{ids}: {a} {b} {third} {again}"))
}

#[test]
fn children_replay_whatever_entry_was_the_last_and_run_once() {
    virtual_time(async {
        let (memory, world, calls) = (Memory::default(), Simulation::new(1), Arc::new(AtomicU64::new(0)));
        let child = {
            let calls = calls.clone();
            move |ctx: Ctx, n| {
                calls.fetch_add(1, SeqCst);
                doubles(ctx, n)
            }
        };
        let first = family(&memory, &world, stays(), asks_much, child.clone()).await;
        let live = plain(soon(first.run(W, "r", 7)).await);
        assert_eq!(live.as_deref(), Ok("chosen r/child#2: 6 2 4 6"));
        assert_eq!(calls.load(SeqCst), 3);
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        assert_eq!((count(&whole, Kind::ChildStarted), count(&whole, Kind::ChildEnded)), (3, 3));
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let next = family(&memory, &world, stays(), asks_much, child.clone()).await;
            let run = next.get(W, "r").await.expect("found");
            let outcome = plain(soon(run.result()).await);
            let again = journal(&memory).await;
            assert_eq!(outcome, live, "cut after {cut}: {:#?}", told(&again));
            assert_eq!(told(&again)[..cut], told(&whole)[..cut]);
            assert_eq!(again.len(), whole.len());
            next.shutdown().await.expect("it leaves");
        }
        assert_eq!(calls.load(SeqCst), 3, "whoever starts a child anew finds it");
    });
}

#[test]
fn a_child_is_there_with_the_entry_that_says_so_and_any_worker_may_take_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| Ok(ctx.run(CHILD, 1).await?.to_string());
        // This one does not know the child's workflow.
        let first = crate::common::engine(&memory, &world, parent).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        nap(10).await;
        assert_eq!(
            (status(&memory, "r").await, status(&memory, "r/child").await),
            (Status::Running, Status::Pending)
        );
        let other = Engine::builder(memory.clone()).register(CHILD, doubles).settings(settings());
        let other = other.simulated(&world).start().await.expect("starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("2"));
        other.shutdown().await.expect("it leaves");
    });
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{missing} missing")]
struct Declined {
    missing: u64,
}

#[test]
fn a_failure_is_the_childs_own() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let child = async |ctx: Ctx, missing| {
            let pay = ctx.step("pay", async || -> Result<u64> { Err(Declined { missing })? });
            pay.typed::<Declined>().await
        };
        let parent = async |ctx: Ctx, n| {
            let child = ctx.child(CHILD, n).await?;
            let error = child.result().await.expect_err("it fails");
            let declined = error.downcast::<Declined>().expect("typed");
            Ok(format!("{error} {} {:?} {}", error.code(), error.kind(), declined.missing))
        };
        let first = family(&memory, &world, settings(), parent, child).await;
        let live = plain(soon(first.run(W, "r", 7)).await);
        assert_eq!(live.as_deref(), Ok("7 missing EV0001 Raised 7"));
        first.shutdown().await.expect("it leaves");
        memory.truncate("r", journal(&memory).await.len() - 1);
        let next = family(&memory, &world, settings(), parent, child).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await), live);
    });
}

#[test]
fn a_cancel_does_not_reach_a_left_child_of_an_earlier_generation_with_the_same_key() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, n| {
            let id = format!("c{n}");
            let child = ctx.start(CHILD, &*id, n).leave().await?;
            if n == 0 {
                ctx.restart(W, 1).await
            }
            child.cancel("not needed");
            child.result().await.expect_err("it is cancelled");
            Ok("over".to_string())
        };
        let engine = family(&memory, &world, settings(), parent, waits).await;
        let run = engine.start(W, "r", 0).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("over"));
        nap(3_000).await;
        let status = engine.get(CHILD, "c0").await.expect("found").status().await.expect("reads");
        assert!(!status.is_over() || status == Status::Completed, "{status:?}");
        engine.shutdown().await.expect("it leaves");
    });
}

#[test]
fn a_child_that_is_cancelled_is_an_error_of_that_kind() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, n| {
            let child = ctx.start(CHILD, "c", n).await?;
            if n == 1 {
                child.cancel("not needed");
                child.cancel("said twice");
            }
            let error = child.result().await.expect_err("it is cancelled");
            child.cancel("too late");
            Ok(format!("{:?} {} {error}", error.kind(), error.code()))
        };
        let first = family(&memory, &world, settings(), parent, waits).await;
        let run = first.start(W, "r", 1).await.expect("it starts");
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("Cancelled EV0007 run `c` was cancelled: not needed"));
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        assert_eq!(count(&whole, Kind::ChildCancelAsked), 1);
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let next = family(&memory, &world, settings(), parent, waits).await;
            let run = next.get(W, "r").await.expect("found");
            assert_eq!(plain(soon(run.result()).await), live, "cut after {cut}");
            next.shutdown().await.expect("it leaves");
        }
        // By somebody else.
        let memory = Memory::default();
        let engine = family(&memory, &world, settings(), parent, waits).await;
        let run = engine.start(W, "r", 2).await.expect("it starts");
        nap(3_000).await;
        engine.cancel("c", "a person").await.expect("it is open");
        let told = plain(soon(run.result()).await);
        assert_eq!(told.as_deref(), Ok("Cancelled EV0007 run `c` was cancelled: a person"));
    });
}

#[test]
fn an_id_that_is_in_use_is_an_error_of_the_wait() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| {
            let taken = ctx.start(CHILD, "taken", 1).await?;
            let error = taken.result().await.expect_err("it is somebody else's");
            let own = ctx.start(CHILD, "own", 1).await?;
            let twice = ctx.start(CHILD, "own", 1).await?;
            let again = twice.result().await.expect_err("one child, one key");
            Ok(format!("{:?} {error}; {again}; {}", error.kind(), own.result().await?))
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        // The same workflow and input, and nobody's child.
        engine.start(CHILD, "taken", 1).await.expect("it starts");
        let out = plain(soon(engine.run(W, "r", 7)).await);
        assert_eq!(
            out.as_deref(),
            Ok("Conflict run id `taken` is in use: it was not started by this run; \
                run id `own` is in use: this run has started it as `child#2`, and now starts it as `child#3`; 2")
        );
        assert_eq!(status(&memory, "taken").await, Status::Completed, "nobody has cancelled it");
    });
}

/// A parent that starts two children, one of which it leaves, and then does as it is told.
async fn leaves_one(ctx: Ctx, what: u64) -> Result<String> {
    let _closed = ctx.start(CHILD, "closed", 1).await?;
    let _left = ctx.start(CHILD, "left", 1).leave().await?;
    ctx.sleep(seconds(5)).await;
    match what {
        0 => Ok("over".to_string()),
        1 => Err("failed".into()),
        2 => panic!("stuck"),
        _ => {
            ctx.sleep(days(1)).await;
            Ok("late".to_string())
        }
    }
}

#[test]
fn children_that_are_open_are_cancelled_when_their_parent_is_over() {
    for settings in [settings(), stays()] {
        // Returned, failed, stuck and then cancelled, cancelled.
        for what in 0..4 {
            virtual_time(async {
                let (memory, world) = (Memory::default(), Simulation::new(1));
                let child = async |ctx: Ctx, n: u64| match n {
                    0 => waits(ctx, 0).await,
                    _ => ctx.run(CHILD, n - 1).await,
                };
                let engine = family(&memory, &world, settings.clone(), leaves_one, child).await;
                let run = engine.start(W, "r", what).await.expect("it starts");
                nap(2_000).await;
                let all = ["closed", "left", "closed/child", "left/child"];
                for id in all {
                    assert!(!status(&memory, id).await.is_over(), "{id} while the parent is open");
                }
                nap(8_000).await;
                if what >= 2 {
                    let expected = if what == 2 { Status::Stuck } else { Status::Waiting };
                    let seen = status(&memory, "r").await;
                    assert!(seen == expected || seen == Status::Running, "{seen}");
                    assert!(!status(&memory, "closed").await.is_over());
                    engine.cancel("r", "enough").await.expect("it is open");
                }
                let _ = soon(run.result()).await;
                nap(5_000).await;
                let mut seen = Vec::new();
                for id in all {
                    seen.push(status(&memory, id).await.is_over());
                }
                assert_eq!(seen, [true, false, true, false], "the tree below what is closed, case {what}");
            });
        }
    }
}

/// Seed 14430 of the simulation: such a child was cancelled where it stood, and what it had done stayed.
#[test]
fn a_stuck_child_that_is_cancelled_with_its_parent_undoes_what_it_did() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let noted = log.clone();
        let child = move |ctx: Ctx, _| {
            let undoes = noted.clone();
            async move {
                let done = ctx.step("books", async || Ok(1u64)).undo(async move |_| {
                    undoes.add("undone");
                    Ok(())
                });
                done.await?;
                ctx.step("asks", async || -> Result<u64> { panic!("nobody knows") })
                    .on_doubt(Doubt::Ask)
                    .await
            }
        };
        let parent = async |ctx: Ctx, n: u64| {
            ctx.child(CHILD, n).await?;
            ctx.sleep(seconds(9)).await;
            Ok(String::new())
        };
        let engine = family(&memory, &world, settings(), parent, child).await;
        let run = engine.start(W, "r", 0).await.expect("it starts");
        nap(3_000).await;
        assert_eq!(status(&memory, "r/child").await, Status::Stuck);
        soon(run.result()).await.expect("it ends");
        nap(5_000).await;
        assert_eq!(status(&memory, "r/child").await, Status::Cancelled);
        assert_eq!(log.take(), ["undone"]);
    });
}

#[test]
fn a_wait_that_lost_a_race_or_was_dropped_takes_nothing() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| {
            let child = ctx.child(CHILD, 5).await?;
            let lost = select! {
                done = child.result() => Some(done?),
                () = ctx.sleep(seconds(1)) => None,
            };
            let mut held = child.result();
            select! {
                _ = &mut held => return Ok("too early".to_string()),
                () = ctx.sleep(seconds(1)) => {},
            }
            // It ends meanwhile, and nobody polls.
            ctx.sleep(seconds(60)).await;
            drop(held);
            let unpolled = child.result();
            let (a, b) = join!(child.result(), child.result());
            drop(unpolled);
            let late = ctx.timeout(seconds(1), child.result()).await?;
            Ok(format!("{lost:?} {} {} {late:?}", a?, b?))
        };
        let first = family(&memory, &world, settings(), parent, doubles).await;
        let live = plain(soon(first.run(W, "r", 7)).await);
        assert_eq!(live.as_deref(), Ok("None 10 10 Some(10)"));
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        assert_eq!(count(&whole, Kind::ChildEnded), 1);
        memory.truncate("r", whole.len() - 1);
        let next = family(&memory, &world, settings(), parent, doubles).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await), live);
        assert_eq!(told(&journal(&memory).await), told(&whole));
    });
}

#[test]
fn a_child_that_nobody_waits_for_leaves_no_outcome() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| {
            let child = ctx.child(CHILD, 1).await?;
            drop(child);
            ctx.sleep(seconds(10)).await;
            Ok("over".to_string())
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        assert_eq!(plain(soon(engine.run(W, "r", 7)).await).as_deref(), Ok("over"));
        assert_eq!(count(&journal(&memory).await, Kind::ChildEnded), 0);
        assert_eq!(status(&memory, "r/child").await, Status::Completed);
    });
}

#[test]
fn an_outcome_finds_its_parent_in_memory_and_out_of_it() {
    // The child takes so many seconds: the parent is in memory, about to park, or parked.
    for n in [0, 1, 2, 60, 3_000] {
        for settings in [settings(), stays()] {
            virtual_time(async {
                let (memory, world) = (Memory::default(), Simulation::new(1));
                let parent = async |ctx: Ctx, n| Ok(ctx.run(CHILD, n).await?.to_string());
                let engine = family(&memory, &world, settings, parent, doubles).await;
                let out = plain(soon(engine.run(W, "r", n)).await);
                assert_eq!(out, Ok((2 * n).to_string()), "after {n} seconds");
            });
        }
    }
}

#[test]
fn a_thousand_children_are_waited_for() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, n| {
            let mut children = Vec::new();
            for i in 0..n {
                children.push(ctx.start(CHILD, format!("c-{i}"), i % 7).await?);
            }
            let mut sum = 0;
            for child in &children {
                sum += child.result().await?;
            }
            Ok(sum.to_string())
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        let out = plain(soon(engine.run(W, "r", 1_000)).await);
        assert_eq!(out, Ok((0..1_000).map(|i| 2 * (i % 7)).sum::<u64>().to_string()));
        // And open ones are closed together.
        let waiting = family(
            &memory,
            &world,
            settings(),
            async |ctx: Ctx, n| {
                for i in 0..n {
                    drop(ctx.start(CHILD, format!("w-{i}"), 0).await?);
                }
                ctx.sleep(seconds(1)).await;
                Ok(String::new())
            },
            waits,
        );
        engine.shutdown().await.expect("it leaves");
        let engine = waiting.await;
        soon(engine.run(W, "s", 1_000)).await.expect("it ends");
        nap(60_000).await;
        let counts = engine.counts().await.expect("counts");
        let cancelled = counts
            .iter()
            .find(|(workflow, status, _)| &**workflow == "child" && *status == Status::Cancelled);
        assert_eq!(cancelled.map(|(.., n)| *n), Some(1_000));
    });
}

#[test]
fn children_have_children() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let child = async |ctx: Ctx, n: u64| match n {
            0 => Ok(1),
            _ => Ok(1 + ctx.run(CHILD, n - 1).await?),
        };
        let parent = async |ctx: Ctx, n| Ok(ctx.run(CHILD, n).await?.to_string());
        let engine = family(&memory, &world, settings(), parent, child).await;
        // Ids that would grow too long are cut short.
        assert_eq!(plain(soon(engine.run(W, "r", 60)).await).as_deref(), Ok("61"));
        let rows = engine.list("workflow = child").limit(100).await.expect("lists");
        assert_eq!(rows.len(), 61);
        assert!(rows.iter().all(|row| row.id.len() <= 256) && rows[0].id.contains('~'), "{}", rows[0].id);
    });
}

#[test]
fn a_value_of_another_type_is_an_error_of_its_wait() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| {
            let text: Workflow<u64, String> = Workflow::new("child");
            let error = ctx.run(text, 1).await.expect_err("a number");
            Ok(format!("{:?} {}", error.kind(), error.code()))
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        assert_eq!(plain(soon(engine.run(W, "r", 7)).await).as_deref(), Ok("Raised EV0006"));
    });
}

#[test]
fn a_child_begins_when_it_is_due() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| {
            let child = ctx.child(CHILD, 0).delay(seconds(600)).await?;
            let before = ctx.now();
            child.result().await?;
            let waited = ctx.now().duration_since(before).expect("forward").as_secs();
            Ok(format!("{}", (600..605).contains(&waited)))
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        assert_eq!(plain(soon(engine.run(W, "r", 7)).await).as_deref(), Ok("true"));
    });
}

/// A child that fails until it is good, and a parent that fails with it.
#[test]
fn a_parent_that_failed_with_its_child_goes_on_when_the_child_was_retried() {
    virtual_time(async {
        let (memory, world, good) = (Memory::default(), Simulation::new(1), Arc::new(AtomicBool::new(false)));
        let seen = good.clone();
        let child = move |ctx: Ctx, n: u64| {
            let seen = seen.clone();
            async move {
                ctx.step("try", async || if seen.load(SeqCst) { Ok(n) } else { Err("bad".into()) }).await
            }
        };
        let parent = async |ctx: Ctx, n| Ok(ctx.run(CHILD, n).await?.to_string());
        let engine = family(&memory, &world, settings(), parent, child).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        soon(run.result()).await.expect_err("its child failed");
        engine.retry("r").await.expect("it failed");
        assert_eq!(soon(run.result()).await.expect_err("the child has not been retried").to_string(), "bad");
        good.store(true, SeqCst);
        engine.retry("r/child").await.expect("it failed");
        nap(1_000).await;
        assert_eq!(
            (status(&memory, "r/child").await, status(&memory, "r").await),
            (Status::Completed, Status::Failed)
        );
        engine.retry("r").await.expect("it failed");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("7"));
    });
}

#[test]
fn a_parent_whose_childs_id_was_in_use_can_be_retried_when_it_is_free() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, n| Ok(ctx.start(CHILD, "c", n).await?.result().await?.to_string());
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        engine.run(CHILD, "c", 3).await.expect("it ends");
        let run = engine.start(W, "r", 1).await.expect("it starts");
        assert_eq!(soon(run.result()).await.expect_err("in use").kind(), ErrorKind::Conflict);
        engine.retry("r").await.expect("it failed");
        assert_eq!(soon(run.result()).await.expect_err("in use").kind(), ErrorKind::Conflict);
        let whole = journal(&memory).await;
        assert_eq!(
            (count(&whole, Kind::ChildStarted), count(&whole, Kind::ChildEnded)),
            (1, 1),
            "{:#?}",
            told(&whole)
        );
    });
}

#[test]
fn a_child_that_is_another_on_replay_has_diverged() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let other = AtomicBool::new(false);
        let parent = move |ctx: Ctx, _| {
            let id = if other.swap(true, SeqCst) { "two" } else { "one" };
            async move { Ok(ctx.start(CHILD, id, 60).await?.result().await?.to_string()) }
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        // It parks, and is loaded again when the child has ended.
        soon(run.result()).await.expect_err("stuck");
        let stuck = run.stuck().await.expect("read").expect("it is");
        assert_eq!(stuck.reason, StuckReason::Diverged);
        assert!(
            stuck.detail.contains("was recorded as run `one` of `child`, and is now run `two`"),
            "{stuck}"
        );
    });
}

#[test]
fn what_cannot_be_started_says_so() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, _| {
            let bad = ctx.start(CHILD, "", 1).await.expect_err("no id");
            let name: Workflow<u64, u64> = Workflow::new("a/b");
            let named = ctx.run(name, 1).await.expect_err("no name");
            let nan: Workflow<f64, u64> = Workflow::new("child");
            let nan = ctx.child(nan, f64::NAN).await.expect_err("no JSON");
            let inside = ctx.step("inside", async || Ok(ctx.child(CHILD, 1).await?.id().to_string()));
            let inside = inside.await.expect_err("in a body");
            Ok(format!("{} {} {} {}", bad.code(), named.code(), nan.code(), inside.code()))
        };
        let engine = family(&memory, &world, settings(), parent, doubles).await;
        assert_eq!(plain(soon(engine.run(W, "r", 7)).await).as_deref(), Ok("EV0014 EV0014 EV0005 EV0010"));
        assert_eq!(engine.list("workflow = child").await.expect("lists").len(), 0);
    });
}

/// The next generation has no handle to them.
#[test]
fn a_restart_closes_children() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, n| {
            let child = ctx.child(CHILD, n).await?;
            if n == 1 {
                let id = child.id().to_string();
                drop(child);
                return Ok(id);
            }
            drop(child);
            ctx.restart(W, n - 1).await
        };
        let engine = family(&memory, &world, settings(), parent, waits).await;
        assert_eq!(plain(soon(engine.run(W, "r", 2)).await).as_deref(), Ok("r/#1/child"));
        nap(5_000).await;
        assert_eq!(status(&memory, "r/child").await, Status::Cancelled);
    });
}

#[test]
fn a_worker_that_dies_leaves_parent_and_child_to_the_next() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let parent = async |ctx: Ctx, n| Ok(ctx.run(CHILD, n).await?.to_string());
        let first = family(&memory, &world, stays(), parent, doubles).await;
        first.start(W, "r", 100).await.expect("it starts");
        nap(10).await;
        drop(first);
        let next = family(&memory, &world, stays(), parent, doubles).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("200"));
    });
}

#[test]
fn handles_and_waits_are_what_helpers_need() {
    fn is_owned<T: Send + Sync + Unpin + 'static>(_: impl Fn(&Ctx) -> T) {}
    is_owned(|ctx| ctx.start(CHILD, "c", 1));
    is_owned(|ctx| ctx.child(CHILD, 1).leave().delay(seconds(1)));
    is_owned(|ctx| ctx.run(CHILD, 1));
    fn is_sync<T: Send + Sync>() {}
    is_sync::<everstep_core::Child<u64>>();
}
