//! Limits and names: one below, at, and one above each; above it there is one clear error with the limit and what was
//! given, and nothing was written.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::common::{W, engine, journal, plain, run_once, told, virtual_time};
use everstep_core::{
    Client, Code, Ctx, ENTRIES_MAX, Engine, EngineError, Error, ErrorKind, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX,
    RUN_ID_BYTES_MAX, Result, Retry, Settings, Simulation, Status, Workflow, join,
    journal::Answer,
    seconds,
    store::{Inspect, Memory},
};

const TEXT: Workflow<String, String> = Workflow::new("text");

/// An engine on `memory` with `TEXT`, at the limits that users have.
async fn texts<F, Fut>(memory: &Memory, world: &Simulation, workflow: F) -> Engine
where
    F: Fn(Ctx, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    let builder = Engine::builder(memory.clone()).register(TEXT, workflow).simulated(world);
    builder.start().await.expect("it starts")
}

/// A text whose JSON has `bytes` bytes.
fn text_of(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

/// Says which limit, and how much was given.
fn tells(error: &dyn std::fmt::Display, limit: usize, given: usize) {
    let text = error.to_string();
    assert!(text.contains(&limit.to_string()) && text.contains(&given.to_string()), "{text}");
    assert!(text.len() < 1000, "the error itself is short");
}

fn refused<T>(result: std::result::Result<T, EngineError>, code: Code, limit: usize) {
    let error = result.err().expect("one too many");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, code));
    tells(&error, limit, limit + 1);
}

async fn is_there(memory: &Memory, id: &str) -> bool {
    memory.run(id.into()).await.expect("memory reads").is_some()
}

#[test]
fn a_run_id_has_a_limit() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |_, n| Ok(n.to_string())).await;
        let client = Client::simulated(memory.clone(), &world);
        for length in [1, RUN_ID_BYTES_MAX - 1, RUN_ID_BYTES_MAX] {
            engine.run(W, "i".repeat(length), 1).await.expect("within the limit");
            client.start(W, "i".repeat(length), 1).await.expect("the same run");
        }
        let long = "i".repeat(RUN_ID_BYTES_MAX + 1);
        refused(engine.start(W, long.clone(), 1).await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
        refused(client.start(W, long.clone(), 1).await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
        refused(client.get(W, long.clone()).await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
        refused(client.cancel(&long, "").await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
        refused(client.retry(&long).await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
        refused(client.answer(&long, Answer::Retry).await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
        assert!(!is_there(&memory, &long).await);
        // Bytes count, not letters.
        let umlauts = "ü".repeat(RUN_ID_BYTES_MAX / 2);
        engine.start(W, umlauts.clone(), 1).await.expect("at the limit");
        refused(engine.start(W, umlauts + "x", 1).await, Code::TOO_LONG, RUN_ID_BYTES_MAX);
    });
}

#[test]
fn a_run_id_may_be_any_text_without_control_characters() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| Ok(ctx.id().to_string())).await;
        for id in ["order/7", "a#2", "$money", " ", "名前", "🦀"] {
            assert_eq!(plain(engine.run(W, id, 1).await).as_deref(), Ok(id));
        }
        for (id, why) in [("", "empty"), ("a\nb", "control"), ("\0", "control"), ("\u{7f}", "control")] {
            let error = engine.start(W, id, 1).await.expect_err(why);
            assert_eq!((error.kind(), error.code()), (ErrorKind::Misuse, Code::BAD_NAME));
            assert!(error.to_string().contains(why), "{error}");
            assert!(!is_there(&memory, id).await);
        }
    });
}

/// The good and the bad names of everything that has one, but for its length.
const BAD: [(&str, &str); 8] = [
    ("", "it is empty"),
    ("a/b", "part of keys"),
    ("a#2", "part of keys"),
    ("$sleep", "the engine's"),
    ("$", "the engine's"),
    ("a\nb", "control characters"),
    ("\0", "control characters"),
    ("tab\t", "control characters"),
];
const GOOD: [&str; 6] = ["a", "send welcome e-mail", "tool:search", "ünï", "a$b", "…"];

#[test]
fn names_of_steps_and_scopes_are_checked_before_anything_is_written() {
    let ran = Arc::new(AtomicU64::new(0));
    let counted = ran.clone();
    let (outcome, journal, _) = run_once(1, move |ctx: Ctx, _| {
        let counted = counted.clone();
        async move {
            let body = async || Ok(counted.fetch_add(1, Ordering::SeqCst));
            let mut wrong: Vec<(Error, &str)> = Vec::new();
            for (bad, why) in BAD {
                wrong.push((
                    ctx.step(bad, body).retry(Retry::fixed(3, seconds(1))).await.expect_err(why),
                    why,
                ));
                wrong.push((ctx.step_blocking(bad, || Ok(())).await.expect_err(why), why));
                wrong.push((ctx.scope(bad, async |_| Ok(())).await.expect_err(why), why));
                wrong.push((ctx.map(bad, [1], 1, async |_, _| Ok(())).await.expect_err(why), why));
                let block = ctx.retry_block(bad, Retry::fixed(3, seconds(1)), async |_| Ok(()));
                wrong.push((block.await.expect_err(why), why));
            }
            for (error, why) in wrong {
                assert_eq!((error.kind(), error.code()), (ErrorKind::Misuse, Code::BAD_NAME));
                assert!(error.to_string().contains(why) && error.is_terminal(), "{error}");
            }
            let long = "n".repeat(NAME_BYTES_MAX + 1);
            for error in [
                ctx.step(&long, body).await.expect_err("too long"),
                ctx.scope(&long, async |_| Ok(())).await.expect_err("too long"),
                ctx.map(&long, [1], 1, async |_, _| Ok(())).await.expect_err("too long"),
                ctx.retry_block(&long, Retry::none(), async |_| Ok(())).await.expect_err("too long"),
            ] {
                assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, Code::TOO_LONG));
                tells(&error, NAME_BYTES_MAX, NAME_BYTES_MAX + 1);
            }
            Ok("refused".to_string())
        }
    });
    assert_eq!(outcome.as_deref(), Ok("refused"));
    assert_eq!(journal.len(), 2, "start and outcome: {:?}", told(&journal));
    assert_eq!(ran.load(Ordering::SeqCst), 0, "no body ran");
}

#[test]
fn good_names_are_kept_as_they_are() {
    let (outcome, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let longest = ["n".repeat(NAME_BYTES_MAX - 1), "n".repeat(NAME_BYTES_MAX)];
        for name in GOOD.into_iter().chain(longest.iter().map(String::as_str)) {
            ctx.scope(name, async |ctx| ctx.step(name, async || Ok(())).await).await?;
        }
        Ok("kept".to_string())
    });
    assert_eq!(outcome.as_deref(), Ok("kept"));
    for (entry, name) in journal[1..].iter().zip(GOOD) {
        assert_eq!(entry.key.as_deref(), Some(format!("{name}/{name}").as_str()));
    }
    assert_eq!(journal.len(), 2 + GOOD.len() + 2);
}

#[test]
fn names_of_workflows_are_checked() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let client = Client::simulated(memory.clone(), &world);
        let mut names: Vec<(&'static str, Code)> =
            BAD.iter().map(|(bad, _)| (*bad, Code::BAD_NAME)).collect();
        names.push((Box::leak("n".repeat(NAME_BYTES_MAX + 1).into_boxed_str()), Code::TOO_LONG));
        for (bad, code) in names {
            let workflow: Workflow<u64, u64> = Workflow::new(bad);
            let builder = Engine::builder(memory.clone()).register(workflow, async |_, n| Ok(n));
            assert_eq!(builder.simulated(&world).start().await.expect_err("a bad name").code(), code);
            assert_eq!(client.start(workflow, "r", 1).await.expect_err("a bad name").code(), code);
        }
        assert!(!is_there(&memory, "r").await);
        for good in GOOD.into_iter().chain([&*Box::leak("n".repeat(NAME_BYTES_MAX).into_boxed_str())]) {
            let workflow: Workflow<u64, u64> = Workflow::new(good);
            let builder = Engine::builder(memory.clone()).register(workflow, async |_, n| Ok(n));
            let engine = builder.simulated(&world).start().await.expect("a good name");
            assert_eq!(engine.run(workflow, good, 1).await.expect("it runs"), 1);
        }
    });
}

#[test]
fn an_input_has_a_limit() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = texts(&memory, &world, async |_, text| Ok(text.len().to_string())).await;
        let client = Client::simulated(memory.clone(), &world);
        for bytes in [PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX] {
            let length = engine.run(TEXT, bytes.to_string(), text_of(bytes)).await.expect("within the limit");
            assert_eq!(length, (bytes - 2).to_string());
        }
        let large = text_of(PAYLOAD_BYTES_MAX + 1);
        refused(engine.start(TEXT, "r", large.clone()).await, Code::TOO_LARGE, PAYLOAD_BYTES_MAX);
        refused(client.start(TEXT, "r", large.clone()).await, Code::TOO_LARGE, PAYLOAD_BYTES_MAX);
        let batch = engine.start_batch(TEXT, [("r".to_string(), large), ("s".to_string(), "small".into())]);
        let mut each = batch.await.expect("one wait").into_iter();
        refused(each.next().expect("two"), Code::TOO_LARGE, PAYLOAD_BYTES_MAX);
        each.next().expect("two").expect("a large one hinders no other");
        assert!(!is_there(&memory, "r").await);
    });
}

#[test]
fn a_steps_result_has_a_limit() {
    let ran = Arc::new(AtomicU64::new(0));
    let counted = ran.clone();
    let (outcome, journal, _) = run_once(1, move |ctx: Ctx, _| {
        let counted = counted.clone();
        async move {
            for bytes in [PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX] {
                let text = ctx.step("fits", async || Ok(text_of(bytes))).await?;
                assert_eq!(text.len(), bytes - 2);
                ctx.step_blocking("fits too", move || Ok(text_of(bytes))).await?;
            }
            let large = async || {
                counted.fetch_add(1, Ordering::SeqCst);
                Ok(text_of(PAYLOAD_BYTES_MAX + 1))
            };
            let again = Retry::fixed(5, seconds(1));
            for error in [
                ctx.step("large", large).retry(again).await.expect_err("too large"),
                ctx.step_blocking("large", || Ok(text_of(PAYLOAD_BYTES_MAX + 1)))
                    .await
                    .expect_err("too large"),
            ] {
                assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, Code::TOO_LARGE));
                tells(&error, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MAX + 1);
            }
            Ok("refused".to_string())
        }
    });
    assert_eq!(outcome.as_deref(), Ok("refused"));
    assert_eq!(ran.load(Ordering::SeqCst), 1, "no retry makes it smaller");
    assert!(
        journal.iter().all(|entry| entry.body.bytes.len() <= PAYLOAD_BYTES_MAX),
        "nothing larger is written"
    );
}

#[test]
fn an_outcome_has_a_limit() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = texts(&memory, &world, async |_, bytes| Ok(text_of(bytes.parse()?))).await;
        for bytes in [PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX] {
            let text =
                engine.run(TEXT, bytes.to_string(), bytes.to_string()).await.expect("within the limit");
            assert_eq!(text.len(), bytes - 2);
        }
        let run = engine.start(TEXT, "r", (PAYLOAD_BYTES_MAX + 1).to_string()).await.expect("it starts");
        refused(run.result().await, Code::TOO_LARGE, PAYLOAD_BYTES_MAX);
        assert_eq!(run.status().await.ok(), Some(Status::Failed));
        assert!(journal(&memory).await.iter().all(|entry| entry.body.bytes.len() < 1000));
    });
}

/// What a person hands in is bounded like what the run itself hands in.
#[test]
fn an_answer_and_a_reason_have_a_limit() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = texts(&memory, &world, async |ctx: Ctx, _| {
            let broken = ctx.step("broken", async || -> Result<String> { Err("no")? });
            Ok(broken.then_stuck().await?.len().to_string())
        })
        .await;
        let run = engine.start(TEXT, "r", String::new()).await.expect("it starts");
        assert_eq!(run.result().await.expect_err("it asks").kind(), ErrorKind::Stuck);
        let inbox = memory.run("r".into()).await.expect("reads").expect("there").inbox_n;
        let value = |bytes| Answer::Done { value: serde_json::to_string(&text_of(bytes)).expect("a text") };
        refused(engine.answer("r", value(PAYLOAD_BYTES_MAX + 1)).await, Code::TOO_LARGE, PAYLOAD_BYTES_MAX);
        let message = "x".repeat(PAYLOAD_BYTES_MAX + 1);
        refused(
            engine.answer("r", Answer::Fail { message: message.clone() }).await,
            Code::TOO_LARGE,
            PAYLOAD_BYTES_MAX,
        );
        refused(engine.cancel("r", &message).await, Code::TOO_LARGE, PAYLOAD_BYTES_MAX);
        let after = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((after.inbox_n, after.status), (inbox, Status::Stuck), "nothing was written");
        engine.answer("r", value(PAYLOAD_BYTES_MAX)).await.expect("at the limit");
        assert_eq!(run.result().await.expect("answered"), (PAYLOAD_BYTES_MAX - 2).to_string());
    });
}

const FEW: u64 = 8;

/// Runs `workflow` with at most `FEW` entries.
fn with_few_entries<F, Fut>(workflow: F) -> (std::result::Result<u64, EngineError>, usize, Option<Status>)
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u64>> + Send + 'static,
{
    virtual_time(async {
        let few: Workflow<u64, u64> = Workflow::new("few");
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = Engine::builder(memory.clone())
            .register(few, workflow)
            .settings(Settings { entries_max: FEW, ..Settings::default() })
            .simulated(&world)
            .start()
            .await
            .expect("it starts");
        let run = engine.start(few, "r", 0).await.expect("it starts");
        let outcome = run.result().await;
        (outcome, journal(&memory).await.len(), run.status().await.ok())
    })
}

/// What is open will have its entries too.
#[test]
fn parallel_steps_keep_the_limit() {
    let (outcome, entries, _) = with_few_entries(async |ctx: Ctx, _| {
        let all: Vec<_> = (0..100u64).map(|n| ctx.step("one", async move || Ok(n))).collect();
        let all = futures_util::future::join_all(all).await;
        let refused = all.iter().filter_map(|one| one.as_ref().err());
        assert!(refused.clone().all(|error| error.code() == Code::TOO_MANY_ENTRIES));
        Ok(refused.count() as u64)
    });
    assert_eq!(outcome.ok(), Some(100 - (FEW - 1)));
    assert_eq!(entries as u64, FEW + 1, "the outcome always has room");
}

/// The start and what it does: the outcome always has room.
#[test]
fn a_journal_has_a_limit() {
    assert_eq!(ENTRIES_MAX, 1_000_000);
    let steps = |wanted: u64| {
        with_few_entries(move |ctx: Ctx, _| async move {
            for n in 0..wanted {
                ctx.step("one", async || Ok(n)).await?;
            }
            Ok(wanted)
        })
    };
    for wanted in [FEW - 2, FEW - 1] {
        let (outcome, entries, _) = steps(wanted);
        assert_eq!((outcome.expect("within the limit"), entries as u64), (wanted, wanted + 2));
    }
    let (outcome, entries, status) = steps(FEW);
    let error = outcome.expect_err("one too many");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, Code::TOO_MANY_ENTRIES));
    tells(&error, FEW as usize, FEW as usize);
    assert_eq!((entries as u64, status), (FEW + 1, Some(Status::Failed)), "and the failure");
}

/// A scope takes no entry of its own, but nothing can be done in it any more.
#[test]
fn a_full_journal_refuses_scopes_and_timers_too() {
    let (outcome, ..) = with_few_entries(async |ctx: Ctx, _| {
        for n in 1..FEW {
            ctx.step("one", async || Ok(n)).await?;
        }
        let refused = ctx.scope("inner", async |_| Ok(())).await.expect_err("full");
        assert_eq!(refused.code(), Code::TOO_MANY_ENTRIES);
        Ok(0)
    });
    outcome.expect("it could tell");
    // A timer has no error to give: the run is stuck with the same words.
    let (outcome, entries, status) = with_few_entries(async |ctx: Ctx, _| {
        loop {
            ctx.sleep(seconds(1)).await;
        }
    });
    let stuck = outcome.expect_err("full");
    assert_eq!((entries as u64, status), (FEW, Some(Status::Stuck)));
    tells(&stuck, FEW as usize, FEW as usize);
    // Nor has what is only said.
    let (outcome, entries, status) = with_few_entries(async |ctx: Ctx, _| {
        for n in 1..FEW {
            ctx.step("one", async || Ok(n)).await?;
        }
        ctx.publish("too-much", &0u64);
        Ok(0)
    });
    tells(&outcome.expect_err("full"), FEW as usize, FEW as usize);
    assert_eq!((entries as u64, status), (FEW, Some(Status::Stuck)));
    let (outcome, entries, status) = with_few_entries(async |ctx: Ctx, _| {
        loop {
            ctx.timeout(seconds(1), std::future::pending::<Result<()>>()).await?;
        }
    });
    tells(&outcome.expect_err("full"), FEW as usize, FEW as usize);
    assert_eq!((entries as u64, status), (FEW, Some(Status::Stuck)));
}

/// A refused call leaves what stands beside it alone.
#[test]
fn a_refused_call_harms_no_other() {
    let (outcome, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let (good, bad) = join!(ctx.step("good", async || Ok(1u64)), ctx.step("a/b", async || Ok(2u64)),);
        assert_eq!(bad.expect_err("a bad name").code(), Code::BAD_NAME);
        Ok(good?.to_string())
    });
    assert_eq!((outcome.as_deref(), journal.len()), (Ok("1"), 3));
}
