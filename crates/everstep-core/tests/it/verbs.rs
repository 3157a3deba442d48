//! What people and other workers do to runs: doubt and answers, retry, cancel, stuck runs, takeover, shutdown.
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::common::{W, engine, finish, journal, nap, plain, soon, told, virtual_time, wrapped::Wrapped};
use everstep_core::{
    Client, Code, Ctx, Doubt, Engine, ErrorKind, Result, Retry, Settings, Simulation, Status, Step, StepCtx,
    StuckReason, Verdict, Workflow, days,
    journal::{Answer, Kind},
    seconds,
    store::{Inspect, Memory, Store, StoreError},
};

type Counter = Arc<AtomicU64>;

/// Runs until the body of a step with this policy is inside its first attempt, then kills the worker (drops it and
/// marks its process as gone), and lets `again` finish the run.
async fn crash_inside(
    memory: &Memory,
    world: &Simulation,
    policy: fn(everstep_core::Step<'_, u64>) -> everstep_core::Step<'_, u64>,
) -> Counter {
    let calls = Counter::default();
    let counted = calls.clone();
    let first = engine(memory, world, move |ctx: Ctx, _| {
        let counted = counted.clone();
        async move {
            let step = ctx.step("pay", async || {
                counted.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<Result<u64>>().await
            });
            Ok(policy(step).await?.to_string())
        }
    })
    .await;
    first.start(W, "r", 7).await.expect("it starts");
    while calls.load(Ordering::SeqCst) == 0 {
        nap(1).await;
    }
    drop(first);
    nap(1).await;
    calls
}

fn again(
    policy: fn(everstep_core::Step<'_, u64>) -> everstep_core::Step<'_, u64>,
) -> impl Fn(Ctx, u64) -> std::pin::Pin<Box<dyn Future<Output = Result<String>> + Send>> + Clone + Send + Sync
{
    move |ctx: Ctx, _| {
        Box::pin(async move {
            Ok(policy(ctx.step("pay", async |s: StepCtx| Ok(u64::from(s.attempt()) * 100)))
                .await?
                .to_string())
        })
    }
}

#[test]
fn an_attempt_in_doubt_is_made_again_by_default() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        crash_inside(&memory, &world, |step| step).await;
        let (outcome, journal, _) = finish(&memory, &world, again(|step| step)).await;
        assert_eq!(outcome.as_deref(), Ok("100"), "the same attempt");
        assert_eq!(journal.len(), 3);
    });
}

#[test]
fn doubt_can_fail_the_step() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        crash_inside(&memory, &world, |step| step.on_doubt(Doubt::Fail)).await;
        let (outcome, ..) = finish(&memory, &world, again(|step| step.on_doubt(Doubt::Fail))).await;
        assert!(outcome.expect_err("it fails").contains("EV0004"));
    });
}

#[test]
fn doubt_can_be_looked_into() {
    virtual_time(async {
        for (verdict, expected) in [(Verdict::Done(7), "7"), (Verdict::NotDone, "100")] {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            crash_inside(&memory, &world, |step| step.verify(async |_| Ok(Verdict::NotDone))).await;
            let (outcome, ..) = finish(&memory, &world, move |ctx: Ctx, _| async move {
                let step = ctx.step("pay", async || Ok(100u64)).verify(async move |_| Ok(verdict));
                Ok(step.await?.to_string())
            })
            .await;
            assert_eq!(outcome.as_deref(), Ok(expected));
        }
    });
}

#[test]
fn doubt_can_ask_a_person_and_every_answer_leads_on() {
    virtual_time(async {
        for (answer, expected) in [
            (Answer::Done { value: "42".into() }, Ok("42")),
            (Answer::Retry, Ok("100")),
            (Answer::Fail { message: "never happened".into() }, Err("never happened")),
        ] {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            crash_inside(&memory, &world, |step| step.on_doubt(Doubt::Ask)).await;
            let engine = engine(&memory, &world, again(|step| step.on_doubt(Doubt::Ask))).await;
            let run = engine.get(W, "r").await.expect("found");
            let stuck = run.result().await.expect_err("it asks");
            assert_eq!((stuck.kind(), stuck.code()), (ErrorKind::Stuck, Code::STUCK));
            assert!(stuck.to_string().contains("answer"), "{stuck}");
            let refused = engine.retry("r").await.expect_err("an answer is wanted");
            assert!(refused.to_string().contains("`answer`"), "{refused}");
            engine.answer("r", answer).await.expect("taken");
            let outcome = run.result().await;
            match expected {
                Ok(value) => assert_eq!(outcome.expect("an answer helps"), value),
                Err(message) => assert!(outcome.expect_err("failed").to_string().contains(message)),
            }
        }
    });
}

#[test]
fn spent_retries_can_wait_for_a_person() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let works = Counter::default();
        let when = works.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let when = when.clone();
            async move {
                let step = ctx.step("flaky", async || match when.load(Ordering::SeqCst) {
                    0 => Err("still broken".into()),
                    n => Ok(n),
                });
                Ok(step.retry(Retry::fixed(3, seconds(1))).then_stuck().await?.to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(run.result().await.expect_err("stuck").kind(), ErrorKind::Stuck);
        assert_eq!(run.stuck().await.expect("readable").map(|s| s.reason), Some(StuckReason::RetriesSpent));
        works.store(5, Ordering::SeqCst);
        engine.retry("r").await.expect("it may");
        assert_eq!(run.result().await.expect("mended"), "5");
    });
}

#[test]
fn a_failed_run_is_retried_from_its_failed_step() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (works, first_calls) = (Counter::default(), Counter::default());
        let (when, counted) = (works.clone(), first_calls.clone());
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let (when, counted) = (when.clone(), counted.clone());
            async move {
                ctx.step("first", async || Ok(counted.fetch_add(1, Ordering::SeqCst))).await?;
                let second = ctx.step("second", async || match when.load(Ordering::SeqCst) {
                    0 => Err("broken".into()),
                    n => Ok(n),
                });
                // Wrapped on its way out: the failure that was handed over last is the one that ended the run.
                let n = second
                    .retry(Retry::fixed(2, seconds(1)))
                    .await
                    .map_err(|e| format!("cannot go on: {e}"))?;
                Ok(n.to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert!(run.result().await.expect_err("failed").to_string().contains("cannot go on: broken"));
        assert_eq!(run.status().await.ok(), Some(Status::Failed));
        works.store(9, Ordering::SeqCst);
        engine.retry("r").await.expect("it may");
        assert_eq!(run.result().await.expect("mended"), "9");
        assert_eq!(first_calls.load(Ordering::SeqCst), 1, "what was recorded is not run again");
        let refused = engine.retry("r").await.expect_err("completed");
        assert_eq!(refused.kind(), ErrorKind::NotAllowed);
    });
}

#[test]
fn cancel_reaches_runs_that_wait_run_and_are_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            match n {
                0 => ctx.sleep(seconds(1_000_000)).await,
                1 => ctx.step("long", async || std::future::pending::<Result<()>>().await).await?,
                _ => panic!("stuck"),
            }
            Ok("never".into())
        })
        .await;
        for n in 0..3 {
            let id = format!("r{n}");
            let run = engine.start(W, id.clone(), n).await.expect("it starts");
            nap(10).await;
            if n == 2 {
                assert_eq!(run.status().await.ok(), Some(Status::Stuck));
            }
            engine.cancel(&id, "not needed").await.expect("open");
            // A stuck run stays stuck until a worker has taken the message.
            nap(10).await;
            let cancelled = run.result().await.expect_err("cancelled");
            assert_eq!(cancelled.kind(), ErrorKind::Cancelled, "{cancelled:?}");
            assert!(cancelled.to_string().contains("not needed"));
            engine.cancel(&id, "again").await.expect("it is cancelled: no error");
        }
        let done = engine.cancel("nobody", "").await.expect_err("no such run");
        assert_eq!(done.kind(), ErrorKind::NotFound);
    });
}

/// faults.md row 43: the id is the key, and lives as long as its run.
#[test]
fn a_start_is_idempotent_and_a_conflict_shows_the_difference() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        for _ in 0..3 {
            let run = engine.start(W, "r", 7).await.expect("the same");
            assert_eq!(run.result().await.expect("done"), "7");
        }
        let conflict = engine.start(W, "r", 8).await.expect_err("another input");
        assert!(conflict.is_conflict());
        assert!(
            conflict.to_string().contains("input 7") && conflict.to_string().contains("has 8"),
            "{conflict}"
        );
        let other: Workflow<u64, String> = Workflow::new("other");
        let conflict = engine.start(other, "r", 7).await.expect_err("another workflow");
        assert!(
            conflict.to_string().contains("`w`") && conflict.to_string().contains("`other`"),
            "{conflict}"
        );
        let batch = engine.start_batch(
            W,
            [("r".to_string(), 7), ("r".to_string(), 9), ("s".to_string(), 1), (String::new(), 1)],
        );
        let each: Vec<_> = batch
            .await
            .expect("one wait")
            .into_iter()
            .map(|r| r.map(|r| r.id().to_string()).map_err(|e| e.code()))
            .collect();
        assert_eq!(each, [Ok("r".into()), Err(Code::CONFLICT), Ok("s".into()), Err(Code::BAD_NAME)]);
    });
}

#[test]
fn unchanged_code_replays_and_changed_code_is_reported() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let old = async |ctx: Ctx, _| {
            ctx.step("create", async || Ok(1u64)).await?;
            ctx.step("send", async || Ok(2u64)).await?;
            Ok("old".to_string())
        };
        finish(&memory, &world, old).await.0.expect("it runs");
        memory.truncate("r", 3);
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("make", async || Ok(1u64)).await?;
            Ok("new".to_string())
        })
        .await;
        let run = engine.get(W, "r").await.expect("found");
        let stuck = run.result().await.expect_err("diverged").to_string();
        for part in ["diverged", "`create`", "`make`", "verbs.rs:", "retry"] {
            assert!(stuck.contains(part), "{part} in {stuck}");
        }
        drop(engine);
        // Under the code that wrote it the run goes on.
        let engine = crate::common::engine(&memory, &world, old).await;
        engine.retry("r").await.expect("stuck runs may be retried");
        assert_eq!(run.result().await.expect("replays"), "old");
    });
}

/// The function returns, though the journal tells of more: what was recorded would be lost without a word.
#[test]
fn code_that_returns_before_a_recorded_step_is_reported() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let steps = |names: &'static [&'static str]| {
            move |ctx: Ctx, _| async move {
                for name in names {
                    ctx.step(name, async || Ok(1u64)).await?;
                }
                Ok("ok".to_string())
            }
        };
        finish(&memory, &world, steps(&["create", "send"])).await.0.expect("it runs");
        memory.truncate("r", 3);
        let (outcome, journal, _) = finish(&memory, &world, steps(&["create"])).await;
        let stuck = outcome.expect_err("diverged");
        for part in ["diverged", "`send`", "returned without asking for it"] {
            assert!(stuck.contains(part), "{part} in {stuck}");
        }
        assert_eq!(journal.len(), 3);
    });
}

/// Code that draws otherwise than it did, without any key telling, is found by the fingerprint.
#[test]
fn the_same_build_doing_other_things_is_a_divergence() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let draws = |n: u64| {
            move |ctx: Ctx, _| async move {
                (0..n).for_each(|_| assert_ne!(ctx.random(), ctx.random()));
                ctx.step("a", async || Ok(0u64)).await?;
                Ok("ok".to_string())
            }
        };
        finish(&memory, &world, draws(1)).await.0.expect("it runs");
        memory.truncate("r", 2);
        let (outcome, ..) = finish(&memory, &world, draws(2)).await;
        assert!(outcome.expect_err("diverged").contains("did other things"));
    });
}

/// It would have made a child if it had been awaited: that it was not leaves no entry.
#[test]
fn a_child_that_was_not_asked_for_before_is_a_divergence() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let asks = |asks: bool| {
            move |ctx: Ctx, _| async move {
                drop(asks.then(|| ctx.child(W, 1)));
                ctx.step("a", async || Ok(0u64)).await?;
                Ok("ok".to_string())
            }
        };
        finish(&memory, &world, asks(false)).await.0.expect("it runs");
        memory.truncate("r", 2);
        let (outcome, ..) = finish(&memory, &world, asks(true)).await;
        assert!(outcome.expect_err("diverged").contains("did other things"));
    });
}

/// No entry has failed: nothing of the journal is made again.
#[test]
fn what_failed_after_all_went_well_keeps_all_of_it_when_it_is_retried() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let fails = Counter::default();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let fails = fails.clone();
            async move {
                ctx.sleep(days(1)).await;
                if fails.fetch_add(1, Ordering::SeqCst) == 0 {
                    Err("not yet")?
                } else {
                    Ok("well".to_string())
                }
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        run.result().await.expect_err("not yet");
        let slept = journal(&memory).await[1].at;
        nap(1_000).await;
        engine.retry("r").await.expect("it may");
        assert_eq!(plain(run.result().await).as_deref(), Ok("well"));
        assert_eq!(journal(&memory).await[1].at, slept, "it has not slept again");
    });
}

#[test]
fn another_input_of_a_recorded_step_is_a_divergence() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let with = |amount: u64| {
            move |ctx: Ctx, _| async move {
                ctx.step("charge", async || Ok(amount))
                    .input(&serde_json::json!({ "amount": amount }))
                    .await?;
                ctx.step("next", async || Ok(0u64)).await?;
                Ok("ok".to_string())
            }
        };
        finish(&memory, &world, with(1)).await.0.expect("it runs");
        memory.truncate("r", 2);
        let (outcome, ..) = finish(&memory, &world, with(2)).await;
        let report = outcome.expect_err("diverged");
        assert!(report.contains(r#"{"amount":1}"#) && report.contains(r#"{"amount":2}"#), "{report}");
    });
}

#[test]
fn a_panic_in_the_function_makes_the_run_stuck_and_the_others_go_on() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            ctx.step("a", async || Ok(0u64)).await?;
            assert!(n != 13, "unlucky");
            Ok(n.to_string())
        })
        .await;
        let bad = engine.start(W, "bad", 13).await.expect("it starts");
        let good = engine.start(W, "good", 1).await.expect("it starts");
        assert!(bad.result().await.expect_err("stuck").to_string().contains("unlucky"));
        assert_eq!(good.result().await.expect("fine"), "1");
    });
}

#[test]
fn waiting_for_something_that_is_not_durable_makes_the_run_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let waits = async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(0u64)).await?;
            std::future::pending::<()>().await;
            Ok(String::new())
        };
        let (outcome, ..) = finish(&memory, &world, waits).await;
        let report = outcome.expect_err("stuck");
        assert!(report.contains("waits for nothing durable") && report.contains("verbs.rs:"), "{report}");
        // On the next load as on the first.
        let engine = engine(&memory, &world, waits).await;
        engine.retry("r").await.expect("it may");
        let run = engine.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).expect_err("stuck again"), report);
    });
}

#[test]
fn durable_calls_from_elsewhere_are_refused_with_advice() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let kept = Arc::new(std::sync::Mutex::new(None::<Ctx>));
        let keep = kept.clone();
        let (outcome, ..) = finish(&memory, &world, move |ctx: Ctx, _| {
            let keep = keep.clone();
            async move {
                *keep.lock().expect("unpoisoned") = Some(ctx.clone());
                let inner = ctx.clone();
                let nested = ctx
                    .step("outer", async move || inner.step("inner", async || Ok(1u64)).await)
                    .await
                    .expect_err("nested");
                let other = ctx.clone();
                let (send, receive) = tokio::sync::watch::channel(String::new());
                tokio::spawn(async move {
                    let refused = other.step("spawned", async || Ok(1u64)).await.expect_err("elsewhere");
                    let _ = send.send(refused.to_string());
                    send.closed().await;
                });
                let spawned = ctx
                    .step("join", async move || {
                        Ok(receive.clone().wait_for(|said| !said.is_empty()).await?.clone())
                    })
                    .await?;
                Ok(format!("{} / {spawned}", nested.code()))
            }
        })
        .await;
        let said = outcome.expect("both are errors, not panics");
        assert!(said.starts_with("EV0010 / ") && said.contains("own task"), "{said}");
        let ctx = kept.lock().expect("unpoisoned").take().expect("kept");
        let late = ctx.step("late", async || Ok(1u64)).await.expect_err("after the end");
        assert_eq!(late.code(), Code::AFTER_END);
    });
}

/// A step may be carried around, but only its own run's function can await it.
#[test]
fn a_step_is_awaited_only_by_its_own_run() {
    type Carried = Arc<std::sync::Mutex<Option<Step<'static, u64>>>>;
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let carried = Carried::default();
        let between = carried.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, n| {
            let between = between.clone();
            async move {
                if n == 0 {
                    *between.lock().expect("unpoisoned") = Some(ctx.step("carried", async || Ok(1u64)));
                    ctx.sleep(seconds(10)).await;
                    return Ok(String::new());
                }
                let foreign = between.lock().expect("unpoisoned").take().expect("the other run is there");
                let elsewhere = foreign.await.expect_err("another run's").code();
                // The same run's, in a body.
                let held = Arc::new(std::sync::Mutex::new(ctx.step("held", async || Ok(1u64))));
                let nested = ctx.step("outer", async move || {
                    std::future::poll_fn(|cx| pin!(&mut *held.lock().expect("unpoisoned")).poll(cx)).await
                });
                let nested = nested.await.expect_err("in a body").code();
                Ok(format!("{elsewhere} {nested}"))
            }
        })
        .await;
        engine.start(W, "makes", 0).await.expect("it starts");
        nap(10).await;
        let run = engine.start(W, "takes", 1).await.expect("it starts");
        let expected = format!("{} {}", Code::OTHER_TASK, Code::IN_BODY);
        assert_eq!(plain(run.result().await), Ok(expected));
    });
}

/// A worker that was not sure of its lease starts no body; once it is, the body begins though nothing wakes the run.
#[test]
fn a_body_that_was_held_back_begins_when_the_lease_is_renewed() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let short = Settings { lease: seconds(10), ..crate::common::settings() };
        let engine = crate::common::engine_with(&store, &world, short, async |ctx: Ctx, _| {
            ctx.sleep(seconds(20)).await;
            Ok(ctx.step("a", async || Ok(5u64)).await?.to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1_000).await;
        store.be_full(true);
        nap(20_000).await;
        assert_eq!(journal(&store.memory).await.len(), 2, "the timer has fired, and no body begins");
        store.be_full(false);
        nap(5_000).await;
        assert_eq!(run.status().await.expect("readable"), Status::Completed);
    });
}

#[test]
fn a_run_whose_worker_died_is_taken_over_by_lease_alone() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        // A worker that never beats: enrolled by hand, with a run it claimed.
        let info = everstep_core::store::WorkerInfo {
            name: "dead".into(),
            build: "test".into(),
            at: everstep_core::Timestamp(0),
        };
        let dead = memory.enroll(info).await.expect("enrolled");
        let client = Client::simulated(memory.clone(), &world);
        let run = client.start(W, "r", 7).await.expect("it starts");
        let claim = everstep_core::store::Claim {
            workflows: vec!["w".into()].into(),
            due: everstep_core::Timestamp(i64::MAX),
            limit: 9,
        };
        assert_eq!(memory.claim(dead, claim).await.expect("claimed").len(), 1);
        let engine = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        assert_eq!(run.result().await.expect("taken over"), "7");
        assert!(memory.beat(dead).await.is_err(), "the late worker is fenced");
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.takeovers), (Status::Completed, 0), "it has made entries since");
        drop(engine);
    });
}

#[test]
fn a_run_that_kills_its_workers_becomes_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let calls = Counter::default();
        let client = Client::simulated(memory.clone(), &world);
        let run = client.start(W, "r", 7).await.expect("it starts");
        for _ in 0..12 {
            let counted = calls.clone();
            let doomed = engine(&memory, &world, move |ctx: Ctx, _| {
                let counted = counted.clone();
                async move {
                    ctx.step("bomb", async || {
                        counted.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<Result<u64>>().await
                    })
                    .await?;
                    Ok(String::new())
                }
            })
            .await;
            nap(100).await;
            let row = memory.run("r".into()).await.expect("reads").expect("there");
            let Some(owner) = row.owner else { break };
            // Its process dies: it says nothing any more, and its lock is free.
            std::mem::forget(doomed);
            memory.vanish(owner);
            nap(1).await;
        }
        let report = plain(run.result().await).expect_err("stuck");
        assert!(report.contains("crashes its worker") && report.contains("`bomb`"), "{report}");
        assert!(calls.load(Ordering::SeqCst) <= 8, "{} bodies", calls.load(Ordering::SeqCst));
    });
}

#[test]
fn shutdown_waits_for_running_steps_and_gives_runs_back() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let started = Counter::default();
        let counted = started.clone();
        let workflow = move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                ctx.step("slow", async || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    nap(3000).await;
                    Ok(1u64)
                })
                .await?;
                ctx.step("next", async || Ok(2u64)).await?;
                Ok("done".to_string())
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        first.shutdown().await.expect("it leaves");
        let entries = told(&journal(&memory).await);
        assert_eq!(
            entries.last().map(String::as_str),
            Some("1 StepDone slow 1 1"),
            "what it returned is recorded"
        );
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.owner, row.takeovers), (Status::Pending, None, 0), "given back at once");
        let (outcome, ..) = finish(&memory, &world, workflow).await;
        assert_eq!(outcome.as_deref(), Ok("done"));
        assert_eq!(started.load(Ordering::SeqCst), 1);
    });
}

/// A grace longer than the lease: what still runs is not taken over meanwhile.
#[test]
fn the_lease_is_renewed_while_shutdown_waits() {
    virtual_time(async {
        let (memory, world, calls) = (Memory::default(), Simulation::new(1), Counter::default());
        let counted = calls.clone();
        let workflow = move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                ctx.step("slow", async || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    nap(20_000).await;
                    Ok(1u64)
                })
                .await?;
                Ok("done".to_string())
            }
        };
        let short = Settings { lease: seconds(2), grace: seconds(60), ..crate::common::settings() };
        let first = crate::common::engine_with(&memory, &world, short.clone(), workflow.clone()).await;
        let run = Client::simulated(memory.clone(), &world).start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        let second = crate::common::engine_with(&memory, &world, short, workflow).await;
        first.shutdown().await.expect("it leaves");
        assert_eq!(run.result().await.expect("done"), "done");
        assert_eq!(calls.load(Ordering::SeqCst), 1, "one body");
        drop(second);
    });
}

/// A shutdown that is given up is a drop: bodies stop, and the runs are given back.
#[test]
fn a_shutdown_dropped_in_the_middle_stops_at_once() {
    virtual_time(async {
        let (memory, world, calls) = (Memory::default(), Simulation::new(1), Counter::default());
        let counted = calls.clone();
        let first = engine(&memory, &world, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                ctx.step("slow", async || {
                    nap(5000).await;
                    Ok(counted.fetch_add(1, Ordering::SeqCst))
                })
                .await?;
                Ok("done".to_string())
            }
        })
        .await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        assert!(tokio::time::timeout(seconds(1), first.shutdown()).await.is_err(), "the body takes longer");
        nap(1).await;
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.owner), (Status::Pending, None), "given back at once");
        nap(20_000).await;
        assert_eq!(calls.load(Ordering::SeqCst), 0, "the body was dropped");
    });
}

/// Guarantee 4: nothing outside sees a consequence of an entry that is not durable. Outside are bodies, callers and
/// events; timers in sequence wait for no disk.
#[test]
fn what_waits_for_the_disk_is_the_next_thing_that_could_be_noticed() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bodies = Counter::default();
        let counted = bodies.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                ctx.step("first", async || Ok(counted.fetch_add(1, Ordering::SeqCst))).await?;
                ctx.sleep(seconds(1)).await;
                ctx.sleep(seconds(1)).await;
                ctx.step("second", async || Ok(counted.fetch_add(1, Ordering::SeqCst))).await?;
                Ok("done".to_string())
            }
        })
        .await;
        let mut events = engine.events();
        memory.hold_commits();
        let run = engine.start(W, "r", 7).await.expect("starts are not held");
        nap(10_000).await;
        assert_eq!(bodies.load(Ordering::SeqCst), 1, "the second body waits for the first record");
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|e| format!("{e:?}")).collect();
        assert!(!seen.iter().any(|e| e.contains("StepDone")), "{seen:?}");
        assert_eq!(run.status().await.ok(), Some(Status::Running));
        assert_eq!(memory.release_commits(), 3, "the step and two timers, none waiting for another");
        assert_eq!(run.result().await.expect("done"), "done");
        assert_eq!(bodies.load(Ordering::SeqCst), 2);
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|e| format!("{e:?}")).collect();
        assert_eq!(seen.iter().filter(|e| e.contains("StepDone")).count(), 2);
    });
}

/// Entries are refused after the first that failed: a gap can never be written. The run is read anew and goes on.
/// faults.md rows 13 and 21: the keys are those of an undisturbed run, and no claim is orphaned.
#[test]
fn after_a_refused_turn_the_run_is_read_anew() {
    virtual_time(async {
        let (memory, world, bodies) = (Memory::default(), Simulation::new(1), Counter::default());
        let engine = engine(&memory, &world, counting(&bodies)).await;
        memory.fail_commits(Some(StoreError::Failed("broken".into())));
        let run = engine.start(W, "r", 7).await.expect("starts are not refused");
        nap(100).await;
        assert_eq!(journal(&memory).await.len(), 1);
        memory.fail_commits(None);
        assert_eq!(plain(run.result().await).as_deref(), Ok("done"));
        assert_eq!((journal(&memory).await.len(), bodies.load(Ordering::SeqCst)), (4, 2));
    });
}

#[test]
fn a_run_whose_turns_are_refused_again_and_again_becomes_stuck() {
    virtual_time(async {
        let (memory, world, bodies) = (Memory::default(), Simulation::new(1), Counter::default());
        let engine = engine(&memory, &world, counting(&bodies)).await;
        memory.fail_commits(Some(StoreError::Failed("no such column".into())));
        let run = engine.start(W, "r", 7).await.expect("starts are not refused");
        while bodies.load(Ordering::SeqCst) < 3 {
            nap(1).await;
        }
        nap(1).await;
        memory.fail_commits(None);
        let report = plain(run.result().await).expect_err("stuck");
        assert!(report.contains("journal damaged") && report.contains("no such column"), "{report}");
        engine.cancel("r", "").await.expect("asked");
        nap(10).await;
        assert_eq!(run.status().await.expect("reads"), Status::Cancelled);
    });
}

/// Found by the simulation: refusals far apart in one run, with entries between them, counted as in a row.
#[test]
fn refusals_with_entries_between_them_are_not_in_a_row() {
    virtual_time(async {
        let (memory, world, bodies) = (Memory::default(), Simulation::new(1), Counter::default());
        let inside = bodies.clone();
        let workflow = move |ctx: Ctx, _| {
            let bodies = inside.clone();
            async move {
                for _ in 0..6 {
                    ctx.step("slow", async || {
                        nap(1000).await;
                        Ok(bodies.fetch_add(1, Ordering::SeqCst))
                    })
                    .await?;
                }
                Ok("done".to_string())
            }
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        for _ in 0..4 {
            let (before, length) = (bodies.load(Ordering::SeqCst), journal(&memory).await.len());
            memory.fail_commits(Some(StoreError::Failed("broken".into())));
            // Its body returns, and what it returned is refused.
            nap(1001).await;
            assert_eq!(bodies.load(Ordering::SeqCst), before + 1);
            memory.fail_commits(None);
            nap(2000).await;
            assert!(journal(&memory).await.len() > length, "{:?}", run.stuck().await);
        }
        assert_eq!(plain(run.result().await).as_deref(), Ok("done"));
    });
}

fn counting(
    bodies: &Counter,
) -> impl Fn(Ctx, u64) -> std::pin::Pin<Box<dyn Future<Output = Result<String>> + Send>> + Send + Sync + 'static
{
    let bodies = bodies.clone();
    move |ctx: Ctx, _| {
        let bodies = bodies.clone();
        Box::pin(async move {
            ctx.step("a", async || Ok(bodies.fetch_add(1, Ordering::SeqCst))).await?;
            ctx.sleep(seconds(1)).await;
            Ok("done".to_string())
        })
    }
}

/// faults.md row 17: a message for a run that is still on its way into memory.
#[test]
fn a_run_cancelled_before_its_driver_first_looks_is_cancelled() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.sleep(days(1)).await;
            Ok(String::new())
        })
        .await;
        for n in 0..20 {
            let id = n.to_string();
            // The start and the cancel are durable before any other task of this thread runs.
            let run = engine.start(W, &id, 7).await.expect("it starts");
            engine.cancel(&id, "").await.expect("asked");
            assert!(plain(run.result().await).expect_err("cancelled").contains("EV0007"));
        }
    });
}

#[test]
fn a_result_that_was_heard_long_ago_may_have_been_taken_back() {
    virtual_time(async {
        let (memory, world, broken) = (Memory::default(), Simulation::new(1), Counter::default());
        let fixed = broken.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let fixed = fixed.clone();
            async move {
                let fixed = ctx.step("a", async || Ok(fixed.load(Ordering::SeqCst))).await?;
                ctx.step("b", async || if fixed > 0 { Ok(1u64) } else { Err("broken")? }).await?;
                Ok("done".to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        while run.status().await.expect("reads") != Status::Failed {
            nap(1).await;
        }
        // Goes on before `b`; a person mends the record of `a` meanwhile.
        memory.rewrite("r", |entries| entries[1].body.bytes = b"1".to_vec());
        engine.retry("r").await.expect("it failed");
        assert_eq!(plain(run.result().await).as_deref(), Ok("done"), "not the failure heard before");
    });
}

#[test]
fn an_outcome_that_cannot_be_read_is_an_error_and_no_wait() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |_, _| Err("no".into())).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        plain(run.result().await).expect_err("it fails");
        memory.rewrite("r", |entries| entries.last_mut().expect("an outcome").body.bytes = b"{".to_vec());
        let error = run.result().await.expect_err("unreadable");
        assert_eq!(error.code(), Code::DAMAGED);
    });
}

/// To start a run needs no worker: neither a fence nor a shutdown is in the way of it.
#[test]
fn whoever_lost_or_left_its_worker_can_still_start_runs() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let fenced = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        let owner = memory.workers().await.expect("reads")[0].clone();
        let left = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        let client = Client::clone(&left);
        left.shutdown().await.expect("it leaves");
        let taker = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        let by = *memory.workers().await.expect("reads").iter().map(|w| &w.worker).max().expect("the taker");
        let fence = everstep_core::store::Fence { worker: by };
        let beat = memory.workers().await.expect("reads")[0].beat;
        assert!(memory.fence(fence, owner.worker, beat).await.expect("fences"));
        assert_eq!(fenced.over().await.code(), Code::FENCED);
        for (starter, id) in [(&*fenced, "a"), (&client, "b"), (&*fenced, "c")] {
            let run = starter.start(W, id, 7).await.expect("it starts");
            assert_eq!(plain(run.result().await).as_deref(), Ok("7"));
        }
        fenced.shutdown().await.expect("it has nothing to give back");
        drop(taker);
    });
}

#[test]
fn an_input_that_does_not_come_back_is_refused_at_the_start() {
    virtual_time(async {
        const NUMBERS: Workflow<Vec<f64>, String> = Workflow::new("numbers");
        let client = Client::simulated(Memory::default(), &Simulation::new(1));
        let error = client.start(NUMBERS, "r", vec![f64::NAN]).await.expect_err("NaN has no JSON");
        assert_eq!(error.code(), Code::NOT_RECORDABLE);
        const BIG: Workflow<u128, String> = Workflow::new("big");
        client.start(BIG, "b", 10u128.pow(20)).await.expect("it starts");
        let other = client.start(BIG, "b", 10u128.pow(20) + 1).await.expect_err("another input");
        assert_eq!(other.code(), Code::CONFLICT);
    });
}

#[test]
fn an_unknown_workflow_is_left_alone() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let client = Client::simulated(memory.clone(), &world);
        let other: Workflow<u64, String> = Workflow::new("other");
        let run = client.start(other, "x", 1).await.expect("it starts");
        let engine = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        engine.run(W, "r", 7).await.expect("known");
        assert_eq!(run.status().await.ok(), Some(Status::Pending));
    });
}

#[test]
fn limits_are_one_clear_error_before_anything_is_written() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let settings = Settings { payload_bytes_max: 100, entries_max: 5, ..Settings::default() };
        let texts: Workflow<String, u64> = Workflow::new("texts");
        let engine = Engine::builder(memory.clone())
            .register(texts, async |ctx: Ctx, _| {
                let big = ctx.step("big", async || Ok("x".repeat(200))).await.expect_err("too large");
                assert_eq!(big.to_string(), "a step's result has at most 100 bytes; this one has 202. Keep large data elsewhere and return where it is");
                for n in 0.. {
                    if let Err(full) = ctx.step("s", async || Ok(n)).await {
                        assert_eq!(full.code(), Code::TOO_MANY_ENTRIES, "{full:?}");
                        return Ok(n);
                    }
                }
                unreachable!("the journal has a limit")
            })
            .settings(settings)
            .simulated(&world)
            .start()
            .await
            .expect("it starts");
        let long = engine.start(texts, "a", "y".repeat(99)).await.expect_err("too large");
        assert_eq!(long.code(), Code::TOO_LARGE);
        assert!(
            long.to_string().contains("at most 100 are allowed") && long.to_string().contains("has 101"),
            "{long}"
        );
        assert!(memory.run("a".into()).await.expect("reads").is_none());
        let id = engine.start(texts, "i".repeat(257), String::new()).await.expect_err("too long");
        assert!(id.to_string().contains("256") && id.to_string().contains("257"), "{id}");
        assert_eq!(engine.run(texts, "b", String::new()).await.expect("both limits were told"), 3);
    });
}

#[test]
fn kinds_of_the_future_are_left_to_newer_binaries() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(1u64)).await?;
            Ok("ok".to_string())
        };
        finish(&memory, &world, workflow).await.0.expect("it runs");
        for (entry, kind) in [(1, Kind::StepDone), (0, Kind::Started)] {
            memory.truncate("r", 2);
            memory.rewrite("r", |entries| entries[entry].kind = 999);
            let engine = engine(&memory, &world, workflow).await;
            let run = engine.get(W, "r").await.expect("found");
            nap(100).await;
            assert_eq!(run.status().await.ok(), Some(Status::Pending), "not stuck");
            memory.rewrite("r", |entries| entries[entry].kind = kind.code());
            assert_eq!(run.result().await.expect("looked at again"), "ok");
            engine.shutdown().await.expect("leaves");
        }
    });
}

/// faults.md row 6: a damaged record is never passed over.
#[test]
fn damaged_records_make_the_run_stuck() {
    virtual_time(async {
        let workflow = async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(1u64)).await?;
            ctx.step("b", async || Ok(2u64)).await?;
            Ok("ok".to_string())
        };
        type Damage = fn(&mut Vec<everstep_core::journal::Entry>);
        let damages: [(Damage, &str); 6] = [
            (|entries| entries[1].body.bytes = b"{".to_vec(), "undecodable"),
            (|entries| drop(entries.remove(1)), "journal damaged"),
            (|entries| entries[0].body.bytes.truncate(9), "undecodable"),
            (|entries| entries.clear(), "journal damaged"),
            // It was read as JSON, whatever it was.
            (|entries| entries[1].body.codec = 9, "undecodable"),
            // It was taken for a start, whatever it was.
            (|entries| entries[0].kind = Kind::StepDone.code(), "journal damaged"),
        ];
        for (damage, reason) in damages {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            finish(&memory, &world, workflow).await.0.expect("it runs");
            memory.truncate("r", 3);
            memory.rewrite("r", damage);
            let engine = engine(&memory, &world, workflow).await;
            let run = engine.get(W, "r").await.expect("found");
            let report = plain(run.result().await).expect_err("stuck");
            assert!(report.contains(reason), "{reason}: {report}");
        }
    });
}

/// A handle that a start gave hears of what others did before anybody waited for its result.
#[test]
fn a_run_that_others_finished_before_it_was_waited_for_has_its_result() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let slow = async |ctx: Ctx, _: u64| {
            ctx.sleep(seconds(60)).await;
            ctx.step("only", async || Ok("done".to_string())).await
        };
        let first = engine(&memory, &world, slow).await;
        let run = first.start(W, "r", 7).await.expect("starts");
        drop(first);
        let other = memory.reopen();
        let second = engine(&other, &world, slow).await;
        assert_eq!(
            soon(second.get(W, "r").await.expect("is there").result()).await.ok().as_deref(),
            Some("done")
        );
        second.shutdown().await.expect("leaves");
        // Nobody rings any more.
        assert_eq!(soon(run.result()).await.ok().as_deref(), Some("done"));
    });
}
