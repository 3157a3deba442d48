//! Undos: what a failed or cancelled run takes back, in which order, once, whatever the crash.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::common::{
    W, after, check_replays, engine, engine_with, finish, journal, nap, plain, settings, soon, started, told,
    virtual_time,
    wrapped::{Wrapped, transaction},
};
use everstep_core::{
    Code, Ctx, Engine, Event, Result, Retry, Settings, Simulation, Status, StuckReason, days, join,
    journal::{Answer, Kind},
    minutes, select,
    store::{Inspect, Memory},
};

/// What has happened outside, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn add(&self, what: impl Into<String>) {
        self.0.lock().expect("unpoisoned").push(what.into());
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("unpoisoned"))
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().expect("unpoisoned").iter().filter(|it| *it == what).count()
    }
}

/// Does `name`, and takes it back when the run fails.
async fn book(ctx: &Ctx, log: &Log, name: &str) -> Result<String> {
    let undo = log.clone();
    let out = format!("{name}!");
    ctx.step(name, async || {
        log.add(format!("do {name}"));
        Ok(out)
    })
    .undo(async move |out| {
        undo.add(format!("undo {out}"));
        Ok(())
    })
    .await
}

fn trip(
    log: &Log,
) -> impl Fn(Ctx, u64) -> futures_util::future::BoxFuture<'static, Result<String>> + Clone + use<> {
    let log = log.clone();
    move |ctx, _| {
        let log = log.clone();
        Box::pin(async move {
            for name in ["hotel", "flight", "hotel"] {
                book(&ctx, &log, name).await?;
            }
            ctx.step("pay", async || -> Result<u64> { Err("declined")? }).await?;
            Ok("booked".to_string())
        })
    }
}

const UNDONE: [&str; 3] = ["undo hotel!", "undo flight!", "undo hotel!"];

#[test]
fn a_failed_run_undoes_its_steps_last_first_and_fails_as_it_would_have() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let (outcome, journal, events) = finish(&memory, &world, trip(&log)).await;
        assert!(outcome.expect_err("failed").contains("declined"));
        assert_eq!(log.take()[3..], UNDONE);
        let told = told(&journal);
        let shown: Vec<_> =
            told[4..].iter().map(|line| line.split(" {").next().unwrap_or_default()).collect();
        assert_eq!(
            shown,
            [
                "4 StepFailed pay 1",
                "5 Failing - 0",
                "6 UndoBegun hotel#2 0 null",
                "7 StepDone undo/hotel#2 1 null",
                "8 UndoBegun flight 0 null",
                "9 StepDone undo/flight 1 null",
                "10 UndoBegun hotel 0 null",
                "11 StepDone undo/hotel 1 null",
                "12 Failed - 0"
            ]
        );
        let begun: Vec<_> = events
            .into_iter()
            .filter_map(
                |event| if let Event::UndoBegun { key, .. } = event { Some(key.to_string()) } else { None },
            )
            .collect();
        assert_eq!(begun, ["hotel#2", "flight", "hotel"]);
    });
}

#[test]
fn whatever_entry_was_the_last_each_step_is_undone_once() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let (first, whole, _) = finish(&memory, &world, trip(&log)).await;
        let whole_log = log.take();
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let (outcome, again, _) = finish(&memory, &world, trip(&log)).await;
            assert_eq!((outcome, told(&again)), (first.clone(), told(&whole)), "cut after {cut}");
            // What the entries up to the cut tell was done before, and is not done again.
            let recorded = whole[..cut].iter().filter(|e| e.known_kind() == Some(Kind::StepDone)).count();
            assert_eq!(log.take(), whole_log[recorded..], "cut after {cut}");
        }
    });
}

#[test]
fn undoing_replays() {
    let log = Log::default();
    assert!(check_replays(trip(&log)).contains("declined"));
}

/// The process dies inside each body in turn: the step is repeated, and nothing else.
#[test]
fn a_crash_inside_an_undo_goes_on_with_that_undo() {
    virtual_time(async {
        for dies_in in 1..=3 {
            let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
            let workflow = |dies_in: usize| {
                let log = log.clone();
                move |ctx: Ctx, _| {
                    let log = log.clone();
                    async move {
                        for name in ["a", "b", "c"] {
                            let undo = log.clone();
                            ctx.step("s", async || Ok(name.to_string()))
                                .undo(async move |name| {
                                    undo.add(name);
                                    if undo.0.lock().expect("unpoisoned").len() == dies_in {
                                        std::future::pending::<()>().await;
                                    }
                                    Ok(())
                                })
                                .await?;
                        }
                        Err("no")?
                    }
                }
            };
            let first = engine(&memory, &world, workflow(dies_in)).await;
            first.start(W, "r", 7).await.expect("it starts");
            nap(100).await;
            drop(first);
            nap(10).await;
            let (outcome, ..) = finish(&memory, &world, workflow(0)).await;
            assert!(outcome.expect_err("failed").contains("no"));
            let mut expected = vec!["c", "b", "a"];
            expected.insert(dies_in, expected[dies_in - 1]);
            assert_eq!(log.take(), expected, "died in {dies_in}");
        }
    });
}

/// The error is durable before the first undo: whatever the code would do now, it is not called on.
#[test]
fn a_run_that_has_failed_is_not_called_on() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let workflow = |bodies: Log| {
            move |ctx: Ctx, _| {
                let (log, undo) = (bodies.clone(), bodies.clone());
                async move {
                    ctx.step("a", async || Ok(1u64))
                        .undo(async move |_| {
                            undo.add("undo");
                            Ok(())
                        })
                        .await?;
                    let late = ctx.step("late", async || {
                        log.add("late");
                        Ok(1u64)
                    });
                    drop(late);
                    Err("no")?
                }
            }
        };
        finish(&memory, &world, workflow(log.clone())).await.0.expect_err("failed");
        let whole = journal(&memory).await;
        let failing = whole.iter().position(|e| e.known_kind() == Some(Kind::Failing)).expect("there");
        memory.truncate("r", failing + 1);
        log.take();
        // Under another build the code would have gone on.
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let going_on = engine_with(&memory, &world, other, {
            let log = log.clone();
            move |ctx: Ctx, _| {
                let (log, undo) = (log.clone(), log.clone());
                async move {
                    ctx.step("a", async || Ok(1u64))
                        .undo(async move |_| {
                            undo.add("undo");
                            Ok(())
                        })
                        .await?;
                    ctx.step("more", async || {
                        log.add("more");
                        Ok(1u64)
                    })
                    .await?;
                    Ok("well".to_string())
                }
            }
        })
        .await;
        let run = going_on.get(W, "r").await.expect("found");
        let report = plain(soon(run.result()).await).expect_err("stuck");
        assert!(report.contains("diverged") && report.contains("has not failed"), "{report}");
        assert_eq!(log.take(), Vec::<String>::new());
    });
}

#[test]
fn a_run_that_returns_a_value_or_forgets_undoes_nothing() {
    let log = Log::default();
    let undo = log.clone();
    let done = check_replays(move |ctx: Ctx, _| {
        let log = undo.clone();
        async move { book(&ctx, &log, "hotel").await }
    });
    assert_eq!((done.as_str(), log.count("undo hotel!")), ("hotel!", 0));
    let undo = log.clone();
    let failed = check_replays(move |ctx: Ctx, _| {
        let log = undo.clone();
        async move {
            book(&ctx, &log, "hotel").await?;
            ctx.forget_undos();
            book(&ctx, &log, "flight").await?;
            Err("no")?
        }
    });
    assert!(failed.contains("no"));
    assert_eq!(log.count("undo hotel!"), 0);
    assert!(log.count("undo flight!") > 0, "what came later is undone");
}

/// Its body has returned in the poll in which the function drops it: its effect is there.
#[test]
fn a_dropped_step_whose_outcome_is_recorded_is_undone() {
    let log = Log::default();
    let noted = log.clone();
    let out = check_replays(move |ctx: Ctx, _| {
        let (log, undo) = (noted.clone(), noted.clone());
        async move {
            let slow = ctx.step("slow", async || {
                log.add("slow");
                after(10, 5).await
            });
            let slow = slow.undo(async move |n: u64| {
                undo.add(format!("undo {n}"));
                Ok(())
            });
            let fast = ctx.step("fast", async || after(10, 1).await);
            select! {
                n = fast => n?,
                n = slow => n?,
            };
            Err("no")?
        }
    });
    assert!(out.contains("no"));
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        log.take();
        let noted = log.clone();
        let workflow = move |ctx: Ctx, _| {
            let (log, undo) = (noted.clone(), noted.clone());
            async move {
                let slow = ctx.step("slow", async || after(10, 5).await).undo(async move |n: u64| {
                    undo.add(format!("undo {n}"));
                    Ok(())
                });
                let fast = ctx.step("fast", async || after(10, 1).await);
                select! {
                    n = fast => n?,
                    n = slow => n?,
                };
                log.add("raced");
                Err("no")?
            }
        };
        finish(&memory, &world, workflow.clone()).await.0.expect_err("failed");
        let kinds = told(&journal(&memory).await);
        assert!(kinds.iter().any(|line| line.contains("StepDone slow")), "{kinds:?}");
        assert_eq!(log.take(), ["raced", "undo 5"]);
        // Found again on replay, where nobody waits for it.
        let before = kinds.iter().position(|line| line.contains("UndoBegun")).expect("there");
        memory.truncate("r", before);
        finish(&memory, &world, workflow).await.0.expect_err("failed");
        assert_eq!(log.take(), ["raced", "undo 5"]);
    });
}

/// Side by side: the order is that in which outcomes were delivered, not that of the calls.
#[test]
fn the_order_is_that_of_the_outcomes() {
    let log = Log::default();
    let noted = log.clone();
    let workflow = move |ctx: Ctx, _| {
        let log = noted.clone();
        async move {
            let one = |ctx: Ctx, ms: u64| {
                let undo = log.clone();
                async move {
                    ctx.step("s", async || after(ms, ms).await)
                        .undo(async move |ms: u64| {
                            undo.add(ms.to_string());
                            Ok(())
                        })
                        .await
                }
            };
            let (a, b, c) = join!(
                ctx.scope("a", async |ctx| one(ctx, 30).await),
                ctx.scope("b", async |ctx| one(ctx, 10).await),
                ctx.scope("c", async |ctx| one(ctx, 20).await),
            );
            a?;
            b?;
            c?;
            Err("no")?
        }
    };
    virtual_time(async {
        finish(&Memory::default(), &Simulation::new(1), workflow.clone()).await.0.expect_err("failed");
    });
    assert_eq!(log.take(), ["30", "20", "10"]);
    assert!(check_replays(workflow).contains("no"));
}

/// A workflow whose undo of `a` works only when `works`; `b` is undone before it.
fn undo_fails(
    log: &Log,
    works: &Arc<AtomicBool>,
) -> impl Fn(Ctx, u64) -> futures_util::future::BoxFuture<'static, Result<String>> + use<> {
    let (log, works) = (log.clone(), works.clone());
    move |ctx, _| {
        let (log, works) = (log.clone(), works.clone());
        Box::pin(async move {
            let (tries, before) = (log.clone(), log.clone());
            ctx.step("first", async || Ok(1u64))
                .undo(async move |_| {
                    before.add("first");
                    Ok(())
                })
                .await?;
            ctx.step("a", async || Ok(1u64))
                .retry(Retry::fixed(3, minutes(10)))
                .undo(async move |_| {
                    tries.add("try");
                    match works.load(Ordering::SeqCst) {
                        true => Ok(()),
                        false => Err("the hotel does not answer")?,
                    }
                })
                .await?;
            book(&ctx, &log, "b").await?;
            Err("no")?
        })
    }
}

/// A run that is stuck because an undo failed, its pauses spent out of memory.
async fn stuck_in_undo(memory: &Memory, log: &Log, works: &Arc<AtomicBool>) -> Engine {
    let engine = engine(memory, &Simulation::new(1), undo_fails(log, works)).await;
    let run = engine.start(W, "r", 7).await.expect("it starts");
    nap(60_000).await;
    let row = memory.run("r".into()).await.expect("reads").expect("there");
    assert_eq!((row.status, row.owner), (Status::Waiting, None), "a long pause parks the run");
    let report = plain(soon(run.result()).await).expect_err("stuck");
    assert!(report.contains("undo failed") && report.contains("does not answer"), "{report}");
    let stuck = run.stuck().await.expect("reads").expect("it is");
    assert_eq!((stuck.reason, stuck.key.as_deref()), (StuckReason::UndoFailed, Some("undo/a")));
    assert_eq!(log.take(), ["do b", "undo b!", "try", "try", "try"]);
    engine
}

#[test]
fn an_undo_that_fails_makes_the_run_stuck_and_retry_goes_on_with_it() {
    virtual_time(async {
        let (memory, log, works) = (Memory::default(), Log::default(), Arc::default());
        let engine = stuck_in_undo(&memory, &log, &works).await;
        works.store(true, Ordering::SeqCst);
        engine.retry("r").await.expect("it is stuck");
        let run = engine.get(W, "r").await.expect("found");
        let failed = plain(soon(run.result()).await).expect_err("failed");
        assert!(failed.starts_with("no"), "{failed}");
        assert_eq!(run.status().await.expect("reads"), Status::Failed);
        assert_eq!(log.take(), ["try", "first"], "the other one was undone before");
    });
}

#[test]
fn a_person_answers_for_an_undo() {
    virtual_time(async {
        for answer in [
            Answer::Done { value: "null".to_string() },
            Answer::Fail { message: "it is gone anyway".to_string() },
        ] {
            let (memory, log, works) = (Memory::default(), Log::default(), Arc::default());
            let engine = stuck_in_undo(&memory, &log, &works).await;
            engine.answer("r", answer).await.expect("it asks");
            let run = engine.get(W, "r").await.expect("found");
            plain(soon(run.result()).await).expect_err("failed");
            assert_eq!(log.take(), ["first"], "it goes on with the others");
            assert_eq!(run.status().await.expect("reads"), Status::Failed);
        }
    });
}

/// Counterexample 34: what was undone is not there any more, and a retry would go on with its results.
#[test]
fn a_run_whose_steps_were_undone_is_not_retried() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let engine = engine(&memory, &world, trip(&log)).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        soon(run.result()).await.expect_err("failed");
        let refused = engine.retry("r").await.expect_err("refused");
        assert_eq!(refused.code(), Code::NOT_ALLOWED);
        let advice = "`retry` is not possible: step `hotel` of run `r` was undone";
        assert!(refused.to_string().starts_with(advice), "{refused}");
        assert!(refused.to_string().contains("`rewind` it to `hotel`"), "{refused}");
        assert_eq!(run.status().await.expect("reads"), Status::Failed);
        // The advice is good, and less than it is not.
        engine.rewind("r", "flight").await.expect_err("the hotel is not booked any more");
        log.take();
        engine.rewind("r", "hotel").await.expect("goes back");
        soon(run.result()).await.expect_err("fails again");
        assert!(log.take().contains(&"do hotel".to_string()), "it was booked again");
    });
}

#[test]
fn no_scope_takes_the_keys_of_undos() {
    let out = check_replays(async |ctx: Ctx, _| {
        let refused = ctx.scope("undo", async |_| Ok(1u64)).await.expect_err("refused");
        ctx.scope("a", async |ctx| ctx.scope("undo", async |_| Ok(1u64)).await).await?;
        ctx.step("undo", async || Ok(1u64)).await?;
        Ok(refused.to_string())
    });
    assert!(out.contains("cannot be called `undo`"), "{out}");
}

/// Its grace is over, no body is left, and what becomes of a transaction that it dropped is not known yet.
#[test]
fn a_cancelled_run_waits_for_a_transaction_that_it_dropped() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| {
            let pays = transaction(&ctx, "pay", || Ok(5));
            let paid = ctx.timeout(Duration::from_millis(100), pays).await?;
            ctx.sleep(days(1)).await;
            Ok(format!("{paid:?}"))
        };
        store.hold_jobs();
        let engine = engine_with(&store, &world, settings(), workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1_000).await;
        engine.cancel("r", "enough").await.expect("open");
        nap(120_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running);
        store.release_jobs();
        // It was withdrawn in time: nothing of it is there.
        soon(run.result()).await.expect_err("cancelled");
        let told = told(&journal(&store.memory).await);
        assert!(!told.iter().any(|line| line.contains("pay")), "{told:?}");
        engine.shutdown().await.expect("it leaves");
    });
}

/// The store has committed it, and the process dies before that is in the journal.
#[test]
fn a_transaction_is_undone_though_its_record_was_found_later() {
    virtual_time(async {
        let (store, world, log) = (Wrapped::default(), Simulation::new(1), Log::default());
        let noted = log.clone();
        let workflow = move |ctx: Ctx, _| {
            let undo = noted.clone();
            async move {
                let pays = transaction(&ctx, "pay", || Ok(5)).undo(async move |cents| {
                    undo.add(format!("undo {cents}"));
                    Ok(())
                });
                let fails = ctx.step("fails", async || after(100_000, 0).await);
                let (paid, failed) = join!(pays, fails);
                failed?;
                Ok(paid?.to_string())
            }
        };
        store.hold_jobs();
        let engine = engine_with(&store, &world, settings(), workflow.clone()).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(50).await;
        engine.cancel("r", "enough").await.expect("open");
        nap(1_000).await;
        // It commits within the grace, and the answer does not come before the process dies, long after.
        store.answer_with_inbox_read(1_000);
        store.release_jobs();
        nap(20_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running);
        drop(engine);
        nap(50).await;
        assert_eq!(journal(&store.memory).await.len(), 2, "the start, and that it is to be cancelled");
        let again = engine_with(&store, &world, settings(), workflow).await;
        soon(run.result()).await.expect_err("cancelled");
        let told = told(&journal(&store.memory).await);
        let committed = told.iter().any(|line| line.contains("StepDone pay"));
        assert!(committed, "{told:?}");
        assert_eq!(log.take(), ["undo 5"], "{told:?}");
        drop(again);
    });
}

/// A step that somebody keeps beyond its function is dropped while another operation has its number.
#[test]
fn what_is_left_of_the_function_does_not_touch_what_is_undone() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        type Kept = Arc<Mutex<Vec<everstep_core::Step<'static, u64>>>>;
        let kept = Kept::default();
        let (keeps, noted) = (kept.clone(), log.clone());
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let (keeps, undo) = (keeps.clone(), noted.clone());
            async move {
                for _ in 0..8 {
                    keeps.lock().expect("unpoisoned").push(ctx.step("kept", async || Ok(0u64)));
                }
                ctx.step("a", async || Ok(1u64))
                    .undo(async move |_| {
                        nap(1_000).await;
                        undo.add("undo");
                        Ok(())
                    })
                    .await?;
                Err("no")?
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(500).await;
        kept.lock().expect("unpoisoned").clear();
        soon(run.result()).await.expect_err("failed");
        assert_eq!(log.take(), ["undo"]);
    });
}

/// It is repeated after a crash like any step, and its row tells people that it runs.
#[test]
fn a_long_undo_is_seen() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(1u64)).undo(async |_| after(10_000, 0).await.map(drop)).await?;
            Err("no")?
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(5_000).await;
        let rows: Vec<_> = started(&memory).await.iter().map(|row| row.key.to_string()).collect();
        assert_eq!(rows, ["undo/a"]);
        soon(run.result()).await.expect_err("failed");
        assert_eq!(started(&memory).await.len(), 0);
    });
}

/// A transaction that times out, and then the run fails.
fn pays_too_late(
    log: &Log,
    undoes: bool,
) -> impl Fn(Ctx, u64) -> futures_util::future::BoxFuture<'static, Result<String>> + Clone + use<> {
    let log = log.clone();
    move |ctx, _| {
        let log = log.clone();
        Box::pin(async move {
            let mut pays = transaction(&ctx, "pay", || Ok(5));
            // Its body is dropped and nothing more comes of it, so nothing of it is to be undone.
            let lost = ctx.step("lost", async || std::future::pending::<Result<u64>>().await);
            ctx.timeout(Duration::from_millis(100), lost.undo(async |_| Ok(()))).await?;
            if undoes {
                pays = pays.undo(async move |cents| {
                    log.add(format!("undo {cents}"));
                    Ok(())
                });
            }
            ctx.timeout(Duration::from_millis(100), pays).await?;
            Err("too late")?
        })
    }
}

/// The store has committed what the function dropped, and its answer comes when the function has failed.
#[test]
fn a_run_that_failed_waits_for_what_it_may_have_to_undo() {
    virtual_time(async {
        let (store, world, log) = (Wrapped::default(), Simulation::new(1), Log::default());
        store.answer_with_inbox_read(1_000);
        let engine = engine_with(&store, &world, settings(), pays_too_late(&log, true)).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running);
        store.send_answers();
        soon(run.result()).await.expect_err("failed");
        assert_eq!(log.take(), ["undo 5"]);
    });
}

#[test]
fn a_run_that_failed_does_not_wait_for_what_nobody_undoes() {
    virtual_time(async {
        let (store, world, log) = (Wrapped::default(), Simulation::new(1), Log::default());
        store.answer_with_inbox_read(1_000);
        let engine = engine_with(&store, &world, settings(), pays_too_late(&log, false)).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Failed);
        let entries = journal(&store.memory).await;
        assert!(entries.iter().all(|e| e.known_kind() != Some(Kind::Failing)), "{:?}", told(&entries));
    });
}

/// Other code returns a value where the run was recorded as failing.
#[test]
fn a_run_that_has_failed_does_not_complete_under_other_code() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let workflow = |fails: bool| {
            let log = log.clone();
            move |ctx: Ctx, _| {
                let undo = log.clone();
                async move {
                    let a = ctx.step("a", async || Ok(1u64)).undo(async move |_| {
                        undo.add("undo");
                        Ok(())
                    });
                    a.await?;
                    if fails { Err("no")? } else { Ok("well".to_string()) }
                }
            }
        };
        finish(&memory, &world, workflow(true)).await.0.expect_err("failed");
        memory.truncate("r", 3);
        log.take();
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let engine = engine_with(&memory, &world, other, workflow(false)).await;
        let run = engine.get(W, "r").await.expect("found");
        let report = plain(soon(run.result()).await).expect_err("stuck");
        assert!(report.contains("diverged") && report.contains("has not failed"), "{report}");
        assert_eq!(log.take(), Vec::<String>::new());
    });
}
