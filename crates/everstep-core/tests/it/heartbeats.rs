//! Heartbeats: what a body says of itself while it runs, what the next attempt finds of it, how long it may be silent.

use std::{sync::Arc, time::Duration};

use crate::{
    common::{
        W, check_replays, engine, engine_with, finish, journal, nap, settings, soon, started, virtual_time,
    },
    undo::Log,
};
use everstep_core::{
    Ctx, Doubt, Result, Retry, Settings, Simulation, StepCtx, StuckReason,
    journal::{Kind, Payload},
    minutes, seconds,
    store::{Inspect, Memory, StartedRow},
};

/// Counts to 10, one in 700 ms, from where the last attempt was; tells the log what it has found and where it ends.
async fn counts(ctx: Ctx, log: Log) -> Result<u64> {
    ctx.step("count", async |s: StepCtx| {
        let from = s.last_details().unwrap_or(0u64);
        log.add(format!("attempt {} from {from}", s.attempt()));
        for n in from..10 {
            s.heartbeat(&n);
            nap(700).await;
        }
        Ok(10)
    })
    .await
}

fn details(rows: &[StartedRow]) -> Vec<(String, u32, Option<String>)> {
    let text = |payload: &Payload| String::from_utf8_lossy(&payload.bytes).into_owned();
    rows.iter().map(|row| (row.key.to_string(), row.attempt, row.details.as_ref().map(text))).collect()
}

#[test]
fn the_next_attempt_goes_on_after_a_crash() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let workflow = {
            let log = log.clone();
            move |ctx: Ctx, _| {
                let log = log.clone();
                async move { Ok(counts(ctx, log).await?.to_string()) }
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        // Said at 0.7 s each, saved at 0, 1, 2 and 3 s: a second behind at most.
        nap(3_100).await;
        assert_eq!(details(&started(&memory).await), [("count".to_string(), 1, Some("4".to_string()))]);
        drop(first);
        nap(10).await;
        let second = engine(&memory, &world, workflow.clone()).await;
        nap(200).await;
        drop(second);
        nap(10).await;
        let (outcome, ..) = finish(&memory, &world, workflow).await;
        assert_eq!(outcome.as_deref(), Ok("10"));
        assert_eq!(log.take(), ["attempt 1 from 0", "attempt 1 from 4", "attempt 1 from 4"]);
        assert_eq!(started(&memory).await, []);
    });
}

/// However often a body says something, it costs a write a second.
#[test]
fn heartbeats_are_coalesced() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("talks", async |s: StepCtx| {
                for n in 0..5_000u64 {
                    s.heartbeat(&n);
                    nap(1).await;
                }
                Ok(())
            })
            .await?;
            Ok(String::new())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let mut seen = Vec::new();
        for _ in 0..49 {
            nap(100).await;
            let said = details(&started(&memory).await);
            if seen.last() != Some(&said) {
                seen.push(said);
            }
        }
        assert!((4..=6).contains(&seen.len()), "{seen:?}");
        soon(run.result()).await.expect("it ends");
    });
}

/// A failed attempt has no row; what it said is kept with its failure, and the next one may be made by another process.
#[test]
fn the_next_attempt_goes_on_after_a_failure() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let workflow = {
            let log = log.clone();
            move |ctx: Ctx, _| {
                let log = log.clone();
                async move {
                    let step = ctx.step("work", async |s: StepCtx| {
                        log.add(format!("{:?}", s.last_details::<String>()));
                        match s.attempt() {
                            1 => s.heartbeat("half"),
                            3 => return Ok("done".to_string()),
                            _ => {}
                        }
                        Err("not yet")?
                    });
                    step.retry(Retry::fixed(3, minutes(10))).await
                }
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(5_000).await;
        drop(first);
        nap(10).await;
        let (outcome, ..) = finish(&memory, &world, workflow).await;
        assert_eq!(outcome.as_deref(), Ok("done"));
        assert_eq!(log.take(), ["None", "Some(\"half\")", "Some(\"half\")"], "what nobody replaced stays");
    });
}

/// What it said was saved while it ran, and it has said nothing since.
#[test]
fn what_was_saved_of_an_attempt_is_there_after_its_failure() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let step = ctx.step("work", async |s: StepCtx| {
                if s.attempt() == 2 {
                    return Ok(format!("{:?}", s.last_details::<String>()));
                }
                s.heartbeat("half");
                nap(3_000).await;
                Err("not yet")?
            });
            step.retry(Retry::fixed(2, seconds(1))).await
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(soon(run.result()).await.expect("it ends"), "Some(\"half\")");
    });
}

/// What does not decode is as if it had not been said.
#[test]
fn details_of_another_shape_are_none() {
    let out = check_replays(async |ctx: Ctx, _| {
        let step = ctx.step("work", async |s: StepCtx| {
            if s.attempt() == 1 {
                s.heartbeat(&("a", 1));
                Err("again")?;
            }
            Ok(format!("{:?} {:?}", s.last_details::<u64>(), s.last_details::<(String, u64)>()))
        });
        step.retry(Retry::fixed(2, Duration::ZERO)).await
    });
    assert_eq!(out, "None Some((\"a\", 1))");
}

/// Alive as long as it says so; an attempt that is silent for too long is out of time.
#[test]
fn a_silent_attempt_is_out_of_time() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let noted = log.clone();
        let began = Arc::new(std::sync::Mutex::new(None));
        let workflow = move |ctx: Ctx, _| {
            let (log, began) = (noted.clone(), began.clone());
            async move {
                let step = ctx.step("work", async |s: StepCtx| {
                    let now = now();
                    let first = *began.lock().expect("unpoisoned").get_or_insert(now);
                    log.add(format!("{} after {} s", s.attempt(), now.duration_since(first).as_secs()));
                    match s.attempt() {
                        1 => {
                            for _ in 0..5 {
                                nap(4_000).await;
                                s.heartbeat(&());
                            }
                            std::future::pending().await
                        }
                        2 => std::future::pending().await,
                        _ => Ok("done".to_string()),
                    }
                });
                step.heartbeat_timeout(seconds(5)).retry(Retry::fixed(3, Duration::ZERO)).await
            }
        };
        let (outcome, journal, _) = finish(&memory, &world, workflow).await;
        assert_eq!(outcome.as_deref(), Ok("done"));
        assert_eq!(log.take(), ["1 after 0 s", "2 after 25 s", "3 after 30 s"]);
        let told = String::from_utf8_lossy(&journal[1].body.bytes).into_owned();
        assert!(told.contains("gave no heartbeat for 5s"), "{told}");
    });
}

#[allow(clippy::disallowed_methods, reason = "tests take virtual time")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Talking does not help against the limit of the attempt, nor against that of the step.
#[test]
fn heartbeats_do_not_lengthen_other_limits() {
    for whole in [false, true] {
        let out = check_replays(move |ctx: Ctx, _| async move {
            let step = ctx.step("talks", async |s: StepCtx| -> Result<u64> {
                loop {
                    s.heartbeat(&());
                    nap(1_000).await;
                }
            });
            let step = step.heartbeat_timeout(seconds(5));
            let step = if whole { step.timeout(seconds(12)) } else { step.attempt_timeout(seconds(12)) };
            let failed = step.await.expect_err("out of time");
            assert!(failed.is_timeout());
            Ok(format!("{failed}"))
        });
        assert!(out.contains("ran out of time"), "{out}");
    }
}

/// What is silent is in doubt like what timed out: the step's policy decides.
#[test]
fn a_silent_attempt_is_in_doubt() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let step = ctx.step("pay", async || std::future::pending::<Result<u64>>().await);
            step.heartbeat_timeout(seconds(5)).on_doubt(Doubt::Ask).await?;
            Ok(String::new())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        soon(run.result()).await.expect_err("stuck");
        let stuck = run.stuck().await.expect("reads").expect("it is");
        assert_eq!(stuck.reason, StuckReason::InDoubt);
        assert!(stuck.detail.contains("no heartbeat"), "{}", stuck.detail);
    });
}

/// A row that is written before the body carries over what an earlier attempt said.
#[test]
fn a_marked_step_keeps_what_was_said() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let step = ctx.step("pay", async |s: StepCtx| -> Result<u64> {
                if s.attempt() == 1 {
                    s.heartbeat("half");
                    Err("again")?;
                }
                std::future::pending().await
            });
            step.on_doubt(Doubt::Ask).retry(Retry::fixed(2, Duration::ZERO)).await?;
            Ok(String::new())
        })
        .await;
        engine.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        let expected = ("pay".to_string(), 2, Some("\"half\"".to_string()));
        assert_eq!(details(&started(&memory).await), [expected]);
    });
}

#[test]
fn details_that_are_too_large_fail_the_attempt_with_advice() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let small = Settings { payload_bytes_max: 1_000, ..settings() };
        let engine = engine_with(&memory, &world, small, async |ctx: Ctx, _| {
            ctx.step("talks", async |s: StepCtx| {
                s.heartbeat(&"x".repeat(2_000));
                Ok(())
            })
            .await?;
            Ok(String::new())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let failed = soon(run.result()).await.expect_err("failed");
        assert!(failed.to_string().contains("where you are"), "{failed}");
        let last = journal(&memory).await.pop().expect("there");
        assert_eq!(last.known_kind(), Some(Kind::Failed));
        assert!(memory.run("r".into()).await.expect("reads").is_some());
    });
}
