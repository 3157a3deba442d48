//! Signals: kept before the wait, taken once and in order, given back by whoever did not return them.

use std::future::Future;

use crate::common::{
    W, after, engine, engine_with, finish, journal, nap, plain, settings, soon, stays, told, virtual_time,
};
use everstep_core::{
    Client, Code, Ctx, Error, ErrorKind, Result, Settings, Signal, Simulation, StuckReason, days, join,
    journal::Kind, seconds, select, store::Memory,
};

const GO: Signal<u64> = Signal::new("go");

/// Runs `workflow` while `others` act on it; then cuts its journal after each entry, tells it again what it had not
/// taken by then, and compares the outcomes.
fn check_with<F, Fut>(workflow: F, sends: &[(&'static str, u64)]) -> String
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let sender = Client::simulated(memory.clone(), &world);
        let first = engine(&memory, &world, workflow.clone()).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        for (name, value) in sends {
            nap(10).await;
            sender.signal("r", *name, *value).await.expect("it is open");
        }
        let outcome = plain(soon(run.result()).await).expect("it ends");
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let taken = |name: &str| {
                whole[..cut]
                    .iter()
                    .filter(|e| is_taken(e) && e.key.as_deref().unwrap_or("").contains(name))
                    .count()
            };
            let sender = Client::simulated(memory.clone(), &world);
            let mut skip: Vec<_> = ["go", "other"].map(|name| (name, taken(name))).into();
            for (name, value) in sends {
                match skip.iter_mut().find(|(known, n)| known == name && *n > 0) {
                    Some((_, n)) => *n -= 1,
                    None => sender.signal("r", *name, *value).await.expect("it is open"),
                }
            }
            let (again, journal, _) = finish(&memory, &world, workflow.clone()).await;
            assert_eq!(again.as_deref(), Ok(&*outcome), "cut after {cut}: {:#?}", told(&journal));
            assert_eq!(told(&journal)[..cut], told(&whole)[..cut]);
        }
        outcome
    })
}

fn is_taken(entry: &everstep_core::journal::Entry) -> bool {
    matches!(entry.known_kind(), Some(Kind::SignalTaken | Kind::SignalRefused))
}

#[test]
fn signals_are_taken_in_order_whether_they_came_before_the_wait_or_after() {
    let out = check_with(
        async |ctx: Ctx, _| {
            let mut got = Vec::new();
            for _ in 0..2 {
                got.push(ctx.signal(GO).await?);
            }
            ctx.sleep(seconds(5)).await;
            got.push(ctx.signal(GO).await?);
            got.push(ctx.signal::<u64>("other").await?);
            Ok(format!("{got:?}"))
        },
        &[("go", 1), ("other", 9), ("go", 2), ("go", 3)],
    );
    assert_eq!(out, "[1, 2, 3, 9]");
}

#[test]
fn of_several_waits_the_one_that_was_called_first_is_served_first() {
    let out = check_with(
        async |ctx: Ctx, _| {
            let (first, second) = (ctx.signal(GO), ctx.signal(GO));
            // Polled the other way round.
            let (b, a) = join!(second, first);
            Ok(format!("{} {}", a?, b?))
        },
        &[("go", 1), ("go", 2)],
    );
    assert_eq!(out, "1 2");
}

/// Runs `workflow`, sends `go` after `ms`, and replays the whole journal.
fn check_late<F, Fut>(workflow: F, ms: u64) -> String
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine(&memory, &world, workflow.clone()).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        nap(ms).await;
        first.signal("r", GO, 5).await.expect("it is open");
        let outcome = plain(soon(run.result()).await);
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        memory.truncate("r", whole.len() - 1);
        let (again, journal, _) = finish(&memory, &world, workflow).await;
        assert_eq!((&again, told(&journal)), (&outcome, told(&whole)));
        outcome.expect("it ends well")
    })
}

/// Counterexample 7: a wait that is held, has a signal coming, and is dropped before it is polled again.
#[test]
fn a_held_wait_swallows_no_signal() {
    let out = check_late(
        async |ctx: Ctx, _| {
            let mut held = Box::pin(ctx.signal(GO));
            select! {
                _ = ctx.step("a", async || Ok(())) => {},
                _ = &mut held => return Ok("too early".to_string()),
            }
            // The signal comes meanwhile.
            ctx.step("b", async || after(500, 0).await).await?;
            drop(held);
            Ok(ctx.signal(GO).await?.to_string())
        },
        100,
    );
    assert_eq!(out, "5");
}

#[test]
fn a_wait_that_lost_a_race_or_ran_out_of_time_takes_nothing() {
    let out = check_late(
        async |ctx: Ctx, _| {
            let late = ctx.timeout(seconds(1), ctx.signal(GO)).await?;
            let lost = select! {
                got = ctx.signal(GO) => Some(got?),
                () = ctx.sleep(seconds(1)) => None,
            };
            ctx.sleep(seconds(3)).await;
            let got = ctx.signal(GO).await?;
            Ok(format!("{late:?} {lost:?} {got}"))
        },
        3_000,
    );
    assert_eq!(out, "None None 5");
}

#[test]
fn a_signal_that_does_not_decode_is_an_error_of_its_wait_and_of_no_other() {
    let out = virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| {
            let bad: Result<u64> = ctx.signal(GO).await;
            let bad = bad.expect_err("text");
            ctx.step("note", async || Ok(())).await?;
            Ok(format!("{:?} {} then {}", bad.kind(), bad.code(), ctx.signal(GO).await?))
        };
        let first = engine(&memory, &world, workflow).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        first.signal("r", "go", "text".to_string()).await.expect("anybody may send");
        first.signal("r", GO, 8).await.expect("it is open");
        let live = plain(soon(run.result()).await);
        first.shutdown().await.expect("it leaves");
        let entries = journal(&memory).await;
        assert_eq!(entries[1].known_kind(), Some(Kind::SignalRefused));
        assert_eq!(entries[1].input.as_ref().map(|sent| &*sent.bytes), Some(&br#""text""#[..]));
        memory.truncate("r", entries.len() - 1);
        // Another version of the code that could read it: the verdict stands.
        let lenient = async |ctx: Ctx, _| {
            let bad: Result<serde_json::Value> = ctx.signal("go").await;
            let bad = bad.expect_err("it was refused");
            ctx.step("note", async || Ok(())).await?;
            Ok(format!("{:?} {} then {}", bad.kind(), bad.code(), ctx.signal(GO).await?))
        };
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let next = engine_with(&memory, &world, other, lenient).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await), live);
        live
    });
    assert_eq!(out.as_deref(), Ok("Raised EV0006 then 8"));
}

/// What the journal holds as good was good: that is the run's own record, and no sender's mistake.
#[test]
fn a_taken_signal_that_decodes_no_more_makes_the_run_stuck() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.signal(GO).await?;
            ctx.signal::<u64>("never").await?;
            Ok(String::new())
        })
        .await;
        first.start(W, "r", 7).await.expect("it starts");
        first.signal("r", GO, 8).await.expect("it is open");
        nap(10).await;
        first.shutdown().await.expect("it leaves");
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let text = async |ctx: Ctx, _| ctx.signal::<String>("go").await;
        let next = engine_with(&memory, &world, other, text).await;
        let run = next.get(W, "r").await.expect("found");
        let stuck = soon(run.result()).await.expect_err("stuck");
        assert_eq!(stuck.kind(), ErrorKind::Stuck, "{stuck:?}");
        assert_eq!(run.stuck().await.expect("read").expect("it is").reason, StuckReason::Undecodable);
    });
}

#[test]
fn a_signal_to_a_run_that_is_over_or_missing_is_an_error() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |_: Ctx, _| Ok("done".to_string())).await;
        engine.run(W, "r", 7).await.expect("it ends");
        let over = engine.signal("r", GO, 1).await.expect_err("nobody will take it");
        assert_eq!(over.code(), Code::NOT_ALLOWED);
        assert!(over.to_string().contains("completed"), "{over}");
        let missing = engine.signal("nobody", GO, 1).await.expect_err("no such run");
        assert_eq!(missing.code(), Code::NOT_FOUND);
        let bad = engine.signal("r", "a/b", 1u64).await.expect_err("no name");
        assert_eq!(bad.code(), Code::BAD_NAME);
        let nan = engine.signal("r", "go", f64::NAN).await.expect_err("no JSON");
        assert_eq!(nan.code(), Code::NOT_RECORDABLE);
    });
}

#[test]
fn a_signal_with_a_key_is_one_however_often_it_is_sent() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let first = ctx.signal(GO).await?;
            // It was taken long ago when it is sent again.
            ctx.sleep(days(1)).await;
            let second = ctx.timeout(days(1), ctx.signal(GO)).await?;
            Ok(format!("{first} {second:?}"))
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        for _ in 0..3 {
            engine.signal("r", GO, 4).key("payment 4").await.expect("it is open");
            nap(2000).await;
        }
        engine.signal("r", "other", 4u64).key("payment 4").await.expect("another name is another signal");
        assert_eq!(plain(soon_days(&run, 3).await).as_deref(), Ok("4 None"));
        let left = run.undelivered().await.expect("read");
        assert_eq!(left.iter().map(|left| &*left.name).collect::<Vec<_>>(), ["other"]);
    });
}

async fn soon_days(
    run: &everstep_core::Run<String>,
    days: u64,
) -> std::result::Result<String, everstep_core::EngineError> {
    for _ in 0..days * 24 {
        if run.status().await?.is_over() {
            break;
        }
        nap(3_600_000).await;
    }
    soon(run.result()).await
}

#[test]
fn what_nobody_took_is_reported_at_the_end() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| {
            let held = Box::pin(ctx.signal(GO));
            let mut held = held;
            select! {
                _ = &mut held => {},
                () = ctx.sleep(seconds(1)) => {},
            }
            ctx.sleep(seconds(1)).await;
            Ok("over".to_string())
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(1500).await;
        // One for the wait that is held and never polled again, one for nobody, one of another name.
        for (name, value) in [("go", 1u64), ("go", 2), ("other", 3)] {
            engine.signal("r", name, value).await.expect("it is open");
        }
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("over"));
        let left = run.undelivered().await.expect("read");
        let told: Vec<_> =
            left.iter().map(|l| (l.name.to_string(), l.value::<u64>().expect("a number"))).collect();
        assert_eq!(told, [("go".into(), 1), ("go".into(), 2), ("other".into(), 3)]);
    });
}

/// A hundred thousand signals that nobody asks for cost neither time nor order.
#[test]
fn many_signals_that_nobody_waits_for_are_in_nobodys_way() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            let mut sum = 0;
            for _ in 0..n {
                sum += ctx.signal(GO).await?;
            }
            Ok(sum.to_string())
        })
        .await;
        let run = engine.start(W, "r", 100).await.expect("it starts");
        for n in 0..5_000u64 {
            engine.signal("r", "noise", n).await.expect("it is open");
        }
        for _ in 0..100 {
            engine.signal("r", GO, 1).await.expect("it is open");
        }
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("100"));
        assert_eq!(run.undelivered().await.expect("read").len(), 5_000);
    });
}

/// The wait is refused where two would share a name side by side in an order that replay may not have.
#[test]
fn waits_follow_the_rules_for_names() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let side = async { ctx.signal(GO).await };
            let (a, b) = join!(side, async { ctx.signal(GO).await });
            let code = |result: Result<u64>| result.map_err(|e: Error| e.code());
            Ok(format!("{:?} {:?}", code(a), code(b)))
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        engine.signal("r", GO, 1).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("Ok(1) Err(Code(13))"));
    });
}

/// Every wait that is open, parked or not, wherever the signal comes in.
#[test]
fn a_signal_finds_its_run_in_memory_and_out_of_it() {
    for (settings, ms) in [(stays(), 5_000), (settings(), 5), (settings(), 1_000), (settings(), 5_000)] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let workflow = async |ctx: Ctx, _| {
                ctx.step("before", async || Ok(())).await?;
                Ok(ctx.signal(GO).await?.to_string())
            };
            let engine = engine_with(&memory, &world, settings, workflow).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            nap(ms).await;
            engine.signal("r", GO, 3).await.expect("it is open");
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("3"), "after {ms} ms");
        });
    }
}

/// Both are futures that a handler may hold, spawn and poll.
#[test]
fn waits_and_sends_are_owned() {
    fn is_owned<T: Send + Sync + Unpin + 'static>(_: impl Fn(&Ctx, &Client) -> T) {}
    is_owned(|ctx, _| ctx.signal(GO));
    is_owned(|_, client| client.signal("r", GO, 1));
}
