//! Cancel, which lets a run end in good order, and kill, which does not.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    common::{
        W, after, engine, engine_with, finish, journal, nap, plain, settings, soon, started, told,
        virtual_time, wrapped::Wrapped,
    },
    undo::Log,
};
use everstep_core::{
    Client, Code, Ctx, Doubt, Engine, ErrorKind, Result, Settings, Simulation, Status, StepCtx, Workflow,
    days, join,
    journal::{Entry, Kind},
    seconds,
    store::{Inspect, Memory},
};

fn kinds(entries: &[Entry]) -> Vec<(Kind, &str)> {
    entries.iter().filter_map(|e| Some((e.known_kind()?, e.key.as_deref().unwrap_or("-")))).collect()
}

/// Three bodies: one listens, one ends by itself within the grace, one does neither. Each has an undo.
fn three(
    log: &Log,
) -> impl Fn(Ctx, u64) -> futures_util::future::BoxFuture<'static, Result<String>> + Clone + use<> {
    let log = log.clone();
    move |ctx, _| {
        let log = log.clone();
        Box::pin(async move {
            let undo = |what: &'static str| {
                let log = log.clone();
                async move |n: u64| {
                    log.add(format!("undo {what} {n}"));
                    Ok(())
                }
            };
            let (at_end, noted) = (log.clone(), log.clone());
            ctx.on_cancel(async move |s: StepCtx| {
                at_end.add(format!("cleanup {}", s.key()));
                Ok(())
            });
            ctx.step("first", async || Ok(0u64)).undo(undo("first")).await?;
            let listens = ctx.step("listens", async |s: StepCtx| {
                s.cancelled().await;
                assert!(s.is_cancelled());
                let left = s.deadline().expect("a grace").duration_since(std::time::UNIX_EPOCH);
                noted.add(format!("heard, until {}", left.expect("later").as_secs() % 1000));
                Ok(1u64)
            });
            let ends = ctx.step("ends", async || after(5_000, 2).await);
            let hangs = ctx.step("hangs", async || after(1_000_000, 3).await);
            let (a, b, c) =
                join!(listens.undo(undo("listens")), ends.undo(undo("ends")), hangs.undo(undo("hangs")));
            Ok(format!("{} {} {}", a?, b?, c?))
        })
    }
}

#[test]
fn running_steps_have_a_grace_and_what_ends_in_it_is_undone() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let engine = engine(&memory, &world, three(&log)).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(2_000).await;
        engine.cancel("r", "enough").await.expect("open");
        nap(9_900).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running, "within the grace");
        nap(200).await;
        assert_eq!(run.status().await.expect("reads"), Status::Cancelled);
        let entries = journal(&memory).await;
        let told = kinds(&entries);
        assert_eq!(
            told[1..],
            [
                (Kind::StepDone, "first"),
                (Kind::CancelAsked, "-"),
                (Kind::StepDone, "listens"),
                (Kind::StepDone, "ends"),
                (Kind::StepDone, "undo/$on_cancel"),
                (Kind::UndoBegun, "ends"),
                (Kind::StepDone, "undo/ends"),
                (Kind::UndoBegun, "listens"),
                (Kind::StepDone, "undo/listens"),
                (Kind::UndoBegun, "first"),
                (Kind::StepDone, "undo/first"),
                (Kind::Cancelled, "-"),
            ]
        );
        let rest = ["cleanup undo/$on_cancel", "undo ends 2", "undo listens 1", "undo first 0"];
        let noted = log.take();
        assert_eq!(noted[1..], rest);
        assert!(noted[0].starts_with("heard, until"), "{noted:?}");
        let rows: Vec<_> =
            started(&memory).await.into_iter().map(|r| (r.key.to_string(), r.abandoned)).collect();
        assert_eq!(rows, [("hangs".to_string(), true)], "what did not end is in doubt");
        let cancelled = run.result().await.expect_err("cancelled");
        assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    });
}

/// The process dies after each entry of such an end: it goes on from there, and does nothing twice.
#[test]
fn a_cancelled_run_ends_the_same_whatever_entry_was_the_last() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let first = engine(&memory, &world, three(&log)).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        nap(2_000).await;
        first.cancel("r", "enough").await.expect("open");
        soon(run.result()).await.expect_err("cancelled");
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        let asked = whole.iter().position(|e| e.known_kind() == Some(Kind::CancelAsked)).expect("there");
        for cut in asked + 1..whole.len() {
            log.take();
            let memory = memory.fork();
            memory.truncate("r", cut);
            let (outcome, again, _) = finish(&memory, &world, three(&log)).await;
            assert!(outcome.expect_err("cancelled").contains("enough"));
            assert_eq!(told(&again)[..cut], told(&whole)[..cut], "cut after {cut}");
            // Bodies that had not ended by then are in doubt, and end no more.
            let done: Vec<_> = again
                .iter()
                .filter(|e| e.known_kind() == Some(Kind::StepDone))
                .filter_map(|e| e.key.as_deref())
                .filter(|key| !key.starts_with("undo/"))
                .collect();
            let expected: Vec<_> = ["first", "listens", "ends"].into_iter().take((cut - 2).min(3)).collect();
            assert_eq!(done, expected, "cut after {cut}");
            let undone: Vec<_> =
                kinds(&again).into_iter().filter(|(kind, _)| *kind == Kind::UndoBegun).collect();
            let reverse: Vec<_> = expected.iter().rev().map(|key| (Kind::UndoBegun, *key)).collect();
            assert_eq!(undone, reverse, "cut after {cut}");
            let were_done =
                whole[..cut].iter().filter(|e| e.key.as_deref().is_some_and(|k| k.starts_with("undo/")));
            let were_done = were_done.filter(|e| e.known_kind() == Some(Kind::StepDone)).count();
            assert_eq!(log.take().len(), expected.len() + 1 - were_done, "cut after {cut}");
        }
    });
}

#[test]
fn a_run_that_ends_by_itself_cleans_up_nothing() {
    virtual_time(async {
        for fails in [false, true] {
            let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
            let noted = log.clone();
            let workflow = move |ctx: Ctx, _| {
                let (cleans, undoes) = (noted.clone(), noted.clone());
                async move {
                    ctx.on_cancel(async move |_| {
                        cleans.add("cleanup");
                        Ok(())
                    });
                    ctx.step("a", async || Ok(1u64))
                        .undo(async move |_| {
                            undoes.add("undo");
                            Ok(())
                        })
                        .await?;
                    if fails { Err("no")? } else { Ok("well".to_string()) }
                }
            };
            assert_eq!(finish(&memory, &world, workflow).await.0.is_err(), fails);
            assert_eq!(log.take(), if fails { vec!["undo"] } else { vec![] });
        }
    });
}

/// The last registered comes first, and a cancel while they run changes nothing.
#[test]
fn cleanups_run_in_reverse_and_a_second_cancel_is_too_late() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let noted = log.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let log = noted.clone();
            async move {
                for n in 0..3 {
                    let log = log.clone();
                    ctx.on_cancel(async move |s: StepCtx| {
                        nap(1_000).await;
                        log.add(format!("{n} {} {}", s.key(), s.is_cancelled()));
                        Ok(())
                    });
                }
                ctx.sleep(days(1)).await;
                Ok(String::new())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(10).await;
        engine.cancel("r", "enough").await.expect("open");
        nap(1_500).await;
        engine.cancel("r", "again").await.expect("open still");
        assert!(soon(run.result()).await.expect_err("cancelled").to_string().contains("enough"));
        let keys = ["2 undo/$on_cancel#3 false", "1 undo/$on_cancel#2 false", "0 undo/$on_cancel false"];
        assert_eq!(log.take(), keys);
    });
}

/// A run that a person looks at is undone too, if its function can be replayed to where it stood.
#[test]
fn cancelling_a_stuck_run_undoes_what_it_did() {
    for (how, undone) in [("in doubt", 1), ("panic", 1), ("retries", 1), ("diverged", 0)] {
        virtual_time(async {
            let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
            let diverges = Arc::new(AtomicBool::new(false));
            let (noted, other) = (log.clone(), diverges.clone());
            let engine = engine(&memory, &world, move |ctx: Ctx, _| {
                let (undoes, other) = (noted.clone(), other.clone());
                async move {
                    let name = if other.load(Ordering::SeqCst) { "b" } else { "a" };
                    let done = ctx.step(name, async || Ok(1u64));
                    done.undo(async move |_| {
                        undoes.add("undo");
                        Ok(())
                    })
                    .await?;
                    let asks = ctx.step("asks", async || match how {
                        "in doubt" => panic!("nobody knows"),
                        "retries" => Err("broken")?,
                        _ => Ok(1u64),
                    });
                    let asks = if how == "in doubt" { asks.on_doubt(Doubt::Ask) } else { asks.then_stuck() };
                    asks.await?;
                    assert!(how == "diverged", "on purpose");
                    ctx.sleep(seconds(5)).await;
                    Ok(String::new())
                }
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(2_000).await;
            if how == "diverged" {
                diverges.store(true, Ordering::SeqCst);
                nap(10_000).await;
            }
            assert_eq!(run.status().await.expect("reads"), Status::Stuck, "{how}");
            engine.cancel("r", "enough").await.expect("open");
            assert_eq!(
                soon(run.result()).await.expect_err("cancelled").kind(),
                ErrorKind::Cancelled,
                "{how}"
            );
            assert_eq!(log.take().len(), undone, "{how}");
            // The journal of such an end replays.
            let entries = journal(&memory).await;
            if undone > 0 {
                engine.shutdown().await.expect("it leaves");
                memory.truncate("r", entries.len() - 1);
                let again = engine_again(&memory, &world, &log, how).await;
                let run = again.get(W, "r").await.expect("found");
                assert_eq!(soon(run.result()).await.expect_err("cancelled").kind(), ErrorKind::Cancelled);
                assert_eq!((log.take().len(), told(&journal(&memory).await)), (0, told(&entries)), "{how}");
            }
        });
    }
}

async fn engine_again(memory: &Memory, world: &Simulation, log: &Log, how: &'static str) -> Engine {
    let noted = log.clone();
    let other = Settings { build: Some("again".to_string()), ..settings() };
    engine_with(memory, world, other, move |ctx: Ctx, _| {
        let undoes = noted.clone();
        async move {
            let done = ctx.step("a", async || Ok(1u64));
            done.undo(async move |_| {
                undoes.add("undo");
                Ok(())
            })
            .await?;
            ctx.step("asks", async || Ok(1u64)).await?;
            assert!(how == "diverged", "on purpose");
            Ok(String::new())
        }
    })
    .await
}

/// Registered and cancelled in every place of a run's life.
#[test]
fn a_run_of_every_status_is_killed_and_undoes_nothing() {
    for status in ["pending", "waiting", "running", "busy", "stuck", "undoing", "undo failed"] {
        virtual_time(async {
            let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
            let client = Client::simulated(memory.clone(), &world);
            let noted = log.clone();
            let workflow = move |ctx: Ctx, _| {
                let undoes = noted.clone();
                let cleans = noted.clone();
                async move {
                    ctx.on_cancel(async move |_| {
                        cleans.add("cleanup");
                        Ok(())
                    });
                    ctx.step("a", async || Ok(1u64))
                        .undo(async move |_| match status {
                            "undo failed" => Err("cannot")?,
                            _ => {
                                nap(100_000).await;
                                undoes.add("undo");
                                Ok(())
                            }
                        })
                        .await?;
                    match status {
                        "stuck" => panic!("on purpose"),
                        "undoing" | "undo failed" => Err("no")?,
                        "waiting" => ctx.sleep(days(1)).await,
                        "busy" => {
                            std::future::poll_fn(|cx| {
                                cx.waker().wake_by_ref();
                                std::task::Poll::<()>::Pending
                            })
                            .await
                        }
                        _ => ctx.step("long", async || after(1_000_000, 1).await.map(drop)).await?,
                    }
                    Ok(String::new())
                }
            };
            let run = client.start(W, "r", 7).await.expect("it starts");
            let mut first = None;
            if status != "pending" {
                first = Some(engine(&memory, &world, workflow.clone()).await);
                match status {
                    "busy" => {
                        for _ in 0..100 {
                            tokio::task::yield_now().await
                        }
                    }
                    _ => nap(5_000).await,
                }
            }
            let expected = match status {
                "pending" => Status::Pending,
                "waiting" => Status::Waiting,
                "stuck" | "undo failed" => Status::Stuck,
                _ => Status::Running,
            };
            assert_eq!(run.status().await.expect("reads"), expected, "{status}");
            client.kill("r", "Ada: no use").await.expect("open");
            let engine = match first {
                Some(engine) => engine,
                None => engine(&memory, &world, workflow).await,
            };
            let began = world_time();
            let killed = soon(run.result()).await.expect_err("killed");
            assert!(began.elapsed() < Duration::from_secs(1), "{status}: at once");
            assert_eq!(killed.kind(), ErrorKind::Cancelled, "{status}");
            assert!(killed.to_string().contains("killed: Ada: no use"), "{killed}");
            let entries = journal(&memory).await;
            let [.., asked, outcome] = &entries[..] else { panic!("{entries:?}") };
            assert_eq!(asked.known_kind(), Some(Kind::KillAsked), "{status}");
            assert_eq!(
                (&*asked.body.bytes, outcome.known_kind()),
                (&b"\"Ada: no use\""[..], Some(Kind::Cancelled))
            );
            assert_eq!(log.take(), Vec::<String>::new(), "{status}");
            engine.kill("r", "again").await.expect("it is cancelled: no error");
            engine.shutdown().await.expect("it leaves");
        });
    }
}

#[allow(clippy::disallowed_methods, reason = "tests take virtual time")]
fn world_time() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[test]
fn a_run_that_is_over_or_unknown_is_not_killed() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |_, _| Ok("done".to_string())).await;
        engine.run(W, "r", 7).await.expect("it ends");
        let refused = engine.kill("r", "").await.expect_err("over");
        assert_eq!(refused.code(), Code::NOT_ALLOWED);
        assert_eq!(engine.kill("nobody", "").await.expect_err("unknown").kind(), ErrorKind::NotFound);
    });
}

/// Who listens still hears it, and may end at once.
#[test]
fn without_grace_bodies_are_dropped_at_once() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let at_once = Settings { cancel_grace: Duration::ZERO, ..settings() };
        let engine = engine_with(&memory, &world, at_once, three(&log)).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        engine.cancel("r", "enough").await.expect("open");
        nap(10).await;
        assert_eq!(run.status().await.expect("reads"), Status::Cancelled);
        assert_eq!(log.take()[1..], ["cleanup undo/$on_cancel", "undo listens 1", "undo first 0"]);
    });
}

/// What comes in while bodies have their grace is not delivered, and lost to nobody.
#[test]
fn nothing_is_delivered_and_nothing_starts_within_the_grace() {
    virtual_time(async {
        let (store, world, log) = (Wrapped::default(), Simulation::new(1), Log::default());
        let noted = log.clone();
        let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
            let log = noted.clone();
            async move {
                let long = ctx.step("long", async || after(5_000, 1).await);
                let short = ctx.step("short", async || after(2_000, 1).await);
                let (long, _) = join!(long, async {
                    short.await?;
                    log.add("went on");
                    ctx.step("next", async || {
                        log.add("next");
                        Ok(1u64)
                    })
                    .await
                });
                Ok(long?.to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1_000).await;
        engine.cancel("r", "enough").await.expect("open");
        soon(run.result()).await.expect_err("cancelled");
        assert_eq!(log.take(), Vec::<String>::new());
        let told = kinds(&journal(&store.memory).await).iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        let expected = [Kind::Started, Kind::CancelAsked, Kind::StepDone, Kind::StepDone, Kind::Cancelled];
        assert_eq!(told, expected);
        assert_eq!(store.memory.run("r".into()).await.expect("reads").expect("there").owner, None);
    });
}

/// Its bodies are somewhere where nobody polls them: the grace would only be waited out.
#[test]
fn a_run_whose_function_panicked_has_no_grace() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let (answered, kept) = (store.clone(), Arc::new(Mutex::new(None)));
        let keeps = kept.clone();
        let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
            let (answered, keeps) = (answered.clone(), keeps.clone());
            async move {
                let mut long = Box::pin(ctx.step("long", async || after(1_000_000, 1).await));
                let asked = ctx.step("asked", async || {
                    answered.inbox_answered().await;
                    Ok(2u64)
                });
                let mut asked = pin!(asked);
                poll_fn(|cx| {
                    let _ = long.as_mut().poll(cx);
                    asked.as_mut().poll(cx)
                })
                .await?;
                *keeps.lock().expect("unpoisoned") = Some(long);
                panic!("on purpose")
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        engine.cancel("r", "enough").await.expect("open");
        nap(1_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Cancelled);
        assert!(kept.lock().expect("unpoisoned").is_some(), "it was kept until then");
    });
}

/// Its input is none of its workflow's: it would be stuck, and nobody would come to the kill.
#[test]
fn a_run_that_cannot_be_begun_is_killed() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let client = Client::simulated(memory.clone(), &world);
        let other: Workflow<String, String> = Workflow::new(W.name());
        let run = client.start(other, "r", "seven".to_string()).await.expect("it starts");
        client.kill("r", "Ada: no use").await.expect("open");
        let _engine = engine(&memory, &world, async |_: Ctx, _| Ok(String::new())).await;
        let killed = soon(run.result()).await.expect_err("killed");
        assert_eq!(killed.kind(), ErrorKind::Cancelled, "{killed}");
    });
}

/// It was cancelled while stuck, without its function: the entry that says so does not tell what that has done.
#[test]
fn the_end_of_a_run_whose_function_was_not_called_is_replayed() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = |panics: bool| {
            move |ctx: Ctx, _| {
                assert!(!panics, "on purpose");
                async move {
                    ctx.sleep(days(1)).await;
                    Ok(String::new())
                }
            }
        };
        let first = engine(&memory, &world, workflow(true)).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        soon(run.result()).await.expect_err("stuck");
        first.cancel("r", "enough").await.expect("open");
        soon(run.result()).await.expect_err("cancelled");
        first.shutdown().await.expect("it leaves");
        memory.truncate("r", 2);
        let again = engine(&memory, &world, workflow(false)).await;
        let run = again.get(W, "r").await.expect("found");
        let report = soon(run.result()).await.expect_err("cancelled");
        assert_eq!(report.kind(), ErrorKind::Cancelled, "{report}");
    });
}

/// Other code than that which was cancelled would have said more by then: what is not in the journal was not done. The
/// same code cannot have said more.
#[test]
fn an_end_that_is_replayed_by_other_code_says_nothing_new() {
    for build in ["test", "other"] {
        virtual_time(async {
            let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
            let workflow = |says: bool| {
                let log = log.clone();
                move |ctx: Ctx, _| {
                    let undoes = log.clone();
                    async move {
                        let a = ctx.step("a", async || Ok(1u64)).undo(async move |_| {
                            undoes.add("undo");
                            Ok(())
                        });
                        a.await?;
                        if says {
                            ctx.publish("stage", &1u64);
                        }
                        ctx.sleep(days(1)).await;
                        Ok(String::new())
                    }
                }
            };
            let first = engine(&memory, &world, workflow(false)).await;
            let run = first.start(W, "r", 7).await.expect("it starts");
            nap(10).await;
            first.cancel("r", "enough").await.expect("open");
            soon(run.result()).await.expect_err("cancelled");
            first.shutdown().await.expect("it leaves");
            memory.truncate("r", 3);
            log.take();
            let settings = Settings { build: Some(build.to_string()), ..settings() };
            let again = engine_with(&memory, &world, settings, workflow(true)).await;
            let run = again.get(W, "r").await.expect("found");
            let report = plain(soon(run.result()).await).expect_err("cancelled or stuck");
            let is_same = build == "test";
            assert_eq!(report.contains("diverged"), is_same, "{report}");
            assert_eq!(log.take(), if is_same { vec![] } else { vec!["undo"] }, "{report}");
            let entries = journal(&memory).await;
            assert!(entries.iter().all(|e| e.known_kind() != Some(Kind::Published)), "{:?}", told(&entries));
        });
    }
}

/// The code asks for something else at the last entry of all: what it would register is not all that was done.
#[test]
fn cancelling_a_run_that_diverged_at_its_last_entry_undoes_nothing() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let workflow = |second: &'static str| {
            let log = log.clone();
            move |ctx: Ctx, _| {
                let undoes = log.clone();
                async move {
                    let first = ctx.step("first", async || Ok(1u64)).undo(async move |_| {
                        undoes.add("undo");
                        Ok(())
                    });
                    first.await?;
                    ctx.step(second, async || Ok(2u64)).await?;
                    ctx.sleep(days(1)).await;
                    Ok(String::new())
                }
            }
        };
        let old = engine(&memory, &world, workflow("second")).await;
        let run = old.start(W, "r", 7).await.expect("it starts");
        nap(10).await;
        old.shutdown().await.expect("it leaves");
        assert_eq!(journal(&memory).await.len(), 3);
        Client::simulated(memory.clone(), &world).cancel("r", "enough").await.expect("open");
        let new = engine(&memory, &world, workflow("another")).await;
        let run = new.get(W, run.id()).await.expect("found");
        assert_eq!(soon(run.result()).await.expect_err("over").kind(), ErrorKind::Cancelled);
        assert_eq!(log.take(), Vec::<String>::new());
    });
}
