//! Promises: settled once by their token, whoever has it; the same on every replay, also when a person takes the end of
//! the journal back.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crate::common::{
    W, engine, engine_with, finish, journal, nap, plain, settings, soon, stays, told, virtual_time,
    wrapped::Wrapped,
};
use everstep_core::{
    Client, Code, Ctx, EngineError, ErrorKind, Promise, Result, Settings, Simulation, StuckReason,
    journal::{Entry, Kind},
    seconds, select,
    store::Memory,
};

/// Where steps hand tokens out.
#[derive(Clone, Default)]
struct Outside(Arc<Mutex<Vec<String>>>);

impl Outside {
    /// Hands the promise's token out, in a step.
    async fn gets(&self, ctx: &Ctx, promise: &Promise<u64>) -> Result<()> {
        ctx.step("hand_out", async || {
            self.0.lock().expect("unpoisoned").push(promise.token().to_string());
            Ok(())
        })
        .await
    }

    fn has(&self) -> Vec<String> {
        self.0.lock().expect("unpoisoned").clone()
    }

    /// The `n`th token that was handed out, once it was.
    async fn token(&self, n: usize) -> String {
        loop {
            if let Some(token) = self.has().get(n) {
                return token.clone();
            }
            nap(1).await;
        }
    }
}

async fn pays(ctx: Ctx, outside: Outside) -> Result<String> {
    let payment: Promise<u64> = ctx.promise("payment");
    outside.gets(&ctx, &payment).await?;
    let paid = payment.await?;
    Ok(format!("paid {paid}"))
}

fn is(entry: &Entry, kind: Kind) -> bool {
    entry.known_kind() == Some(kind)
}

fn code<T>(result: std::result::Result<T, EngineError>) -> Code {
    result.err().expect("refused").code()
}

#[test]
fn a_promise_is_kept_by_whoever_has_its_token() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let engine = engine(&memory, &world, move |ctx, _| pays(ctx, given.clone())).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        assert!(token.starts_with("evp_") && token.len() == 36, "{token}");
        // Another process, which knows nothing but the token.
        let other = Client::simulated(memory.clone(), &world);
        other.resolve(&token, 20u64).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("paid 20"));
    });
}

#[test]
fn a_promise_is_settled_once() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| {
            let given = given.clone();
            async move {
                let paid = pays(ctx.clone(), given).await;
                ctx.signal::<u64>("never").await?;
                paid
            }
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        for _ in 0..3 {
            engine.resolve(&token, 20u64).await.expect("the same again is no error");
            nap(2_000).await;
        }
        assert_eq!(code(engine.resolve(&token, 21u64).await), Code::SETTLED);
        assert_eq!(code(engine.reject(&token, "no").await), Code::SETTLED);
        let settled: Vec<_> =
            journal(&memory).await.into_iter().filter(|e| is(e, Kind::PromiseSettled)).collect();
        assert_eq!(settled.len(), 1);
        let unknown = "evp_00000000000000000000000000000000";
        for token in [unknown, "", "evp_", "hello", &token[..35], &format!("{token}0")] {
            let error = engine.resolve(token, 20u64).await.expect_err("no such token");
            assert_eq!(
                (error.code(), error.to_string()),
                (Code::NOT_FOUND, "no promise has this token".into())
            );
        }
        engine.signal("r", "never", 1u64).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("paid 20"));
        assert_eq!(code(engine.resolve(&token, 21u64).await), Code::NOT_ALLOWED, "the run is over");
        engine.resolve(&token, 20u64).await.expect("it arrived, whatever became of the run");
    });
}

#[test]
fn a_rejection_is_an_error_of_the_wait() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| {
            let given = given.clone();
            async move {
                let payment: Promise<u64> = ctx.promise("payment");
                given.gets(&ctx, &payment).await?;
                let error = payment.await.expect_err("rejected");
                Ok(format!("{:?} {} {error}", error.kind(), error.code()))
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        first.reject(&token, "the card was declined").await.expect("it is open");
        first.reject(&token, "the card was declined").await.expect("the same again");
        assert_eq!(code(first.reject(&token, "other words").await), Code::SETTLED);
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("Rejected EV0009 the card was declined"));
        first.shutdown().await.expect("it leaves");
        memory.truncate("r", journal(&memory).await.len() - 1);
        assert_eq!(finish(&memory, &world, workflow).await.0, live);
    });
}

async fn makes_some(ctx: Ctx, outside: Outside) -> Result<String> {
    let first: Promise<u64> = ctx.promise("first");
    outside.gets(&ctx, &first).await?;
    let second: Promise<u64> = ctx.promise("second");
    let a = first.await?;
    ctx.sleep(seconds(5)).await;
    outside.gets(&ctx, &second).await?;
    let never: Promise<u64> = ctx.promise("never").expires(seconds(600));
    let late = never.await.expect_err("nobody settles it");
    let b = second.await?;
    Ok(format!("{a} {b} {:?}", late.kind()))
}

/// Settles every token that has been handed out; a run that replays hands out the same ones.
async fn settles(client: Client, outside: Outside, values: &'static [u64]) {
    for (n, value) in values.iter().enumerate() {
        let token = outside.token(n).await;
        client.resolve(&token, *value).await.expect("it is open, or was settled so");
    }
}

#[test]
fn promises_replay_whatever_entry_was_the_last() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| makes_some(ctx, given.clone());
        let first = engine(&memory, &world, workflow.clone()).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        settles((*first).clone(), outside.clone(), &[1, 2]).await;
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("1 2 Timeout"));
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        for cut in 1..whole.len() {
            let (memory, tokens) = (memory.fork(), outside.has());
            memory.truncate("r", cut);
            let next = engine(&memory, &world, workflow.clone()).await;
            let run = next.get(W, "r").await.expect("found");
            // What was cut off and had been settled is kept for the key, by whatever token.
            let outcome = plain(soon(run.result()).await);
            let again = journal(&memory).await;
            assert_eq!(outcome, live, "cut after {cut}: {:#?}", told(&again));
            let kinds = |entries: &[Entry]| entries.iter().map(|e| e.kind).collect::<Vec<_>>();
            assert_eq!(told(&again)[..cut], told(&whole)[..cut]);
            assert_eq!(kinds(&again), kinds(&whole), "cut after {cut}");
            for (token, value) in tokens.iter().zip([1u64, 2]) {
                next.resolve(token, value).await.expect("an old token is known");
            }
            next.shutdown().await.expect("it leaves");
        }
    });
}

#[test]
fn a_token_is_the_same_after_a_crash() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| {
            let given = given.clone();
            async move {
                let payment: Promise<u64> = ctx.promise("payment");
                given.gets(&ctx, &payment).await?;
                given.gets(&ctx, &payment).await?;
                Ok(payment.await?.to_string())
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        outside.token(1).await;
        first.shutdown().await.expect("it leaves");
        let made = journal(&memory).await.iter().position(|e| is(e, Kind::PromiseMade)).expect("made");
        memory.truncate("r", made + 1);
        let next = engine(&memory, &world, workflow).await;
        let token = outside.token(3).await;
        let all = outside.has();
        assert_eq!(all, vec![token.clone(); 4]);
        next.resolve(&token, 3u64).await.expect("it is open");
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("3"));
        let text = format!("{:?}", told(&journal(&memory).await));
        assert!(!text.contains(&token[4..]), "the journal does not show it: {text}");
    });
}

#[test]
fn a_value_of_another_type_is_an_error_of_its_wait() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| {
            let given = given.clone();
            async move {
                let payment: Promise<u64> = ctx.promise("payment");
                given.gets(&ctx, &payment).await?;
                let error = payment.await.expect_err("text");
                ctx.step("note", async || Ok(())).await?;
                Ok(format!("{:?} {}", error.kind(), error.code()))
            }
        };
        let first = engine(&memory, &world, workflow).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        first.resolve(&token, "text".to_string()).await.expect("anybody with the token may");
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("Raised EV0006"));
        first.shutdown().await.expect("it leaves");
        let entries = journal(&memory).await;
        let settled = entries.iter().find(|e| is(e, Kind::PromiseSettled)).expect("recorded");
        let sent = settled.input.as_ref().map(|sent| String::from_utf8_lossy(&sent.bytes).into_owned());
        assert_eq!(sent.as_deref(), Some(r#"{"value":"text"}"#));
        memory.truncate("r", entries.len() - 1);
        // Another version of the code that could read it: the verdict stands.
        let lenient = async |ctx: Ctx, _| {
            let payment: Promise<serde_json::Value> = ctx.promise("payment");
            ctx.step("hand_out", async || Ok(())).await?;
            let error = payment.await.expect_err("it was refused");
            ctx.step("note", async || Ok(())).await?;
            Ok(format!("{:?} {}", error.kind(), error.code()))
        };
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let next = engine_with(&memory, &world, other, lenient).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await), live);
    });
}

/// Makes a promise that expires after an hour; what came of it.
async fn expires(ctx: Ctx, outside: Outside) -> Result<String> {
    let payment: Promise<u64> = ctx.promise("payment").expires(seconds(3600));
    outside.gets(&ctx, &payment).await?;
    let paid = payment.await;
    let told = paid.map(|paid| paid.to_string()).unwrap_or_else(|e| format!("{:?} {}", e.kind(), e.code()));
    ctx.signal::<u64>("never").await?;
    Ok(told)
}

#[test]
fn a_promise_that_is_not_settled_in_time_expires() {
    for settings in [settings(), stays()] {
        // When it is settled, and whether that is in time.
        for (ms, expected) in [(3_599_000, Ok("5")), (3_601_000, Err(Code::EXPIRED))] {
            virtual_time(async {
                let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
                let given = outside.clone();
                let workflow = move |ctx: Ctx, _| expires(ctx, given.clone());
                let engine = engine_with(&memory, &world, settings.clone(), workflow).await;
                let run = engine.start(W, "r", 7).await.expect("it starts");
                let token = outside.token(0).await;
                nap(ms).await;
                let resolved = engine.resolve(&token, 5u64).await;
                assert_eq!(resolved.as_ref().map_err(|e| e.code()).err(), expected.err());
                engine.signal("r", "never", 1u64).await.expect("it is open");
                let told = plain(soon(run.result()).await);
                assert_eq!(told.as_deref(), Ok(expected.unwrap_or("Timeout EV0107")));
            });
        }
    }
}

/// The worker was away when it was settled, and comes back when its time is over.
#[test]
fn what_was_settled_in_time_counts_whenever_the_run_hears_of_it() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| expires(ctx, given.clone());
        let first = engine(&memory, &world, workflow.clone()).await;
        first.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        first.shutdown().await.expect("it leaves");
        let client = Client::simulated(memory.clone(), &world);
        client.resolve(&token, 5u64).await.expect("in time");
        nap(7_200_000).await;
        client.signal("r", "never", 1u64).await.expect("it is open");
        assert_eq!(finish(&memory, &world, workflow).await.0.as_deref(), Ok("5"));
    });
}

/// The clock of the worker jumps past the promise's time just when it is told of a message.
#[test]
fn a_message_that_may_have_come_in_time_is_read_before_a_promise_expires() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let (given, machine) = (outside.clone(), world.machine());
        let workflow = move |ctx: Ctx, _| expires(ctx, given.clone());
        let engine = engine_with(&memory, &machine, stays(), workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        nap(100).await;
        let client = Client::simulated(memory.clone(), &world);
        client.resolve(&token, 5u64).await.expect("in time");
        machine.set_clock_error(7_200_000_000);
        client.signal("r", "never", 1u64).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("5"));
    });
}

/// It was told in time, and the store takes longer than that to say what the message is.
#[test]
fn a_message_that_is_being_read_is_heard_before_a_promise_expires() {
    virtual_time(async {
        let (store, world, outside) = (Wrapped::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| expires(ctx, given.clone());
        let engine = engine_with(&store, &world, stays(), workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        nap(100).await;
        let gate = store.hold_inbox();
        engine.resolve(&token, 5u64).await.expect("in time");
        nap(7_200_000).await;
        drop(gate);
        engine.signal("r", "never", 1u64).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("5"));
    });
}

#[test]
fn a_promise_that_lost_a_race_or_was_dropped_takes_nothing() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| {
            let given = given.clone();
            async move {
                let mut raced: Promise<u64> = ctx.promise("raced");
                given.gets(&ctx, &raced).await?;
                let dropped: Promise<u64> = ctx.promise("dropped");
                given.gets(&ctx, &dropped).await?;
                drop(dropped);
                let lost = select! {
                    paid = &mut raced => Some(paid?),
                    () = ctx.sleep(seconds(10)) => None,
                };
                // It is settled meanwhile, and nobody polls it.
                ctx.sleep(seconds(20)).await;
                drop(raced);
                Ok(format!("{lost:?}"))
            }
        };
        let first = engine(&memory, &world, workflow.clone()).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        let (raced, dropped) = (outside.token(0).await, outside.token(1).await);
        first.resolve(&dropped, 1u64).await.expect("it is not known that nobody waits");
        nap(15_000).await;
        first.resolve(&raced, 1u64).await.expect("it is open");
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("None"));
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        let of = |key| {
            let settled = whole.iter().filter(|e| is(e, Kind::PromiseSettled));
            settled.filter(|e| e.key.as_deref() == Some(key)).count()
        };
        assert_eq!((of("dropped"), of("raced")), (0, 1), "a held wait is a wait");
        memory.truncate("r", whole.len() - 1);
        let (again, entries, _) = finish(&memory, &world, workflow).await;
        assert_eq!((again, told(&entries)), (live, told(&whole)));
    });
}

#[test]
fn a_held_promise_gives_its_value_when_it_is_polled_again() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let workflow = move |ctx: Ctx, _| {
            let given = given.clone();
            async move {
                let mut payment: Promise<u64> = ctx.promise("payment");
                given.gets(&ctx, &payment).await?;
                select! {
                    paid = &mut payment => return Ok(format!("too early {}", paid?)),
                    () = ctx.sleep(seconds(1)) => {},
                }
                ctx.sleep(seconds(60)).await;
                Ok(payment.await?.to_string())
            }
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        nap(10_000).await;
        engine.resolve(&token, 9u64).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("9"));
    });
}

#[test]
fn a_promise_finds_its_run_in_memory_and_out_of_it() {
    for (settings, ms) in [(stays(), 5_000), (settings(), 5), (settings(), 1_000), (settings(), 5_000)] {
        virtual_time(async {
            let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
            let given = outside.clone();
            let workflow = move |ctx: Ctx, _| pays(ctx, given.clone());
            let engine = engine_with(&memory, &world, settings, workflow).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let token = outside.token(0).await;
            nap(ms).await;
            engine.resolve(&token, 3u64).await.expect("it is open");
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("paid 3"), "after {ms} ms");
        });
    }
}

/// What the person's `retry` takes back, and what of it stays.
#[test]
fn a_promise_whose_rejection_ended_the_run_can_be_kept_after_a_retry() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let engine = engine(&memory, &world, move |ctx, _| pays(ctx, given.clone())).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        engine.reject(&token, "declined").await.expect("it is open");
        assert_eq!(soon(run.result()).await.expect_err("it failed").kind(), ErrorKind::Rejected);
        engine.retry("r").await.expect("it failed");
        nap(10).await;
        engine.resolve(&token, 4u64).await.expect("it is open again, and the token good");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("paid 4"));
        assert_eq!(outside.has().len(), 1);
    });
}

fn fails_once(outside: &Outside, good: &Arc<AtomicBool>) -> impl Fn(Ctx, u64) -> Fails + Clone + use<> {
    let (outside, good) = (outside.clone(), good.clone());
    move |ctx: Ctx, _| {
        let (outside, good) = (outside.clone(), good.clone());
        Box::pin(async move {
            let failed =
                ctx.step("bad", async || if good.load(SeqCst) { Ok(()) } else { Err("bad".into()) }).await;
            let payment: Promise<u64> = ctx.promise("payment");
            outside.gets(&ctx, &payment).await?;
            let paid = payment.await?;
            failed.map(|()| format!("paid {paid}"))
        })
    }
}

type Fails = std::pin::Pin<Box<dyn Future<Output = Result<String>> + Send>>;

#[test]
fn what_was_paid_behind_the_place_that_a_retry_goes_back_to_is_not_paid_again() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let good = Arc::new(AtomicBool::new(false));
        let engine = engine(&memory, &world, fails_once(&outside, &good)).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        let token = outside.token(0).await;
        engine.resolve(&token, 4u64).await.expect("it is open");
        soon(run.result()).await.expect_err("the step failed");
        good.store(true, SeqCst);
        engine.retry("r").await.expect("it failed");
        // It is made again, with another token, and needs none.
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("paid 4"));
        let other = outside.token(1).await;
        assert_ne!(other, token);
        engine.resolve(&token, 4u64).await.expect("the same again");
    });
}

#[test]
fn a_token_stays_good_for_its_key_when_its_promise_is_made_again() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let good = Arc::new(AtomicBool::new(true));
        let workflow = fails_once(&outside, &good);
        let first = engine(&memory, &world, workflow.clone()).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        let old = outside.token(0).await;
        nap(10).await;
        first.shutdown().await.expect("it leaves");
        // As a cut leaves it.
        memory.truncate("r", 1);
        let next = engine(&memory, &world, workflow).await;
        let new = outside.token(1).await;
        assert_ne!(old, new);
        next.resolve(&old, 4u64).await.expect("it was handed out");
        assert_eq!(code(next.resolve(&new, 5u64).await), Code::SETTLED, "they are of one promise");
        drop(run);
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("paid 4"));
    });
}

#[test]
fn a_promise_that_cannot_be_made_says_so() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, token| {
            let bad: Promise<u64> = ctx.promise("a/b");
            if token == 1 {
                return Ok(bad.token().to_string());
            }
            Ok(format!("{}", bad.await.expect_err("no name").code()))
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("EV0014"));
        let run = engine.start(W, "s", 1).await.expect("it starts");
        soon(run.result()).await.expect_err("stuck");
        let stuck = run.stuck().await.expect("read").expect("it is");
        assert_eq!(stuck.reason, StuckReason::Panicked);
        assert!(stuck.detail.contains("a promise that could not be made has no token"), "{stuck}");
    });
}

#[test]
fn code_that_makes_no_promise_any_more_has_diverged() {
    virtual_time(async {
        let (memory, world, outside) = (Memory::default(), Simulation::new(1), Outside::default());
        let given = outside.clone();
        let first = engine(&memory, &world, move |ctx, _| pays(ctx, given.clone())).await;
        first.start(W, "r", 7).await.expect("it starts");
        outside.token(0).await;
        nap(10).await;
        first.shutdown().await.expect("it leaves");
        let other = Settings { build: Some("other".to_string()), ..settings() };
        let next = engine_with(&memory, &world, other, async |ctx: Ctx, _| {
            ctx.step("hand_out", async || Ok(())).await?;
            Ok(String::new())
        })
        .await;
        let run = next.get(W, "r").await.expect("found");
        soon(run.result()).await.expect_err("stuck");
        let stuck = run.stuck().await.expect("read").expect("it is");
        assert_eq!(stuck.reason, StuckReason::Diverged);
        assert!(stuck.detail.contains("`payment` promise made"), "{stuck}");
    });
}

#[test]
fn promises_are_owned() {
    fn is_owned<T: Send + Sync + Unpin + 'static>(_: impl Fn(&Ctx) -> T) {}
    is_owned(|ctx| ctx.promise::<u64>("payment"));
}
