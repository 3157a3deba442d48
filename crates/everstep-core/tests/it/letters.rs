//! What reaches a run from outside while it runs: each letter is taken once, none is swallowed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use crate::common::{
    W, engine, engine_with, finish, journal, knock, nap, plain, settings, soon, told, virtual_time,
    wrapped::{Wrapped, transaction},
};
use everstep_core::{
    BoxFuture, Client, Ctx, Doubt, ErrorKind, Result, Settings, Simulation, Status,
    journal::{Answer, Kind, Payload},
    seconds, select,
    store::{Memory, MemoryJob},
};

type Counter = Arc<AtomicU64>;

/// A read of the inbox that is older than the turn that took a letter hands the letter out again.
#[test]
fn a_letter_is_taken_once_however_old_the_next_read_is() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let bodies = Counter::default();
        let counted = bodies.clone();
        let workflow = move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let step = ctx.step("pay", async || {
                    match counted.fetch_add(1, Ordering::SeqCst) {
                        0 => std::future::pending().await,
                        _ => nap(1000).await,
                    }
                    Ok(1u64)
                });
                Ok(step.on_doubt(Doubt::Ask).await?.to_string())
            }
        };
        let first = engine_with(&store, &world, settings(), workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        drop(first);
        nap(100).await;
        let next = engine_with(&store, &world, settings(), workflow).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(run.result().await.expect_err("it asks").kind(), ErrorKind::Stuck);
        store.answer_late(Duration::from_millis(200));
        store.memory.hold_commits();
        next.answer("r", Answer::Retry).await.expect("taken");
        // The turn that takes it is on its way, and the inbox is read meanwhile.
        nap(100).await;
        store.memory.release_commits();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("1"));
        let journal = journal(&store.memory).await;
        let answered = journal.iter().filter(|e| e.known_kind() == Some(Kind::Answered)).count();
        assert_eq!(answered, 1, "{:?}", told(&journal));
        assert_eq!(bodies.load(Ordering::SeqCst), 2);
    });
}

/// The record of a run's own transaction is no message that somebody else sent.
#[test]
fn a_run_knows_the_letters_of_its_own_transactions() {
    virtual_time(async {
        for panics in [false, true] {
            let (store, world) = (Wrapped::default(), Simulation::new(1));
            let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| async move {
                let a = transaction(&ctx, "a", || Ok(1)).await?;
                let b = transaction(&ctx, "b", || Ok(2)).await?;
                assert!(!panics, "afterwards");
                Ok(format!("{a}{b}"))
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let outcome = plain(soon(run.result()).await);
            assert_eq!(outcome.is_err(), panics, "{outcome:?}");
            assert_eq!(store.ends(), 1, "one commit ends it");
        }
    });
}

/// A cancel that was acknowledged, of a run that turns out not to replay.
#[test]
fn a_run_that_would_be_stuck_is_cancelled_if_somebody_asked_for_it() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let old = async |ctx: Ctx, _| {
            ctx.step("create", async || Ok(1u64)).await?;
            Ok("old".to_string())
        };
        finish(&memory, &world, old).await.0.expect("it runs");
        memory.truncate("r", 2);
        Client::simulated(memory.clone(), &world).cancel("r", "not needed").await.expect("acknowledged");
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("make", async || Ok(1u64)).await?;
            Ok("new".to_string())
        })
        .await;
        let run = engine.get(W, "r").await.expect("found");
        let cancelled = soon(run.result()).await.expect_err("cancelled");
        assert_eq!(cancelled.kind(), ErrorKind::Cancelled, "{cancelled:?}");
        assert!(cancelled.to_string().contains("not needed"));
        let journal = told(&journal(&memory).await);
        assert!(journal[2].contains("CancelAsked") && journal[3].contains("Cancelled"), "{journal:?}");
    });
}

/// The same for runs whose function cannot even be called.
#[test]
fn a_run_that_cannot_be_loaded_is_cancelled_if_somebody_asked_for_it() {
    virtual_time(async {
        type Damage = fn(&mut Vec<everstep_core::journal::Entry>);
        let damages: [Damage; 2] =
            [|entries| entries[0].body.bytes.truncate(9), |entries| drop(entries.remove(1))];
        for damage in damages {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let workflow = async |ctx: Ctx, _| {
                ctx.step("a", async || Ok(1u64)).await?;
                ctx.step("b", async || Ok(1u64)).await?;
                Ok("ok".to_string())
            };
            finish(&memory, &world, workflow).await.0.expect("it runs");
            memory.truncate("r", 3);
            memory.rewrite("r", damage);
            Client::simulated(memory.clone(), &world).cancel("r", "").await.expect("acknowledged");
            let engine = engine(&memory, &world, workflow).await;
            let run = engine.get(W, "r").await.expect("found");
            let cancelled = soon(run.result()).await.expect_err("cancelled");
            assert_eq!(cancelled.kind(), ErrorKind::Cancelled, "{cancelled:?}");
        }
    });
}

/// The body returned while the cancel was on its way: what it did is recorded.
#[test]
fn what_a_body_returned_is_recorded_before_a_cancel() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let answered = store.clone();
        let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
            let answered = answered.clone();
            async move {
                ctx.step("a", async || {
                    answered.inbox_answered().await;
                    Ok(1u64)
                })
                .await?;
                ctx.step("b", async || Ok(2u64)).await?;
                Ok("done".to_string())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        engine.cancel("r", "enough").await.expect("acknowledged");
        assert_eq!(soon(run.result()).await.expect_err("cancelled").kind(), ErrorKind::Cancelled);
        let told = told(&journal(&store.memory).await);
        assert_eq!(told[1], "1 StepDone a 1 1", "{told:?}");
        assert!(told[2].contains("CancelAsked"), "{told:?}");
    });
}

/// An attempt of a transactional step whose time ran out before the store came to it has not happened.
#[test]
fn a_transaction_that_ran_out_of_time_in_the_queue_does_not_commit() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let commits = Counter::default();
        let counted = commits.clone();
        let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let body = move || Ok(counted.fetch_add(1, Ordering::SeqCst));
                let late = transaction(&ctx, "tx", body).attempt_timeout(seconds(1)).await;
                Ok(late.expect_err("out of time").code().to_string())
            }
        })
        .await;
        store.hold_jobs();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(2000).await;
        store.release_jobs();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("EV0002"));
        assert_eq!(commits.load(Ordering::SeqCst), 0, "the journal says failed, and so it is");
    });
}

/// The store may wait for it, and it has a connection of the store.
#[test]
fn what_runs_beside_a_transaction_is_dropped_when_its_time_is_out() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let held = Counter::default();
        let body = held.clone();
        let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
            let body = body.clone();
            async move {
                let late = ctx.transaction_beside("memory", "tx", move |recorder| {
                    let job = MemoryJob(Box::new(move |_| recorder.record(1u64)));
                    let held = body.clone();
                    let beside = async move {
                        let _held = held;
                        std::future::pending().await
                    };
                    (Box::new(job), Some(Box::pin(beside) as BoxFuture<'_, ()>))
                });
                let late: Result<u64> = late.attempt_timeout(seconds(1)).await;
                Ok(late.expect_err("out of time").code().to_string())
            }
        })
        .await;
        store.hold_jobs();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(500).await;
        let before = Arc::strong_count(&held);
        nap(1_500).await;
        assert_eq!(Arc::strong_count(&held), before - 1, "its body has one, until then");
        store.release_jobs();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("EV0002"));
    });
}

#[test]
fn a_dropped_transaction_that_the_store_had_not_begun_does_not_commit() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let commits = Counter::default();
        let counted = commits.clone();
        let engine = engine_with(&store, &world, settings(), move |ctx: Ctx, _| {
            let counted = counted.clone();
            async move {
                let body = move || Ok(counted.fetch_add(1, Ordering::SeqCst));
                let done = ctx.timeout(seconds(1), transaction(&ctx, "tx", body)).await?;
                ctx.sleep(seconds(10)).await;
                Ok(format!("{done:?}"))
            }
        })
        .await;
        store.hold_jobs();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(2000).await;
        store.release_jobs();
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("None"));
        assert_eq!(commits.load(Ordering::SeqCst), 0);
    });
}

/// The store had committed it when the function dropped the step: its record goes into the journal, delivered to
/// nobody, on this load or on the next.
#[test]
fn a_dropped_transaction_that_committed_is_recorded() {
    virtual_time(async {
        for dies in [false, true] {
            let (store, world) = (Wrapped::default(), Simulation::new(1));
            let commits = Counter::default();
            let (counted, kept) = (commits.clone(), store.clone());
            let dying = Arc::new(AtomicBool::new(dies));
            let workflow = move |ctx: Ctx, _| {
                let (counted, kept, dying) = (counted.clone(), kept.clone(), dying.clone());
                // The store comes to the job; what it does after that is lost with the worker, if that dies.
                let commit = move || {
                    kept.release_jobs();
                    if dying.swap(false, Ordering::SeqCst) {
                        kept.memory.hold_commits();
                    }
                };
                async move {
                    let body = move || Ok(counted.fetch_add(1, Ordering::SeqCst));
                    select! {
                        // It wins; the job is committed in the very poll that drops its step.
                        _ = async { ctx.sleep(seconds(1)).await; commit(); } => {}
                        _ = transaction(&ctx, "tx", body).input(&12) => {}
                    }
                    ctx.sleep(seconds(10)).await;
                    Ok("done".to_string())
                }
            };
            store.hold_jobs();
            let first = engine_with(&store, &world, settings(), workflow.clone()).await;
            first.start(W, "r", 7).await.expect("it starts");
            nap(2000).await;
            drop(first);
            let lost = store.memory.release_commits();
            assert_eq!(lost > 0, dies);
            nap(10).await;
            let last = engine_with(&store, &world, settings(), workflow).await;
            let run = last.get(W, "r").await.expect("found");
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
            let journal = journal(&store.memory).await;
            let told = told(&journal);
            assert_eq!(told.iter().filter(|t| t.contains("StepDone tx 1 0")).count(), 1, "{told:?}");
            let done = journal.iter().find(|e| e.key.as_deref() == Some("tx")).expect("just counted");
            assert_eq!(done.input, Some(Payload::json("12")));
            assert_eq!(commits.load(Ordering::SeqCst), 1);
        }
    });
}

/// A workflow whose transaction loses against a sleep of a second, and commits in the very poll that drops it.
fn loses(
    store: &Wrapped,
) -> impl Fn(Ctx, u64) -> BoxFuture<'static, Result<String>> + Send + Sync + Clone + 'static {
    let store = store.clone();
    move |ctx, _| {
        let store = store.clone();
        Box::pin(async move {
            select! {
                _ = async { ctx.sleep(seconds(1)).await; store.release_jobs(); } => {}
                _ = transaction(&ctx, "tx", || Ok(5)) => {}
            }
            ctx.sleep(seconds(10)).await;
            Ok("done".to_string())
        })
    }
}

/// The store's answer about a job whose step was dropped is heard by the load that dropped it.
#[test]
fn what_a_dropped_transaction_committed_is_recorded_when_the_store_says_so() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let engine = engine_with(&store, &world, settings(), loses(&store)).await;
        store.hold_jobs();
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1500).await;
        assert_eq!(told(&journal(&store.memory).await)[2..], ["2 StepDone tx 1 5"]);
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
    });
}

/// The inbox is read before the store has answered, or at the same moment: the record is found there, and is recorded
/// once.
#[test]
fn a_record_that_is_found_in_the_inbox_is_recorded_once() {
    virtual_time(async {
        // Of a transaction that the function has dropped: the store answers later, or just then.
        for answered_with in [2, 1] {
            let (store, world) = (Wrapped::default(), Simulation::new(1));
            let engine = engine_with(&store, &world, settings(), loses(&store)).await;
            store.hold_jobs();
            store.answer_with_inbox_read(answered_with);
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(1500).await;
            assert_eq!(journal(&store.memory).await.len(), 2, "nobody has heard of it");
            for n in 0..2 {
                knock(&store.memory, n).await;
                nap(1).await;
                assert_eq!(told(&journal(&store.memory).await)[2..], ["2 StepDone tx 1 5"]);
            }
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
        }
        // Of one that is open.
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let engine = engine_with(&store, &world, settings(), async |ctx: Ctx, _| {
            let n = transaction(&ctx, "tx", || Ok(5)).await?;
            ctx.sleep(seconds(10)).await;
            Ok(n.to_string())
        })
        .await;
        store.answer_with_inbox_read(1);
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(500).await;
        assert_eq!(journal(&store.memory).await.len(), 1, "nobody has heard of it");
        knock(&store.memory, 0).await;
        nap(1).await;
        assert_eq!(told(&journal(&store.memory).await)[1..], ["1 StepDone tx 1 5"]);
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("5"));
        assert_eq!(journal(&store.memory).await.len(), 4);
    });
}

/// Both answers of the store are there when the driver looks: neither hides the other.
#[test]
fn the_inbox_and_a_job_may_be_answered_at_once() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let engine = engine_with(&store, &world, settings(), loses(&store)).await;
        store.hold_jobs();
        store.answer_with_inbox_read(9);
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1500).await;
        let gate = store.hold_inbox();
        knock(&store.memory, 0).await;
        nap(1).await;
        gate.send(()).expect("the inbox is being read");
        store.send_answers();
        nap(1).await;
        assert_eq!(told(&journal(&store.memory).await)[2..], ["2 StepDone tx 1 5"]);
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("done"));
    });
}

/// Its worker died before it heard of the commit: the record is in the inbox, and the store is not asked again.
#[test]
fn a_transaction_that_committed_before_a_crash_is_not_asked_for_again() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| Ok(transaction(&ctx, "tx", || Ok(5)).await?.to_string());
        store.answer_with_inbox_read(1);
        let first = engine_with(&store, &world, settings(), workflow).await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(100).await;
        drop(first);
        nap(100).await;
        store.hold_jobs();
        let next = engine_with(&store, &world, settings(), workflow).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("5"));
    });
}

/// An inbox that cannot be read is read again a second later, whatever comes meanwhile.
#[test]
fn an_inbox_that_could_not_be_read_is_read_again() {
    virtual_time(async {
        for knocks in [false, true] {
            let (store, world) = (Wrapped::default(), Simulation::new(1));
            let engine = engine_with(&store, &world, settings(), async |ctx: Ctx, _| {
                ctx.sleep(seconds(60)).await;
                Ok(String::new())
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(100).await;
            store.fail_inbox(1);
            engine.cancel("r", "").await.expect("acknowledged");
            nap(500).await;
            if knocks {
                knock(&store.memory, 0).await;
            }
            nap(600).await;
            assert_eq!(run.status().await.expect("readable"), Status::Cancelled, "knocked: {knocks}");
        }
    });
}

/// The limit of the settings holds for what a transaction returns.
#[test]
fn what_a_transaction_returns_has_a_limit() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let small = Settings { payload_bytes_max: 10, ..settings() };
        let engine = engine_with(&store, &world, small, async |ctx: Ctx, _| {
            let large = transaction(&ctx, "large", || Ok(u64::MAX)).await.expect_err("20 digits");
            Ok(large.code().to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("EV0021"));
    });
}
