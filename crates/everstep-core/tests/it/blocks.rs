//! Blocks that are retried as one: how often, when, with which error; journals cut after every entry.

use std::time::Duration;

use crate::common::{after, began, check_cuts, check_replays, run_once, run_once_with, settings, told};
use everstep_core::{
    Code, Ctx, Error, ErrorKind, Result, Retry, Settings, hours, join,
    journal::{Entry, Kind},
    seconds,
};

fn keys(journal: &[Entry]) -> Vec<&str> {
    journal.iter().filter_map(|entry| entry.key.as_deref()).collect()
}

/// What a workflow says that measures time, cut after every entry: what is done again takes its time again.
fn live<F, Fut>(workflow: F) -> String
where
    F: Fn(Ctx, u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<String>> + Send + 'static,
{
    check_cuts(workflow)[0].clone().unwrap_or_else(|error| error)
}

/// A block of two steps whose second fails until attempt `good`; the first says which attempt it is.
async fn block(ctx: &Ctx, retry: Retry, good: u64) -> Result<String> {
    let begin = ctx.now();
    let tries = std::sync::atomic::AtomicU64::new(0);
    let done = ctx.retry_block("pay", retry, async |ctx| {
        let attempt = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let token = ctx.step("token", async || after(1000, attempt).await).await?;
        ctx.step("use", async || match token {
            token if token < good => Err(format!("token {token} has expired").into()),
            token => Ok(token),
        })
        .await
    });
    let said = done.await.map_or_else(|error| error.to_string(), |token| format!("token {token}"));
    Ok(format!("{said} after {} s", ctx.now().duration_since(begin)?.as_secs()))
}

#[test]
fn every_attempt_has_steps_of_its_own_and_the_pauses_grow() {
    let retry = Retry::exponential(4).first_pause(seconds(10)).jitter(0.0);
    let workflow = move |ctx: Ctx, _| async move { block(&ctx, retry, 3).await };
    assert_eq!(live(workflow), "token 3 after 33 s");
    let (_, journal, _) = run_once(1, workflow);
    let expected = [
        "pay/1/token",
        "pay/1/use",
        "pay/$pause",
        "pay/2/token",
        "pay/2/use",
        "pay/$pause#2",
        "pay/3/token",
        "pay/3/use",
    ];
    assert_eq!(keys(&journal), expected);
}

#[test]
fn the_last_error_comes_out() {
    let twice = live(async |ctx: Ctx, _| block(&ctx, Retry::fixed(2, seconds(60)), 9).await);
    assert_eq!(twice, "token 2 has expired after 62 s");
    let once = live(async |ctx: Ctx, _| block(&ctx, Retry::none(), 9).await);
    assert_eq!(once, "token 1 has expired after 1 s");
    let picky = Retry::fixed(9, seconds(60)).when(|error| !error.to_string().contains('2'));
    let picky = live(move |ctx: Ctx, _| async move { block(&ctx, picky, 9).await });
    assert_eq!(picky, "token 2 has expired after 62 s", "that one is not retried");
}

#[test]
fn what_is_terminal_is_not_retried() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let retry = Retry::fixed(5, seconds(1));
        let said = ctx
            .retry_block("plain", retry, async |_| -> Result<()> { Err(Error::terminal("no such customer")) })
            .await
            .expect_err("it says so");
        let step = ctx
            .retry_block("step", retry, async |ctx| {
                ctx.step("x", async || -> Result<()> { Err(Error::terminal("gone")) }).await
            })
            .await
            .expect_err("the step says so");
        let misuse = ctx
            .retry_block("misuse", retry, async |ctx| ctx.step("a/b", async || Ok(())).await)
            .await
            .expect_err("no name");
        Ok(format!("{said}, {step}, {:?}", misuse.kind()))
    });
    assert_eq!(out.as_deref(), Ok("no such customer, gone, Misuse"));
    assert_eq!(keys(&journal), ["step/1/x"], "no pause");
}

/// An error that asks for a delay gets it, and it is durable like any pause.
#[test]
fn the_error_may_ask_for_a_longer_pause() {
    let out = live(async |ctx: Ctx, _| {
        let begin = ctx.now();
        let failed = ctx.retry_block("busy", Retry::fixed(3, seconds(1)), async |ctx| {
            ctx.step("x", async || Ok(())).await?;
            Err::<(), _>(Error::retry_after("busy", hours(1)))
        });
        let failed = failed.await.expect_err("always");
        Ok(format!("{failed} {}", ctx.now().duration_since(begin)?.as_secs()))
    });
    assert_eq!(out, "busy 7200");
}

/// Jitter is drawn from the run, the key and the attempt: equal on replay, different elsewhere.
#[test]
fn pauses_are_spread_and_replay_equal() {
    let workflow = async |ctx: Ctx, _| {
        let mut pauses = Vec::new();
        for _ in 0..2 {
            let times = std::sync::Mutex::new(Vec::new());
            let retry = Retry::fixed(3, seconds(1000)).jitter(0.5);
            let _failed = ctx
                .retry_block("b", retry, async |ctx| -> Result<()> {
                    times.lock().expect("unpoisoned").push(ctx.now());
                    Err("no".into())
                })
                .await;
            let times = times.into_inner().expect("unpoisoned");
            pauses.extend(
                times
                    .windows(2)
                    .map(|pair| pair[1].duration_since(pair[0]).expect("time goes on").as_millis()),
            );
        }
        Ok(format!("{pauses:?}"))
    };
    let out = live(workflow);
    let mut pauses: Vec<u64> = serde_json::from_str(&out).expect("numbers");
    assert!(pauses.iter().all(|ms| (500_000..1_500_000).contains(ms)), "{pauses:?}");
    let (other, ..) = run_once(2, workflow);
    pauses.extend(serde_json::from_str::<Vec<u64>>(&other.expect("it ends")).expect("numbers"));
    pauses.sort_unstable();
    pauses.dedup();
    assert_eq!(pauses.len(), 8, "all differ: {pauses:?}");
}

/// A pause is long enough for a worker to come and go; a timeout ends a block in a pause and in a step.
#[test]
fn a_timeout_bounds_the_whole() {
    for (limit, entries) in [(3u64, "a pause"), (7, "a step")] {
        let outcomes = check_cuts(move |ctx: Ctx, _| async move {
            let hopeless = ctx.retry_block("b", Retry::fixed(100, seconds(4)), async |ctx| {
                ctx.step("x", async || -> Result<()> {
                    after(2000, 0).await?;
                    Err("no".into())
                })
                .await
            });
            let out = ctx.timeout(seconds(limit), hopeless).await?;
            ctx.step("next", async || Ok(())).await?;
            Ok(format!("{out:?}"))
        });
        assert!(outcomes.iter().all(|out| out.as_deref() == Ok("None")), "in {entries}: {outcomes:?}");
    }
}

/// Blocks in blocks, in scopes, in maps, beside one another.
#[test]
fn blocks_nest() {
    let out = check_replays(async |ctx: Ctx, _| {
        let flaky = async |ctx: &Ctx, name: &str| {
            ctx.retry_block(name, Retry::fixed(4, seconds(1)), async |ctx| {
                let inner = ctx.retry_block("inner", Retry::fixed(2, seconds(1)), async |ctx| {
                    let drawn = ctx.random();
                    ctx.step("x", async || if drawn % 3 == 0 { Ok(drawn) } else { Err("no".into()) }).await
                });
                inner.await
            })
            .await
            .map_or_else(|error| Ok(error.to_string()), |drawn| Ok(drawn.to_string()))
        };
        let (a, b): (Result<String>, Result<String>) = join!(flaky(&ctx, "a"), flaky(&ctx, "b"));
        let map = ctx.map("m", 0..3u64, 2, async |ctx, _| flaky(&ctx, "in a map").await);
        Ok(format!("{} {} {}", a?, b?, map.await?.join(" ")))
    });
    assert_eq!(out.split(' ').count(), 5, "{out}");
}

#[test]
fn misuse_is_refused_with_advice() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let block =
            |name| ctx.retry_block(name, Retry::none(), async |ctx| ctx.step("x", async || Ok(1u64)).await);
        let bad = block("a#b").await.expect_err("a bad name");
        assert_eq!((bad.kind(), bad.code()), (ErrorKind::Misuse, Code::BAD_NAME));
        let (first, second) = join!(async { block("both").await }, async { block("both").await });
        assert_eq!((first?, second.expect_err("side by side").code()), (1, Code::SIDE_BY_SIDE));
        let inside = ctx.clone();
        let body =
            ctx.step("body", async move || inside.retry_block("b", Retry::none(), async |_| Ok(())).await);
        let refused = body.await.expect_err("inside a body");
        assert_eq!(refused.code(), Code::IN_BODY);
        assert!(refused.to_string().contains("block `b` inside a step body"), "{refused}");
        Ok("refused".to_string())
    });
    assert_eq!(out.as_deref(), Ok("refused"));
    assert_eq!(keys(&journal), ["both/1/x", "body"]);
}

/// A block that fails for ever meets the limit of the journal as an error, not as a stuck run.
#[test]
fn a_full_journal_ends_the_retries() {
    let settings = Settings { entries_max: 10, ..settings() };
    let (out, journal, events) = run_once_with(settings, 1, async |ctx: Ctx, _| {
        let retry = Retry::fixed(u32::MAX, Duration::ZERO);
        let failed = ctx
            .retry_block("b", retry, async |ctx| {
                ctx.step("x", async || -> Result<()> { Err("no".into()) }).await
            })
            .await
            .expect_err("it never ends well");
        Ok(failed.code().to_string())
    });
    assert_eq!(out, Ok(Code::TOO_MANY_ENTRIES.to_string()));
    assert!(began(&events).len() < 10, "{:?}", told(&journal));
}

/// The pause tells the line of the block.
#[test]
fn a_pause_tells_the_line_of_its_block() {
    let line = line!() + 2;
    let (_, journal, _) = run_once(1, async |ctx: Ctx, _| {
        ctx.retry_block("b", Retry::fixed(2, seconds(1)), async |_| -> Result<String> { Err("no".into()) })
            .await
    });
    let pause = journal.iter().find(|entry| entry.known_kind() == Some(Kind::TimerFired)).expect("one pause");
    let site = pause.site.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(site.starts_with(&format!("{}:{line}:", file!())), "{site}, not line {line}");
}
