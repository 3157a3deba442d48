//! Requests: taken in order, answered once, by whoever serves them; nobody waits for an answer that cannot come.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::common::{
    W, after, engine, engine_with, journal, nap, plain, settings, soon, stays, told, virtual_time,
};
use everstep_core::{
    Client, Code, Ctx, ErrorKind, Request, Result, Simulation,
    journal::{Entry, Kind},
    seconds, select,
    store::Memory,
};

const ADD: Request<u64, u64> = Request::new("add");

/// Adds what it is asked with to a total, in a step, until it is told to end.
async fn adds(ctx: Ctx, _: u64) -> Result<String> {
    let total = AtomicU64::new(0);
    let handler = async |n: u64| match n {
        0 => Err("nothing to add".into()),
        _ => {
            let n = ctx.step("look", async || Ok(n)).await?;
            Ok(total.fetch_add(n, SeqCst) + n)
        }
    };
    ctx.serving(ADD, handler, ctx.signal::<()>("end")).await?;
    Ok(total.load(SeqCst).to_string())
}

fn count(entries: &[Entry], kind: Kind) -> usize {
    entries.iter().filter(|entry| entry.known_kind() == Some(kind)).count()
}

#[test]
fn requests_are_answered_in_order_in_memory_and_out_of_it() {
    for (settings, ms) in [(stays(), 5_000), (settings(), 5), (settings(), 1_000), (settings(), 5_000)] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let engine = engine_with(&memory, &world, settings, adds).await;
            let run = engine.start(W, "r", 7).await.expect("it starts");
            let other = Client::simulated(memory.clone(), &world);
            let mut answers = Vec::new();
            for n in 1..=3 {
                nap(ms).await;
                answers.push(soon(other.request("r", ADD, n)).await.expect("it answers"));
            }
            assert_eq!(answers, [1, 3, 6], "after {ms} ms");
            let error = soon(engine.request("r", ADD, 0)).await.expect_err("the handler refuses it");
            assert_eq!((error.to_string().as_str(), error.kind()), ("nothing to add", ErrorKind::Raised));
            engine.signal("r", "end", ()).await.expect("it is open");
            assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("6"));
        });
    }
}

#[test]
fn answers_replay_whatever_entry_was_the_last_and_are_given_once() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine(&memory, &world, adds).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        for (n, key) in [(1, "a"), (0, "b"), (2, "c")] {
            let _ = soon(first.request("r", ADD, n).key(key)).await;
        }
        first.signal("r", "end", ()).await.expect("it is open");
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("3"));
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        assert_eq!((count(&whole, Kind::RequestTaken), count(&whole, Kind::RequestAnswered)), (3, 3));
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let next = engine(&memory, &world, adds).await;
            let run = next.get(W, "r").await.expect("found");
            if !whole[..cut].iter().any(|entry| entry.known_kind() == Some(Kind::SignalTaken)) {
                next.signal("r", "end", ()).await.expect("it is open");
                nap(50).await;
            }
            // What was cut off comes in again, and was answered long ago.
            let told_now = plain(soon(run.result()).await);
            assert!(told_now.is_ok(), "cut after {cut}: {told_now:?}");
            assert_eq!(told(&journal(&memory).await)[..cut], told(&whole)[..cut]);
            for (key, answer) in [("a", Some(1)), ("b", None), ("c", Some(3))] {
                let again = soon(next.request("r", ADD, 9).key(key)).await;
                assert_eq!(again.ok(), answer, "{key} after a cut after {cut}");
            }
            next.shutdown().await.expect("it leaves");
        }
    });
}

#[test]
fn a_request_that_nobody_serves_yet_waits() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            ctx.sleep(seconds(60)).await;
            select! {
                never = ctx.serve(ADD, async |m: u64| Ok(n + m)) => match never {},
                () = ctx.sleep(seconds(60)) => {},
            }
            Ok(String::new())
        })
        .await;
        engine.start(W, "r", 7).await.expect("it starts");
        assert_eq!(soon(engine.request("r", ADD, 1)).await.expect("it answers"), 8);
    });
}

#[test]
fn nobody_waits_for_an_answer_that_cannot_come() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, n| {
            if n == 1 {
                ctx.sleep(seconds(60)).await;
                return Ok(String::new());
            }
            // It is over, or stuck, while the handler works.
            let slow = async |_: u64| ctx.step("slow", async || after(1_000_000, 1).await).await;
            let end = async {
                ctx.sleep(seconds(60)).await;
                if n == 3 {
                    panic!("no more")
                }
                Ok(String::new())
            };
            ctx.serving(ADD, slow, end).await
        };
        let engine = engine(&memory, &world, workflow).await;
        for (n, code) in [(1, Code::NO_ANSWER), (2, Code::NO_ANSWER), (3, Code::STUCK)] {
            let id = format!("r-{n}");
            engine.start(W, id.clone(), n).await.expect("it starts");
            let error = soon(engine.request(id.clone(), ADD, 1)).await.expect_err("no answer");
            assert_eq!(error.code(), code, "{n}: {error}");
        }
        let over = soon(engine.request("r-1", ADD, 1)).await.expect_err("it is over");
        assert_eq!(over.code(), Code::NOT_ALLOWED);
        let missing = soon(engine.request("nobody", ADD, 1)).await.expect_err("no such run");
        assert_eq!(missing.code(), Code::NOT_FOUND);
        let name: Request<u64, u64> = Request::new("a/b");
        let bad = soon(engine.request("r-3", name, 1)).await.expect_err("no name");
        assert_eq!(bad.code(), Code::BAD_NAME);
    });
}

#[test]
fn a_request_that_does_not_decode_is_answered_with_an_error_and_hinders_no_other() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let first = engine(&memory, &world, adds).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        let text: Request<String, u64> = Request::new("add");
        let error = soon(first.request("r", text, "one".to_string())).await.expect_err("text");
        assert_eq!(error.code(), Code::UNDECODABLE);
        assert_eq!(soon(first.request("r", ADD, 1)).await.expect("it answers"), 1);
        let wrong: Request<u64, String> = Request::new("add");
        let error = soon(first.request("r", wrong, 1)).await.expect_err("a number");
        assert_eq!((error.code(), error.kind()), (Code::UNDECODABLE, ErrorKind::Decode));
        first.signal("r", "end", ()).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("2"));
        first.shutdown().await.expect("it leaves");
        memory.truncate("r", journal(&memory).await.len() - 1);
        let next = engine(&memory, &world, adds).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("2"));
    });
}

#[test]
fn a_request_whose_handler_was_dropped_goes_to_the_next() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, n: u64| {
            select! {
                never = ctx.serve(ADD, async |_: u64| ctx.step("slow", async || after(10_000, 1).await).await) => match never {},
                () = ctx.sleep(seconds(5)) => {},
            }
            let ended = ctx.serving(ADD, async |m: u64| Ok(n * m), ctx.signal::<()>("end")).await;
            ended.map(|()| "over".to_string())
        };
        let first = engine(&memory, &world, workflow).await;
        let run = first.start(W, "r", 7).await.expect("it starts");
        assert_eq!(soon(first.request("r", ADD, 3)).await.expect("the second answers"), 21);
        first.signal("r", "end", ()).await.expect("it is open");
        let live = plain(soon(run.result()).await);
        assert_eq!(live.as_deref(), Ok("over"));
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        assert_eq!((count(&whole, Kind::RequestTaken), count(&whole, Kind::RequestAnswered)), (1, 1));
        memory.truncate("r", whole.len() - 1);
        let next = engine(&memory, &world, workflow).await;
        let run = next.get(W, "r").await.expect("found");
        assert_eq!((plain(soon(run.result()).await), told(&journal(&memory).await)), (live, told(&whole)));
    });
}

#[test]
fn a_request_with_a_key_is_one() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, adds).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        for _ in 0..3 {
            assert_eq!(soon(engine.request("r", ADD, 4).key("ticket")).await.expect("it answers"), 4);
        }
        engine.signal("r", "end", ()).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("4"));
        let late = soon(engine.request("r", ADD, 4).key("ticket")).await;
        assert_eq!(late.expect("the answer stays"), 4);
    });
}

#[test]
fn a_restart_answers_what_was_taken_and_leaves_the_rest_to_the_next() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, n| {
            if n == 1 {
                ctx.serving(ADD, async |m: u64| Ok(m), ctx.signal::<()>("end")).await?;
                return Ok("over".to_string());
            }
            select! {
                never = ctx.serve(ADD, async |_: u64| ctx.step("slow", async || after(1_000_000, 1).await).await) => match never {},
                () = ctx.sleep(seconds(5)) => {},
            }
            ctx.restart(W, 1).await
        };
        let engine = engine(&memory, &world, workflow).await;
        let run = engine.start(W, "r", 2).await.expect("it starts");
        let (first, second) = tokio::join!(soon(engine.request("r", ADD, 1)), async {
            nap(1).await;
            soon(engine.request("r", ADD, 2)).await
        },);
        assert_eq!(first.expect_err("it was taken").code(), Code::NO_ANSWER);
        assert_eq!(second.expect("it waits"), 2);
        engine.signal("r", "end", ()).await.expect("it is open");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("over"));
    });
}

#[test]
fn two_of_one_name_side_by_side_are_refused() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            let end = async || {
                ctx.sleep(seconds(1)).await;
                Ok(())
            };
            let inner = async {
                end().await?;
                ctx.serving(ADD, async |m: u64| Ok(m), end()).await
            };
            ctx.serving(ADD, async |m: u64| Ok(m), inner).await.map(|()| String::new())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        soon(run.result()).await.expect_err("stuck");
        let stuck = run.stuck().await.expect("read").expect("it is");
        assert!(stuck.detail.contains("`add` is already running"), "{stuck}");
    });
}

#[test]
fn requests_and_serves_are_owned() {
    fn is_owned<T: Send + Sync + Unpin + 'static>(_: impl Fn(&Ctx, &Client) -> T) {}
    is_owned(|ctx, _| ctx.serve(ADD, async |n: u64| Ok(n)));
    is_owned(|_, client| client.request("r", ADD, 1));
}
