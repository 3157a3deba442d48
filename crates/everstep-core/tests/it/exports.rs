//! Runs as files: everything of a run goes out, comes in, and replays.

use everstep_core::{
    Code, Ctx, Engine, Export, Published, Replayed, Result, Settings, Signal, Simulation, Status, Stream,
    StuckReason, seconds,
    store::{Inspect, Memory},
};

use crate::common::{W, engine, engine_with, nap, settle, told, virtual_time};

const TOTAL: Published<u64> = Published::new("total");
const LOG: Stream<String> = Stream::new("log");
const GO: Signal<u64> = Signal::new("go");

/// Does something of everything, and waits.
async fn much(ctx: Ctx, n: u64) -> Result<String> {
    ctx.set_attribute("team", "blue");
    ctx.emit(LOG, &"begins".to_string());
    let a = ctx.step("a", async || Ok(n + 1)).await?;
    ctx.publish(TOTAL, &a);
    ctx.emit(LOG, &"has a".to_string());
    ctx.sleep(seconds(10)).await;
    let got = ctx.signal(GO).await?;
    ctx.emit(LOG, &"goes".to_string());
    ctx.step("b", async || Ok(format!("{a} and {got}"))).await
}

async fn export_of<F, Fut>(code: F, passes: u64, signals: &[u64]) -> Export
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    let engine = engine(&Memory::default(), &Simulation::new(1), code).await;
    engine.start(W, "r", 7).await.expect("it starts");
    for signal in signals {
        engine.signal("r", GO, *signal).await.expect("it is sent");
    }
    nap(passes).await;
    let export = engine.export("r").await.expect("it rests");
    engine.shutdown().await.expect("it leaves");
    let again = Export::from_json(&export.to_json()).expect("it comes back");
    assert_eq!(again, export);
    again
}

async fn replayed<F, Fut>(export: &Export, build: &str, code: F) -> Replayed
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    let settings = Settings { build: Some(build.to_string()), ..Settings::default() };
    let builder = Engine::builder(Memory::default()).register(W, code).settings(settings);
    builder.replay(export).await.expect("it can be read")
}

#[test]
fn a_run_goes_on_from_its_export_in_another_store() {
    virtual_time(async {
        for (passes, signals) in [(0, &[][..]), (1_000, &[]), (5_000, &[3, 4]), (20_000, &[])] {
            let export = export_of(much, passes, signals).await;
            let memory = Memory::default();
            memory.import(&export).expect("it is new there");
            let twice = memory.import(&export).expect_err("it is there");
            assert_eq!(twice.code(), Code::CONFLICT);
            let engine = engine(&memory, &Simulation::new(2), much).await;
            let same = engine.export("r").await.expect("it is there");
            if signals.is_empty() {
                engine.signal("r", GO, 3).await.expect("it is sent");
            }
            let run = engine.get(W, "r").await.expect("it is there");
            assert_eq!(run.result().await.expect("it ends"), "8 and 3", "exported after {passes} ms");
            assert_eq!(engine.published("r", TOTAL).await.expect("reads"), Some(8));
            assert_eq!(engine.attributes("r").await.expect("reads"), [("team".into(), "blue".into())]);
            let items = engine.stream("r", LOG).page(9).await.expect("reads");
            let items: Vec<_> = items.into_iter().map(|item| (item.n, item.value)).collect();
            assert_eq!(items, [(0, "begins".into()), (1, "has a".into()), (2, "goes".into())]);
            let undelivered = run.undelivered().await.expect("reads").len();
            assert_eq!(undelivered, signals.len().saturating_sub(1), "letters come along");
            assert!(same.journal_len() >= export.journal_len());
            engine.shutdown().await.expect("it leaves");
        }
    });
}

#[test]
fn an_import_is_equal_to_what_was_exported() {
    virtual_time(async {
        let export = export_of(much, 20_000, &[3]).await;
        let memory = Memory::default();
        memory.import(&export).expect("it is new there");
        let client = everstep_core::Client::new(memory.clone());
        assert_eq!(client.export("r").await.expect("it is there"), export);
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!((row.status, row.owner), (Status::Completed, None));
        let journal = client.get(W, "r").await.expect("there").journal().await.expect("reads");
        assert_eq!(told(&journal).last().map(String::as_str), Some("10 Completed - 0 \"8 and 3\""));
    });
}

#[test]
fn a_stuck_run_comes_in_stuck() {
    virtual_time(async {
        let broken = async |ctx: Ctx, _| -> Result<String> {
            ctx.step("a", async || Ok(1)).await?;
            panic!("on purpose")
        };
        let export = export_of(broken, 1_000, &[]).await;
        let memory = Memory::default();
        memory.import(&export).expect("it is new there");
        let mended = async |ctx: Ctx, _| Ok(ctx.step("a", async || Ok(2)).await?.to_string());
        let other = Settings { build: Some("other".to_string()), ..Settings::default() };
        let engine = engine_with(&memory, &Simulation::new(2), other, mended).await;
        let run = engine.get(W, "r").await.expect("it is there");
        let stuck = run.stuck().await.expect("reads").expect("it is stuck");
        assert_eq!(stuck.reason, StuckReason::Panicked);
        settle().await;
        engine.retry("r").await.expect("it is stuck");
        assert_eq!(run.result().await.expect("it ends"), "1");
        engine.shutdown().await.expect("it leaves");
    });
}

#[test]
fn a_replay_says_whether_the_code_does_what_the_journal_holds() {
    virtual_time(async {
        for (passes, signals) in [(0, &[][..]), (1_000, &[]), (20_000, &[3])] {
            let export = export_of(much, passes, signals).await;
            for build in ["test", "other"] {
                assert_eq!(replayed(&export, build, much).await, Replayed::Fine, "{passes} {build}");
            }
        }
        let export = export_of(much, 20_000, &[3]).await;
        let renamed = async |ctx: Ctx, n: u64| Ok(ctx.step("other", async || Ok(n)).await?.to_string());
        let told = replayed(&export, "other", renamed).await.to_string();
        assert!(told.starts_with("diverged: entry 3: recorded `a` done"), "{told}");
        let elsewhere = async |ctx: Ctx, n| much(ctx, n).await.map(|out| format!("{out}!"));
        let other = replayed(&export, "other", elsewhere).await;
        assert_eq!(
            other.to_string(),
            "another outcome: recorded was completed with \"8 and 3\", now it is completed with \"8 and 3!\""
        );
        let waits = async |ctx: Ctx, n| {
            let out = much(ctx.clone(), n).await;
            ctx.signal(GO).await?;
            out
        };
        let other = replayed(&export, "other", waits).await;
        assert!(!other.is_fine() && other.to_string().ends_with("now it is none: it waits"), "{other}");
    });
}

#[test]
fn failures_and_cancels_replay() {
    virtual_time(async {
        let fails = async |ctx: Ctx, _| -> Result<String> {
            ctx.step("a", async || Ok(1)).await?;
            Err(everstep_core::Error::from("no luck"))
        };
        let export = export_of(fails, 1_000, &[]).await;
        assert!(replayed(&export, "other", fails).await.is_fine());
        let engine = engine(&Memory::default(), &Simulation::new(1), much).await;
        engine.start(W, "r", 7).await.expect("it starts");
        settle().await;
        engine.cancel("r", "enough").await.expect("it is open");
        settle().await;
        let export = engine.export("r").await.expect("it rests");
        assert!(replayed(&export, "other", much).await.is_fine());
        engine.shutdown().await.expect("it leaves");
    });
}

#[test]
fn what_is_no_export_says_so() {
    for text in ["", "{}", "[]", r#"{"everstep_export": 1}"#, r#"{"everstep_export": 99, "new": true}"#] {
        let error = Export::from_json(text).expect_err("it is none");
        assert_eq!(error.code(), Code::BAD_EXPORT, "{text}");
    }
    let newer = Export::from_json(r#"{"everstep_export": 99}"#).expect_err("it is newer").to_string();
    assert!(newer.contains("format 99, and this version reads formats up to 1"), "{newer}");
}
