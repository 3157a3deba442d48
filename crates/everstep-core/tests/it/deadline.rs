//! The deadline of a run: counted from its start, in memory or out of it, and the same on replay.

use crate::{
    common::{W, after, engine, finish, journal, nap, plain, soon, told, virtual_time},
    undo::Log,
};
use everstep_core::{
    Client, Code, Ctx, Result, Simulation, Status, StepCtx, days,
    journal::Kind,
    minutes, seconds,
    store::{Inspect, Memory},
};

fn slow(
    log: &Log,
) -> impl Fn(Ctx, u64) -> futures_util::future::BoxFuture<'static, Result<String>> + Clone + use<> {
    let log = log.clone();
    move |ctx, _| {
        let (undoes, cleans, body) = (log.clone(), log.clone(), log.clone());
        Box::pin(async move {
            ctx.on_cancel(async move |_| {
                cleans.add("cleanup");
                Ok(())
            });
            ctx.step("a", async || Ok(1u64))
                .undo(async move |_| {
                    undoes.add("undo");
                    Ok(())
                })
                .await?;
            ctx.sleep(minutes(3)).await;
            ctx.step("long", async |s: StepCtx| {
                s.cancelled().await;
                body.add("told");
                Ok(2u64)
            })
            .await?;
            Ok("in time".to_string())
        })
    }
}

#[test]
fn a_run_out_of_time_is_undone_and_fails() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let first = engine(&memory, &world, slow(&log)).await;
        let run = first.start(W, "r", 7).deadline(minutes(5)).await.expect("it starts");
        nap(299_000).await;
        assert_eq!(run.status().await.expect("reads"), Status::Running);
        nap(2_000).await;
        let failed = run.result().await.expect_err("failed");
        assert_eq!(failed.code(), Code::TIMEOUT);
        assert!(failed.to_string().contains("deadline"), "{failed}");
        assert_eq!(log.take(), ["told", "cleanup", "undo"]);
        let refused = first.retry("r").await.expect_err("refused");
        assert!(
            refused.to_string().contains("undone") || refused.to_string().contains("deadline"),
            "{refused}"
        );
        first.shutdown().await.expect("it leaves");
        let whole = journal(&memory).await;
        let passed = whole.iter().position(|e| e.known_kind() == Some(Kind::DeadlinePassed)).expect("there");
        for cut in passed + 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let (outcome, again, _) = finish(&memory, &world, slow(&log)).await;
            assert!(outcome.expect_err("failed").contains("deadline"), "cut after {cut}");
            assert_eq!(told(&again)[..cut], told(&whole)[..cut], "cut after {cut}");
            assert!(!log.take().contains(&"told".to_string()), "its function is not called");
        }
    });
}

/// Parked for what comes later, it wakes for its deadline; and a worker that comes too late ends it at once.
#[test]
fn the_deadline_wakes_a_parked_run() {
    for leaves in [false, true] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let workflow = async |ctx: Ctx, _| {
                ctx.sleep(days(30)).await;
                ctx.step("late", async || Ok(())).await?;
                Ok(String::new())
            };
            let first = engine(&memory, &world, workflow).await;
            let run = first.start(W, "r", 7).deadline(minutes(5)).await.expect("it starts");
            nap(10_000).await;
            let row = memory.run("r".into()).await.expect("reads").expect("there");
            assert_eq!((row.status, row.owner), (Status::Waiting, None));
            let first = if leaves {
                first.shutdown().await.expect("it leaves");
                nap(1_000_000).await;
                engine(&memory, &world, workflow).await
            } else {
                nap(291_000).await;
                first
            };
            nap(6_000).await;
            assert_eq!(run.status().await.expect("reads"), Status::Failed, "leaves: {leaves}");
            let entries = journal(&memory).await;
            let kinds: Vec<_> = entries.iter().filter_map(|e| e.known_kind()).collect();
            assert_eq!(kinds, [Kind::Started, Kind::DeadlinePassed, Kind::Failed]);
            assert!(entries[1].at.since(entries[0].at) >= minutes(5));
            let refused = first.retry("r").await.expect_err("it would end at once");
            assert!(refused.to_string().contains("deadline"), "{refused}");
            assert!(refused.to_string().contains("`fork` it"), "{refused}");
            let fork = first.fork(W, "r", "again").await.expect("the advice is good");
            nap(10_000).await;
            first.skip_wait("again", None).await.expect("it waits");
            assert_eq!(plain(soon(fork.result()).await).as_deref(), Ok(""));
        });
    }
}

/// No body begins after it, and a run that ends in time hears nothing of it.
#[test]
fn a_deadline_is_no_matter_to_a_run_in_time() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.step("quick", async || after(1_000, 1).await).await?;
            Ok("in time".to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).deadline(seconds(2)).await.expect("it starts");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("in time"));
        // The same start is the same run, whatever deadline it names.
        let same = engine.start(W, "r", 7).deadline(seconds(1)).await.expect("known");
        assert_eq!(plain(same.result().await).as_deref(), Ok("in time"));
    });
}

#[test]
fn nothing_begins_after_the_deadline() {
    virtual_time(async {
        let (memory, world, log) = (Memory::default(), Simulation::new(1), Log::default());
        let client = Client::simulated(memory.clone(), &world);
        let run = client.start(W, "r", 7).deadline(seconds(2)).await.expect("it starts");
        nap(10_000).await;
        let noted = log.clone();
        let engine = engine(&memory, &world, move |ctx: Ctx, _| {
            let log = noted.clone();
            async move {
                ctx.step("late", async || {
                    log.add("late");
                    Ok(())
                })
                .await?;
                Ok(String::new())
            }
        })
        .await;
        assert_eq!(soon(run.result()).await.expect_err("failed").code(), Code::TIMEOUT);
        assert_eq!(log.take(), Vec::<String>::new());
        engine.shutdown().await.expect("it leaves");
    });
}

/// It counts from the start of the run, whatever generation it is in.
#[test]
fn a_restart_keeps_the_deadline() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, n| {
            ctx.sleep(seconds(100)).await;
            ctx.restart(W, n + 1).await
        })
        .await;
        let run = engine.start(W, "r", 0).deadline(seconds(250)).await.expect("it starts");
        assert_eq!(soon(run.result()).await.expect_err("failed").code(), Code::TIMEOUT);
        let row = memory.run("r".into()).await.expect("reads").expect("there");
        assert_eq!(row.generation, 2);
    });
}
