//! The table of verbs is true: every verb on a run in every status.
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use everstep_core::{
    Allowed, BulkDone, Client, Ctx, EngineError, ErrorKind, Result, Simulation, Status, Verb, days, hours,
    journal::Answer, store::Memory,
};

use crate::common::{W, engine, nap, virtual_time};

/// Comes to the status of this number after a step.
async fn comes_to(ctx: Ctx, status: u64) -> Result<String> {
    ctx.step("one", async || Ok(1u64)).await?;
    let status = Status::from_code(u8::try_from(status).unwrap_or(u8::MAX)).expect("a status");
    match status {
        Status::Running => {
            ctx.step("long", async || {
                nap(10 * 24 * 3600 * 1000).await;
                Ok(())
            })
            .await?;
        }
        Status::Completed => return Ok(String::new()),
        Status::Failed => return Err("it fails".into()),
        Status::Stuck => {
            ctx.step("pay", async || -> Result<()> { Err("broken".into()) }).then_stuck().await?;
        }
        _ => ctx.sleep(days(30)).await,
    }
    Ok(String::new())
}

async fn bring(client: &Client, id: &str, status: Status) {
    let start = client.start(W, id, u64::from(status.code()));
    match status {
        Status::Pending => start.delay(days(1)).await,
        _ => start.await,
    }
    .expect("starts");
}

async fn makes(client: &Client, verb: Verb, id: &str) -> std::result::Result<(), EngineError> {
    match verb {
        Verb::Signal => client.signal(id, "go", 1u64).await,
        Verb::Cancel => client.cancel(id, "").await,
        Verb::Kill => client.kill(id, "").await,
        Verb::Answer => client.answer(id, Answer::Retry).await,
        Verb::Retry => client.retry(id).await,
        Verb::Pause => client.pause(id, "").await,
        Verb::Resume => client.resume(id).await,
        Verb::SkipWait => client.skip_wait(id, None).await,
        Verb::Edit => client.edit(id, "one", 2u64).await,
        Verb::Rewind => client.rewind(id, "one").await,
        Verb::Fork => client.fork(W, id, format!("fork of {id}")).await.map(drop),
        Verb::Delete => client.delete(id).await,
        other => panic!("{other:?} is not in this test"),
    }
}

#[test]
fn every_verb_does_what_the_table_says() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, comes_to).await;
        let mut all = Vec::new();
        for verb in Verb::ALL {
            for status in Status::ALL {
                let id = format!("{}-{status}", verb.word());
                bring(&engine, &id, status).await;
                all.push((verb, status, id));
            }
        }
        nap(60_000).await;
        for (_, status, id) in &all {
            match status {
                Status::Cancelled => engine.cancel(id, "").await.expect("cancels"),
                Status::Paused => engine.pause(id, "").await.expect("pauses"),
                _ => {}
            }
        }
        nap(60_000).await;
        for (verb, status, id) in all {
            let before = engine.acts(&id).await.expect("reads").len();
            let seen = engine.get(W, id.clone()).await.expect("found").status().await.expect("reads");
            assert_eq!(seen, status, "{id} is as the test wants it");
            let made = makes(&engine, verb, &id).await;
            let allowed = verb.on(status);
            match (allowed, &made) {
                (Allowed::Refused(advice), Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::NotAllowed, "{id}: {error}");
                    assert!(error.to_string().contains(advice), "{id}: {error}");
                }
                // Nothing is recorded of a run that has not begun.
                (_, Err(error)) if (verb, status) == (Verb::Rewind, Status::Pending) => {
                    assert!(error.to_string().contains("no entry"), "{error}");
                }
                (Allowed::Refused(_), Ok(())) | (_, Err(_)) => panic!("{id}: {allowed:?}, but {made:?}"),
                (_, Ok(())) => {}
            }
            let recorded = made.is_ok()
                && !matches!(verb, Verb::Signal | Verb::Delete | Verb::Fork)
                && allowed != Allowed::Already;
            if verb != Verb::Delete || made.is_err() {
                let after = engine.acts(&id).await.expect("reads").len();
                assert_eq!(after - before, usize::from(recorded), "{id}");
            }
        }
        nap(1000).await;
        drop(engine);
    });
}

#[test]
fn a_bulk_does_a_verb_to_all_that_match_and_tells_of_the_others() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, comes_to).await;
        for n in 0..250 {
            let status = if n % 2 == 0 { Status::Waiting } else { Status::Completed };
            bring(&engine, &format!("r-{n}"), status).await;
        }
        nap(60_000).await;
        let dry = engine.on_all("").dry_run().pause("").await.expect("looks");
        assert_eq!((dry.done, dry.skipped), (125, 125));
        let heard = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counts = heard.clone();
        let bulk = engine.on_all("").progress(move |_| {
            counts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        let done = bulk.pause("closed").await.expect("pauses");
        assert_eq!((done.done, done.skipped, done.failed), (125, 125, 0));
        assert_eq!((heard.load(std::sync::atomic::Ordering::SeqCst), done.told.len()), (250, 100));
        assert!(done.told[0].1.contains("is completed"), "{:?}", done.told[0]);
        assert_eq!(engine.count("status = paused").await.expect("counts"), 125);
        let some = engine.on_all("status = paused").limit(20).resume().await.expect("resumes");
        assert_eq!(some.done, 20);
        assert_eq!(engine.on_all("status = paused").delete().await.expect("deletes").done, 105);
        let bad = engine.on_all("status = nothing").resume().await.expect_err("no such status");
        assert_eq!(bad.code(), everstep_core::Code::BAD_FILTER);
    });
}

#[test]
fn every_verb_that_one_run_has_many_have() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, comes_to).await;
        for status in [Status::Waiting, Status::Stuck, Status::Failed] {
            for n in 0..3 {
                bring(&engine, &format!("{status}-{n}"), status).await;
            }
        }
        nap(60_000).await;
        let people = engine.acting_as("grace").because("it is over");
        let done = |bulk: BulkDone| (bulk.done, bulk.skipped, bulk.failed);
        let edited = people.on_all("status = failed").edit("one", 2u64).await.expect("edits");
        assert_eq!(done(edited), (3, 0, 0));
        let fork = || people.on_all("status = stuck").fork(W, Some("one"), |id| format!("{id} again"));
        assert_eq!(done(fork().await.expect("forks")), (3, 0, 0));
        assert_eq!(done(fork().await.expect("forks")), (0, 0, 3), "their new ids are used");
        nap(60_000).await;
        let answer = Answer::Done { value: "null".to_string() };
        let answered = people.on_all("status = stuck").answer(answer).await.expect("answers");
        assert_eq!(done(answered), (6, 0, 0));
        let killed = people.on_all("status = waiting").kill("").await.expect("kills");
        assert_eq!(done(killed), (3, 0, 0));
        nap(60_000).await;
        assert_eq!(engine.count("status = completed").await.expect("counts"), 6);
        assert_eq!(engine.count("status = cancelled").await.expect("counts"), 3);
        for id in ["failed-0", "stuck-0 again", "stuck-1", "waiting-2"] {
            let acts = engine.acts(id).await.expect("reads");
            let act = acts.last().expect("one at least");
            assert_eq!((&*act.who, &*act.why), ("grace", "it is over"), "{id}");
        }
    });
}

#[test]
fn a_purge_deletes_what_has_been_over_for_long_and_nothing_else() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, comes_to).await;
        for n in 0..230 {
            bring(&engine, &format!("old-{n}"), Status::Completed).await;
        }
        for (id, status) in [("waits", Status::Waiting), ("stuck", Status::Stuck), ("failed", Status::Failed)]
        {
            bring(&engine, id, status).await;
        }
        nap(2 * 3600 * 1000).await;
        bring(&engine, "new", Status::Completed).await;
        nap(1000).await;
        let purged = engine.purge("status = completed", hours(1)).await.expect("purges");
        assert_eq!(purged, 230);
        let left: Vec<_> =
            engine.list("").await.expect("lists").iter().map(|run| run.id.to_string()).collect();
        assert_eq!(left, ["new", "failed", "stuck", "waits"]);
        assert_eq!(engine.purge("", hours(1)).await.expect("purges"), 1, "the failed one");
        let begun = engine.delete("waits").await.expect_err("it waits");
        assert!(begun.to_string().contains("force"), "{begun}");
        engine.delete_by_force("waits").await.expect("deletes");
        engine.delete("stuck").await.expect("deletes");
    });
}
