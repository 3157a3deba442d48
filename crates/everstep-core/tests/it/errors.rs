//! Errors: every way in, and the same error out, live, on every replay and outside.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{check_replays, engine, finish, plain, run_once, told, virtual_time};
use everstep_core::{
    BoxFuture, Ctx, EngineError, Error, ErrorKind, Result, Retry, Simulation, Step, journal::Kind, seconds,
    store::Memory,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Declined {
    NoFunds { missing: u64 },
    Stolen,
}
impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Declined::NoFunds { missing } => write!(f, "{missing} missing"),
            Declined::Stolen => f.write_str("stolen"),
        }
    }
}
impl StdError for Declined {}

/// An error around others, three deep.
#[derive(Debug)]
struct Wrapped(&'static str, Box<dyn StdError + Send + Sync>);
impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.1)
    }
}

fn wrapped() -> Wrapped {
    Wrapped("payment failed", Box::new(Wrapped("card refused", Box::new(Declined::NoFunds { missing: 3 }))))
}

/// Every way in which a body may fail, each on a line of its own.
async fn raise(way: u8) -> Result<u64> {
    let boxed: Box<dyn StdError + Send + Sync> = "boxed".into();
    match way {
        0 => Err(Declined::Stolen)?,
        1 => Err(wrapped())?,
        2 => Err(anyhow::Error::new(Declined::NoFunds { missing: 7 }).context("while paying"))?,
        3 => Err(anyhow::anyhow!("only words"))?,
        4 => Err(boxed)?,
        5 => Err("text")?,
        6 => Err(format!("text {way}"))?,
        7 => Ok("no number".parse::<u64>()?),
        8 => Err(Error::terminal(wrapped())),
        9 => Err(Error::retry_after("busy", seconds(30))),
        10 => Err(std::io::Error::other(Declined::Stolen))?,
        _ => panic!("at the disco"),
    }
}
const WAYS: u8 = 12;

/// Everything that a program can learn of an error.
fn known(error: &Error) -> String {
    format!(
        "{error:?} | {error} | {:?} {} {:?} | terminal {} timeout {} | {} {:?} {:?} {:?}",
        error.kind(),
        error.code(),
        error.causes(),
        error.is_terminal(),
        error.is_timeout(),
        error.raised_at(),
        error.is::<Declined>(),
        error.downcast::<Declined>(),
        error.downcast_as::<Declined>("declined"),
    )
}

fn line_of(way: u8) -> String {
    let this = include_str!("errors.rs");
    let head = format!("        {way} => ");
    let at = this.lines().position(|line| line.starts_with(&head)).expect("every way has its line") + 1;
    format!("errors.rs:{at}:")
}

#[test]
fn errors_are_equal_live_and_on_every_replay() {
    let asked: [fn(Step<'_, u64>) -> Step<'_, u64>; 4] = [
        |step| step,
        |step| step.typed::<Declined>(),
        |step| step.typed_as::<Declined>("declined"),
        |step| step.typed::<Declined>().retry(Retry::fixed(3, seconds(1))),
    ];
    for ask in asked {
        for way in 0..WAYS {
            let live = Arc::new(Mutex::new(Vec::new()));
            let seen = live.clone();
            let out = check_replays(move |ctx: Ctx, _| {
                let seen = seen.clone();
                async move {
                    let error =
                        ask(ctx.step("raise", async || raise(way).await)).await.expect_err("it fails");
                    let same = ctx
                        .scope("inner", async |ctx| ask(ctx.step("raise", async || raise(way).await)).await)
                        .await
                        .expect_err("it fails");
                    assert_eq!(known(&error), known(&same), "through a scope");
                    ctx.step("next", async || Ok(())).await?;
                    seen.lock().expect("unpoisoned").push(known(&error));
                    Ok(known(&error))
                }
            });
            let live = live.lock().expect("unpoisoned");
            assert!(live.len() > 5 && live.iter().all(|l| *l == out), "{live:#?}");
            if way < WAYS - 1 {
                assert!(out.contains(&line_of(way)), "{way}: {out}");
            }
        }
    }
}

/// Runs one step that fails in this way; what the function learnt of it, and the run's own error.
fn fail(way: u8, ask: fn(Step<'_, u64>) -> Step<'_, u64>) -> (Arc<Mutex<Option<Error>>>, EngineError) {
    let caught = Arc::new(Mutex::new(None));
    let put = caught.clone();
    let outside = virtual_time(async move {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let put = put.clone();
            async move {
                let first = ask(ctx.step("first", async || raise(way).await)).await.expect_err("it fails");
                *put.lock().expect("unpoisoned") = Some(first);
                ask(ctx.step("raise", async || raise(way).await)).await.map(|n| n.to_string())
            }
        })
        .await;
        engine.run(crate::common::W, "r", 1).await.expect_err("it fails")
    });
    (caught, outside)
}

#[test]
fn what_a_step_asks_for_decides_what_is_found_again() {
    let told = |way, ask| {
        let (inside, outside) = fail(way, ask);
        let inside = inside.lock().expect("unpoisoned").take().expect("caught");
        assert_eq!(inside.downcast::<Declined>(), outside.downcast::<Declined>());
        assert_eq!(inside.downcast_as::<Declined>("declined"), outside.downcast_as::<Declined>("declined"));
        assert_eq!(format!("{inside:?}"), format!("{outside:?}"), "the run ended with the step's own error");
        (inside.downcast::<Declined>(), inside.downcast_as::<Declined>("declined"), inside.is::<Declined>())
    };
    let missing = |missing| Some(Declined::NoFunds { missing });
    assert_eq!(told(0, |s| s), (None, None, false), "nobody asked to keep it");
    assert_eq!(told(0, |s| s.typed::<Declined>()), (Some(Declined::Stolen), None, true));
    assert_eq!(told(0, |s| s.typed_as::<Declined>("declined")), (None, Some(Declined::Stolen), false));
    assert_eq!(told(1, |s| s.typed::<Declined>()), (missing(3), None, true), "deep among the sources");
    assert_eq!(told(2, |s| s.typed::<Declined>()), (missing(7), None, true), "through anyhow");
    assert_eq!(told(5, |s| s.typed::<Declined>()), (None, None, false), "a text is none");
    assert_eq!(told(8, |s| s.typed::<Declined>()), (missing(3), None, true), "terminal ones too");
}

#[test]
fn sources_are_a_chain_inside_and_outside() {
    let (inside, outside) = fail(1, |step| step);
    let inside = inside.lock().expect("unpoisoned").take().expect("caught");
    assert_eq!(inside.causes(), ["card refused", "3 missing"]);
    let mut chain = Vec::new();
    let mut next = outside.source();
    while let Some(error) = next {
        chain.push(error.to_string());
        next = error.source();
    }
    assert_eq!(chain, ["card refused", "3 missing"]);
    let text = format!("{outside:?}");
    assert!(text.starts_with("payment failed (EV0001 Raised, ") && text.contains(&line_of(1)), "{text}");
    assert!(text.ends_with("), because of: card refused, because of: 3 missing"), "{text}");
}

/// `Retry::when` sees the error that was raised, not its record: the type is known without `typed`, also among the
/// sources, and through anyhow.
#[test]
fn retries_may_depend_on_the_type() {
    for (way, attempts) in [(0, 1), (1, 1), (2, 1), (3, 4), (5, 4), (8, 1)] {
        let (outcome, journal, _) = run_once(1, move |ctx: Ctx, _| async move {
            let only_others = Retry::fixed(4, seconds(1)).when(|e| !e.is::<Declined>());
            ctx.step("raise", async || raise(way).await).retry(only_others).await.map(|n| n.to_string())
        });
        outcome.expect_err("it fails");
        let tried = journal.iter().find(|e| e.known_kind() == Some(Kind::StepFailed)).map(|e| e.attempt);
        assert_eq!(tried, Some(attempts), "way {way}");
    }
}

/// The pause that an error asks for is recorded: whoever goes on after a crash keeps it.
#[test]
fn a_retry_after_is_kept_across_a_crash() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = |ctx: Ctx, _| -> BoxFuture<'static, Result<String>> {
            Box::pin(async move {
                let before = ctx.now();
                let again = Retry::fixed(3, seconds(1));
                let busy =
                    ctx.step("busy", async || raise(9).await).retry(again).await.expect_err("it fails");
                Ok(format!("{busy} after {}s", ctx.now().duration_since(before)?.as_secs()))
            })
        };
        let (live, journal, _) = finish(&memory, &world, workflow).await;
        assert_eq!(live.as_deref(), Ok("busy after 60s"), "twice 30 s, not twice 1 s");
        assert_eq!(told(&journal).iter().filter(|t| t.contains("AttemptFailed")).count(), 2);
        // Its worker died just after the first attempt; ten seconds later another goes on.
        let memory = memory.fork();
        memory.truncate("r", 2);
        tokio::time::advance(Duration::from_secs(10)).await;
        let (again, ..) = finish(&memory, &world, workflow).await;
        assert!(again.expect("it ends").starts_with("busy after "));
        let resumed = crate::common::journal(&memory).await;
        assert!(resumed[2].at.since(resumed[1].at) >= seconds(30), "the second attempt waited for it");
    });
}

/// An error of the verbs, inside a workflow and outside again, keeps code and kind.
#[test]
fn errors_of_the_engine_pass_through_a_workflow() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let client = everstep_core::Client::simulated(memory.clone(), &world);
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let client = client.clone();
            async move {
                ctx.step("cancel", async || Ok(client.cancel("nobody", "").await?)).await?;
                Ok("never".to_string())
            }
        })
        .await;
        let error = engine.run(crate::common::W, "r", 1).await.expect_err("no such run");
        assert_eq!((error.kind(), error.code().to_string().as_str()), (ErrorKind::NotFound, "EV0101"));
        assert_eq!(error.to_string(), "there is no run `nobody`");
    });
}

/// What a function does with an error before it fails decides what the run's error says; it names its own line.
#[test]
fn a_run_fails_with_what_its_function_returned() {
    let line = line!() + 4;
    let wrapping = |ctx: Ctx, _: u64| -> BoxFuture<'static, Result<String>> {
        Box::pin(async move {
            let failed = ctx.step("raise", async || raise(1).await).await;
            let n = failed.map_err(|e| format!("cannot pay: {e}"))?;
            Ok(n.to_string())
        })
    };
    let out = check_replays(wrapping);
    assert!(
        out.contains("cannot pay: payment failed") && out.contains(&format!("errors.rs:{line}:")),
        "{out}"
    );
    let out = check_replays(async |ctx: Ctx, _| {
        let failed = ctx.step("raise", async || raise(0).await).await.map(|n| n.to_string());
        failed.map_err(|e| Error::terminal(EngineError::from(e)))
    });
    assert!(out.starts_with("stolen (EV0001"), "{out}");
}

#[test]
fn an_undecodable_result_is_an_error_of_whoever_asks() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        finish(&memory, &world, async |_, n| Ok(format!("value {n}"))).await.0.expect("it runs");
        let engine = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        let as_number: everstep_core::Workflow<u64, u64> = everstep_core::Workflow::new("w");
        let error = engine.get(as_number, "r").await.expect("found").result().await.expect_err("no number");
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(
            plain(engine.get(crate::common::W, "r").await.expect("found").result().await).as_deref(),
            Ok("value 7")
        );
        // An encoding of the future is not read as JSON.
        memory.rewrite("r", |entries| entries.last_mut().expect("an outcome").body.codec = 9);
        let run = engine.get(crate::common::W, "r").await.expect("found");
        assert_eq!(run.result().await.expect_err("another codec").kind(), ErrorKind::Decode);
    });
}
