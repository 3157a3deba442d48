//! Attempts that were started and did not return: when they are in doubt, who decides, what started rows tell.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use crate::common::{
    W, engine, engine_with, finish, journal, nap, plain, settings, soon, started, stays, told, virtual_time,
    wrapped::{Wrapped, transaction},
};
use everstep_core::{
    Code, Ctx, Doubt, Engine, Event, Result, Retry, Settings, Simulation, Step, StepCtx, StuckReason,
    Verdict, hours,
    journal::{Answer, Kind},
    seconds, select,
    store::Memory,
};

type Counter = Arc<AtomicU64>;

/// A step that is over, from one line for all versions of the code: what is in doubt afterwards has a time to count
/// from.
async fn before(ctx: &Ctx) -> Result<u64> {
    ctx.step("before", async || Ok(0u64)).await
}

/// A workflow whose second step, `pay`,  stands in its body for ever while `works` is 0, and then returns it.
fn pay(
    bodies: &Counter,
    works: &Counter,
    options: fn(Step<'_, u64>) -> Step<'_, u64>,
) -> impl Fn(Ctx, u64) -> Pin<Box<dyn Future<Output = Result<String>> + Send>> + Clone + Send + Sync + 'static
{
    let (bodies, works) = (bodies.clone(), works.clone());
    move |ctx: Ctx, _| {
        let (bodies, works) = (bodies.clone(), works.clone());
        Box::pin(async move {
            before(&ctx).await?;
            let step = ctx.step("pay", async || {
                bodies.fetch_add(1, Ordering::SeqCst);
                match works.load(Ordering::SeqCst) {
                    0 => std::future::pending().await,
                    n => Ok(n),
                }
            });
            Ok(options(step).await?.to_string())
        })
    }
}

/// The worker dies inside a body.
async fn die(engine: Engine) {
    nap(100).await;
    drop(engine);
    nap(100).await;
}

async fn stuck_reason(engine: &Engine) -> Option<StuckReason> {
    let run = engine.get(W, "r").await.expect("found");
    let _ = soon(run.result()).await;
    run.stuck().await.expect("readable").map(|stuck| stuck.reason)
}

/// A person said "make it again", and the worker died in that attempt too: replaying the old answer must not hide
/// that the new attempt is in doubt.
#[test]
fn an_attempt_after_a_persons_retry_is_in_doubt_like_any_other() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let workflow = pay(&bodies, &works, |step| step.on_doubt(Doubt::Ask));
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        for bodies_before in 1..4 {
            let next = engine(&memory, &world, workflow.clone()).await;
            assert_eq!(stuck_reason(&next).await, Some(StuckReason::InDoubt));
            assert_eq!(bodies.load(Ordering::SeqCst), bodies_before, "nothing runs before the answer");
            next.answer("r", Answer::Retry).await.expect("taken");
            die(next).await;
        }
        assert_eq!(started(&memory).await.len(), 1);
        works.store(5, Ordering::SeqCst);
        let last = engine(&memory, &world, workflow).await;
        assert_eq!(stuck_reason(&last).await, Some(StuckReason::InDoubt));
        last.answer("r", Answer::Retry).await.expect("taken");
        assert_eq!(plain(last.get(W, "r").await.expect("found").result().await).as_deref(), Ok("5"));
        assert_eq!(started(&memory).await, [], "the outcome took the row with it");
    });
}

/// The answer is recorded with the input that the step was given, and replays.
#[test]
fn a_step_with_an_input_that_a_person_answered_replays() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let workflow = pay(&bodies, &works, |step| step.on_doubt(Doubt::Ask).input(&12));
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let next = engine(&memory, &world, workflow.clone()).await;
        assert_eq!(stuck_reason(&next).await, Some(StuckReason::InDoubt));
        next.answer("r", Answer::Done { value: "42".into() }).await.expect("taken");
        assert_eq!(plain(next.get(W, "r").await.expect("found").result().await).as_deref(), Ok("42"));
        let input = journal(&memory).await[2].input.clone().map(|input| input.bytes);
        assert_eq!(input.as_deref(), Some(&b"12"[..]));
        drop(next);
        memory.truncate("r", 3);
        assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("42"), "replayed");
    });
}

/// The attempts before a person's retry count no more; the answer itself is an entry about no attempt.
#[test]
fn after_a_persons_retry_the_attempts_count_anew() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let noted = attempts.clone();
        let workflow = move |ctx: Ctx, _| {
            let noted = noted.clone();
            async move {
                let step = ctx.step("flaky", async |s: StepCtx| -> Result<u64> {
                    noted.lock().expect("unpoisoned").push(s.attempt());
                    Err("no")?
                });
                let flaky = step.input(&12).retry(Retry::fixed(3, seconds(1))).then_stuck();
                Ok(flaky.await?.to_string())
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        assert_eq!(stuck_reason(&first).await, Some(StuckReason::RetriesSpent));
        drop(first);
        // Another load finds the answer and the failed attempts together.
        let next = engine(&memory, &world, workflow.clone()).await;
        next.retry("r").await.expect("it may");
        nap(1).await;
        let answered = journal(&memory).await.into_iter().find(|e| e.known_kind() == Some(Kind::Answered));
        let answered = answered.expect("the answer is an entry");
        assert_eq!(answered.body, everstep_core::journal::encode(&Answer::Retry));
        assert_eq!((answered.attempt, answered.input), (0, None));
        assert_eq!(stuck_reason(&next).await, Some(StuckReason::RetriesSpent));
        drop(next);
        assert_eq!(*attempts.lock().expect("unpoisoned"), [1, 2, 3, 1, 2, 3]);
    });
}

/// Newer code makes the step and polls it later: the recorded answer finds it when it has not said yet what it wants,
/// and its next attempt has a row all the same.
#[test]
fn an_attempt_has_its_row_though_the_answer_came_before_the_first_poll() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let first = engine(&memory, &world, pay(&bodies, &works, |step| step.on_doubt(Doubt::Ask))).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let counted = bodies.clone();
        let newer = move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                before(&ctx).await?;
                let step = ctx.step("pay", async || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<Result<u64>>().await
                });
                ctx.sleep(seconds(1)).await;
                Ok(step.on_doubt(Doubt::Ask).await?.to_string())
            }
        };
        let old = engine(&memory, &world, pay(&bodies, &works, |step| step.on_doubt(Doubt::Ask))).await;
        assert_eq!(stuck_reason(&old).await, Some(StuckReason::InDoubt));
        old.answer("r", Answer::Retry).await.expect("taken");
        die(old).await;
        for bodies_before in 2..4 {
            let build = Settings { build: Some("newer".into()), ..settings() };
            let next = engine_with(&memory, &world, build, newer.clone()).await;
            assert_eq!(stuck_reason(&next).await, Some(StuckReason::InDoubt));
            assert_eq!(bodies.load(Ordering::SeqCst), bodies_before, "nothing runs before the answer");
            next.answer("r", Answer::Retry).await.expect("taken");
            // Sooner than a body that runs for long gets a row anyway.
            die(next).await;
        }
        assert_eq!(started(&memory).await.len(), 1);
    });
}

/// The worker stops between the verdict and the new attempt: what did not happen is not in doubt again.
#[test]
fn an_attempt_that_did_not_happen_leaves_no_row() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works, looks) = (Counter::default(), Counter::default(), Counter::default());
        let counted = looks.clone();
        let workflow = move |ctx: Ctx, _| {
            let (bodies, works, looks) = (bodies.clone(), works.clone(), counted.clone());
            async move {
                let step = ctx.step("pay", async || match bodies.fetch_add(1, Ordering::SeqCst) {
                    0 => std::future::pending().await,
                    _ => Ok(works.fetch_add(1, Ordering::SeqCst)),
                });
                let verify = async move |_| {
                    looks.fetch_add(1, Ordering::SeqCst);
                    nap(1000).await;
                    Ok(Verdict::NotDone)
                };
                Ok(step.verify(verify).await?.to_string())
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let next = engine(&memory, &world, workflow.clone()).await;
        nap(500).await;
        next.shutdown().await.expect("it waits for the verdict and leaves");
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        assert_eq!(started(&memory).await, []);
        assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("0"));
        assert_eq!(looks.load(Ordering::SeqCst), 1, "there is nothing to look into");
    });
}

/// A record that power loss may take cannot keep these promises; transactions commit with theirs.
#[test]
fn promises_about_doubt_are_refused_below_power_safe_durability() {
    virtual_time(async {
        for weak in [false, true] {
            let (store, world) = (Wrapped::default(), Simulation::new(1));
            if weak {
                store.be_weak();
            }
            let engine = engine_with(&store, &world, settings(), async |ctx: Ctx, _| {
                let plain = ctx.step("plain", async || Ok(1u64)).await;
                let asks = ctx.step("asks", async || Ok(1u64)).on_doubt(Doubt::Ask).await;
                let verify = async |_| Ok(Verdict::NotDone);
                let looks = ctx.step("looks", async || Ok(1u64)).verify(verify).await;
                let commits = transaction(&ctx, "commits", || Ok(1)).on_doubt(Doubt::Fail).await;
                let said =
                    |result: Result<u64>| result.map_or_else(|e| e.code().to_string(), |_| "ok".into());
                Ok([plain, asks, looks, commits].map(said).join(" "))
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let refused = Code::TOO_WEAK;
            let expected =
                if weak { format!("ok {refused} {refused} ok") } else { "ok ok ok ok".to_string() };
            assert_eq!(plain(soon(run.result()).await), Ok(expected));
        }
    });
}

/// Found by the simulation: the cancel was recorded as if the function had done nothing before it, and the journal of such
/// a run replayed as diverged.
#[test]
fn the_journal_of_a_run_that_was_cancelled_while_stuck_replays() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let workflow = pay(&bodies, &works, |step| step.on_doubt(Doubt::Ask));
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let next = engine(&memory, &world, workflow.clone()).await;
        assert_eq!(stuck_reason(&next).await, Some(StuckReason::InDoubt));
        next.cancel("r", "enough").await.expect("taken");
        nap(100).await;
        let cancelled = plain(soon(next.get(W, "r").await.expect("found").result()).await);
        assert!(cancelled.as_ref().is_err_and(|why| why.contains("was cancelled")), "{cancelled:?}");
        let whole = told(&journal(&memory).await);
        drop(next);
        memory.truncate("r", whole.len() - 1);
        assert_eq!(finish(&memory, &world, workflow).await.0, cancelled);
        assert_eq!(told(&journal(&memory).await), whole);
    });
}

/// Under another build only keys and kinds count.
#[test]
fn another_build_may_give_another_input() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let with = |amount: u64| {
            move |ctx: Ctx, _: u64| async move {
                ctx.step("charge", async || Ok(amount)).input(&amount).await?;
                Ok("ok".to_string())
            }
        };
        finish(&memory, &world, with(1)).await.0.expect("it runs");
        memory.truncate("r", 2);
        let newer = Settings { build: Some("newer".into()), ..settings() };
        let engine = crate::common::engine_with(&memory, &world, newer, with(2)).await;
        let run = engine.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("ok"));
    });
}

/// The hour is over when the next worker comes, and yet the attempt may have happened: that is asked first.
#[test]
fn a_step_whose_time_ran_out_while_it_was_in_doubt_is_still_in_doubt() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let workflow = pay(&bodies, &works, |step| step.timeout(hours(1)).on_doubt(Doubt::Ask));
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        nap(7_200_000).await;
        let next = engine(&memory, &world, workflow).await;
        assert_eq!(stuck_reason(&next).await, Some(StuckReason::InDoubt));
    });
}

#[test]
fn verify_looks_before_a_total_timeout_counts() {
    virtual_time(async {
        for (verdict, expected) in [(Verdict::Done(7), "7"), (Verdict::NotDone, "EV0002")] {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let (bodies, works) = (Counter::default(), Counter::default());
            let first = engine(
                &memory,
                &world,
                pay(&bodies, &works, |step| step.timeout(hours(1)).verify(async |_| Ok(Verdict::NotDone))),
            )
            .await;
            first.start(W, "r", 7).await.expect("it starts");
            die(first).await;
            nap(7_200_000).await;
            let (outcome, ..) = finish(&memory, &world, move |ctx: Ctx, _| async move {
                before(&ctx).await?;
                let step = ctx.step("pay", async || Ok(100u64)).timeout(hours(1));
                Ok(step.verify(async move |_| Ok(verdict)).await?.to_string())
            })
            .await;
            let said = outcome.unwrap_or_else(|e| e);
            assert!(said.contains(expected), "{said}");
        }
    });
}

/// A loser that was dropped inside its body left a row; when a person's retry opens the step again, its first attempt
/// may have happened.
#[test]
fn an_abandoned_attempt_is_in_doubt_when_its_step_is_open_again() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bodies = Counter::default();
        let counted = bodies.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let loser = ctx
                    .step("loser", async || {
                        counted.fetch_add(1, Ordering::SeqCst);
                        std::future::pending::<Result<u64>>().await
                    })
                    .on_doubt(Doubt::Ask);
                select! {
                    failed = ctx.step("boom", async || -> Result<u64> { nap(50).await; Err("boom")? }) => { failed?; }
                    done = loser => { done?; }
                }
                Ok(String::new())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert!(plain(soon(run.result()).await).expect_err("it fails").contains("boom"));
        let rows = started(&memory).await;
        assert!(rows.len() == 1 && rows[0].abandoned, "{rows:?}");
        engine.retry("r").await.expect("it may");
        assert_eq!(stuck_reason(&engine).await, Some(StuckReason::InDoubt));
        assert_eq!(bodies.load(Ordering::SeqCst), 1);
    });
}

/// The row is on its way to the disk when the step's whole time runs out: its failure is recorded, and no body runs.
#[test]
fn a_step_that_ran_out_of_time_before_it_began_does_not_begin() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bodies = Counter::default();
        let counted = bodies.clone();
        let engine = engine_with(&memory, &world, stays(), move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let step = ctx.step("late", async || Ok(counted.fetch_add(1, Ordering::SeqCst)));
                let mut late = pin!(step.on_doubt(Doubt::Ask).timeout(seconds(1)));
                let mut polls = 0;
                let mut pause = pin!(ctx.sleep(seconds(2)));
                poll_fn(|cx| {
                    polls += 1;
                    if polls <= 2 {
                        assert!(late.as_mut().poll(cx).is_pending());
                    }
                    pause.as_mut().poll(cx)
                })
                .await;
                ctx.sleep(seconds(10)).await;
                let code = late.await.expect_err("out of time").code();
                Ok(code.to_string())
            }
        })
        .await;
        memory.hold_commits();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(3000).await;
        memory.release_commits();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("EV0002"));
        assert_eq!(bodies.load(Ordering::SeqCst), 0);
        assert_eq!(started(&memory).await, []);
    });
}

/// A row tells of a body; the body never ran, so the row goes with the load.
#[test]
fn a_row_of_a_body_that_never_ran_does_not_stay() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bodies = Counter::default();
        let counted = bodies.clone();
        let workflow = move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let step = ctx.step("pay", async || Ok(counted.fetch_add(1, Ordering::SeqCst)));
                Ok(step.on_doubt(Doubt::Ask).await?.to_string())
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        memory.hold_commits();
        first.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        let leaving = tokio::spawn(first.shutdown());
        nap(100).await;
        memory.release_commits();
        leaving.await.expect("no panic").expect("it leaves");
        assert_eq!(bodies.load(Ordering::SeqCst), 0);
        assert_eq!(started(&memory).await, []);
        assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("0"), "nobody is asked");
    });
}

#[test]
fn a_step_dropped_before_its_body_began_leaves_no_row() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let step = ctx.step("never", async || Ok(1u64)).on_doubt(Doubt::Ask);
            let done = ctx.timeout(seconds(1), step).await?;
            ctx.step("last", async || Ok(2u64)).await?;
            Ok(format!("{done:?}"))
        })
        .await;
        memory.hold_commits();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(2000).await;
        memory.release_commits();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("None"));
        assert_eq!(started(&memory).await, []);
    });
}

/// The attempt failed and another would follow, but its step is dropped: it is known how it ended.
#[test]
fn a_failed_attempt_of_a_dropped_step_leaves_no_row() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (outcome, ..) = finish(&memory, &world, async |ctx: Ctx, _| {
            let failing = ctx
                .step("failing", async || -> Result<u64> { Err("not yet")? })
                .on_doubt(Doubt::Ask)
                .retry(Retry::fixed(5, seconds(10)));
            // Both bodies end in the same poll; the winner's entry comes first.
            select! {
                _ = ctx.step("winner", async || Ok(0u64)).on_doubt(Doubt::Ask) => {}
                _ = failing => {}
            }
            Ok("done".to_string())
        })
        .await;
        assert_eq!(outcome.as_deref(), Ok("done"));
        assert_eq!(started(&memory).await, []);
    });
}

/// A held step was allowed to begin; then an entry came that is not durable yet.
#[test]
fn a_held_body_waits_for_the_entries_before_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bodies = Counter::default();
        let counted = bodies.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let mut held = pin!(ctx.step("held", async || Ok(counted.fetch_add(1, Ordering::SeqCst))));
                poll_fn(|cx| {
                    assert!(held.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                ctx.step("first", async || Ok(0u64)).await?;
                held.await?;
                Ok("done".to_string())
            }
        })
        .await;
        memory.hold_commits();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(500).await;
        assert_eq!(bodies.load(Ordering::SeqCst), 0, "`first` is not durable yet");
        memory.release_commits();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
        assert_eq!(bodies.load(Ordering::SeqCst), 1);
    });
}

/// `verify` said that nothing happened while another step's outcome went into the journal: the new attempt waits for it.
#[test]
fn an_attempt_that_verify_allows_waits_for_the_entries_before_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let first =
            engine(&memory, &world, pay(&bodies, &works, |step| step.verify(async |_| Ok(Verdict::NotDone))))
                .await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let counted = bodies.clone();
        let next = engine(&memory, &world, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                before(&ctx).await?;
                let pay =
                    ctx.step("pay", async || Ok(counted.fetch_add(1, Ordering::SeqCst))).verify(async |_| {
                        nap(100).await;
                        Ok(Verdict::NotDone)
                    });
                let (paid, _) = everstep_core::try_join!(
                    pay,
                    ctx.step("other", async || {
                        nap(50).await;
                        Ok(0u64)
                    })
                )?;
                Ok(paid.to_string())
            }
        })
        .await;
        nap(20).await;
        memory.hold_commits();
        nap(500).await;
        assert_eq!(bodies.load(Ordering::SeqCst), 1, "`other` is not durable yet");
        memory.release_commits();
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("1"));
    });
}

/// A `verify` that panics when it is called could not tell: a person is asked, and the function lives on.
#[test]
fn a_verify_that_panics_at_its_call_asks_a_person() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let first =
            engine(&memory, &world, pay(&bodies, &works, |step| step.verify(async |_| Ok(Verdict::NotDone))))
                .await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let next = engine(&memory, &world, async |ctx: Ctx, _| {
            before(&ctx).await?;
            let look = |_| {
                assert!(std::hint::black_box(false), "cannot look");
                async { Ok(Verdict::NotDone) }
            };
            Ok(ctx.step("pay", async || Ok(1u64)).verify(look).await?.to_string())
        })
        .await;
        assert_eq!(stuck_reason(&next).await, Some(StuckReason::InDoubt));
    });
}

/// What events say of attempts in doubt, and that a body is told of when it begins.
#[test]
fn an_attempt_in_doubt_is_told_of_before_the_body_that_follows() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (bodies, works) = (Counter::default(), Counter::default());
        let workflow = pay(&bodies, &works, |step| step.on_doubt(Doubt::Fail));
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        die(first).await;
        let (_, journal, events) = finish(&memory, &world, workflow).await;
        assert!(events.iter().any(|e| matches!(e, Event::InDoubt { attempt: 1, .. })), "{events:?}");
        assert!(!events.iter().any(|e| matches!(e, Event::StepStarted { .. })), "no body ran: {events:?}");
        assert!(journal.iter().any(|e| e.known_kind() == Some(Kind::StepFailed)), "{:?}", told(&journal));
    });
}
