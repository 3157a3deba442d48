//! The kit for tests of workflows, by tests as its users write them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use everstep_core::{
    Ctx, Engine, Error, ErrorKind, Replayed, Result, Retry, Signal, Status, StepCtx, Workflow, days, hours,
    join, seconds,
    store::{Memory, MemoryJob, Rows, Store},
    testing::{self, TestEngine},
};

const ORDER: Workflow<u64, String> = Workflow::new("order");
const APPROVED: Signal<bool> = Signal::new("approved");

async fn order(ctx: Ctx, cents: u64) -> Result<String> {
    let receipt =
        ctx.step("charge", async || Ok(format!("real {cents}"))).retry(Retry::exponential(3)).await?;
    let approved = ctx.timeout(days(30), ctx.signal(APPROVED)).await?;
    ctx.sleep(days(365)).await;
    let mailed = ctx.scope("mail", async |ctx| ctx.step("email", async || Ok(1u32)).await).await?;
    Ok(format!("{receipt}, {approved:?}, {mailed} mail"))
}

#[test]
fn a_year_goes_by_while_everything_waits() {
    testing::run(async {
        let engine = TestEngine::start(|store| Engine::builder(store).register(ORDER, order)).await;
        let run = engine.start(ORDER, "o-1", 5).await.expect("it starts");
        assert_eq!(run.result().await.expect("it ends"), "real 5, None, 1 mail");
        let row = engine.list("").await.expect("reads").remove(0);
        let took = row.finished_at.expect("over").since(row.created_at);
        assert_eq!(took.as_secs() / 86_400, 395, "{took:?}");
        engine.wait_for_step("email").await;
        engine.wait_for_step("mail/email").await;
        engine.wait_for_outcome("o-1").await;
    });
}

#[test]
fn a_test_waits_for_what_it_wants_to_answer() {
    testing::run(async {
        let engine = TestEngine::start(|store| Engine::builder(store).register(ORDER, order)).await;
        let run = engine.start(ORDER, "o-1", 5).await.expect("it starts");
        engine.wait_for_step("charge").await;
        engine.wait_for_signal("approved").await;
        assert_eq!(run.journal_len().await.expect("reads"), 2);
        engine.signal("o-1", APPROVED, true).await.expect("it is sent");
        engine.advance(days(364)).await;
        assert!(!run.status().await.expect("reads").is_over());
        engine.advance(days(2)).await;
        assert_eq!(run.status().await.expect("reads"), Status::Completed);
        assert_eq!(run.result().await.expect("it ends"), "real 5, Some(true), 1 mail");
    });
}

#[test]
#[should_panic(expected = "step `never` is done: it never comes to that. The last that happened:")]
fn a_wait_for_what_never_comes_says_so() {
    testing::run(async {
        let engine = TestEngine::start(|store| Engine::builder(store).register(ORDER, order)).await;
        engine.start(ORDER, "o-1", 5).await.expect("it starts");
        engine.wait_for_step("never").await;
    });
}

#[test]
#[should_panic(expected = "a test engine needs a clock that skips ahead")]
fn a_clock_that_runs_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(TestEngine::start(|store| Engine::builder(store).register(ORDER, order)));
}

#[test]
fn fakes_answer_in_the_place_of_bodies() {
    testing::run(async {
        let tries = Arc::new(AtomicU64::new(0));
        let tried = tries.clone();
        let engine = TestEngine::start(|store| {
            Engine::builder(store)
                .register(ORDER, order)
                .fake("charge", move |s: StepCtx| match tried.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(Error::from("no line")),
                    _ => Ok(format!("fake, attempt {}", s.attempt())),
                })
                .fake("mail/email", |_| Ok(7u32))
        })
        .await;
        let run = engine.start(ORDER, "o-1", 5).await.expect("it starts");
        assert_eq!(run.result().await.expect("it ends"), "fake, attempt 2, None, 7 mail");
        assert_eq!(tries.load(Ordering::SeqCst), 2, "retries are as always");
    });
}

#[test]
fn a_fake_of_another_type_fails_its_step() {
    testing::run(async {
        let engine = TestEngine::start(|store| {
            Engine::builder(store).register(ORDER, order).fake("charge", |_| Ok(7u32))
        })
        .await;
        let error = engine.run(ORDER, "o-1", 5).await.expect_err("a text was wanted");
        assert_eq!(error.kind(), ErrorKind::Raised);
        assert!(error.to_string().contains("invalid type: integer `7`, expected a string"), "{error}");
    });
}

const TRANSFER: Workflow<u64, String> = Workflow::new("transfer");

/// A transaction, parallel steps, a timer, a signal, a step that fails at first.
async fn transfer(ctx: Ctx, cents: u64, calls: Arc<AtomicU64>) -> Result<String> {
    let booked: u64 = ctx
        .transaction_on("memory", "book", move |recorder| {
            let body = move |rows: &mut Rows| {
                let booked = rows.get("booked").and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) + cents;
                rows.insert("booked".to_string(), booked.to_string());
                recorder.record(booked)
            };
            Box::new(MemoryJob(Box::new(body)))
        })
        .await?;
    ctx.sleep(hours(5)).await;
    let (a, b) = join!(
        ctx.step("a", async || Ok(calls.fetch_add(1, Ordering::SeqCst))),
        ctx.step("b", async |s: StepCtx| if s.attempt() == 1 { Err(Error::from("busy")) } else { Ok(2u64) })
            .retry(Retry::exponential(9)),
    );
    let (_, b) = (a?, b?);
    let go = ctx.signal(Signal::<u64>::new("go")).await?;
    ctx.publish("booked", &booked);
    Ok(format!("{booked} {b} {go}"))
}

#[test]
fn a_crash_at_every_place_changes_nothing() {
    testing::run(async {
        let (calls, stores) =
            (Arc::new(AtomicU64::new(0)), Arc::new(std::sync::Mutex::new(Vec::<Memory>::new())));
        let report = testing::crash_everywhere_by(
            |store| {
                stores.lock().expect("whole").push(store.clone());
                Engine::builder(store).state(calls.clone()).register(TRANSFER, transfer)
            },
            |client| client.start(TRANSFER, "t-1", 30).with_signal("go", 7u64),
        )
        .await;
        assert_eq!(report.outcome, "\"30 2 7\"");
        // Four bodies, before and after each; turns before and after each: what waits for no disk shares one.
        assert!(report.crashes >= 16, "{report}");
        assert!(
            report.bodies["a"] > report.crashes as u64,
            "once in each life, and again where it was in doubt"
        );
        let stores = stores.lock().expect("whole");
        let booked = |store: &Memory| store.rows().get("booked").cloned();
        assert!(stores.iter().all(|store| booked(store).as_deref() == Some("30")), "exactly once in each");
    });
}

/// Whether both are clones of one.
fn same(a: &Memory, b: &Memory) -> bool {
    std::ptr::eq(Store::bell(a).as_ref(), Store::bell(b).as_ref())
}

async fn counts(ctx: Ctx, _: u64, calls: Arc<AtomicU64>) -> Result<String> {
    ctx.step("count", async || Ok(calls.fetch_add(1, Ordering::SeqCst).to_string())).await
}

#[test]
#[should_panic(expected = "before its record: another outcome")]
fn an_effect_that_is_not_idempotent_is_found() {
    testing::run(async {
        // The world outside of each life counts how often it is asked; the second process of a life finds it as it is.
        let worlds = Arc::new(std::sync::Mutex::new(Vec::<(Memory, Arc<AtomicU64>)>::new()));
        let build = move |store: Memory| {
            let mut worlds = worlds.lock().expect("whole");
            let known = worlds.iter().find(|(known, _)| same(known, &store)).map(|(_, world)| world.clone());
            let calls = known.unwrap_or_default();
            worlds.push((store.clone(), calls.clone()));
            Engine::builder(store).state(calls).register(Workflow::new("w"), counts)
        };
        testing::crash_everywhere(build, Workflow::<u64, String>::new("w"), 1).await;
    });
}

#[test]
fn runs_from_production_are_replayed() {
    testing::run(async {
        let engine = TestEngine::start(|store| Engine::builder(store).register(ORDER, order)).await;
        engine.start(ORDER, "o-1", 5).await.expect("it starts");
        engine.wait_for_signal("approved").await;
        let export = engine.export("o-1").await.expect("it rests");
        let same = testing::replay(&export, |store| Engine::builder(store).register(ORDER, order)).await;
        assert_eq!(same, Replayed::Fine);
        let renamed = async |ctx: Ctx, _: u64| ctx.step("pay", async || Ok(String::new())).await;
        let other = testing::replay(&export, |store| Engine::builder(store).register(ORDER, renamed)).await;
        assert!(!other.is_fine() && other.to_string().contains("recorded `charge`"), "{other}");
        let folder = std::env::temp_dir().join(format!("everstep-kit-{}.json", std::process::id()));
        std::fs::write(&folder, export.to_json()).expect("room");
        let file = testing::replay_file(&folder, |store| Engine::builder(store).register(ORDER, order)).await;
        std::fs::remove_file(&folder).expect("it was there");
        assert!(file.is_fine());
        // It goes on in a test, from where it stood.
        let store = Memory::default();
        store.import(&export).expect("it is new there");
        let engine = TestEngine::start_on(store, |store| Engine::builder(store).register(ORDER, order)).await;
        engine.wait_for_signal("approved").await;
        engine.signal("o-1", APPROVED, false).await.expect("it is sent");
        engine.advance(seconds(1)).await;
        engine.wait_for_outcome("o-1").await;
    });
}
