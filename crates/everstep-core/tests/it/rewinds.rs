//! Runs that people take back to a step, give another result, or fork.
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use everstep_core::{
    Client, Ctx, Engine, Result, Retry, Simulation, Status, StepCtx,
    journal::{Entry, Kind},
    seconds,
    store::Memory,
};

use crate::common::{Outcome, W, engine, journal, nap, plain, soon, virtual_time};

fn kinds(entries: &[Entry]) -> Vec<Kind> {
    entries.iter().filter_map(|entry| entry.known_kind()).collect()
}

/// What bodies saw: their key, their idempotency key, what the function drew before them.
type Seen = Arc<Mutex<Vec<(String, String, u64)>>>;

/// Three steps; the last one fails until `works`.
fn three(
    seen: &Seen,
    works: &Arc<AtomicU64>,
) -> impl Fn(Ctx, u64) -> everstep_core::BoxFuture<'static, Result<String>> + Clone + Send + Sync + use<> {
    let (seen, works) = (seen.clone(), works.clone());
    move |ctx: Ctx, _| {
        let (seen, works) = (seen.clone(), works.clone());
        Box::pin(async move {
            let mut all = 0;
            for name in ["one", "two", "three"] {
                let drawn = ctx.random();
                let (seen, works) = (&seen, &works);
                all += ctx
                    .step(name, async move |s: StepCtx| {
                        let told = (name.to_string(), s.idempotency_key().to_string(), drawn);
                        seen.lock().expect("unpoisoned").push(told);
                        match (name, works.load(Ordering::SeqCst)) {
                            ("three", 0) => Err("broken".into()),
                            _ => Ok(1u64),
                        }
                    })
                    .await?;
            }
            Ok(all.to_string())
        })
    }
}

fn seen_of(seen: &Seen, key: &str) -> Vec<(String, u64)> {
    let seen = seen.lock().expect("unpoisoned");
    seen.iter()
        .filter(|(of, ..)| of == key)
        .map(|(_, idempotency, drawn)| (idempotency.clone(), *drawn))
        .collect()
}

async fn end(engine: &Client, id: &str) -> Outcome {
    plain(soon(engine.get(W, id).await.expect("found").result()).await)
}

/// The whole journal again, on another engine: no body runs, and the outcome is the same.
async fn check_replay(
    memory: &Memory,
    workflow: impl Fn(Ctx, u64) -> everstep_core::BoxFuture<'static, Result<String>>
    + Clone
    + Send
    + Sync
    + 'static,
    outcome: &Outcome,
) {
    let entries = journal(memory).await;
    let copy = memory.fork();
    copy.truncate("r", entries.len() - 1);
    let engine: Engine = engine(&copy, &Simulation::new(9), workflow).await;
    assert_eq!(end(&engine, "r").await, *outcome);
    assert_eq!(kinds(&journal(&copy).await), kinds(&entries));
}

#[test]
fn what_is_rewound_is_made_again_as_something_new() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (seen, works) = (Seen::default(), Arc::new(AtomicU64::new(0)));
        let workflow = three(&seen, &works);
        let engine = engine(&memory, &world, workflow.clone()).await;
        engine.start(W, "r", 7).await.expect("starts");
        end(&engine, "r").await.expect_err("broken");
        works.store(1, Ordering::SeqCst);
        engine.rewind("r", "two").await.expect("goes back");
        let outcome = end(&engine, "r").await;
        assert_eq!(outcome.as_deref(), Ok("3"));
        use Kind as K;
        let order = [K::Started, K::StepDone, K::Reseeded, K::StepDone, K::StepDone, K::Completed];
        assert_eq!(kinds(&journal(&memory).await), order);
        let (one, two, three) = (seen_of(&seen, "one"), seen_of(&seen, "two"), seen_of(&seen, "three"));
        assert_eq!(one.len(), 1, "it was kept");
        assert_ne!(two[0].0, two[1].0, "another idempotency key");
        assert_ne!(three[0], three[1], "another key, and drawn from another seed");
        let made = seen.lock().expect("unpoisoned").len();
        check_replay(&memory, workflow, &outcome).await;
        assert_eq!(seen.lock().expect("unpoisoned").len(), made, "nothing is made again by a replay");
    });
}

#[test]
fn each_rewind_gives_new_keys_and_retry_keeps_them() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (seen, works) = (Seen::default(), Arc::new(AtomicU64::new(0)));
        let engine = engine(&memory, &world, three(&seen, &works)).await;
        engine.start(W, "r", 7).await.expect("starts");
        end(&engine, "r").await.expect_err("broken");
        for key in ["three", "two", "one"] {
            engine.rewind("r", key).await.expect("goes back");
            end(&engine, "r").await.expect_err("broken");
        }
        engine.retry("r").await.expect("goes on");
        end(&engine, "r").await.expect_err("broken");
        let keys: Vec<_> = seen_of(&seen, "three").into_iter().map(|(key, _)| key).collect();
        let mut others = keys[..4].to_vec();
        others.sort();
        others.dedup();
        assert_eq!((keys.len(), others.len()), (5, 4), "four that differ: {keys:?}");
        assert_eq!(keys[3], keys[4], "retry keeps it");
    });
}

#[test]
fn a_signal_that_was_taken_is_taken_again() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = |ctx: Ctx, _| -> everstep_core::BoxFuture<'static, Result<String>> {
            Box::pin(async move {
                ctx.step("one", async || Ok(())).await?;
                let (a, b) = (ctx.signal::<u64>("go").await?, ctx.signal::<u64>("go").await?);
                ctx.step("two", async || -> Result<()> { Err("broken".into()) }).await.ok();
                let c = ctx.signal::<u64>("go").await?;
                Ok(format!("{a}{b}{c}"))
            })
        };
        let engine = engine(&memory, &world, workflow).await;
        engine.start(W, "r", 7).await.expect("starts");
        for n in [1, 2] {
            engine.signal("r", "go", n).await.expect("sent");
        }
        nap(60_000).await;
        engine.rewind("r", "one").await.expect("a run that waits goes back too");
        nap(60_000).await;
        // Its signals are not in the journal as taken any more, but they are not lost either.
        engine.rewind("r", "two").await.expect("goes back");
        nap(60_000).await;
        engine.signal("r", "go", 3u64).await.expect("sent");
        let outcome = end(&engine, "r").await;
        assert_eq!(outcome.as_deref(), Ok("123"), "each once, in their order");
        check_replay(&memory, workflow, &outcome).await;
    });
}

/// What was taken in the part that a person took back was promised to its senders as much as any other. It was reported
/// only if a restart had carried it.
#[test]
fn a_signal_that_was_taken_back_and_not_taken_again_is_reported_undelivered() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let is_second = Arc::new(AtomicU64::new(0));
        let times = is_second.clone();
        let workflow = move |ctx: Ctx, _| -> everstep_core::BoxFuture<'static, Result<String>> {
            let times = times.clone();
            Box::pin(async move {
                let first = async move || match times.fetch_add(1, Ordering::SeqCst) {
                    0 => Ok(()),
                    _ => std::future::pending::<Result<()>>().await,
                };
                ctx.step("one", first).await?;
                let go = ctx.signal::<u64>("go").await?;
                ctx.signal::<u64>("never").await?;
                Ok(go.to_string())
            })
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        engine.signal("r", "go", 5u64).await.expect("sent");
        nap(60_000).await;
        assert_eq!(run.undelivered().await.expect("read"), [], "a wait has it");
        engine.rewind("r", "one").await.expect("a run that waits goes back");
        nap(60_000).await;
        engine.cancel("r", "enough").await.expect("cancels");
        end(&engine, "r").await.expect_err("it is cancelled");
        let left = run.undelivered().await.expect("read");
        let values: Vec<_> =
            left.iter().map(|left| (&*left.name, left.value::<u64>().expect("a number"))).collect();
        assert_eq!(values, [("go", 5)]);
    });
}

#[test]
fn an_edited_failure_is_a_value_after_retry() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (seen, works) = (Seen::default(), Arc::new(AtomicU64::new(0)));
        let engine = engine(&memory, &world, three(&seen, &works)).await;
        engine.start(W, "r", 7).await.expect("starts");
        end(&engine, "r").await.expect_err("broken");
        engine.edit("r", "three", 5u64).await.expect("edits");
        engine.edit("r", "one", 10u64).await.expect("edits");
        engine.retry("r").await.expect("goes on");
        assert_eq!(end(&engine, "r").await.as_deref(), Ok("16"));
        assert_eq!(seen.lock().expect("unpoisoned").len(), 3, "no body ran again");
        let refused = engine.edit("r", "three", 5u64).await.expect_err("it is over");
        assert!(refused.to_string().contains("`fork`"), "{refused}");
    });
}

#[test]
fn a_fork_keeps_what_was_done_and_goes_on_as_another_run() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (seen, works) = (Seen::default(), Arc::new(AtomicU64::new(1)));
        let workflow = three(&seen, &works);
        let engine = engine(&memory, &world, workflow.clone()).await;
        engine.start(W, "o", 7).await.expect("starts");
        end(&engine, "o").await.expect("ends");
        let fork = engine.acting_as("grace").fork(W, "o", "r").from("two").result("one", 10u64);
        fork.await.expect("forks");
        let outcome = end(&engine, "r").await;
        assert_eq!(outcome.as_deref(), Ok("12"));
        let (one, two, three) = (seen_of(&seen, "one"), seen_of(&seen, "two"), seen_of(&seen, "three"));
        assert_eq!(one.len(), 1);
        assert_ne!(two[0].0, two[1].0, "another run, another key");
        assert_ne!(three[0].1, three[1].1, "it draws for itself");
        check_replay(&memory, workflow, &outcome).await;
        let act = &engine.acts("r").await.expect("reads")[0];
        assert_eq!((&*act.verb, &*act.who, &*act.detail), ("fork", "grace", "o from two"));
        let again = engine.fork(W, "o", "r").await.expect_err("in use");
        assert!(again.is_conflict());
        let input = engine.fork(W, "o", "s").from("two").input(8u64).await.expect_err("refused");
        assert!(input.to_string().contains("from the beginning"), "{input}");
        // A fork of a fork, and of its beginning.
        assert_eq!(
            soon(engine.fork(W, "r", "t").from("three").await.expect("forks").result()).await.expect("ends"),
            "12"
        );
        assert_eq!(
            soon(engine.fork(W, "r", "u").input(1u64).await.expect("forks").result()).await.expect("ends"),
            "3"
        );
    });
}

#[test]
fn a_fork_tells_its_readers_what_it_keeps() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            ctx.set_attribute("team", "a");
            for n in 0..3u64 {
                ctx.emit("items", &n);
                ctx.publish("last", &n);
                ctx.step("one", async || Ok(n)).await?;
            }
            Ok(String::new())
        })
        .await;
        engine.start(W, "o", 7).await.expect("starts");
        end(&engine, "o").await.expect("ends");
        engine.fork(W, "o", "r").from("one#2").await.expect("forks");
        end(&engine, "r").await.expect("ends");
        let items = engine.stream::<u64>("r", "items").page(10).await.expect("reads");
        let told: Vec<_> = items.iter().map(|item| (item.n, item.value)).collect();
        assert_eq!(told, [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(engine.count("team = a").await.expect("counts"), 2);
    });
}

#[test]
fn going_back_is_refused_where_it_cannot_work() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, |ctx: Ctx, _| async move {
            let step = ctx.step("one", async || -> Result<u64> {
                nap(10_000).await;
                Err("broken".into())
            });
            Ok(step.retry(Retry::fixed(2, seconds(1))).await?.to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("starts");
        nap(100).await;
        let running = engine.rewind("r", "one").await.expect_err("running");
        assert!(running.to_string().contains("`pause`"), "{running}");
        engine.pause("r", "").await.expect("asked");
        nap(15_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Paused);
        let missing = engine.rewind("r", "two").await.expect_err("no such key");
        assert!(missing.to_string().contains("`two`"), "{missing}");
        let none = engine.edit("r", "one", 1u64).await.expect_err("no outcome yet");
        assert!(none.to_string().contains("no recorded outcome"), "{none}");
        engine.rewind("r", "one").await.expect("a paused run goes on");
        end(&engine, "r").await.expect_err("broken");
    });
}

/// A step that tells when it is undone.
async fn undoable(ctx: &Ctx, told: &Arc<Mutex<Vec<String>>>, name: &'static str) -> Result<u64> {
    let told = told.clone();
    ctx.step(name, async || Ok(1u64))
        .undo(async move |_| {
            told.lock().expect("unpoisoned").push(name.to_string());
            Ok(())
        })
        .await
}

#[test]
fn a_fork_undoes_its_own_steps_and_none_of_the_other_run() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let told = Arc::new(Mutex::new(Vec::new()));
        let undone = told.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, input| {
            let undone = undone.clone();
            async move {
                undoable(&ctx, &undone, "one").await?;
                undoable(&ctx, &undone, "two").await?;
                ctx.step("three", async || if input == 7 { Ok(1u64) } else { Err("no".into()) }).await?;
                ctx.signal::<u64>("go").await?;
                Ok(String::new())
            }
        })
        .await;
        engine.start(W, "o", 7).await.expect("starts");
        nap(60_000).await;
        engine.fork(W, "o", "r").from("two").await.expect("forks");
        nap(60_000).await;
        engine.cancel("r", "").await.expect("cancels");
        end(&engine, "r").await.expect_err("cancelled");
        assert_eq!(*told.lock().expect("unpoisoned"), ["two"]);
        // Nor when the journal is replayed while it undoes.
        for length in (1..journal(&memory).await.len()).rev() {
            let copy = memory.fork();
            copy.truncate("r", length);
            told.lock().expect("unpoisoned").clear();
            let engine = crate::common::engine(&copy, &Simulation::new(length as u64), {
                let undone = told.clone();
                move |ctx: Ctx, _| {
                    let undone = undone.clone();
                    async move {
                        undoable(&ctx, &undone, "one").await?;
                        undoable(&ctx, &undone, "two").await?;
                        ctx.step("three", async || Ok(1u64)).await?;
                        ctx.signal::<u64>("go").await?;
                        Ok(String::new())
                    }
                }
            })
            .await;
            engine.cancel("r", "").await.expect("cancels");
            end(&engine, "r").await.expect_err("cancelled");
            assert!(!told.lock().expect("unpoisoned").contains(&"one".to_string()), "from {length}");
        }
        engine.cancel("o", "").await.expect("cancels");
        told.lock().expect("unpoisoned").clear();
        end(&engine, "o").await.expect_err("cancelled");
        assert_eq!(*told.lock().expect("unpoisoned"), ["two", "one"]);
    });
}

#[test]
fn a_promise_that_was_kept_stays_kept_unless_the_run_goes_back_to_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let out = tokens.clone();
        let workflow = move |ctx: Ctx, _| -> everstep_core::BoxFuture<'static, Result<String>> {
            let out = out.clone();
            Box::pin(async move {
                ctx.step("one", async || Ok(())).await?;
                let payment = ctx.promise::<u64>("payment");
                let token = payment.token().to_string();
                ctx.step("hand_out", async || {
                    out.lock().expect("unpoisoned").push(token);
                    Ok(())
                })
                .await?;
                let paid = payment.await?;
                let go = ctx.signal::<u64>("go").await?;
                Ok(format!("{paid} {go}"))
            })
        };
        let engine = engine(&memory, &world, workflow.clone()).await;
        engine.start(W, "r", 7).await.expect("starts");
        nap(60_000).await;
        let first = tokens.lock().expect("unpoisoned")[0].clone();
        engine.resolve(&first, 5u64).await.expect("pays");
        nap(60_000).await;
        engine.rewind("r", "one").await.expect("goes back");
        nap(60_000).await;
        assert_eq!(tokens.lock().expect("unpoisoned").len(), 2, "it was handed out again");
        engine.resolve(&first, 6u64).await.expect_err("it is paid");
        // It waits for the signal: what was paid was taken again.
        engine.rewind("r", "payment").await.expect("goes back");
        nap(60_000).await;
        engine.resolve(&first, 7u64).await.expect("pays anew");
        engine.signal("r", "go", 1u64).await.expect("sent");
        let outcome = end(&engine, "r").await;
        assert_eq!(outcome.as_deref(), Ok("7 1"));
        check_replay(&memory, workflow, &outcome).await;
    });
}
