//! Durations from nothing to for ever (faults.md row 27), wherever one can be given; and the walls that timers of
//! 32 bits have.

use std::time::Duration;

use crate::common::{
    W, check_cuts, check_replays, engine, engine_with, finish, journal, nap, plain, run_once, settings,
    settle, stays, told, virtual_time,
};
use everstep_core::{
    Client, Ctx, ErrorKind, Result, Retry, Simulation, Status, StepCtx, Timestamp, days, hours, join,
    journal::Kind,
    seconds,
    store::{Inspect, Memory},
};

const NANOSECOND: Duration = Duration::from_nanos(1);
/// Where a timer of 2^31 milliseconds ends.
const WALL: Duration = Duration::from_millis(1 << 31);
/// Where tokio's timer wheel ends: 2^36 milliseconds, about 2.2 years.
const WHEEL: Duration = Duration::from_millis(1 << 36);
const CENTURY: Duration = days(36_525);

/// A workflow that takes `wait` at the least.
type Waits = fn(Ctx, Duration) -> everstep_core::BoxFuture<'static, Result<String>>;

const WAITS: [Waits; 5] = [
    |ctx, wait| {
        Box::pin(async move {
            ctx.sleep(wait).await;
            Ok("slept".into())
        })
    },
    |ctx, wait| {
        Box::pin(async move {
            let never = std::future::pending::<Result<()>>();
            assert_eq!(ctx.timeout(wait, never).await?, None);
            Ok("slept".into())
        })
    },
    |ctx, wait| {
        Box::pin(async move {
            let again = ctx.step("flaky", async |s: StepCtx| match s.attempt() {
                1 => Err("once".into()),
                _ => Ok("slept".to_string()),
            });
            again.retry(Retry::fixed(2, wait)).await
        })
    },
    |ctx, wait| {
        Box::pin(async move {
            let again = ctx.step("busy", async move |s: StepCtx| match s.attempt() {
                1 => Err(everstep_core::Error::retry_after("later", wait)),
                _ => Ok("slept".to_string()),
            });
            again.retry(Retry::fixed(2, Duration::ZERO)).await
        })
    },
    |ctx, wait| {
        Box::pin(async move {
            let growing = Retry::exponential(2).first_pause(wait).pause_max(Duration::MAX).jitter(0.0);
            let again = ctx.step("growing", async |s: StepCtx| match s.attempt() {
                1 => Err("once".into()),
                _ => Ok("slept".to_string()),
            });
            again.retry(growing).await
        })
    },
];

#[test]
fn short_waits_are_over_soon_and_never_early() {
    for waits in WAITS {
        for wait in
            [Duration::ZERO, NANOSECOND, Duration::from_micros(1), Duration::from_millis(1), seconds(3)]
        {
            let workflow = move |ctx: Ctx, _| async move {
                let before = ctx.now();
                waits(ctx.clone(), wait).await?;
                ctx.step("after", async || Ok(())).await?;
                let took = ctx.now().duration_since(before)?;
                assert!(took >= wait, "{took:?} for {wait:?}");
                Ok(took.as_millis().to_string())
            };
            let live = check_cuts(workflow)[0].clone().expect("it ends").parse::<u128>().expect("a number");
            assert!(live <= wait.as_millis() + 2, "{live} ms for {wait:?}");
        }
    }
}

/// Not a moment before, and not for ever: the worker stops meanwhile and another one comes.
#[test]
fn long_waits_are_over_when_their_time_comes() {
    for waits in WAITS {
        for wait in [WALL - seconds(1), WALL, WALL + seconds(1), days(25), WHEEL, days(1000), CENTURY] {
            virtual_time(async {
                let (memory, world) = (Memory::default(), Simulation::new(1));
                let workflow = move |ctx: Ctx, _| async move {
                    ctx.step("begin", async || Ok(())).await?;
                    waits(ctx, wait).await
                };
                let first = engine(&memory, &world, workflow).await;
                let run = first.start(W, "r", 7).await.expect("it starts");
                settle().await;
                let began = journal(&memory).await.last().expect("begun").at;
                first.shutdown().await.expect("it leaves");
                tokio::time::advance(wait - seconds(2)).await;
                let early = engine(&memory, &world, workflow).await;
                settle().await;
                assert!(!run.status().await.expect("readable").is_over(), "{wait:?}: not yet");
                assert_eq!(plain(run.result().await).as_deref(), Ok("slept"));
                let entries = journal(&memory).await;
                let over = entries.last().expect("over").at.since(began);
                assert!(over >= wait && over < wait + seconds(2), "{over:?} for {wait:?}");
                early.shutdown().await.expect("it leaves");
            });
        }
    }
}

/// The same without a pause: a worker that stays, with the run in memory and without.
#[test]
fn a_worker_that_stays_waits_past_the_walls() {
    virtual_time(async {
        for (settings, meanwhile, wait) in [
            (stays(), Status::Running, WALL + seconds(1)),
            (stays(), Status::Running, WHEEL + seconds(1)),
            (settings(), Status::Waiting, WALL + seconds(1)),
            (settings(), Status::Waiting, WHEEL + seconds(1)),
        ] {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let workflow = move |ctx: Ctx, _| async move {
                ctx.sleep(wait).await;
                Ok(ctx.id().to_string())
            };
            let engine = engine_with(&memory, &world, settings, workflow).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(1500).await;
            tokio::time::advance(wait - seconds(3)).await;
            settle().await;
            assert_eq!(run.status().await.ok(), Some(meanwhile), "{wait:?}: not yet");
            tokio::time::advance(seconds(2)).await;
            assert_eq!(plain(run.result().await).as_deref(), Ok("r"));
        }
    });
}

/// For ever is neither an overflow nor a stuck run: it can be cancelled.
#[test]
fn waits_for_ever_can_be_cancelled() {
    for waits in WAITS {
        for wait in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_micros(i64::MAX as u64)] {
            virtual_time(async {
                let (memory, world) = (Memory::default(), Simulation::new(1));
                let engine = engine(&memory, &world, move |ctx: Ctx, _| waits(ctx, wait)).await;
                let run = engine.start(W, "r", 7).await.expect("it starts");
                for _ in 0..3 {
                    tokio::time::advance(CENTURY).await;
                    nap(1500).await;
                    assert_eq!(run.status().await.ok(), Some(Status::Waiting), "{wait:?}");
                }
                engine.cancel("r", "long enough").await.expect("open");
                assert_eq!(run.result().await.expect_err("cancelled").kind(), ErrorKind::Cancelled);
            });
        }
    }
}

/// The limits of an attempt and of a step: nothing is no time at all, the rest is time enough.
#[test]
fn limits_of_steps_take_every_duration() {
    for limit in [Duration::from_millis(1), seconds(1), WALL, WHEEL, CENTURY, Duration::MAX] {
        let out = check_replays(move |ctx: Ctx, _| async move {
            let a = ctx.step("attempt", async || Ok("a".to_string())).attempt_timeout(limit).await?;
            let b = ctx.step("all", async || Ok("b".to_string())).timeout(limit).await?;
            let c =
                ctx.step("both", async || Ok("c".to_string())).attempt_timeout(limit).timeout(limit).await?;
            let d = ctx.timeout(limit, ctx.step("bounded", async || Ok("d".to_string()))).await?;
            Ok(a + &b + &c + &d.unwrap_or_default())
        });
        assert_eq!(out, "abcd", "{limit:?}");
    }
}

#[test]
fn no_time_at_all_is_a_timeout() {
    let (outcome, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let never = async || std::future::pending::<Result<u64>>().await;
        let again = Retry::fixed(3, Duration::ZERO);
        let attempts = ctx.step("attempts", never).attempt_timeout(Duration::ZERO).retry(again).await;
        let all = ctx.step("all", async || Ok(1u64)).timeout(Duration::ZERO).await;
        let bounded = ctx.timeout(Duration::ZERO, ctx.step("bounded", async || Ok(1u64))).await?;
        assert_eq!(bounded, None);
        // What is ready needs no time.
        let ready = ctx.timeout(Duration::ZERO, std::future::ready(Ok(1u64))).await?;
        assert_eq!(ready, Some(1));
        Ok(format!("{} {}", attempts.expect_err("late").code(), all.expect_err("late").code()))
    });
    assert_eq!(outcome.as_deref(), Ok("EV0002 EV0002"));
    let told = told(&journal);
    assert!(
        told[1].contains("AttemptFailed attempts 1") && told[2].contains("AttemptFailed attempts 2"),
        "{told:?}"
    );
    assert!(told[3].contains("StepFailed attempts 3") && told[4].contains("StepFailed all 1"), "{told:?}");
    assert!(!told.iter().any(|t| t.contains("bounded")), "its body never began: {told:?}");
}

/// Timers that are due at the same moment fire in the order in which they were made, and a later deadline later.
#[test]
fn timers_of_one_moment_keep_their_order() {
    let out = check_replays(async |ctx: Ctx, _| {
        let seen = std::sync::Mutex::new(Vec::new());
        let wait = |name: &'static str, wait| {
            let (ctx, seen) = (&ctx, &seen);
            let timer = ctx.sleep(wait);
            async move {
                timer.await;
                seen.lock().expect("unpoisoned").push(name);
            }
        };
        everstep_core::join!(
            wait("c", seconds(2)),
            wait("a", seconds(1)),
            wait("b", seconds(1)),
            wait("now", Duration::ZERO)
        );
        Ok(seen.into_inner()?.join(" "))
    });
    assert_eq!(out, "now a b c");
}

/// A timer counts from the call that made it, not from its first poll.
#[test]
fn a_timer_counts_from_its_call() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let before = ctx.now();
        let timer = ctx.sleep(hours(1));
        ctx.sleep(seconds(3000)).await;
        timer.await;
        Ok(ctx.now().duration_since(before)?.as_secs().to_string())
    });
    assert_eq!(outcomes[0].as_deref(), Ok("3600"));
}

/// Only the firing of a timer is recorded, at no time before its deadline.
#[test]
fn a_timer_is_recorded_once_at_its_deadline() {
    let (_, journal, _) = run_once(1, async |ctx: Ctx, _| {
        ctx.sleep(days(1)).await;
        Ok("slept".into())
    });
    let kinds: Vec<_> = journal.iter().filter_map(|entry| entry.known_kind()).collect();
    assert_eq!(kinds, [Kind::Started, Kind::TimerFired, Kind::Completed]);
    assert!(journal[1].at.since(journal[0].at) >= days(1));
    assert!(journal[1].at.since(journal[0].at) < days(1) + seconds(1));
}

/// What is the first thing of its run, and lasts: nothing is recorded before it ends.
const FIRST_WAITS: [Waits; 3] = [WAITS[0], WAITS[1], |ctx, wait| {
    Box::pin(async move {
        let never = async || std::future::pending::<Result<()>>().await;
        assert!(ctx.step("slow", never).timeout(wait).await.is_err());
        Ok("slept".into())
    })
}];

/// The content as a worker leaves it that dies now, with entry 0 as the whole journal of run `r`.
fn crash(memory: &Memory) -> Memory {
    let left = memory.fork();
    left.truncate("r", 1);
    left
}

/// When run `r` began, if it recorded that, and when it was over; hours after its start.
async fn began_and_over(memory: &Memory) -> (Option<f64>, f64) {
    let entries = journal(memory).await;
    let after = |at: Timestamp| at.since(entries[0].at).as_secs_f64() / 3600.0;
    let began = entries.iter().find(|entry| entry.known_kind() == Some(Kind::Began));
    let row = memory.run("r".into()).await.expect("memory reads").expect("the run is there");
    assert!(began.is_none_or(|entry| Some(entry.at) == row.began_at), "to the microsecond");
    (began.map(|entry| after(entry.at)), after(entries.last().expect("over").at))
}

/// A worker that came back found entry 0 alone, took the run for one that had waited for a worker until now, and let it
/// begin at that moment: a sleep of ten hours then took nineteen, and timeouts began anew with every restart.
///
/// faults.md row 3: a timer is in the function and its journal, and in no row that could be missing.
#[test]
fn a_first_wait_is_not_prolonged_by_restarts() {
    for waits in FIRST_WAITS {
        for (away, over_at) in [(hours(9), 10.0), (hours(11), 11.0)] {
            virtual_time(async {
                let (memory, world) = (Memory::default(), Simulation::new(1));
                let workflow = move |ctx: Ctx, _| waits(ctx, hours(10));
                let first = engine(&memory, &world, workflow).await;
                first.start(W, "r", 7).await.expect("it starts");
                settle().await;
                let memory = crash(&memory);
                tokio::time::advance(away / 2).await;
                // Comes, and leaves before anything is recorded.
                let second = engine(&memory, &world, workflow).await;
                settle().await;
                drop(second);
                settle().await;
                let third = engine(&memory, &world, workflow).await;
                settle().await;
                let memory = crash(&memory);
                drop(third);
                tokio::time::advance(away / 2).await;
                assert_eq!(journal(&memory).await.len(), 1);
                assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("slept"));
                let (began, over) = began_and_over(&memory).await;
                assert_eq!(began, None);
                assert!(over >= over_at && over < over_at + 0.01, "over after {over} h, away for {away:?}");
            });
        }
    }
}

/// A run that a client started five hours before a worker came begins when that worker takes it, also if the worker dies
/// before the entry that says so is durable.
#[test]
fn a_first_wait_of_a_run_that_begins_late_counts_from_then() {
    for waits in FIRST_WAITS {
        for deaths in 0..3 {
            virtual_time(async {
                let (mut memory, world) = (Memory::default(), Simulation::new(1));
                let workflow = move |ctx: Ctx, _| waits(ctx, hours(10));
                Client::simulated(memory.clone(), &world).start(W, "r", 7).await.expect("it starts");
                tokio::time::advance(hours(5)).await;
                for _ in 0..deaths {
                    memory.hold_commits();
                    let dying = engine(&memory, &world, workflow).await;
                    settle().await;
                    memory = crash(&memory);
                    drop(dying);
                    tokio::time::advance(hours(4)).await;
                }
                let last = engine(&memory, &world, workflow).await;
                settle().await;
                assert_eq!(journal(&memory).await.len(), 2, "that it began, and nothing else");
                drop(last);
                tokio::time::advance(hours(1)).await;
                assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("slept"));
                let (began, over) = began_and_over(&memory).await;
                let began = began.expect("recorded");
                assert!((5.0..5.01).contains(&began), "began after {began} h, {deaths} deaths");
                assert!((15.0..15.01).contains(&over), "over after {over} h, {deaths} deaths");
            });
        }
    }
}

/// The next thing that is due may be earlier than what the run waited for.
#[test]
fn a_shorter_wait_beside_a_longer_one_is_over_in_its_time() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let late = ctx.sleep(seconds(100));
        let early = async {
            ctx.step("a", async || {
                nap(500).await;
                Ok(0u64)
            })
            .await?;
            ctx.sleep(seconds(1)).await;
            ctx.sleep(seconds(2)).await;
            Ok::<_, everstep_core::Error>(())
        };
        let ((), early) = join!(late, early);
        early?;
        Ok("done".to_string())
    });
    assert_eq!(out.as_deref(), Ok("done"));
    let since = |n: usize| journal[n].at.since(journal[0].at).as_millis();
    assert_eq!([1, 2, 3, 4].map(since), [500, 1500, 3500, 100_000], "{:?}", told(&journal));
}

/// The same for a wait that begins when a message has come.
#[test]
fn a_shorter_wait_that_begins_during_a_longer_one_is_over_in_its_time() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine_with(&memory, &world, stays(), async |ctx: Ctx, _| {
            let early = async {
                let went: u64 = ctx.signal("go").await?;
                ctx.sleep(seconds(went)).await;
                Ok::<_, everstep_core::Error>(())
            };
            let ((), early) = join!(ctx.sleep(seconds(100)), early);
            early.map(|()| "done".to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(500).await;
        engine.signal("r", "go", 1u64).await.expect("it is open");
        assert_eq!(plain(run.result().await).as_deref(), Ok("done"));
        let journal = journal(&memory).await;
        let since = |n: usize| journal[n].at.since(journal[0].at).as_millis();
        assert_eq!([1, 2, 3].map(since), [500, 1500, 100_000], "{:?}", told(&journal));
    });
}

/// Between its attempts a step's whole time may end at the very moment at which the pause does: then it is over.
#[test]
fn a_pause_that_ends_with_the_time_of_its_step_is_its_end() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let failing = ctx.step("a", async || -> Result<u64> { Err("no")? });
        let failed = failing.retry(Retry::fixed(9, seconds(1))).timeout(seconds(1)).await;
        Ok(failed.expect_err("out of time").is_timeout().to_string())
    });
    assert_eq!(out.as_deref(), Ok("true"), "{:?}", told(&journal));
    let kinds: Vec<_> = journal.iter().filter_map(|e| e.known_kind()).collect();
    assert_eq!(kinds[1..], [Kind::AttemptFailed, Kind::StepFailed, Kind::Completed]);
}

/// A run that begins when it is started needs no entry about it, however little it may be late.
#[test]
fn a_run_that_begins_at_once_does_not_say_so() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let strict = everstep_core::Settings { began_after: Duration::ZERO, ..crate::common::settings() };
        let engine =
            crate::common::engine_with(&memory, &world, strict, async |_, _| Ok(String::new())).await;
        engine.run(W, "r", 7).await.expect("it runs");
        assert_eq!(told(&journal(&memory).await).len(), 2);
    });
}
