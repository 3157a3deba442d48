//! Ordinary async Rust: joins, races, a race in a loop over a step that goes on, collections of steps, streams.

use std::time::Duration;

use everstep::{Ctx, Result, Step, StepCtx, Workflow, minutes};
use futures_util::{
    StreamExt, TryStreamExt,
    future::try_join_all,
    stream::{self, FuturesUnordered},
};

const CRAWL: Workflow<Vec<String>, Vec<usize>> = Workflow::new("crawl");

async fn fetch(url: &str) -> std::io::Result<usize> {
    tokio::time::sleep(Duration::from_secs(url.len() as u64)).await;
    Ok(url.len())
}

async fn crawl(ctx: Ctx, urls: Vec<String>) -> Result<Vec<usize>> {
    let base = urls.len();
    let (a, b) = everstep::join!(
        ctx.step("a", async || Ok(base + 1)),
        ctx.step("b", async |s: StepCtx| Ok(base + s.idempotency_key().len())),
    );
    let (c, ()) = everstep::try_join!(
        ctx.step("c", async || Ok(fetch(&urls[0]).await?)),
        ctx.step("d", || async { Ok(()) }),
    )?;

    // A race: the loser is dropped.
    let winner = everstep::select! {
        size = ctx.step("slow", async || Ok(fetch(&urls[0]).await?)) => size?,
        () = ctx.sleep(minutes(5)) => 0,
    };

    // A deadline and a step that outlive the turns of a loop.
    let mut deadline = ctx.sleep(minutes(10));
    let mut long = ctx.step("long", async || {
        tokio::time::sleep(minutes(4)).await;
        Ok(1000usize)
    });
    let mut turns = 0;
    let long = loop {
        everstep::select! {
            () = &mut deadline => break 0,
            done = &mut long => break done?,
            () = ctx.sleep(minutes(1)) => turns += 1,
        }
    };

    // Named by data, in whatever order they end.
    let mut open: FuturesUnordered<Step<'_, usize>> = urls
        .iter()
        .map(|url| ctx.step(&format!("fetch {url}"), async move || Ok(fetch(url).await?)))
        .collect();
    let mut sizes = Vec::new();
    while let Some(size) = open.next().await {
        sizes.push(size?);
    }
    // The same name for all: all are made before any is awaited.
    let again =
        try_join_all(urls.iter().map(|url| ctx.step("again", async move || Ok(fetch(url).await?)))).await?;
    // A stream with a limit: collect the steps first.
    let steps: Vec<_> =
        urls.iter().map(|url| ctx.step("third", async move || Ok(fetch(url).await?))).collect();
    let third: Vec<usize> = stream::iter(steps).buffer_unordered(2).try_collect().await?;

    let mut seen = vec![a?, b?, c, winner, long, turns];
    seen.extend(sizes.into_iter().chain(again).chain(third));
    Ok(seen)
}

#[test]
fn ordinary_async_code_replays() -> anyhow::Result<()> {
    let urls = ["three".to_string(), "a".to_string(), "bb".to_string()];
    let seen = crate::play(|builder| builder.register(CRAWL, crawl), CRAWL, urls.to_vec())?;
    assert_eq!(seen[..6], [4, 35, 5, 5, 1000, 3]);
    assert_eq!(seen[6..9], [1, 2, 5], "in the order in which they ended");
    assert_eq!(seen[9..12], [5, 1, 2], "in the order in which they were made");
    assert_eq!(seen[12..].iter().sum::<usize>(), 8);
    Ok(())
}

const RACE: Workflow<(), String> = Workflow::new("race");

/// tokio's own macros work as well; they draw by chance who is polled first, and the journal decides on replay.
#[test]
fn tokios_own_macros_work() -> anyhow::Result<()> {
    async fn race(ctx: Ctx, (): ()) -> Result<String> {
        let (left, right) = tokio::join!(
            ctx.scope("left", async |ctx| ctx.step("x", async || Ok(1)).await),
            ctx.scope("right", async |ctx| ctx.step("x", async || Ok(2)).await),
        );
        let (left, right) = (left?, right?);
        tokio::select! {
            n = ctx.step("quick", async || Ok(left + right)) => Ok(format!("{}", n?)),
            () = ctx.sleep(minutes(1)) => Ok("late".to_string()),
        }
    }
    assert_eq!(crate::play(|builder| builder.register(RACE, race), RACE, ())?, "3");
    Ok(())
}

const COMPUTE: Workflow<u64, u64> = Workflow::new("compute");

/// Work for a core goes to the blocking pool.
#[test]
fn work_for_a_core_runs_on_threads() -> anyhow::Result<()> {
    let compute = async |ctx: Ctx, n: u64| {
        let sum = |from: u64| move || Ok((from..from + 1000).sum::<u64>());
        let (low, high) =
            everstep::try_join!(ctx.step_blocking("low", sum(n)), ctx.step_blocking("high", sum(n + 1000)))?;
        Ok(low + high)
    };
    assert_eq!(crate::play(|builder| builder.register(COMPUTE, compute), COMPUTE, 1)?, 2000 * 2001 / 2);
    Ok(())
}
