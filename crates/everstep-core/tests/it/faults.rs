//! What happened to other engines in the parts that wait: signals, timers, keys, limits.
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use crate::common::{
    W, engine, engine_with, nap, plain, settings, soon, stays, virtual_time, wrapped::Wrapped,
};
use everstep_core::{
    Client, Code, Ctx, Error, Result, Retry, Reuse, Settings, Signal, Simulation, Status, StepCtx, Timestamp,
    days, hours, seconds, select,
    store::{Inspect, Memory, Store},
};

const GO: Signal<u64> = Signal::new("go");

/// Takes three signals, with a step after each; all waits have a time, which never runs out here.
async fn takes_three(ctx: Ctx, _: u64) -> Result<String> {
    let mut got = Vec::new();
    for _ in 0..3 {
        got.extend(ctx.timeout(days(1), ctx.signal(GO)).await?);
        ctx.step("note", async || Ok(())).await?;
    }
    Ok(format!("{got:?}"))
}

/// faults.md row 2: the worker that has the run dies so many moments after signals were acknowledged, parked or not, and
/// another takes over.
#[test]
fn acknowledged_signals_outlive_the_worker_that_was_to_take_them() {
    for (settings, moments) in
        [stays(), settings()].into_iter().flat_map(|s| (0..24).map(move |n| (s.clone(), n)))
    {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let first = engine_with(&memory, &world, settings.clone(), takes_three).await;
            let run = Client::simulated(memory.clone(), &world).start(W, "r", 7).await.expect("it starts");
            nap(5).await;
            let owner = memory.run("r".into()).await.expect("reads").expect("there").owner;
            for value in 1..=3 {
                Client::simulated(memory.clone(), &world).signal("r", GO, value).await.expect("it is open");
            }
            for _ in 0..moments {
                tokio::task::yield_now().await;
            }
            // Its process dies: it says nothing any more, and its lock is free.
            std::mem::forget(first);
            owner.into_iter().for_each(|owner| memory.vanish(owner));
            let _next = engine_with(&memory, &world, settings, takes_three).await;
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("[1, 2, 3]"), "after {moments}");
            assert_eq!(run.undelivered().await.expect("reads"), []);
        });
    }
}

/// faults.md row 3: a run that waits for a time is due at that time, by its own row; one that does not is never due.
#[test]
fn whoever_waits_for_a_time_is_due_then() {
    async fn waits(ctx: Ctx, way: u64) -> Result<String> {
        match way {
            0 => ctx.sleep(hours(2)).await,
            1 => {
                ctx.timeout(hours(2), ctx.signal(GO)).await?;
            }
            2 => select! {
                () = ctx.sleep(hours(9)) => {}
                () = ctx.sleep(hours(2)) => {}
            },
            3 => {
                let fails = async || Err::<u64, _>("not yet".into());
                let _ = ctx.step("fails", fails).retry(Retry::fixed(2, hours(2))).await;
            }
            4 => {
                ctx.signal(GO).await?;
            }
            _ => {
                // After a signal that came and a timer that is gone.
                ctx.timeout(hours(1), ctx.signal(GO)).await?;
                ctx.sleep(hours(2)).await;
            }
        }
        Ok(String::new())
    }
    for way in 0..6 {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine(&memory, &world, waits).await;
            let run = engine.start(W, "r", way).await.expect("it starts");
            if way == 5 {
                engine.signal("r", GO, 1).await.expect("it is open");
            }
            nap(60_000).await;
            let row = memory.run("r".into()).await.expect("reads").expect("there");
            assert_eq!((row.status, row.owner), (Status::Waiting, None), "way {way}: it has left memory");
            let due = row.wake_at.filter(|at| *at < Timestamp(i64::MAX));
            let after = due.map(|at| at.since(row.created_at));
            match way {
                4 => assert_eq!(after, None, "only a signal wakes it"),
                _ => assert!(
                    after.is_some_and(|d| d >= hours(2) && d < hours(2) + seconds(1)),
                    "{way}: {after:?}"
                ),
            }
            let next = memory.next_due(vec!["w".into()].into()).await.expect("reads");
            assert_eq!(
                next.filter(|at| *at < Timestamp(i64::MAX)),
                due,
                "way {way}: whoever looks for it finds it"
            );
            if way == 4 {
                engine.signal("r", GO, 1).await.expect("it is open");
            }
            nap(3 * 3600 * 1000).await;
            assert!(run.status().await.expect("reads").is_over(), "way {way}");
        });
    }
}

/// faults.md row 7: a "no" holds for the moment in which it was said. The same key, sent again, is looked at anew.
#[test]
fn a_refusal_is_remembered_by_nobody() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| Ok(ctx.signal(GO).await?.to_string())).await;
        let send = async |key: &str| engine.signal("r", GO, 4).key(key).await.map_err(|error| error.code());
        assert_eq!(send("payment 4").await, Err(Code::NOT_FOUND));
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(send("payment 4").await, Ok(()));
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("4"));
        assert_eq!(send("payment 5").await, Err(Code::NOT_ALLOWED), "it is over");
        let again = engine.start(W, "r", 7).reuse(Reuse::Always).await.expect("it starts");
        assert_eq!(send("payment 5").await, Ok(()));
        assert_eq!(plain(soon(again.result()).await).as_deref(), Ok("4"));
    });
}

/// faults.md row 8: whoever sends hears of what was not stored, and is told that all is well only when it is.
#[test]
fn a_signal_that_was_not_stored_is_not_acknowledged() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let engine = engine_with(&store, &world, settings(), takes_three).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let mut acknowledged = Vec::new();
        for (value, full) in [(1, true), (2, false), (3, true), (4, false), (5, false)] {
            store.be_full(full);
            match engine.signal("r", GO, value).await {
                Ok(()) => acknowledged.push(value),
                Err(error) => assert_eq!(error.code(), Code::STORE_FULL, "{error}"),
            }
        }
        assert_eq!(acknowledged, [2, 4, 5]);
        assert_eq!(plain(soon(run.result()).await), Ok(format!("{acknowledged:?}")));
    });
}

/// A database that was away when a run was to be read: the run was given back until later, by the clock of its worker; one
/// that was an hour ahead left it alone for a minute.
#[test]
fn a_run_that_cannot_be_read_just_now_is_not_given_back() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        store.fail_loads(3);
        let engine = engine_with(&store, &world, settings(), async |_, n| Ok(n.to_string())).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("7"));
        assert_eq!(store.ends(), 1, "the one that ended the run");
        engine.shutdown().await.expect("nothing is in the way");
    });
}

/// The same, when the worker leaves meanwhile: whoever comes next finds the run free.
#[test]
fn a_worker_leaves_though_a_run_of_its_cannot_be_read() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        store.fail_loads(u64::MAX);
        let engine = engine_with(&store, &world, settings(), async |_, n| Ok(n.to_string())).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        soon(engine.shutdown()).await.expect("nothing is in the way");
        store.fail_loads(0);
        let next = engine_with(&store, &world, settings(), async |_, n| Ok(n.to_string())).await;
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("7"));
        next.shutdown().await.expect("nothing is in the way");
    });
}

/// When bodies were in a place, and how many at once.
#[derive(Clone, Default)]
struct Place(Arc<(AtomicUsize, AtomicUsize)>);

impl Place {
    async fn hold(&self, ms: u64, fails: bool) -> Result<u64> {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        nap(ms).await;
        now.fetch_sub(1, Ordering::SeqCst);
        if fails { Err(Error::from("once more")) } else { Ok(ms) }
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// faults.md row 15: one place is held by one, however long it holds it, whoever waits, and with attempts that fail.
#[test]
fn one_place_is_never_held_by_two() {
    virtual_time(async {
        let (memory, world, place) = (Memory::default(), Simulation::new(1), Place::default());
        let (one, held) = (Settings { running_steps_max: 1, ..settings() }, place.clone());
        let engine = engine_with(&memory, &world, one, move |ctx: Ctx, n| {
            let held = held.clone();
            async move {
                let body = async |s: StepCtx| held.hold(n * 7_000, s.attempt() == 1).await;
                let step = ctx.step("alone", body).retry(Retry::fixed(3, seconds(1)));
                Ok(step.await?.to_string())
            }
        })
        .await;
        let mut runs = Vec::new();
        for n in 1..5 {
            runs.push(engine.start(W, format!("r{n}"), n).await.expect("it starts"));
        }
        for run in runs {
            soon(run.result()).await.expect("it ends");
        }
        assert_eq!(place.most(), 1);
    });
}

/// faults.md row 15: the same for the items of a map.
#[test]
fn one_place_of_a_map_is_never_held_by_two() {
    virtual_time(async {
        let (memory, world, place) = (Memory::default(), Simulation::new(1), Place::default());
        let held = place.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let held = held.clone();
            async move {
                let each = async |ctx: Ctx, ms: u64| {
                    let body = async |s: StepCtx| held.hold(ms, s.attempt() == 1).await;
                    ctx.step("item", body).retry(Retry::fixed(3, seconds(1))).await
                };
                ctx.map("items", [900, 20, 20_000, 5], 1, each).await?;
                Ok(String::new())
            }
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        soon(run.result()).await.expect("it ends");
        assert_eq!(place.most(), 1);
    });
}

/// faults.md row 20: whoever polled last is woken, by a signal and by a timer, in memory and out of it.
#[test]
fn a_wait_wakes_whoever_polled_it_last() {
    for settings in [stays(), settings()] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine_with(&memory, &world, settings, async |ctx: Ctx, _| {
                let (mut signal, mut timer) = (ctx.signal(GO), ctx.sleep(seconds(5)));
                // Polled first by somebody who is no longer there.
                {
                    let mut nobody = Context::from_waker(Waker::noop());
                    assert!(Pin::new(&mut signal).poll(&mut nobody).is_pending());
                    assert!(Pin::new(&mut timer).poll(&mut nobody).is_pending());
                }
                let got = signal.await?;
                timer.await;
                Ok(got.to_string())
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(100).await;
            engine.signal("r", GO, 6).await.expect("it is open");
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("6"));
        });
    }
}

/// faults.md row 20: whoever sleeps until a far time hears of a nearer one, and is there in time.
#[test]
fn a_nearer_time_is_not_slept_through() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, ms| {
            ctx.sleep(Duration::from_millis(ms)).await;
            Ok(String::new())
        })
        .await;
        engine.start(W, "far", 3_600_000).await.expect("it starts");
        nap(10_000).await;
        for n in 0..7 {
            // Long enough to leave memory, and due before anybody looks without being told.
            let (began, ms) = (tokio::time::Instant::now(), 2_100 + 137 * n);
            let run = engine.start(W, format!("r{n}"), ms).await.expect("it starts");
            soon(run.result()).await.expect("it ends");
            let late = began.elapsed().saturating_sub(Duration::from_millis(ms));
            assert!(late < Duration::from_millis(100), "run {n} was {late:?} late");
            nap(700).await;
        }
    });
}

/// faults.md row 43: a key is known as long as its run is there, however long that is, and goes with it.
#[test]
fn a_key_lives_as_long_as_its_run() {
    async fn takes_two(ctx: Ctx, _: u64) -> Result<String> {
        let first = ctx.signal(GO).await?;
        ctx.sleep(days(4_000)).await;
        let second = ctx.timeout(seconds(5), ctx.signal(GO)).await?;
        Ok(format!("{first} {second:?}"))
    }
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let client = Client::simulated(memory.clone(), &world);
        let send = async || client.signal("r", GO, 4).key("payment 4").await.map_err(|error| error.code());
        let first = engine(&memory, &world, takes_two).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        assert_eq!(send().await, Ok(()));
        nap(1_000).await;
        first.shutdown().await.expect("it leaves");
        nap(days(4_001).as_millis() as u64).await;
        assert_eq!(send().await, Ok(()), "eleven years later it is the same signal");
        let next = engine(&memory, &world, takes_two).await;
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("4 None"));
        assert_eq!(run.undelivered().await.expect("reads"), []);
        assert_eq!(next.purge("", seconds(0)).await.expect("deletes"), 1);
        // Both are gone together: neither keeps the other from coming again.
        assert_eq!(send().await, Err(Code::NOT_FOUND));
        next.start(W, "r", 8).await.expect("another run");
        assert_eq!(send().await, Ok(()));
        nap(1_000).await;
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!(memory.load(row.run).await.expect("reads").entries.len(), 2, "it has taken it");
    });
}
