//! Runs as files: everything of a run goes out, comes in, and replays.

use everstep_core::{
    Code, Ctx, Engine, Export, Published, Replayed, Request, Result, Settings, Signal, Simulation, Status,
    Stream, StuckReason, seconds,
    store::{Inspect, Memory},
};

use crate::common::{W, engine, engine_with, nap, settle, soon, told, virtual_time};

const TOTAL: Published<u64> = Published::new("total");
const LOG: Stream<String> = Stream::new("log");
const GO: Signal<u64> = Signal::new("go");
const ASK: Request<u64, u64> = Request::new("ask");
const TOKEN: Published<String> = Published::new("token");

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
    let with = |field: &str| {
        let whole = include_str!("exports/format_1.json").trim_end();
        format!("{}, {field}}}", whole.strip_suffix('}').expect("an object"))
    };
    let hash = with(r#""promises": [{"hash": "é", "key": "p"}]"#);
    let seen = with(r#""seen": ["x"]"#);
    assert!(Export::from_json(&with(r#""seen": ["0a"]"#)).is_ok());
    let old = [r#"{"everstep_export": 1}"#, r#"{"everstep_export": 99, "new": true}"#];
    for text in ["", "{}", "[]", old[0], old[1], &hash, &seen] {
        let error = Export::from_json(text).expect_err("it is none");
        assert_eq!(error.code(), Code::BAD_EXPORT, "{text}");
    }
    let newer = Export::from_json(r#"{"everstep_export": 99}"#).expect_err("it is newer").to_string();
    assert!(newer.contains("format 99, and this version reads formats up to 1"), "{newer}");
}

/// Restarts, then promises, answers, fails at a step, and goes on as people want it.
async fn dealt_with(ctx: Ctx, n: u64) -> Result<String> {
    ctx.step("a", async || Ok(n)).await?;
    if n == 7 {
        ctx.restart(W, 8).await
    }
    let payment = ctx.promise::<u64>("payment");
    ctx.publish(TOKEN, &payment.token().to_string());
    let got = ctx.serving(ASK, async |m: u64| Ok(n + m), ctx.signal(GO)).await?;
    let b = ctx.step("b", async || -> Result<u64> { Err("no luck".into()) }).await?;
    Ok(format!("{got} {b} {}", payment.await?))
}

/// A run with a past: an earlier generation, an edited result, a journal that was taken back, a promise, an answer.
async fn with_a_past() -> Export {
    let engine = engine(&Memory::default(), &Simulation::new(1), dealt_with).await;
    let run = engine.start(W, "r", 7).await.expect("it starts");
    nap(10_000).await;
    assert_eq!(soon(engine.request("r", ASK, 1).key("q")).await.expect("it answers"), 9);
    engine.signal("r", GO, 5).key("s").await.expect("it is open");
    soon(run.result()).await.expect_err("no luck");
    let engine_of = engine.acting_as("ada");
    engine_of.retry("r").await.expect("it has failed");
    soon(run.result()).await.expect_err("no luck");
    engine_of.edit("r", "b", 6u64).await.expect("it has failed");
    engine_of.retry("r").await.expect("it has failed");
    nap(60_000).await;
    let export = engine.export("r").await.expect("it rests");
    engine.shutdown().await.expect("it leaves");
    export
}

#[test]
fn what_is_kept_of_a_run_comes_along() {
    virtual_time(async {
        let export = with_a_past().await;
        let export = Export::from_json(&export.to_json()).expect("it comes back");
        let memory = Memory::default();
        memory.import(&export).expect("it is new there");
        let client = everstep_core::Client::new(memory.clone());
        assert_eq!(client.export("r").await.expect("it is there"), export, "nothing is lost or new");
        let acts: Vec<_> = client.acts("r").await.expect("reads").into_iter().map(|act| act.verb).collect();
        assert_eq!(acts, ["retry".into(), "edit".into(), "retry".into()]);
        let number = memory.run("r".into()).await.expect("reads").expect("there").run;
        let archive = memory.kept(number).await.expect("reads").archive;
        let told: Vec<_> = archive.iter().map(|a| (a.generation, &*a.why, !a.entries.is_empty())).collect();
        assert_eq!(told, [(0, "restart", true), (1, "retry", true), (1, "edit", true), (1, "retry", true)]);
        assert_eq!(replayed(&export, "other", dealt_with).await, Replayed::Fine);
        let renamed = async |ctx: Ctx, n: u64| Ok(ctx.step("other", async || Ok(n)).await?.to_string());
        assert!(!replayed(&export, "other", renamed).await.is_fine());
    });
}

/// Whoever had a token, an answer or a key has it of the run in the other store.
#[test]
fn an_imported_run_knows_whom_it_has_dealt_with() {
    virtual_time(async {
        let export = with_a_past().await;
        let memory = Memory::default();
        memory.import(&export).expect("it is new there");
        let engine = engine(&memory, &Simulation::new(2), dealt_with).await;
        assert_eq!(soon(engine.request("r", ASK, 1).key("q")).await.expect("it was answered"), 9);
        engine.signal("r", GO, 5).key("s").await.expect("it is known");
        let token = engine.published("r", TOKEN).await.expect("reads").expect("published");
        engine.resolve(&token, 3u64).await.expect("it is open");
        let run = engine.get(W, "r").await.expect("it is there");
        assert_eq!(soon(run.result()).await.expect("it ends"), "5 6 3");
        assert!(run.undelivered().await.expect("reads").is_empty(), "the signal was taken before");
        engine.shutdown().await.expect("it leaves");
    });
}

/// Written by the first version that could, with none of the fields that came later.
#[test]
fn an_old_export_still_comes_in() {
    virtual_time(async {
        let export = Export::from_json(include_str!("exports/format_1.json")).expect("it is one");
        assert_eq!(replayed(&export, "other", much).await, Replayed::Fine);
        let memory = Memory::default();
        memory.import(&export).expect("it is new there");
        let engine = engine(&memory, &Simulation::new(2), much).await;
        engine.signal("r", GO, 3).await.expect("it is open");
        let run = engine.get(W, "r").await.expect("it is there");
        assert_eq!(soon(run.result()).await.expect("it ends"), "8 and 3");
        let items = engine.stream("r", LOG).page(9).await.expect("reads");
        assert_eq!(items.len(), 3);
        engine.shutdown().await.expect("it leaves");
    });
}
