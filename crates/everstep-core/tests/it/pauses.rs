//! Runs that people set aside and let go on, and waits that they end.
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use everstep_core::{
    Client, Ctx, Engine, ErrorKind, Event, Result, Retry, Simulation, Status, days,
    journal::{Answer, Kind},
    seconds,
    store::Memory,
};

use crate::common::{
    W, after, engine, engine_with, journal, nap, settings, settle, soon, virtual_time, wrapped::Wrapped,
};

fn kinds(entries: &[everstep_core::journal::Entry]) -> Vec<Kind> {
    entries.iter().filter_map(|entry| entry.known_kind()).collect()
}

async fn status(engine: &Engine) -> Status {
    engine.get(W, "r").await.expect("found").status().await.expect("reads")
}

/// A step of a second, then a day, then another step.
async fn day(ctx: Ctx, _: u64) -> Result<String> {
    let one = ctx.step("one", async || after(1000, 1).await).await?;
    ctx.sleep(days(1)).await;
    let two = ctx.step("two", async || after(1000, 2).await).await?;
    Ok(format!("{}", one + two))
}

#[test]
fn a_run_that_failed_before_it_could_be_paused_goes_on_when_it_is_retried() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let is_up = Arc::new(AtomicBool::new(false));
        let seen = is_up.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let seen = seen.clone();
            async move {
                let one = ctx.step("one", async || match seen.load(Relaxed) {
                    true => after(1000, 1).await,
                    false => after(1000, 0).await.and(Err("down".into())),
                });
                Ok(one.await?.to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "to look").await.expect("asked");
        run.result().await.expect_err("failed");
        is_up.store(true, Relaxed);
        engine.retry("r").await.expect("lets it go on");
        nap(2000).await;
        assert_eq!(status(&engine).await, Status::Completed);
    });
}

#[test]
fn a_body_that_runs_ends_before_its_run_is_paused() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            let (a, b) = everstep_core::join!(
                ctx.step("long", async || after(5000, 1).await),
                ctx.step("short", async || after(10, 2).await),
            );
            let c = ctx.step("then", async || Ok(3)).await?;
            Ok((a? + b? + c).to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "to look").await.expect("asked");
        nap(100).await;
        assert_eq!(status(&engine).await, Status::Running, "a body is still running");
        nap(6000).await;
        assert_eq!(status(&engine).await, Status::Paused);
        assert_eq!(kinds(&journal(&memory).await), [Kind::Started, Kind::StepDone, Kind::StepDone]);
        engine.pause("r", "again").await.expect("no error");
        engine.resume("r").await.expect("goes on");
        assert_eq!(run.result().await.expect("ends"), "6");
        let entries = kinds(&journal(&memory).await);
        assert_eq!(entries[3..], [Kind::Resumed, Kind::StepDone, Kind::Completed]);
        let acts = engine.acts("r").await.expect("reads");
        let told: Vec<_> = acts.iter().map(|act| (&*act.verb, &*act.why)).collect();
        assert_eq!(told, [("pause", "to look"), ("resume", "")], "what did nothing is not recorded");
    });
}

#[test]
fn what_became_due_in_a_pause_fires_at_its_end_and_time_goes_on_from_there() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, day).await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Waiting);
        engine.pause("r", "").await.expect("pauses");
        assert_eq!(status(&engine).await, Status::Paused);
        nap(3 * 24 * 3600 * 1000).await;
        assert_eq!(status(&engine).await, Status::Paused, "nobody takes it");
        engine.resume("r").await.expect("resumes");
        nap(3000).await;
        assert_eq!(run.result().await.expect("ends"), "3");
        let entries = journal(&memory).await;
        let order =
            [Kind::Started, Kind::StepDone, Kind::Resumed, Kind::TimerFired, Kind::StepDone, Kind::Completed];
        assert_eq!(kinds(&entries), order);
        assert!(entries[2].at.since(entries[1].at) > days(3));
        engine.shutdown().await.expect("leaves");
        // The same on replay.
        memory.truncate("r", entries.len() - 1);
        let engine = self::engine(&memory, &world, day).await;
        let again = engine.get(W, "r").await.expect("found");
        assert_eq!(soon(again.result()).await.expect("replays"), "3");
    });
}

#[test]
fn a_paused_run_keeps_its_letters_and_can_be_cancelled() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine =
            engine(
                &memory,
                &world,
                |ctx: Ctx, _| async move { Ok(ctx.signal::<u64>("go").await?.to_string()) },
            )
            .await;
        for (id, cancels) in [("r", false), ("s", true)] {
            let run = engine.start(W, id, 7).await.expect("starts");
            settle().await;
            engine.pause(id, "").await.expect("pauses");
            nap(1000).await;
            if !cancels {
                engine.signal(id, "go", 5u64).await.expect("is kept");
            }
            nap(1000).await;
            assert_eq!(run.status().await.expect("reads"), Status::Paused);
            match cancels {
                true => {
                    engine.cancel(id, "enough").await.expect("cancels");
                    assert_eq!(soon(run.result()).await.expect_err("over").kind(), ErrorKind::Cancelled);
                }
                false => {
                    engine.resume(id).await.expect("resumes");
                    assert_eq!(soon(run.result()).await.expect("ends"), "5");
                }
            }
        }
    });
}

#[test]
fn a_pause_is_taken_back_before_its_worker_came_to_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            let long = ctx.step("long", async || after(5000, 1).await).await?;
            Ok((long + ctx.step("then", async || Ok(2)).await?).to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "").await.expect("asked");
        nap(100).await;
        engine.resume("r").await.expect("taken back");
        assert_eq!(soon(run.result()).await.expect("ends"), "3");
    });
}

#[test]
fn a_pause_outlives_the_worker_that_did_not_come_to_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine(&memory, &world, day).await;
        first.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        first.pause("r", "").await.expect("acknowledged");
        drop(first);
        nap(1).await;
        let engine = engine(&memory, &world, day).await;
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Paused);
    });
}

/// A short step, then one that takes most of a minute, then a day.
async fn long_day(ctx: Ctx, _: u64) -> Result<String> {
    let short = ctx.step("short", async || Ok(1)).await?;
    let long = ctx.step("long", async || after(50_000, 2).await).await?;
    ctx.sleep(days(1)).await;
    Ok((short + long).to_string())
}

/// Whoever does not know whether his wish arrived sends it again. The second one paused the run after the rewind.
#[test]
fn a_run_that_was_paused_twice_and_taken_back_goes_on() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, long_day).await;
        engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        for _ in 0..2 {
            engine.pause("r", "").await.expect("asked");
        }
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Paused);
        engine.rewind("r", "short").await.expect("goes on");
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Waiting);
    });
}

/// The first wish stayed in the inbox when its worker left, and paused the run after the rewind.
#[test]
fn a_pause_that_nobody_heard_does_not_outlive_a_rewind() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine(&memory, &world, long_day).await;
        first.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        first.pause("r", "").await.expect("asked");
        first.shutdown().await.expect("leaves before the body has ended");
        let client = Client::simulated(memory.clone(), &world);
        client.pause("r", "").await.expect("nobody has it");
        let second = engine(&memory, &world, long_day).await;
        nap(60_000).await;
        assert_eq!(status(&second).await, Status::Paused);
        second.rewind("r", "short").await.expect("goes on");
        nap(60_000).await;
        assert_eq!(status(&second).await, Status::Waiting);
    });
}

#[test]
fn a_stuck_run_is_paused_and_asks_again_when_it_goes_on() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            let step = ctx.step("pay", async || -> Result<u64> { Err("broken".into()) });
            Ok(step.then_stuck().await?.to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        run.result().await.expect_err("stuck");
        engine.pause("r", "not today").await.expect("pauses");
        assert_eq!((status(&engine).await, run.stuck().await.expect("reads")), (Status::Paused, None));
        let refused = engine.retry("r").await.expect_err("refused");
        assert!(refused.to_string().contains("`resume`"), "{refused}");
        engine.resume("r").await.expect("resumes");
        assert_eq!(soon(run.result()).await.expect_err("stuck").kind(), ErrorKind::Stuck);
        engine.answer("r", Answer::Done { value: "4".into() }).await.expect("answers");
        assert_eq!(soon(run.result()).await.expect("ends"), "4");
    });
}

#[test]
fn a_wait_that_is_skipped_does_not_move_the_runs_time_ahead() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, day).await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(60_000).await;
        engine.skip_wait("r", Some("other")).await.expect("nothing is meant by it");
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Waiting);
        engine.skip_wait("r", None).await.expect("asked");
        nap(2000).await;
        assert_eq!(run.result().await.expect("ends"), "3");
        let entries = journal(&memory).await;
        assert_eq!(kinds(&entries)[2], Kind::TimerFired);
        assert!(entries[2].at.since(entries[0].at) < seconds(180));
    });
}

#[test]
fn a_backoff_that_is_skipped_makes_the_next_attempt_now() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            let step = ctx.step("pay", async |s: everstep_core::StepCtx| match s.attempt() {
                1 => Err("broken".into()),
                n => Ok(n),
            });
            Ok(step.retry(Retry::fixed(3, days(1))).await?.to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(60_000).await;
        engine.skip_wait("r", Some("pay")).await.expect("asked");
        nap(1000).await;
        assert_eq!(status(&engine).await, Status::Completed);
        assert_eq!(run.result().await.expect("ends"), "2");
    });
}

/// A step that is undone within ten seconds, and a wait.
async fn undoes_slowly(ctx: Ctx, _: u64) -> Result<String> {
    let one = ctx.step("one", async || Ok(1u64)).undo(async |_| {
        nap(10_000).await;
        Ok(())
    });
    one.await?;
    ctx.step("two", async || {
        nap(20_000).await;
        Ok(())
    })
    .await?;
    ctx.sleep(days(1)).await;
    Ok(String::new())
}

#[test]
fn a_run_that_ends_is_not_set_aside() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, undoes_slowly).await;
        let run = engine.start(W, "r", 0).await.expect("starts");
        nap(60_000).await;
        engine.cancel("r", "").await.expect("cancels");
        nap(1_000).await;
        engine.pause("r", "").await.expect("asked");
        soon(run.result()).await.expect_err("cancelled");
        assert_eq!(run.status().await.expect("reads"), Status::Cancelled);
    });
}

#[test]
fn a_run_that_is_to_be_set_aside_and_is_cancelled_ends() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, undoes_slowly).await;
        let run = engine.start(W, "r", 0).await.expect("starts");
        nap(100).await;
        engine.pause("r", "").await.expect("asked");
        nap(100).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running, "its body may end");
        engine.cancel("r", "").await.expect("cancels");
        soon(run.result()).await.expect_err("cancelled");
        assert_eq!(run.status().await.expect("reads"), Status::Cancelled);
        let undone = journal(&memory).await.iter().any(|entry| entry.key.as_deref() == Some("undo/one"));
        assert!(undone, "its undo is not held back by the pause");
    });
}

/// The turn that sets the run aside compares the inbox, and a signal comes while it is on its way: nothing of the pause
/// may be lost with it.
#[test]
fn a_message_that_comes_while_a_run_is_set_aside_does_not_let_it_go_on() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            let one = ctx.step("one", async || after(1000, 1).await).await?;
            let go = ctx.signal::<u64>("go").await?;
            let two = ctx.step("two", async || Ok(2u64)).await?;
            Ok((one + go + two).to_string())
        })
        .await;
        let mut events = engine.events();
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "to look").await.expect("asked");
        nap(100).await;
        memory.hold_commits();
        nap(2000).await;
        engine.signal("r", "go", 5u64).await.expect("is kept");
        memory.release_commits();
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Paused, "it was acknowledged, and is heard again");
        let paused = std::iter::from_fn(|| events.try_next()).filter(|e| matches!(e, Event::Paused { .. }));
        assert_eq!(paused.count(), 1, "it is told of once");
        engine.resume("r").await.expect("goes on");
        assert_eq!(soon(run.result()).await.expect("ends"), "8");
    });
}

/// Both letters are read at once.
#[test]
fn a_pause_that_was_asked_for_after_a_resume_holds() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, day).await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "to look").await.expect("asked");
        nap(100).await;
        engine.resume("r").await.expect("asked");
        engine.pause("r", "no, still").await.expect("asked");
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Paused);
        engine.resume("r").await.expect("goes on");
        nap(2 * 24 * 3600 * 1000).await;
        assert_eq!(soon(run.result()).await.expect("ends"), "3");
    });
}

#[test]
fn a_run_that_got_stuck_before_it_could_be_paused_goes_on_when_it_is_retried() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let is_mended = Arc::new(AtomicBool::new(false));
        let seen = is_mended.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let seen = seen.clone();
            async move {
                let one = ctx.step("one", async || after(1000, 1).await).await?;
                assert!(seen.load(Relaxed), "there is a mistake in it");
                let two = ctx.step("two", async || Ok(2)).await?;
                Ok((one + two).to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "to look").await.expect("asked");
        assert_eq!(soon(run.result()).await.expect_err("needs a person").kind(), ErrorKind::Stuck);
        is_mended.store(true, Relaxed);
        engine.retry("r").await.expect("lets it go on");
        nap(2000).await;
        assert_eq!(status(&engine).await, Status::Completed, "whoever retries it has looked");
    });
}

/// The body ends just when the letter is heard: its outcome is no wait that could be skipped.
#[test]
fn a_step_that_has_ended_is_not_what_is_skipped() {
    for limit in [None, Some(seconds(3600))] {
        virtual_time(async move {
            let (store, world) = (Wrapped::default(), Simulation::new(1));
            let (answered, bodies) = (store.clone(), Arc::new(AtomicU32::new(0)));
            let counted = bodies.clone();
            let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
                let (answered, counted) = (answered.clone(), counted.clone());
                async move {
                    let mut step = ctx.step("a", async || {
                        counted.fetch_add(1, Relaxed);
                        answered.inbox_answered().await;
                        Ok(1u64)
                    });
                    if let Some(limit) = limit {
                        step = step.attempt_timeout(limit);
                    }
                    let (one, ()) = everstep_core::join!(step, ctx.sleep(days(1)));
                    Ok(one?.to_string())
                }
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("starts");
            nap(100).await;
            engine.skip_wait("r", None).await.expect("asked");
            nap(1000).await;
            assert_eq!(status(&engine).await, Status::Completed, "the sleep was skipped, with {limit:?}");
            assert_eq!(run.result().await.expect("ends"), "1");
            assert_eq!(bodies.load(Relaxed), 1);
        });
    }
}

/// It was let begin, and its function comes to it only when the pause was heard.
#[test]
fn a_step_that_has_not_begun_when_a_pause_is_heard_does_not() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let began = Arc::new(AtomicBool::new(false));
        let begins = began.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let begins = begins.clone();
            async move {
                let mut late = pin!(ctx.step("late", async || {
                    begins.store(true, Relaxed);
                    Ok(1u64)
                }));
                let mut long = pin!(ctx.step("long", async || {
                    nap(1000).await;
                    after(1000, 2).await
                }));
                let mut polls = 0;
                let two = poll_fn(|cx| {
                    polls += 1;
                    if polls != 2 {
                        assert!(late.as_mut().poll(cx).is_pending());
                    }
                    long.as_mut().poll(cx)
                })
                .await?;
                Ok((late.await? + two).to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        engine.pause("r", "to look").await.expect("asked");
        nap(60_000).await;
        assert_eq!(status(&engine).await, Status::Paused);
        assert!(!began.load(Relaxed), "nothing new begins");
        engine.resume("r").await.expect("goes on");
        assert_eq!(soon(run.result()).await.expect("ends"), "3");
    });
}
