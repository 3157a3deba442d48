//! How a load of a run ends: what is recorded before, what is dropped first, what is told.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use crate::common::{
    W, engine, engine_with, finish, journal, nap, plain, settings, soon, told, virtual_time,
};
use everstep_core::{
    BoxFuture, Ctx, Doubt, ErrorKind, Event, NotDurable, Result, Retry, Settings, Simulation, Status,
    StuckReason, join, seconds,
    store::{Inspect, Memory, StoreError},
};
use futures_util::FutureExt;

type Counter = Arc<AtomicU64>;

/// One step asks a person in the poll in which the body of another returns: what that one did is recorded.
#[test]
fn what_has_happened_is_recorded_before_the_run_is_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, n: u64| {
            let asks = ctx.step("asks", async || std::future::pending::<Result<u64>>().await);
            let works = ctx.step("works", async || match n {
                0 => std::future::pending().await,
                n => Ok(n),
            });
            let (asked, worked) = join!(asks.on_doubt(Doubt::Ask), works);
            Ok(format!("{} {}", asked?, worked?))
        };
        let first = engine(&memory, &world, move |ctx, _| workflow(ctx, 0)).await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        drop(first);
        nap(10).await;
        let (outcome, journal, _) = finish(&memory, &world, move |ctx, _| workflow(ctx, 5)).await;
        assert!(outcome.expect_err("stuck").contains("in doubt"));
        assert_eq!(told(&journal)[1..], ["1 StepDone works 1 5"]);
    });
}

/// A stop without grace, when many bodies have returned and only some are recorded.
#[test]
fn what_has_happened_is_recorded_before_the_run_is_given_back() {
    const STEPS: u64 = 2000;
    let check = async |replayed: bool| {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bodies = Counter::default();
        let waits = Arc::new(AtomicBool::new(replayed));
        let (counted, waiting) = (bodies.clone(), waits.clone());
        let workflow = move |ctx: Ctx, _| {
            let (counted, waiting) = (counted.clone(), waiting.clone());
            async move {
                ctx.step("first", async || Ok(0u64)).await?;
                if waiting.load(Ordering::SeqCst) {
                    ctx.sleep(seconds(1000)).await;
                }
                let steps: Vec<_> = (0..STEPS)
                    .map(|_| ctx.step("one", async || Ok(counted.fetch_add(1, Ordering::SeqCst))))
                    .collect();
                futures_util::future::try_join_all(steps).await?;
                Ok("done".to_string())
            }
        };
        let at_once = Settings { grace: Duration::ZERO, ..settings() };
        let mut first = engine_with(&memory, &world, at_once.clone(), workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        if replayed {
            nap(10).await;
            drop(first);
            nap(10).await;
            waits.store(false, Ordering::SeqCst);
            first = engine_with(&memory, &world, at_once, workflow.clone()).await;
        }
        let (all, kept) = (bodies.clone(), memory.clone());
        let leaving = tokio::spawn(async move {
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if all.load(Ordering::SeqCst) < STEPS { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            assert!((journal(&kept).await.len() as u64) < STEPS / 2, "only some are recorded");
            first.shutdown().await
        });
        leaving.await.expect("no panic").expect("it leaves");
        assert_eq!(journal(&memory).await.len() as u64, STEPS + 2);
        assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("done"));
        assert_eq!(bodies.load(Ordering::SeqCst), STEPS);
    };
    virtual_time(check(false));
    virtual_time(check(true));
}

/// A stop without grace in the very poll in which the function drops a step whose body has returned.
#[test]
fn what_a_dropped_step_did_is_recorded_before_the_run_is_given_back() {
    virtual_time(async {
        type Leaving = Arc<Mutex<Option<BoxFuture<'static, ()>>>>;
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let leaving = Leaving::default();
        let leaves = leaving.clone();
        let at_once = Settings { grace: Duration::ZERO, ..settings() };
        let engine = engine_with(&memory, &world, at_once, move |ctx: Ctx, _| {
            let leaves = leaves.clone();
            async move {
                let mut step = Some(ctx.step("a", async || {
                    nap(1000).await;
                    Ok(1u64)
                }));
                poll_fn(|cx| {
                    assert!(pin!(step.as_mut().expect("once")).poll(cx).is_pending());
                    let mut leaving = leaves.lock().expect("unpoisoned");
                    let Some(shutdown) = &mut *leaving else { return Poll::Pending };
                    // The body has returned in this poll.
                    step = None;
                    assert!(shutdown.now_or_never().is_none(), "there is a run");
                    Poll::Ready(())
                })
                .await;
                ctx.sleep(seconds(10)).await;
                Ok(String::new())
            }
        })
        .await;
        engine.start(W, "r", 7).await.expect("it starts");
        nap(500).await;
        *leaving.lock().expect("unpoisoned") = Some(Box::pin(async move { drop(engine.shutdown().await) }));
        nap(1000).await;
        let shutdown = leaving.lock().expect("unpoisoned").take().expect("kept");
        shutdown.await;
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.owner), (Status::Pending, None), "given back");
        assert_eq!(told(&journal(&memory).await)[1..], ["1 StepDone a 1 1"]);
    });
}

/// A workflow that never comes to rest does not hold up a stop, even if what has happened cannot be recorded for it.
#[test]
fn a_function_that_wakes_itself_for_ever_can_be_stopped() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let at_once = Settings { grace: Duration::ZERO, ..settings() };
        let bodies = Counter::default();
        let counted = bodies.clone();
        let engine = engine_with(&memory, &world, at_once, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let mut step = pin!(ctx.step("a", async || Ok(counted.fetch_add(1, Ordering::SeqCst))));
                poll_fn(|cx| {
                    let polled = step.as_mut().poll(cx).map(drop);
                    if counted.load(Ordering::SeqCst) > 0 {
                        cx.waker().wake_by_ref();
                    }
                    polled
                })
                .await;
                Ok(String::new())
            }
        })
        .await;
        engine.start(W, "r", 7).await.expect("it starts");
        while bodies.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        engine.shutdown().await.expect("it leaves");
        assert_eq!(journal(&memory).await.len(), 1);
    });
}

/// The values of a workflow are dropped while the run is still this worker's.
#[test]
fn the_function_is_dropped_before_its_run_is_anybody_elses() {
    struct Guard(Memory, Arc<Mutex<Vec<Status>>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let row = self.0.run("r".into()).now_or_never().expect("at once").expect("reads").expect("there");
            self.1.lock().expect("unpoisoned").push(row.status);
        }
    }
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, noted) = (memory.clone(), seen.clone());
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let guard = Guard(kept.clone(), noted.clone());
            async move {
                let _guard = guard;
                ctx.step("long", async || std::future::pending::<Result<u64>>().await).await?;
                Ok(String::new())
            }
        })
        .await;
        engine.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        engine.shutdown().await.expect("it leaves");
        assert_eq!(*seen.lock().expect("unpoisoned"), [Status::Running]);
    });
}

/// A value of a body that is dropped where it stands is still inside that body: what it draws would not be drawn on
/// replay.
#[test]
fn what_a_dropped_body_drops_cannot_draw_from_the_run() {
    struct Guard(Ctx, Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let drawn = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.random()));
            self.1.fetch_or(drawn.is_ok(), Ordering::SeqCst);
        }
    }
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let drawn = Arc::new(AtomicBool::new(false));
        let noted = drawn.clone();
        let (outcome, ..) = finish(&memory, &world, move |ctx: Ctx, _| {
            let noted = noted.clone();
            async move {
                let body = async || {
                    let _guard = Guard(ctx.clone(), noted.clone());
                    std::future::pending::<Result<u64>>().await
                };
                let late = ctx.step("late", body).attempt_timeout(seconds(1)).await;
                let none = ctx.timeout(seconds(1), ctx.step("dropped", body)).await?;
                Ok(format!("{} {none:?}", late.expect_err("out of time").code()))
            }
        })
        .await;
        assert_eq!(outcome.as_deref(), Ok("EV0002 None"));
        assert!(!drawn.load(Ordering::SeqCst));
    });
}

/// Its outcome lies ready and is not asked for: nothing else will ever come.
#[test]
fn a_held_outcome_does_not_hide_that_nothing_durable_is_waited_for() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let mut held = pin!(ctx.step("held", async || Ok(1u64)));
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls <= 2 {
                    assert!(held.as_mut().poll(cx).is_pending());
                }
                Poll::<()>::Pending
            })
            .await;
            Ok(String::new())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(soon(run.result()).await.expect_err("stuck").kind(), ErrorKind::Stuck);
        assert_eq!(
            run.stuck().await.expect("readable").map(|s| s.reason),
            Some(StuckReason::WaitsForNothing)
        );
    });
}

/// What an event says has happened.
///
/// faults.md row 8: nothing is told before it is durable.
#[test]
fn a_refused_turn_is_not_told() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(0u64)).await?;
            Ok("done".to_string())
        })
        .await;
        let mut events = engine.events();
        memory.fail_commits(Some(StoreError::Failed("broken".into())));
        engine.start(W, "r", 7).await.expect("starts are not refused");
        nap(100).await;
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        let durable = |e: &Event| matches!(e, Event::StepDone { .. } | Event::Completed { .. });
        assert!(!seen.iter().any(durable), "{seen:?}");
    });
}

/// A message came while the last turn was on its way: it is sent again, and told of once, when it is durable.
#[test]
fn a_turn_that_is_sent_again_is_told_of_once() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("a", async || {
                nap(50).await;
                Ok(0u64)
            })
            .await?;
            Ok("done".to_string())
        })
        .await;
        let mut events = engine.events();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        memory.hold_commits();
        nap(100).await;
        engine.cancel("r", "too late").await.expect("acknowledged");
        memory.release_commits();
        memory.hold_commits();
        nap(100).await;
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        assert!(!seen.iter().any(|e| matches!(e, Event::Completed { .. })), "not yet: {seen:?}");
        memory.release_commits();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
        nap(10).await;
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        assert_eq!(seen.iter().filter(|e| matches!(e, Event::Completed { .. })).count(), 1, "{seen:?}");
    });
}

/// A message came while the turn that makes a run stuck was on its way: it may be what helps, and is heard first.
#[test]
fn a_message_that_comes_while_a_run_becomes_stuck_is_heard() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(0u64)).await?;
            panic!("there is a mistake in it")
        })
        .await;
        let mut events = engine.events();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        memory.hold_commits();
        nap(100).await;
        engine.cancel("r", "enough").await.expect("acknowledged");
        memory.release_commits();
        let cancelled = soon(run.result()).await.expect_err("cancelled");
        assert_eq!(cancelled.kind(), ErrorKind::Cancelled, "{cancelled:?}");
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        assert!(!seen.iter().any(|e| matches!(e, Event::Stuck { .. })), "it never was: {seen:?}");
        assert!(seen.iter().any(|e| matches!(e, Event::StepDone { .. })), "{seen:?}");
    });
}

/// Whoever reads events in order never sees the next step begin before the last one was done.
#[test]
fn a_step_is_told_as_done_before_the_next_is_told_as_started() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (outcome, _, events) = finish(&memory, &world, async |ctx: Ctx, _| {
            for _ in 0..3 {
                ctx.step("s", async || Ok(0u64)).await?;
            }
            Ok("done".to_string())
        })
        .await;
        assert_eq!(outcome.as_deref(), Ok("done"));
        let told: Vec<String> = events
            .iter()
            .filter_map(|e| match e {
                Event::StepStarted { key, .. } => Some(format!("start {key}")),
                Event::StepDone { key, .. } => Some(format!("done {key}")),
                _ => None,
            })
            .collect();
        assert_eq!(told, ["start s", "done s", "start s#2", "done s#2", "start s#3", "done s#3"]);
    });
}

/// A step that fails for ever has a bound all the same.
#[test]
fn attempts_end_at_the_limit_of_the_journal() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let small = Settings { entries_max: 10, ..settings() };
        let engine = engine_with(&memory, &world, small, async |ctx: Ctx, _| {
            let failing = ctx.step("failing", async || -> Result<u64> { Err("no")? });
            let code = failing.retry(Retry::fixed(u32::MAX, seconds(1))).await.expect_err("it fails").code();
            Ok(code.to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("EV0022"));
        assert_eq!(journal(&memory).await.len(), 12, "one failure and the outcome over it");
    });
}

/// On replay a limit is met where it was met before.
#[test]
fn the_limit_of_the_journal_replays() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let small = Settings { entries_max: 5, ..settings() };
        let workflow = async |ctx: Ctx, _| {
            for n in 0.. {
                if ctx.step("s", async || Ok(n)).await.is_err() {
                    return Ok(n.to_string());
                }
            }
            unreachable!("the journal has a limit")
        };
        let first = engine_with(&memory, &world, small.clone(), workflow).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("4"));
        drop(first);
        memory.truncate("r", 5);
        let next = engine_with(&memory, &world, small, workflow).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("4"));
    });
}

#[test]
fn timers_count_for_the_limit_of_the_journal() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let small = Settings { entries_max: 10, ..settings() };
        let engine = engine_with(&memory, &world, small, async |ctx: Ctx, _| {
            loop {
                ctx.sleep(seconds(1)).await;
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let stuck = plain(soon(run.result()).await).expect_err("stuck");
        assert!(stuck.contains("at most 10 entries"), "{stuck}");
    });
}

/// A disk that does not answer: timers go on without it only so far.
#[test]
fn a_run_does_not_run_away_from_a_slow_disk() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            for _ in 0..2000 {
                ctx.sleep(seconds(1)).await;
            }
            Ok("done".to_string())
        })
        .await;
        memory.hold_commits();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1_000_000).await;
        // Timers wait when more than 64 turns are on their way.
        assert_eq!(memory.release_commits(), 65);
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
    });
}

#[test]
fn inputs_and_errors_of_steps_have_a_limit() {
    virtual_time(async {
        #[derive(Debug, serde::Serialize, thiserror::Error)]
        #[error("declined")]
        struct Declined {
            why: String,
        }
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let small = Settings { payload_bytes_max: 1000, ..settings() };
        let engine = engine_with(&memory, &world, small, async |ctx: Ctx, _| {
            let at_limit = ctx.step("at limit", async || Ok(1u64)).input(&"x".repeat(998));
            at_limit.await.expect("two quotes more are 1000 bytes");
            let input = ctx.step("input", async || Ok(1u64)).input(&"x".repeat(999)).await;
            let input = input.expect_err("too large");
            let message = ctx.step("message", async || -> Result<u64> { Err("y".repeat(1000))? }).await;
            let message = message.expect_err("fails");
            let declined = || Declined { why: "z".repeat(1000) };
            let typed = ctx.step("typed", async move || -> Result<u64> { Err(declined())? });
            let typed = typed.typed::<Declined>().await.expect_err("fails");
            Ok(format!("{} {} {}; {message}", input.code(), message.code(), typed.code()))
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let said = plain(soon(run.result()).await).expect("all are errors");
        assert!(said.starts_with("EV0021 EV0021 EV0021; "), "{said}");
        assert!(said.contains("at most 1000 bytes") && said.contains("yyyy"), "{said}");
        let largest = journal(&memory).await.iter().map(|e| e.body.bytes.len()).max();
        assert!(largest < Some(1000), "{largest:?}");
    });
}

/// More steps want to run than may: the others begin when one has ended, in every run, and none is forgotten.
///
/// faults.md row 15: a place among the running steps is nobody else's until it is given back.
#[test]
fn running_steps_have_a_bound() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (running, most) = (Counter::default(), Counter::default());
        let (now, noted) = (running.clone(), most.clone());
        let few = Settings { running_steps_max: 3, ..settings() };
        let engine = engine_with(&memory, &world, few, move |ctx: Ctx, n| {
            let (now, noted) = (now.clone(), noted.clone());
            async move {
                let steps: Vec<_> = (0..n)
                    .map(|i| {
                        let step = ctx.step("s", async || {
                            noted.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            nap(10).await;
                            now.fetch_sub(1, Ordering::SeqCst);
                            Ok(1u64)
                        });
                        step.on_doubt(if i % 2 == 0 { Doubt::Ask } else { Doubt::Retry })
                    })
                    .collect();
                let sum: u64 = futures_util::future::try_join_all(steps).await?.iter().sum();
                Ok(sum.to_string())
            }
        })
        .await;
        let mut runs = Vec::new();
        for n in 1..8 {
            runs.push((n, engine.start(W, format!("r{n}"), n).await.expect("it starts")));
        }
        for (n, run) in runs {
            assert_eq!(plain(soon(run.result()).await), Ok(n.to_string()));
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
    });
}

/// A step that pauses before its next attempt keeps no place.
#[test]
fn a_pause_keeps_no_place() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let one = Settings { running_steps_max: 1, ..settings() };
        let engine = engine_with(&memory, &world, one, async |ctx: Ctx, n| {
            let step = ctx.step("s", async || if n == 0 { Err("not yet".into()) } else { Ok(n) });
            Ok(step.retry(Retry::fixed(2, seconds(1000))).await?.to_string())
        })
        .await;
        engine.start(W, "r0", 0).await.expect("it starts");
        nap(10).await;
        let next = engine.start(W, "r1", 1).await.expect("it starts");
        nap(10).await;
        assert_eq!(next.status().await.expect("readable"), Status::Completed);
    });
}

/// Runs beyond the bound wait outside, and come in when others are over.
struct Present(Counter);
impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn runs_in_memory_have_a_bound() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (present, most) = (Counter::default(), Counter::default());
        let (now, noted) = (present.clone(), most.clone());
        let few = Settings { resident_runs_max: 3, ..settings() };
        let engine = engine_with(&memory, &world, few, move |ctx: Ctx, n| {
            let (now, noted) = (now.clone(), noted.clone());
            async move {
                noted.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Also when it makes room for another.
                let _present = Present(now);
                ctx.sleep(seconds(1)).await;
                Ok(n.to_string())
            }
        })
        .await;
        let mut runs = Vec::new();
        for n in 0..10 {
            runs.push((n, engine.start(W, format!("r{n}"), n).await.expect("it starts")));
        }
        for (n, run) in runs {
            assert_eq!(plain(soon(run.result()).await), Ok(n.to_string()));
        }
        assert_eq!(most.load(Ordering::SeqCst), 3);
    });
}

/// They would stay for ever, many or few; that others are at work does not count for them.
#[test]
fn runs_that_only_wait_make_room_for_one_that_is_due() {
    for (busy, waiting) in [(0, 1), (1000, 1), (0, 1000)] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let few = Settings {
                resident_runs_max: busy + waiting,
                running_steps_max: busy + 1,
                park_after: Duration::MAX,
                ..settings()
            };
            let engine = engine_with(&memory, &world, few, async |ctx: Ctx, n| match n {
                0 => ctx.step("works", async || std::future::pending::<Result<String>>().await).await,
                1 => ctx.signal("go").await,
                n => Ok(n.to_string()),
            })
            .await;
            for n in 0..busy {
                engine.start(W, format!("busy{n}"), 0).await.expect("it starts");
            }
            for n in 0..waiting {
                engine.start(W, format!("waits{n}"), 1).await.expect("it starts");
            }
            nap(1000).await;
            let due = engine.start(W, "due", 5).await.expect("it starts");
            assert_eq!(plain(soon(due.result()).await).as_deref(), Ok("5"));
        });
    }
}

/// The run that is next in line goes before it gets its place: the place is not lost.
#[test]
fn a_place_goes_on_to_the_next_when_nobody_takes_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let one = Settings { running_steps_max: 1, ..settings() };
        let engine = engine_with(&memory, &world, one, async |ctx: Ctx, n| {
            let step = ctx.step("s", async || {
                nap(1000).await;
                Ok(1u64)
            });
            let done = ctx.timeout(if n == 1 { seconds(1) } else { seconds(100) }, step).await?;
            Ok(format!("{done:?}"))
        })
        .await;
        let mut runs = Vec::new();
        for n in 0..4 {
            runs.push(engine.start(W, format!("r{n}"), n).await.expect("it starts"));
            nap(10).await;
        }
        engine.cancel("r2", "").await.expect("acknowledged");
        let mut outcomes = Vec::new();
        for run in runs {
            outcomes.push(plain(soon(run.result()).await).map_err(|e| e.contains("Cancelled")));
        }
        assert_eq!(outcomes[0], Ok("Some(1)".into()));
        assert_eq!((&outcomes[2], &outcomes[3]), (&Err(true), &Ok("Some(1)".into())), "{outcomes:?}");
    });
}

/// A place is held no longer than the run is in memory, even if somebody keeps its `Ctx`.
#[test]
fn a_kept_ctx_keeps_no_place() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let one = Settings { running_steps_max: 1, ..settings() };
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let engine = engine_with(&memory, &world, one, move |ctx: Ctx, n| {
            keep.lock().expect("unpoisoned").push(ctx.clone());
            async move {
                let step = ctx.step("s", async || if n == 0 { std::future::pending().await } else { Ok(n) });
                Ok(step.await?.to_string())
            }
        })
        .await;
        engine.start(W, "r0", 0).await.expect("it starts");
        nap(10).await;
        let next = engine.start(W, "r1", 1).await.expect("it starts");
        nap(10).await;
        engine.cancel("r0", "").await.expect("acknowledged");
        assert_eq!(plain(soon(next.result()).await).as_deref(), Ok("1"));
        assert_eq!(kept.lock().expect("unpoisoned").len(), 2);
    });
}

/// An await on something that is not durable: an error where tests look for it, a warning where it was asked for.
#[test]
fn an_await_on_something_not_durable_is_an_error_in_tests() {
    virtual_time(async {
        for not_durable in [None, Some(NotDurable::Warn)] {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let settings = Settings { not_durable, ..settings() };
            let engine = engine_with(&memory, &world, settings, async |ctx: Ctx, _| {
                let (send, receive) = tokio::sync::oneshot::channel();
                ctx.step("a", async || Ok(0u64)).await?;
                tokio::spawn(async move {
                    nap(100).await;
                    let _ = send.send(5u64);
                });
                let (said, ()) = join!(receive, ctx.sleep(seconds(1)));
                Ok(said?.to_string())
            })
            .await;
            let mut events = engine.events();
            let run = engine.start(W, "r", 7).await.expect("it starts");
            match plain(soon(run.result()).await) {
                Ok(outcome) => assert_eq!((outcome.as_str(), not_durable.is_some()), ("5", true)),
                Err(stuck) => {
                    assert!(not_durable.is_none() && stuck.contains("endings.rs:"), "{stuck}");
                    let reason = run.stuck().await.expect("readable").map(|stuck| stuck.reason);
                    assert_eq!(reason, Some(StuckReason::WaitsForNothing));
                }
            }
            assert!(std::iter::from_fn(|| events.try_next()).any(|e| matches!(e, Event::NotDurable { .. })));
        }
    });
}

/// Its thread comes free after the step is over: the closure never begins.
#[test]
fn a_blocking_step_that_is_over_does_not_begin() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime");
    let begun = Counter::default();
    let counted = begun.clone();
    runtime.block_on(async move {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let blocker = tokio::task::spawn_blocking(move || busy.recv());
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let step = ctx.step_blocking("late", move || Ok(counted.fetch_add(1, Ordering::SeqCst)));
                let code =
                    step.attempt_timeout(Duration::from_millis(1)).await.expect_err("no thread").code();
                Ok(code.to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(plain(run.result().await).as_deref(), Ok("EV0002"));
        free.send(()).expect("it listens");
        let _ = blocker.await;
        // One thread, in order: whatever had queued up before this has run.
        tokio::task::spawn_blocking(|| ()).await.expect("it runs");
    });
    assert_eq!(begun.load(Ordering::SeqCst), 0);
}

/// A scope that is made and dropped without being awaited is not open any more.
#[test]
fn a_scope_that_was_never_polled_leaves_nothing() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let old = async |ctx: Ctx, _| Ok(ctx.step("create", async || Ok(1u64)).await?.to_string());
        finish(&memory, &world, old).await.0.expect("it runs");
        memory.truncate("r", 2);
        let newer = Settings { build: Some("newer".into()), ..settings() };
        let engine = engine_with(&memory, &world, newer, async |ctx: Ctx, _| {
            drop(ctx.scope("dropped", async |ctx| ctx.step("x", async || Ok(1u64)).await));
            Ok(ctx.step("make", async || Ok(1u64)).await?.to_string())
        })
        .await;
        let report =
            plain(soon(engine.get(W, "r").await.expect("found").result()).await).expect_err("diverged");
        assert!(report.contains("asks for step `make`") && !report.contains("`dropped`"), "{report}");
    });
}
