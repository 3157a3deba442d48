//! Waits for what is not durable: on replay it would not be there. Each is reported with the line of the last durable
//! call, and a run that waits for nothing else becomes stuck.
#![allow(clippy::disallowed_methods, reason = "that is what these tests are about")]

use std::sync::{Arc, Mutex};

use crate::common::{
    W, engine, engine_with, nap, plain, run_once, run_once_with, settings, settle, virtual_time,
};
use everstep_core::{
    BoxFuture, Ctx, ErrorKind, Event, NotDurable, Result, Settings, Simulation, StuckReason, join, seconds,
    store::Memory,
};
use tokio::sync::{mpsc, oneshot};

type Workflow = fn(Ctx, u64) -> BoxFuture<'static, Result<String>>;

/// The lines that were reported, each once.
fn reported(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::NotDurable { run, after } => {
            assert_eq!(&**run, "r");
            Some(after.rsplit_once(':').map_or(after.clone(), |(line, _column)| line.to_string()))
        }
        _ => None,
    };
    let mut lines: Vec<_> = events.iter().filter_map(line).collect();
    lines.dedup();
    lines
}

/// The line with this mark.
fn here(mark: &str) -> String {
    let mark = format!("// {mark}");
    let at =
        include_str!("foreign.rs").lines().position(|line| line.ends_with(&mark)).expect("a marked line");
    format!("{}:{}", file!(), at + 1)
}

/// A body that takes `ms` of virtual time.
async fn slow(ms: u64) -> Result<()> {
    nap(ms).await;
    Ok(())
}

/// Each waits for something foreign while a timer is open, so that it does come: a channel that a task of its own
/// feeds, the runtime's timer, a task's end, another thread.
#[test]
fn every_foreign_wait_is_reported_with_the_line_before_it() {
    let channel: Workflow = |ctx, _| {
        Box::pin(async move {
            let (send, mut receive) = mpsc::channel(1);
            tokio::spawn(async move {
                nap(5).await;
                send.send("fed".to_string()).await
            });
            let (fed, ()) = join!(receive.recv(), ctx.sleep(seconds(1))); // last before a channel
            Ok(fed.ok_or("nothing came")?)
        })
    };
    let timer: Workflow = |ctx, _| {
        Box::pin(async move {
            let ((), ()) = join!(nap(5), ctx.sleep(seconds(1))); // last before a timer
            Ok("fed".to_string())
        })
    };
    let task: Workflow = |ctx, _| {
        Box::pin(async move {
            let task = tokio::spawn(nap(5));
            let (ended, ()) = join!(task, ctx.sleep(seconds(1))); // last before a task
            ended?;
            Ok("fed".to_string())
        })
    };
    let blocking: Workflow = |ctx, _| {
        Box::pin(async move {
            let (send, receive) = oneshot::channel();
            // The thread sends when the function waits, not before.
            let (go, waits) = std::sync::mpsc::channel();
            tokio::task::spawn_blocking(move || waits.recv().map(|()| send.send("fed".to_string())));
            let pause = ctx.sleep(seconds(1)); // last before a thread
            let (fed, said, ()) = join!(receive, async { go.send(()) }, pause);
            said?;
            Ok(fed?)
        })
    };
    for (workflow, what) in
        [(channel, "a channel"), (timer, "a timer"), (task, "a task"), (blocking, "a thread")]
    {
        let (outcome, _, events) = run_once_with(warned(), 1, workflow);
        assert_eq!(outcome.as_deref(), Ok("fed"));
        assert_eq!(reported(&events), [here(&format!("last before {what}"))]);
    }
}

/// As in production: such a wait is reported, and the run goes on.
fn warned() -> Settings {
    Settings { not_durable: Some(NotDurable::Warn), ..settings() }
}

/// Tests are there to find such code.
#[test]
fn in_a_simulation_a_foreign_wait_makes_the_run_stuck() {
    let (outcome, _, events) = run_once(1, async |ctx: Ctx, _| {
        let (done, ()) = join!(ctx.step("beside", || slow(1000)), nap(5));
        done?;
        Ok("never".to_string())
    });
    let report = outcome.expect_err("stuck");
    assert!(report.contains("waits for nothing durable") && report.contains("foreign.rs"), "{report}");
    assert_eq!(reported(&events).len(), 1);
}

#[test]
fn a_message_from_outside_is_reported() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (send, receive) = oneshot::channel::<String>();
        let receive = Arc::new(Mutex::new(Some(receive)));
        let engine = engine_with(&memory, &world, warned(), move |ctx: Ctx, _| {
            let receive = receive.lock().expect("unpoisoned").take();
            async move {
                let receive = receive.ok_or("called once")?;
                let (got, done) = join!(receive, ctx.step("beside", || slow(1000)));
                done?;
                Ok(got?)
            }
        })
        .await;
        let mut events = engine.events();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        settle().await;
        send.send("from outside".to_string()).expect("it waits");
        assert_eq!(plain(run.result().await).as_deref(), Ok("from outside"));
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        let lines = reported(&seen);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(file!()), "{lines:?}");
    });
}

/// Before its first durable call a run has no line to name.
#[test]
fn the_beginning_has_no_line() {
    let (outcome, _, events) = run_once(1, async |ctx: Ctx, _| {
        let (send, receive) = oneshot::channel();
        let mut held = std::pin::pin!(receive);
        let mut step = None;
        // Polled before any durable call; only then one is made, so that the run waits for something.
        let fed = std::future::poll_fn(|cx| {
            let polled = held.as_mut().poll(cx);
            step.get_or_insert_with(|| ctx.sleep(seconds(1)));
            polled
        });
        tokio::spawn(async move { send.send(()) });
        fed.await?;
        Ok("fed".to_string())
    });
    // Nobody polls the timer: it is no wait, and the run waits for nothing durable.
    let stuck = outcome.expect_err("stuck");
    assert!(stuck.contains("waits for nothing durable"), "{stuck}");
    assert!(reported(&events).iter().all(|line| line.starts_with(file!())));
}

/// A run that waits for nothing durable is stuck at once, with the line and with what helps.
#[test]
fn a_run_that_waits_for_nothing_durable_is_stuck() {
    let workflows: [(Workflow, &str); 5] = [
        (
            // The runtime wakes whoever yields to it, from outside.
            |ctx, _| {
                Box::pin(async move {
                    ctx.sleep(seconds(1)).await; // last before a yield
                    tokio::task::yield_now().await;
                    Ok("never".into())
                })
            },
            "last before a yield",
        ),
        (
            |ctx, _| {
                Box::pin(async move {
                    ctx.step("before", async || Ok(())).await?; // last before nothing
                    std::future::pending::<()>().await;
                    Ok("never".into())
                })
            },
            "last before nothing",
        ),
        (
            |ctx, _| {
                Box::pin(async move {
                    ctx.sleep(seconds(1)).await; // last before a minute
                    nap(60_000).await;
                    Ok("never".into())
                })
            },
            "last before a minute",
        ),
        (
            |ctx, _| {
                Box::pin(async move {
                    let (_send, mut receive) = mpsc::channel::<u64>(1);
                    let fed = async |_| Ok(receive.recv().await.is_some());
                    ctx.scope("inner", fed).await?; // last before an own channel
                    Ok("never".into())
                })
            },
            "last before an own channel",
        ),
        (|_, _| Box::pin(std::future::pending()), "its beginning"),
    ];
    for (workflow, mark) in workflows {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine(&memory, &world, workflow).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let error = run.result().await.expect_err("stuck, not hanging");
            assert_eq!(error.kind(), ErrorKind::Stuck);
            let stuck = run.stuck().await.expect("readable").expect("stuck");
            assert_eq!(stuck.reason, StuckReason::WaitsForNothing);
            let place = if mark == "its beginning" { mark.to_string() } else { here(mark) };
            assert!(stuck.detail.contains(&place), "{place} in {}", stuck.detail);
            assert!(error.to_string().contains("then `retry`"), "{error}");
        });
    }
}

/// A claimed step that nobody polls is no wait.
#[test]
fn an_operation_that_nobody_polls_is_no_wait() {
    let (outcome, ..) = run_once(1, async |ctx: Ctx, _| {
        let _step = ctx.step("made", async || Ok(1u64));
        std::future::pending().await
    });
    assert!(outcome.expect_err("stuck").contains("waits for nothing durable"));
}

/// What stays inside the function, and what a body waits for, is not foreign.
#[test]
fn own_channels_and_bodies_are_not_reported() {
    let workflows: [Workflow; 3] = [
        |ctx, _| {
            Box::pin(async move {
                let (send, mut receive) = mpsc::channel::<u64>(1);
                let (sent, got) = join!(
                    async {
                        for n in 0..50 {
                            ctx.step("make", || slow(1)).await?;
                            send.send(n).await?;
                        }
                        drop(send);
                        Ok::<_, everstep_core::Error>(())
                    },
                    async {
                        let mut sum = 0;
                        while let Some(n) = receive.recv().await {
                            sum += n;
                        }
                        sum
                    }
                );
                sent?;
                Ok(got.to_string())
            })
        },
        |ctx, _| {
            Box::pin(async move {
                let notify = tokio::sync::Notify::new();
                let ((), ()) = join!(notify.notified(), async {
                    ctx.sleep(seconds(1)).await;
                    notify.notify_one();
                });
                Ok("1225".into())
            })
        },
        |ctx, _| {
            Box::pin(async move {
                let body = async || {
                    let (send, receive) = oneshot::channel();
                    tokio::spawn(async move {
                        nap(5).await;
                        send.send(1225u64)
                    });
                    Ok(receive.await?)
                };
                let blocking = ctx.step_blocking("blocking", || Ok(1u64));
                let (n, one) = join!(ctx.step("body", body), blocking);
                Ok((n? * one?).to_string())
            })
        },
    ];
    for workflow in workflows {
        let (outcome, _, events) = run_once_with(warned(), 1, workflow);
        assert_eq!(outcome.as_deref(), Ok("1225"));
        assert_eq!(reported(&events), Vec::<String>::new());
    }
}

/// A body that wakes the function past its step, through something they share.
#[test]
fn a_body_that_wakes_the_function_is_reported() {
    let (outcome, _, events) = run_once_with(warned(), 1, async |ctx: Ctx, _| {
        let notify = tokio::sync::Notify::new();
        let (done, ()) = join!(
            ctx.step("rings", async || {
                nap(5).await;
                notify.notify_one();
                nap(5).await;
                Ok("rung".to_string())
            }),
            notify.notified()
        );
        done
    });
    assert_eq!(outcome.as_deref(), Ok("rung"));
    assert_eq!(reported(&events).len(), 1, "on replay the body does not run, and nobody rings");
}

/// Each wake that comes from elsewhere is reported, and not again at every poll after it.
#[test]
fn one_foreign_wake_is_reported_once() {
    let (outcome, _, events) = run_once_with(warned(), 1, async |ctx: Ctx, _| {
        let ((), ()) = join!(nap(5), ctx.sleep(seconds(1)));
        for _ in 0..3 {
            ctx.sleep(seconds(1)).await;
        }
        Ok("done".to_string())
    });
    assert_eq!(outcome.as_deref(), Ok("done"));
    let told = events.iter().filter(|event| matches!(event, Event::NotDurable { .. })).count();
    assert_eq!(told, 1, "{events:?}");
}
