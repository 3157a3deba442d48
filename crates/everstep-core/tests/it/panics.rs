//! Panics of user code, wherever they come from: the run ends in a state that the documentation names, nothing else is
//! harmed, and mended code goes on.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::common::{W, engine, plain, virtual_time};
use everstep_core::{
    BoxFuture, Ctx, Error, ErrorKind, Result, Retry, Run, Simulation, Status, StuckReason, Verdict, seconds,
    store::{Inspect, Memory},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

type Workflow = fn(Ctx, u64, Arc<AtomicBool>) -> BoxFuture<'static, Result<String>>;

/// What a run with panicking code came to.
#[derive(Debug)]
struct Came {
    status: Status,
    reason: Option<StuckReason>,
    said: String,
}

/// Runs `workflow` beside a healthy run that waits for a minute; then, if it is stuck, with mended code. The panicking
/// run, and how it ended after it was mended.
fn run(workflow: Workflow) -> (Came, std::result::Result<String, String>) {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let broken = Arc::new(AtomicBool::new(true));
        let flag = broken.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, n| {
            let flag = flag.clone();
            let healthy = async |ctx: Ctx| {
                ctx.sleep(seconds(60)).await;
                ctx.step("fine", async || Ok("fine".to_string())).await
            };
            let work: BoxFuture<'static, Result<String>> = match n {
                0 => Box::pin(async move { healthy(ctx).await }),
                _ => workflow(ctx, n, flag),
            };
            work
        })
        .await;
        let beside = engine.start(W, "beside", 0).await.expect("it starts");
        let run: Run<String> = engine.start(W, "r", 7).await.expect("it starts");
        let said = plain(run.result().await).unwrap_or_else(|e| e);
        let status = run.status().await.expect("readable");
        let reason = run.stuck().await.expect("readable").map(|s| s.reason);
        broken.store(false, Ordering::SeqCst);
        if status == Status::Stuck {
            engine.retry("r").await.expect("stuck runs may be retried");
        }
        let mended = plain(run.result().await);
        assert_eq!(plain(beside.result().await).as_deref(), Ok("fine"), "the run beside it goes on");
        assert_eq!(plain(engine.run(W, "later", 0).await).as_deref(), Ok("fine"), "and so does the engine");
        engine.shutdown().await.expect("it leaves");
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!(row.owner, None, "nobody holds it");
        (Came { status, reason, said }, mended)
    })
}

/// The run is stuck because its function panicked, names the line before it, and completes once the code is mended.
fn check_stuck(workflow: Workflow, said: &str) {
    let (came, mended) = run(workflow);
    assert_eq!((came.status, came.reason), (Status::Stuck, Some(StuckReason::Panicked)), "{came:?}");
    assert!(came.said.contains(said) && came.said.contains("mend the code, then `retry`"), "{}", came.said);
    assert_eq!(mended.as_deref(), Ok("mended"));
}

fn broken(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}

#[test]
fn a_panic_in_the_function_makes_its_run_stuck() {
    check_stuck(
        |ctx, _, flag| {
            Box::pin(async move {
                ctx.step("before", async || Ok(())).await?;
                assert!(!broken(&flag), "in the middle");
                Ok("mended".into())
            })
        },
        "in the middle",
    );
    check_stuck(
        |_, _, flag| {
            assert!(!broken(&flag), "before the first await");
            Box::pin(async { Ok("mended".into()) })
        },
        "panicked at its call: before the first await",
    );
    check_stuck(
        |_, _, flag| {
            Box::pin(async move {
                if broken(&flag) {
                    std::panic::panic_any(42u8);
                }
                Ok("mended".into())
            })
        },
        "(no message)",
    );
    check_stuck(
        |ctx, _, flag| {
            Box::pin(async move {
                let scoped = ctx.scope("inner", async |ctx| {
                    ctx.step("before", async || Ok(())).await?;
                    assert!(!broken(&flag), "in a scope");
                    Ok("mended".to_string())
                });
                ctx.timeout(seconds(9), scoped).await?.ok_or_else(|| "too late".into())
            })
        },
        "in a scope",
    );
}

/// In a body a panic is a failed attempt: before its first await, after it, and on the blocking pool.
#[test]
fn a_panic_in_a_body_is_a_failed_attempt() {
    let workflows: [Workflow; 3] = [
        |ctx, _, _| {
            Box::pin(async move {
                ctx.step("body", || {
                    assert_eq!(ctx.id(), "another", "oh no");
                    async { Ok("never".to_string()) }
                })
                .retry(Retry::fixed(3, seconds(1)))
                .await
            })
        },
        |ctx, _, _| {
            Box::pin(async move {
                ctx.step("body", async || -> Result<String> {
                    tokio::task::yield_now().await;
                    panic!("oh no")
                })
                .retry(Retry::fixed(3, seconds(1)))
                .await
            })
        },
        |ctx, _, _| {
            Box::pin(async move {
                ctx.step_blocking("body", || panic!("oh no")).retry(Retry::fixed(3, seconds(1))).await
            })
        },
    ];
    for workflow in workflows {
        let (came, _) = run(workflow);
        assert_eq!(came.status, Status::Failed, "{came:?}");
        assert!(came.said.starts_with("panicked: ") && came.said.contains("oh no"), "{came:?}");
        assert!(came.said.ends_with("(EV0003 Panic)"), "{came:?}");
    }
}

/// `verify` that panics cannot tell: a person is asked.
#[test]
fn a_panic_in_verify_asks_a_person() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            ctx.step("pay", async || -> Result<String> { panic!("in the body") })
                .verify(async move |_| -> Result<Verdict<String>> {
                    assert!(n > 100, "in verify");
                    Ok(Verdict::NotDone)
                })
                .await
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let asks = run.result().await.expect_err("it asks");
        assert_eq!(asks.kind(), ErrorKind::Stuck);
        assert!(asks.to_string().contains("`verify` could not tell: panicked: in verify"), "{asks}");
        assert_eq!(run.stuck().await.expect("readable").map(|s| s.reason), Some(StuckReason::InDoubt));
        let answer = everstep_core::journal::Answer::Done { value: "\"paid\"".to_string() };
        engine.answer("r", answer).await.expect("a person looked");
        assert_eq!(plain(run.result().await).as_deref(), Ok("paid"));
    });
}

/// Panics when it is dropped, unless the thread panics already: that would end the process, as everywhere in Rust.
struct Guard(Arc<AtomicBool>);
impl Drop for Guard {
    fn drop(&mut self) {
        assert!(!self.0.load(Ordering::SeqCst) || std::thread::panicking(), "in a guard");
    }
}

#[test]
fn a_panic_in_a_guard_of_the_function_makes_its_run_stuck() {
    check_stuck(
        |ctx, _, flag| {
            Box::pin(async move {
                let _guard = Guard(flag);
                ctx.step("work", async || Ok("mended".to_string())).await
            })
        },
        "in a guard",
    );
}

/// A guard inside a body: when the body returned, when it is dropped out of time, and when its step lost a race.
#[test]
fn a_panic_in_a_guard_of_a_body_harms_its_own_run_only() {
    let workflows: [Workflow; 3] = [
        |ctx, _, flag| {
            Box::pin(async move {
                ctx.step("work", async move || {
                    let _guard = Guard(flag);
                    Ok("mended".to_string())
                })
                .retry(Retry::fixed(2, seconds(1)))
                .await
            })
        },
        |ctx, _, flag| {
            Box::pin(async move {
                let held = flag.clone();
                let step = ctx.step("work", async move || {
                    let guard = Guard(held);
                    if broken(&guard.0) {
                        std::future::pending::<()>().await;
                    }
                    Ok("mended".to_string())
                });
                step.attempt_timeout(seconds(1)).retry(Retry::fixed(2, seconds(1))).await
            })
        },
        |ctx, _, flag| {
            Box::pin(async move {
                everstep_core::select! {
                    lost = ctx.step("loser", async || {
                        let _guard = Guard(flag.clone());
                        std::future::pending::<()>().await;
                        Ok("never".to_string())
                    }) => lost,
                    won = ctx.step("winner", async || Ok("mended".to_string())) => won,
                }
            })
        },
    ];
    for workflow in workflows {
        let (came, mended) = run(workflow);
        assert!(came.said.contains("in a guard"), "{came:?}");
        assert!(matches!(came.status, Status::Failed | Status::Stuck), "{came:?}");
        if came.status == Status::Stuck {
            assert_eq!((came.reason, mended.as_deref()), (Some(StuckReason::Panicked), Ok("mended")));
        }
    }
}

/// Guards also run when the driver drops a function that waits: for a cancel, and when the engine leaves.
#[test]
fn a_panic_in_a_guard_does_not_hinder_cancel_or_shutdown() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| {
            let _guard = Guard(Arc::new(AtomicBool::new(true)));
            ctx.step("work", async || {
                let _guard = Guard(Arc::new(AtomicBool::new(true)));
                std::future::pending::<Result<()>>().await
            })
            .await?;
            Ok("never".to_string())
        };
        let first = engine(&memory, &world, workflow).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        first.start(W, "other", 7).await.expect("it starts");
        crate::common::settle().await;
        first.cancel("r", "enough").await.expect("open");
        assert_eq!(run.result().await.expect_err("cancelled").kind(), ErrorKind::Cancelled);
        first.shutdown().await.expect("it leaves");
        let row = memory.run("other".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.owner), (Status::Pending, None), "given back");
    });
}

#[test]
fn a_panic_in_a_retry_predicate_makes_the_run_stuck() {
    check_stuck(
        |ctx, _, flag| {
            Box::pin(async move {
                let step = ctx.step("work", async || match broken(&flag) {
                    true => Err("refused".into()),
                    false => Ok("mended".to_string()),
                });
                step.retry(Retry::fixed(3, seconds(1)).when(|e| panic!("about `{e}`"))).await
            })
        },
        "about `refused`",
    );
}

static TRIED: AtomicU64 = AtomicU64::new(0);

/// Panics while it is written, or while it is read.
#[derive(Debug)]
struct Bad {
    writing: bool,
}
impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        TRIED.fetch_add(1, Ordering::SeqCst);
        assert!(!self.writing, "while writing");
        serializer.serialize_u8(1)
    }
}
impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Bad, D::Error> {
        panic!("while reading")
    }
}
impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad")
    }
}
impl std::error::Error for Bad {}

/// A result is written and read back as part of its attempt.
#[test]
fn a_panic_while_a_result_is_recorded_is_a_failed_attempt() {
    let workflows: [(Workflow, &str); 2] = [
        (
            |ctx, _, _| {
                Box::pin(async move {
                    ctx.step("work", async || Ok(Bad { writing: true })).await.map(|bad| bad.to_string())
                })
            },
            "panicked: while writing (EV0003 Panic)",
        ),
        (
            |ctx, _, _| {
                Box::pin(async move {
                    ctx.step("work", async || Ok(Bad { writing: false })).await.map(|bad| bad.to_string())
                })
            },
            "panicked: while reading (EV0003 Panic)",
        ),
    ];
    for (workflow, said) in workflows {
        let (came, _) = run(workflow);
        assert_eq!((came.status, came.said.as_str()), (Status::Failed, said));
    }
    assert!(TRIED.load(Ordering::SeqCst) >= 2);
}

/// The input that people are shown is written by the function's own poll.
#[test]
fn a_panic_while_an_input_is_written_makes_the_run_stuck() {
    check_stuck(
        |ctx, _, flag| {
            Box::pin(async move {
                let input = Bad { writing: broken(&flag) };
                ctx.step("work", async || Ok("mended".to_string())).input(&input).await
            })
        },
        "while writing",
    );
}

#[test]
fn a_panic_while_the_outcome_is_written_makes_the_run_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let bad: everstep_core::Workflow<u64, Bad> = everstep_core::Workflow::new("bad");
        let engine = everstep_core::Engine::builder(memory.clone())
            .register(bad, async |_, _| Ok(Bad { writing: true }))
            .register(W, async |_, n: u64| Ok(n.to_string()))
            .simulated(&world)
            .start()
            .await
            .expect("it starts");
        let run = engine.start(bad, "r", 1).await.expect("it starts");
        let error = run.result().await.expect_err("stuck");
        assert!(error.to_string().contains("while writing"), "{error}");
        assert_eq!(run.stuck().await.expect("readable").map(|s| s.reason), Some(StuckReason::Panicked));
        assert_eq!(plain(engine.run(W, "other", 3).await).as_deref(), Ok("3"));
    });
}

/// A panic whose payload panics itself when it is dropped.
#[test]
fn a_panic_whose_payload_panics_harms_its_own_run_only() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("from the payload");
        }
    }
    let workflows: [Workflow; 2] = [
        |ctx, _, flag| {
            Box::pin(async move {
                let explode = async || {
                    if broken(&flag) {
                        std::panic::panic_any(Bomb);
                    }
                    Ok("mended".to_string())
                };
                ctx.step("body", explode).await
            })
        },
        |_, _, flag| {
            Box::pin(async move {
                if broken(&flag) {
                    std::panic::panic_any(Bomb);
                }
                Ok("mended".to_string())
            })
        },
    ];
    for workflow in workflows {
        let (came, mended) = run(workflow);
        assert!(matches!(came.status, Status::Failed | Status::Stuck), "{came:?}");
        assert!(came.status == Status::Failed || mended.as_deref() == Ok("mended"), "{mended:?}");
    }
}

/// Panics when it is shown.
#[derive(Debug)]
struct Mute;
impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}
impl std::error::Error for Mute {}

/// An error is written down by the driver: it fails, of a step and of the run, and says that it has no text.
#[test]
fn an_error_whose_own_text_panics_is_an_error() {
    let workflows: [(Workflow, &str); 3] = [
        (
            |ctx, _, _| Box::pin(async move { ctx.step("work", async || Err(Error::from(Mute))).await }),
            "no words",
        ),
        (|_, _, _| Box::pin(async move { Err(Error::from(Mute)) }), "no words"),
        (
            |ctx, _, _| {
                let typed = async || -> Result<String> { Err(Bad { writing: true })? };
                Box::pin(async move { ctx.step("work", typed).typed::<Bad>().await })
            },
            "while writing",
        ),
    ];
    for (workflow, said) in workflows {
        let (came, _) = run(workflow);
        assert_eq!(came.status, Status::Failed, "{came:?}");
        let begin = format!("an error whose own text panicked: {said} (EV0001 Raised, ");
        assert!(came.said.starts_with(&begin), "{came:?}");
    }
}

/// Panics in many runs at once: none is lost, none is stuck for another's.
#[test]
fn a_hundred_panicking_runs_and_a_hundred_others() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            ctx.sleep(Duration::from_millis(n % 10)).await;
            ctx.step("one", async || Ok(())).await?;
            assert!(n % 2 == 0, "odd");
            Ok(n.to_string())
        })
        .await;
        let runs: Vec<_> = engine
            .start_batch(W, (0..200).map(|n| (format!("r{n}"), n)))
            .await
            .expect("one wait")
            .into_iter()
            .map(|run| run.expect("it starts"))
            .collect();
        for (n, run) in runs.iter().enumerate() {
            match n % 2 {
                0 => assert_eq!(plain(run.result().await), Ok(n.to_string())),
                _ => assert_eq!(run.result().await.expect_err("stuck").kind(), ErrorKind::Stuck),
            }
        }
    });
}
