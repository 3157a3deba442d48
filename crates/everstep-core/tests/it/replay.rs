//! The rules of a round, each by the program that it exists for (design.md section 3, model.md).
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::common::{after, check_cuts, check_replays, run_once, run_once_with, stays, told};
use everstep_core::{
    Ctx, ErrorKind, Result, Retry, StepCtx, join,
    journal::{Start, decode},
    seconds, select, try_join,
};

#[test]
fn steps_in_sequence_and_in_loops_replay() {
    let out = check_replays(async |ctx: Ctx, n| {
        let mut sum = 0;
        for i in 0..5 {
            sum += ctx.step("add", async || after(i, n + i).await).await?;
        }
        Ok(format!("{sum} at {}", ctx.now().duration_since(std::time::UNIX_EPOCH)?.as_secs() > 0))
    });
    assert_eq!(out, "45 at true");
}

#[test]
fn parallel_steps_record_in_the_order_they_end() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let (a, b) = try_join!(
            ctx.step("slow", async || after(20, 1).await),
            ctx.step("fast", async || after(10, 2).await)
        )?;
        Ok(format!("{a}{b}"))
    });
    assert_eq!(out.as_deref(), Ok("12"));
    let told = told(&journal);
    assert_eq!(told[1], "1 StepDone fast 1 2");
    assert_eq!(told[2], "2 StepDone slow 1 1");
    assert_eq!(told[3], "3 Completed - 0 \"12\"");
}

/// What an entry tells people and the next replay, besides its value.
#[test]
fn entries_tell_their_line_and_their_attempt() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let step = ctx.step("a", async || after(1, 1).await);
        assert_eq!(format!("{step:?}"), "Step");
        step.await?;
        ctx.sleep(seconds(1)).await;
        Ok("done".to_string())
    });
    assert_eq!(out.as_deref(), Ok("done"));
    let line =
        |text: &str| 1 + include_str!("replay.rs").lines().position(|l| l.trim() == text).expect("there");
    let lines = [line(r#"let step = ctx.step("a", async || after(1, 1).await);"#)];
    let lines = [lines[0], lines[0] + 3];
    for (entry, line) in journal[1..3].iter().zip(lines) {
        let site = entry.site.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(site.starts_with(&format!("{}:{line}:", file!())), "{site}, not line {line}");
    }
    assert_eq!((journal[1].attempt, journal[2].attempt), (1, 0), "a timer has no attempts");
}

/// The keys that outside services see are what the published function says of the run's identity.
#[test]
fn idempotency_keys_are_derived_from_the_run_and_the_step() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        ctx.scope("left", async |ctx| {
            ctx.step("pay", async |s: StepCtx| Ok(s.idempotency_key().to_string())).await
        })
        .await
    });
    let start: Start = decode(&journal[0].body).expect("entry 0");
    // The 128 bits of XXH3 over incarnation, generation, rewinds and key: in `digest.rs` the layout is pinned.
    let mut bytes = start.incarnation.0.to_le_bytes().to_vec();
    bytes.extend([0; 8]);
    bytes.extend(b"left/pay");
    let expected = xxhash_rust::xxh3::xxh3_128_with_seed(&bytes, 0x1de);
    assert_eq!(out, Ok(format!("{expected:032x}")));
}

/// An outcome that is all there is goes to its operation in the very next poll; asking first would be a poll more.
#[test]
fn a_single_outcome_is_taken_in_the_next_poll() {
    let polls = Arc::new(AtomicU64::new(0));
    let counted = polls.clone();
    let (out, ..) = run_once_with(stays(), 1, move |ctx: Ctx, _| {
        let counted = counted.clone();
        let mut work = Box::pin(async move {
            let ((), ()) = join!(
                async {
                    for _ in 0..10 {
                        ctx.sleep(seconds(2)).await;
                    }
                },
                async {
                    for _ in 0..10 {
                        ctx.sleep(seconds(3)).await;
                    }
                }
            );
            Ok("done".to_string())
        });
        std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::SeqCst);
            work.as_mut().poll(cx)
        })
    });
    assert_eq!(out.as_deref(), Ok("done"));
    assert_eq!(polls.load(Ordering::SeqCst), 21, "the first, and one for each of 20 timers");
}

/// Counterexample 1: two operations that are held are delivered while nobody polls them.
#[test]
fn two_held_operations_are_granted_in_order() {
    for _ in 0..20 {
        check_cuts(async |ctx: Ctx, _| {
            let mut a = pin!(ctx.step("a", async || Ok(1u64)));
            let mut b = pin!(ctx.step("b", async || Ok(2u64)));
            tokio::select! {
                biased;
                _ = ctx.step("c", async || Ok(0u64)) => {}
                _ = &mut a => return Ok("a early".into()),
                _ = &mut b => return Ok("b early".into()),
            }
            ctx.step("d", async || after(5, 4).await).await?;
            tokio::select! {
                _ = &mut a => { ctx.step("took_a", async || Ok(1u64)).await?; Ok("a".into()) }
                _ = &mut b => { ctx.step("took_b", async || Ok(1u64)).await?; Ok("b".into()) }
            }
        });
    }
}

/// Counterexample 2: branches that are woken by another branch in the same poll.
#[test]
fn a_poll_that_woke_itself_is_repeated_before_anything_is_delivered() {
    for _ in 0..10 {
        let out = check_replays(async |ctx: Ctx, _| {
            let bell = tokio::sync::Notify::new();
            let (_, left, right) = join!(
                async {
                    let a = ctx.step("a", async || after(1, 0).await).await;
                    bell.notify_waiters();
                    a
                },
                async {
                    bell.notified().await;
                    ctx.scope("left", async |ctx| ctx.step("x", async || after(3, 10).await).await).await
                },
                async {
                    bell.notified().await;
                    ctx.scope("right", async |ctx| ctx.step("x", async || after(1, 20).await).await).await
                },
            );
            Ok(format!("{}{}", left?, right?))
        });
        assert_eq!(out, "1020");
    }
}

/// Counterexample 3: more receives on an own channel than tokio's budget of 128 lets through.
#[test]
fn many_receives_on_an_own_channel_are_one_poll() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<u32>();
        let start = ctx.now();
        let (seen, _, _) = join!(
            async {
                for _ in 0..300 {
                    receive.recv().await;
                }
                ctx.now().duration_since(start).map(|d| d.as_millis())
            },
            async {
                let _ = ctx.step("a", async || Ok(0u64)).await;
                for i in 0..300 {
                    let _ = send.send(i);
                }
            },
            async {
                for _ in 0..5 {
                    let _ = ctx.step("s", async || after(2, 0).await).await;
                }
            },
        );
        ctx.step("end", async || Ok(0u64)).await?;
        Ok(format!("{}", seen?))
    });
    assert_eq!(
        outcomes[0].as_deref(),
        Ok("0"),
        "all messages are received at the time of the arrival that sent them"
    );
}

/// Counterexample 4: a name claimed in two branches.
#[test]
fn a_name_claimed_in_two_running_branches_is_refused() {
    let out = check_replays(async |ctx: Ctx, _| {
        let left = async { ctx.step("x", async || after(3, 10).await).await };
        let right = async { ctx.step("x", async || after(1, 20).await).await };
        let (left, right) = join!(left, right);
        let refused = right.expect_err("the second claim comes after the first was polled");
        assert_eq!(refused.kind(), ErrorKind::Misuse);
        Ok(format!("{} {}", left?, refused.to_string().contains("ctx.scope")))
    });
    assert_eq!(out, "10 true");
}

/// Counterexample 8 and 12: a loser whose body has returned is recorded, and delivered to nobody.
#[test]
fn a_dropped_steps_outcome_is_recorded_whenever_it_is_dropped() {
    for goes_on in [false, true] {
        let (out, journal, _) = run_once(1, move |ctx: Ctx, _| async move {
            select! {
                _ = ctx.step("winner", async || Ok(0u64)) => {}
                _ = ctx.step("loser", async || Ok(1u64)) => return Ok("loser".to_string()),
            }
            if goes_on {
                ctx.step("next", async || Ok(2u64)).await?;
            }
            Ok("winner".to_string())
        });
        assert_eq!(out.as_deref(), Ok("winner"));
        assert_eq!(told(&journal)[2], "2 StepDone loser 1 1", "its effect is there: {:?}", told(&journal));
    }
}

#[test]
fn a_dropped_step_does_not_run_again() {
    let effects = Arc::new(AtomicU64::new(0));
    let counted = effects.clone();
    let out = check_replays(move |ctx: Ctx, _| {
        let counted = counted.clone();
        async move {
            let mut held = pin!(ctx.step("held", async || Ok(counted.fetch_add(1, Ordering::SeqCst))));
            tokio::select! {
                biased;
                _ = ctx.step("winner", async || Ok(0u64)) => {}
                _ = &mut held => return Ok("held".to_string()),
            }
            Ok("winner".to_string())
        }
    });
    assert_eq!(out, "winner");
}

/// Counterexample 9: draws inside a body are refused, a body's own draws change nothing outside.
#[test]
fn a_body_does_not_draw_from_the_run() {
    let out = check_replays(async |ctx: Ctx, _| {
        let inside = ctx.clone();
        let refused =
            ctx.step("a", async move || Ok(inside.random())).await.expect_err("it panics with advice");
        assert_eq!(refused.kind(), ErrorKind::Panic);
        assert!(refused.to_string().contains("StepCtx"), "{refused}");
        let own = ctx.step("b", async |s: StepCtx| Ok(s.random())).await?;
        ctx.step("z", async || Ok(0u64)).await?;
        Ok(format!("{own} {} {}", ctx.random(), ctx.uuid()))
    });
    assert_eq!(out.split(' ').count(), 3);
}

/// Counterexample 11: the loser of a `select!` with a body that needs no await.
#[test]
fn a_body_does_not_start_in_the_poll_that_registers_it() {
    for _ in 0..10 {
        check_replays(async |ctx: Ctx, _| {
            ctx.step("w", async || after(1, 0).await).await?;
            select! {
                _ = std::future::ready(()) => {}
                _ = async { ctx.step("x", async || Ok(1u64)).await } => {}
            }
            ctx.step("y", async || after(1, 1).await).await?;
            Ok("ok".into())
        });
    }
}

/// Counterexample 7 for timers: a held sleep that is dropped leaves nothing.
#[test]
fn a_held_sleep_that_is_dropped_leaves_no_entry() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let mut late = pin!(ctx.sleep(seconds(1)));
        select! {
            _ = ctx.step("a", async || Ok(0u64)) => {}
            () = &mut late => return Ok("late".into()),
        }
        ctx.step("b", async || after(10, 1).await).await?;
        Ok("done".into())
    });
    assert_eq!(out.as_deref(), Ok("done"));
    assert!(!told(&journal).iter().any(|t| t.contains("TimerFired")), "{:?}", told(&journal));
}

/// Counterexample 10: the first, live call gets what decodes from the record.
#[test]
fn values_that_do_not_come_back_fail_at_once() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let out = check_replays(move |ctx: Ctx, _| {
        let counted = counted.clone();
        async move {
            let nan = ctx
                .step("nan", async || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok(f64::NAN)
                })
                .retry(Retry::fixed(5, seconds(1)))
                .await
                .expect_err("NaN has no JSON");
            let none = ctx.step("none", async || Ok(Some(None::<u8>))).await?;
            Ok(format!("{} {none:?}", nan.code()))
        }
    });
    assert_eq!(out, "EV0005 None");
}

#[test]
fn retries_back_off_durably_and_give_up() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let before = ctx.now();
        let failed = ctx
            .step("flaky", async |s: StepCtx| -> Result<u64> { Err(format!("no {}", s.attempt()))? })
            .retry(Retry::exponential(3).first_pause(seconds(10)).jitter(0.0))
            .await
            .expect_err("it always fails");
        Ok(format!("{failed} after {}", ctx.now().duration_since(before)?.as_secs()))
    });
    assert_eq!(outcomes[0].as_deref(), Ok("no 3 after 30"));
}

#[test]
fn timers_fire_at_their_deadline_and_timeouts_bound_work() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let before = ctx.now();
        ctx.sleep(seconds(60)).await;
        ctx.sleep(Duration::ZERO).await;
        ctx.sleep(Duration::from_nanos(1)).await;
        let late = ctx.timeout(seconds(5), ctx.step("long", async || after(60_000, 1).await)).await?;
        let early = ctx.timeout(seconds(5), ctx.step("short", async || after(1, 2).await)).await?;
        let slept = ctx.now().duration_since(before)?.as_secs();
        Ok(format!("{late:?} {early:?} {slept}"))
    });
    assert_eq!(outcomes[0].as_deref(), Ok("None Some(2) 65"));
}

#[test]
fn an_attempt_timeout_drops_the_body_and_counts_as_failed() {
    let out = check_replays(async |ctx: Ctx, _| {
        let slow = ctx
            .step("slow", async || after(60_000, 1).await)
            .attempt_timeout(seconds(1))
            .retry(Retry::fixed(2, seconds(1)))
            .await
            .expect_err("both attempts take too long");
        assert!(slow.is_timeout());
        let total = ctx
            .step("total", async || -> Result<u64> { Err("no")? })
            .retry(Retry::fixed(100, seconds(10)))
            .timeout(seconds(35))
            .await
            .expect_err("out of time");
        Ok(format!("{} {}", slow.code(), total.code()))
    });
    assert_eq!(out, "EV0002 EV0002");
}

#[test]
fn a_panic_in_a_step_counts_as_a_failed_attempt() {
    let out = check_replays(async |ctx: Ctx, _| {
        let tries = ctx
            .step("shaky", async |s: StepCtx| {
                assert!(s.attempt() > 2, "attempt {}", s.attempt());
                Ok(s.attempt())
            })
            .retry(Retry::fixed(3, seconds(1)))
            .await?;
        Ok(tries.to_string())
    });
    assert_eq!(out, "3");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let workflow = async |ctx: Ctx, _| {
        let key = Mutex::new(String::new());
        let (a, b) = try_join!(
            ctx.step("a", async |s: StepCtx| {
                *key.lock().expect("unpoisoned") = s.idempotency_key().to_string();
                after(s.random() % 50, 1).await
            }),
            ctx.step("b", async |s: StepCtx| after(s.random() % 50, 2).await),
        )?;
        Ok(format!("{a}{b} {} {}", ctx.random(), key.lock().expect("unpoisoned")))
    };
    let traces: Vec<_> = (0..20).map(|seed| (run_once(seed, workflow), run_once(seed, workflow))).collect();
    for (first, second) in &traces {
        assert_eq!((&first.0, told(&first.1)), (&second.0, told(&second.1)));
        assert_eq!(first.1, second.1, "times and fingerprints too");
    }
    assert!(traces.iter().any(|(first, _)| first.0 != traces[0].0.0), "seeds differ");
}

/// faults.md row 26: joins of many children.
#[test]
fn many_parallel_steps_replay() {
    for n in [1u64, 31, 1023, 1024, 10_000] {
        let (out, journal, _) = run_once(n, move |ctx: Ctx, _| async move {
            let steps: Vec<_> = (0..n).map(|i| ctx.step("one", async move || Ok(i))).collect();
            let sum: u64 = futures_util::future::try_join_all(steps).await?.iter().sum();
            Ok(sum.to_string())
        });
        assert_eq!(out, Ok((n * (n - 1) / 2).to_string()));
        assert_eq!(journal.len() as u64, n + 2);
    }
}
