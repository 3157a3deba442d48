//! Restarts: a run begins anew with another input, in one transaction, and loses nothing that reached it.

use crate::common::{
    W, after, engine, engine_with, journal, nap, plain, settings, soon, stays, told, virtual_time,
    wrapped::Wrapped,
};
use everstep_core::{
    Client, Code, Ctx, Engine, Event, Published, Result, Settings, Signal, Simulation, Status, StepCtx,
    Stream, StuckReason, Workflow, days,
    journal::{Failure, Kind, decode},
    seconds, select,
    store::{Inspect, Memory},
};

const GO: Signal<u64> = Signal::new("go");

/// Counts down, one step a generation.
async fn down(ctx: Ctx, n: u64) -> Result<String> {
    let key = ctx.step("one", async |s: StepCtx| Ok(s.idempotency_key().to_string())).await?;
    match n {
        0 => Ok(key),
        _ => ctx.restart(W, n - 1).await,
    }
}

#[test]
fn a_run_begins_anew_under_its_id_with_an_empty_journal() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, down).await;
        let mut events = engine.events();
        let run = engine.start(W, "r", 3).await.expect("it starts");
        plain(soon(run.result()).await).expect("it ends");
        let entries = journal(&memory).await;
        assert_eq!(told(&entries)[1..].len(), 2);
        assert_eq!(entries[0].fingerprint, 0, "nothing was called before it");
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.generation), (Status::Completed, 3));
        let restarts: Vec<_> = std::iter::from_fn(|| events.try_next())
            .filter_map(|event| match event {
                Event::Restarted { generation, .. } => Some(generation),
                _ => None,
            })
            .collect();
        assert_eq!(restarts, [1, 2, 3]);
        let same = engine.start(W, "r", 3).await.expect("the same start is the same run");
        assert_eq!(same.result().await.ok(), run.result().await.ok());
        assert!(engine.start(W, "r", 0).await.expect_err("another input").is_conflict());
    });
}

/// The restart is written, and the next generation cannot be taken: it is tried again, with pauses.
#[test]
fn a_restart_waits_for_a_store_that_can_do_nothing() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let engine = engine_with(&store, &world, settings(), down).await;
        store.be_full(true);
        let run = engine.start(W, "r", 1).await.expect("it starts");
        nap(3_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running);
        store.be_full(false);
        plain(soon(run.result()).await).expect("it ends");
        engine.shutdown().await.expect("it leaves");
    });
}

/// Counterexample 19: a key or a free value of one generation is none of another.
#[test]
fn keys_and_free_values_are_new_in_each_generation() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n: u64| {
            let drawn = ctx.random();
            let key = ctx.step("one", async |s: StepCtx| Ok(s.idempotency_key().to_string())).await?;
            ctx.emit("seen", &format!("{key} {drawn}"));
            match n {
                0 => Ok(String::new()),
                _ => ctx.restart(W, n - 1).await,
            }
        })
        .await;
        let run = engine.start(W, "r", 4).await.expect("it starts");
        plain(soon(run.result()).await).expect("it ends");
        let number = memory.run("r".into()).await.expect("reads").expect("there").run;
        let seen = memory.stream(number, "seen".into(), 0, 10).await.expect("reads");
        assert_eq!(seen.iter().map(|item| item.n).collect::<Vec<_>>(), [0, 1, 2, 3, 4], "the stream goes on");
        let texts: std::collections::BTreeSet<_> = seen
            .iter()
            .flat_map(|item| {
                let text: String = serde_json::from_slice(&item.body.bytes).expect("text");
                text.split(' ').map(str::to_string).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(texts.len(), 10);
    });
}

/// The worker may die anywhere: the run is in the old generation or in the new one.
#[test]
fn a_crash_leaves_the_run_in_one_generation() {
    virtual_time(async {
        for after in 0..40 {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let first = engine(&memory, &world, down).await;
            memory.hold_commits();
            first.start(W, "r", 5).await.expect("it starts");
            for _ in 0..after {
                memory.release_commits();
                memory.hold_commits();
                nap(1).await;
            }
            let memory = memory.fork();
            drop(first);
            memory.truncate("r", usize::MAX);
            let run = memory.run("r".into()).await.expect("reads").expect("there");
            let entries = memory.load(run.run).await.expect("reads").entries;
            assert_eq!(entries[0].known_kind(), Some(Kind::Started), "after {after}");
            assert!(entries.len() <= 3, "after {after}: {:?}", told(&entries));
            let next = engine(&memory, &world, down).await;
            let handle = next.get(W, "r").await.expect("found");
            plain(soon(handle.result()).await).expect("it ends");
            assert_eq!(memory.run("r".into()).await.expect("reads").expect("there").generation, 5);
        }
    });
}

/// What was sent to the run was sent to it, whatever generation it is in: also what a wait had taken and given back.
#[test]
fn signals_are_carried_over_in_order() {
    for settings in [settings(), stays()] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine_with(&memory, &world, settings, async |ctx: Ctx, n: u64| match n {
                7 => {
                    let mut held = Box::pin(ctx.signal(GO));
                    select! {
                        () = ctx.sleep(seconds(1)) => {},
                        _ = &mut held => {},
                    }
                    // The first signal comes to the wait that nobody polls any more.
                    ctx.sleep(seconds(10)).await;
                    drop(held);
                    ctx.restart(W, 8).await
                }
                8 => ctx.restart(W, 9).await,
                _ => Ok(format!(
                    "{} {} {}",
                    ctx.signal(GO).await?,
                    ctx.signal(GO).await?,
                    ctx.signal(GO).await?
                )),
            })
            .await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            for n in 1..=3 {
                nap(2_500).await;
                engine.signal("r", GO, n).await.expect("it is open");
            }
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("1 2 3"));
        });
    }
}

/// The signal comes while its wait is held and not polled.
async fn restarts_with_a_signal_untaken(ctx: Ctx) -> Result<String> {
    let mut held = Box::pin(ctx.signal(GO));
    select! { () = ctx.sleep(seconds(1)) => {}, _ = &mut held => {} }
    ctx.sleep(seconds(5)).await;
    drop(held);
    ctx.restart(W, 8).await
}

#[test]
fn what_was_carried_and_nobody_took_is_reported() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n: u64| match n {
            7 => restarts_with_a_signal_untaken(ctx).await,
            _ => Ok("over".to_string()),
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(2_000).await;
        engine.signal("r", GO, 5).await.expect("it is open");
        plain(soon(run.result()).await).expect("it ends");
        let left = run.undelivered().await.expect("reads");
        assert_eq!((left.len(), &*left[0].name, left[0].value::<u64>().ok()), (1, "go", Some(5)));
    });
}

/// No entry of this generation has taken it: a failure that came of it names none.
#[test]
fn what_was_carried_and_does_not_decode_is_no_entrys_failure() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n: u64| match n {
            7 => restarts_with_a_signal_untaken(ctx).await,
            _ => Err(format!("no number: {}", ctx.signal(GO).await.expect_err("it is a text")))?,
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(2_000).await;
        engine.signal("r", Signal::<String>::new("go"), "five".to_string()).await.expect("it is open");
        soon(run.result()).await.expect_err("it does not decode");
        let entries = journal(&memory).await;
        let failed = entries.last().expect("it has an end");
        assert_eq!(failed.known_kind(), Some(Kind::Failed), "{:?}", told(&entries));
        let failure: Failure = decode(&failed.body).expect("a failure");
        assert_eq!(failure.cause, None);
    });
}

/// It is nobody's: only a next generation is taken.
#[test]
fn a_run_that_is_over_is_not_taken_again() {
    virtual_time(async {
        let (store, world) = (Wrapped::default(), Simulation::new(1));
        let engine = engine_with(&store, &world, settings(), async |ctx: Ctx, _| {
            ctx.step("one", async || after(500, 1).await).await?;
            Ok("over".to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        store.be_full(true);
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("over"));
        nap(1_000).await;
        assert_eq!(store.reloads(), 0);
    });
}

#[test]
fn a_cancel_reaches_the_next_generation() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n: u64| {
            ctx.sleep(seconds(1)).await;
            ctx.restart(W, n + 1).await
        })
        .await;
        let run = engine.start(W, "r", 0).await.expect("it starts");
        nap(10_500).await;
        Client::simulated(memory.clone(), &world).cancel("r", "enough").await.expect("it is open");
        assert!(soon(run.result()).await.is_err_and(|e| e.to_string().contains("enough")));
    });
}

/// Its outcome would come to nobody.
#[test]
fn a_restart_with_open_operations_is_refused_with_their_list() {
    let open = |workflow: fn(Ctx) -> everstep_core::BoxFuture<'static, Result<String>>| {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine(&memory, &world, move |ctx: Ctx, _| workflow(ctx)).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let stuck = soon(run.result()).await.expect_err("stuck");
            assert_eq!(run.stuck().await.expect("reads").expect("it is").reason, StuckReason::Panicked);
            stuck.to_string()
        })
    };
    let told = open(|ctx| {
        Box::pin(async move {
            let _step = ctx.step("held", async || Ok(()));
            let _timer = ctx.sleep(days(1));
            ctx.restart(W, 8).await
        })
    });
    assert!(told.contains("step `held`") && told.contains("timer `$sleep`"), "{told}");
    let told = open(|ctx| {
        const OTHER: Workflow<u64, String> = Workflow::new("other");
        Box::pin(async move { ctx.restart(OTHER, 8).await })
    });
    assert!(told.contains("`other`") && told.contains("`w`"), "{told}");
    let told = open(|ctx| {
        const NAN: Workflow<f64, String> = Workflow::new("w");
        Box::pin(async move { ctx.restart(NAN, f64::NAN).await })
    });
    assert!(told.contains("does not come back"), "{told}");
    assert_eq!(Code::OPEN_AT_RESTART.to_string(), "EV0017");
}

/// Inside a scope too; and what the code did before is compared as ever.
#[test]
fn a_restart_replays_like_an_end() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let old = async |ctx: Ctx, n: u64| -> Result<String> {
            ctx.step("a", async || Ok(())).await?;
            ctx.sleep(days(1)).await;
            ctx.scope("inner", async |ctx: Ctx| -> Result<String> { ctx.restart(W, n + 1).await }).await
        };
        let first = engine_with(&memory, &world, settings(), old).await;
        first.start(W, "r", 7).await.expect("it starts");
        nap(5_000).await;
        first.shutdown().await.expect("it leaves");
        // Other code restarts where a timer was recorded that it does not ask for.
        let early = async |ctx: Ctx, _: u64| -> Result<String> { ctx.restart(W, 8).await };
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let next = engine_with(&memory, &world, other, early).await;
        nap(days(2).as_millis() as u64).await;
        let run = next.get(W, "r").await.expect("found");
        let diverged = soon(run.result()).await.expect_err("it asks for less");
        assert!(diverged.to_string().contains("restarts without asking"), "{diverged}");
    });
}

/// Published values, streams and attributes are of the run, not of a generation.
#[test]
fn what_readers_see_goes_on() {
    const PROGRESS: Published<u64> = Published::new("progress");
    const LOG: Stream<u64> = Stream::new("log");
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, n: u64| {
            ctx.emit(LOG, &n);
            match n {
                0 => {
                    ctx.publish(PROGRESS, &7);
                    ctx.set_attribute("team", "blue");
                    ctx.restart(W, 1).await
                }
                9 => Ok("over".to_string()),
                _ => ctx.restart(W, n + 1).await,
            }
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 0).await.expect("it starts");
        plain(soon(run.result()).await).expect("it ends");
        let number = memory.run("r".into()).await.expect("reads").expect("there").run;
        assert!(memory.published(number, "progress".into()).await.expect("reads").is_some());
        assert_eq!(memory.attributes(number).await.expect("reads").len(), 1);
        assert_eq!(memory.stream(number, "log".into(), 0, 99).await.expect("reads").len(), 10);
    });
}

/// The promise of the docs of `restart`: what the next generation has, and what it has not.
#[test]
fn a_restart_carries_what_reached_the_run_and_no_handles() {
    const CHILD: Workflow<String, u64> = Workflow::new("child");
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let client = Client::simulated(memory.clone(), &world);
        let child = move |ctx: Ctx, parent: String| {
            let client = client.clone();
            async move {
                ctx.sleep(seconds(100)).await;
                ctx.step("tell", async || Ok(client.signal(&parent, GO, 5).await?)).await?;
                Ok(1)
            }
        };
        let workflow = async |ctx: Ctx, n: u64| -> Result<String> {
            if n == 0 {
                let own = ctx.id().to_string();
                drop(ctx.start(CHILD, "closed", own.clone()).await?);
                drop(ctx.start(CHILD, "left", own).leave().await?);
                let promise = ctx.promise::<u64>("payment");
                ctx.publish("token", &promise.token().to_string());
                ctx.sleep(seconds(10)).await;
                drop(promise);
                ctx.restart(W, 1).await
            }
            let own = ctx.promise::<u64>("payment");
            let told = ctx.signal(GO).await?;
            assert!(ctx.timeout(seconds(100), own).await?.is_none(), "nobody has its token");
            Ok(told.to_string())
        };
        let builder = Engine::builder(memory.clone()).register(W, workflow).register(CHILD, child);
        let engine = builder.settings(settings()).simulated(&world).start().await.expect("it starts");
        let run = engine.start(W, "r", 0).await.expect("it starts");
        nap(20_000).await;
        let token = engine.published::<String>("r", "token").await.expect("reads").expect("published");
        let late = engine.resolve(&token, 7u64).await.expect_err("its generation is over");
        assert_eq!(late.code(), Code::NOT_FOUND);
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("5"), "the child tells the run, by its id");
        let status = async |id: &str| memory.run(id.into()).await.expect("reads").expect("there").status;
        assert_eq!((status("closed").await, status("left").await), (Status::Cancelled, Status::Completed));
    });
}

/// A promise that is held is an open operation, whether it is awaited or not.
#[test]
fn a_restart_with_a_held_promise_or_undos_is_refused() {
    for undos in [false, true] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let workflow = move |ctx: Ctx, n: u64| async move {
                if undos {
                    ctx.step("book", async || Ok(())).undo(async |()| Ok(())).await?;
                }
                let held = (!undos).then(|| ctx.promise::<u64>("payment"));
                if n == 7 {
                    ctx.restart(W, 1).await
                }
                drop(held);
                Ok(String::new())
            };
            let engine = engine(&memory, &world, workflow).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let stuck = soon(run.result()).await.expect_err("stuck").to_string();
            let told = if undos { "forget_undos" } else { "promise `payment`" };
            assert!(stuck.contains(told), "{stuck}");
        });
    }
}
