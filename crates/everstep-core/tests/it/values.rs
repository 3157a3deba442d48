//! Free values: `now`, `random`, `uuid` are the same on every replay, each scope has its own, and time never runs
//! backwards.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use crate::common::{
    W, check_cuts, check_replays, engine, finish, journal, plain, run_once, settle, virtual_time,
};
use everstep_core::{
    Client, Ctx, Result, Retry, Simulation, StepCtx, Timestamp, hours, join, journal::Kind, seconds,
    store::Memory,
};

/// Everything that can be drawn, here and now.
fn draw(ctx: &Ctx) -> String {
    format!("{} {} {}", ctx.random(), ctx.uuid(), ctx.random())
}

/// faults.md row 30: seeds and times do not change on replay.
#[test]
fn free_values_are_equal_on_every_replay() {
    let out = check_replays(async |ctx: Ctx, _| {
        let mut drawn = vec![draw(&ctx)];
        ctx.step("a", async || Ok(())).await?;
        drawn.push(draw(&ctx));
        let (left, right) = join!(
            ctx.scope("left", async |ctx| {
                let before = draw(&ctx);
                ctx.step("x", async || Ok(())).await?;
                let inner = ctx.scope("inner", async |ctx| Ok(draw(&ctx))).await?;
                Ok(format!("{before} {inner} {}", draw(&ctx)))
            }),
            ctx.scope("right", async |ctx| {
                ctx.step("x", async || Ok(())).await?;
                Ok(draw(&ctx))
            }),
        );
        drawn.extend([left?, right?]);
        let failed: Result<()> =
            ctx.step("c", async || Err("no".into())).retry(Retry::fixed(2, seconds(1))).await;
        drawn.push(format!("{} {}", failed.is_err(), draw(&ctx)));
        ctx.sleep(seconds(1)).await;
        drawn.push(draw(&ctx));
        Ok(drawn.join(" "))
    });
    let values: Vec<_> = out.split(' ').filter(|word| *word != "true").collect();
    assert_eq!(values.len(), 24);
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), 24, "no value is drawn twice");
}

/// What one scope draws does not depend on what others draw, or on the order of their branches.
#[test]
fn a_scope_draws_for_itself() {
    let drawn = |others: usize| {
        let (outcome, ..) = run_once(1, move |ctx: Ctx, _| async move {
            for _ in 0..others {
                ctx.random();
                ctx.scope("other", async |ctx| Ok(ctx.random())).await?;
            }
            ctx.scope("mine", async |ctx| Ok(draw(&ctx))).await
        });
        outcome.expect("it draws")
    };
    assert_eq!(drawn(0), drawn(3));
}

#[test]
fn runs_draw_different_values() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| Ok(draw(&ctx))).await;
        let mut seen = BTreeSet::new();
        for n in 0..100 {
            seen.insert(plain(engine.run(W, format!("r{n}"), 1).await).expect("it draws"));
        }
        assert_eq!(seen.len(), 100);
    });
}

/// A body's own values are those of its attempt: another attempt draws others, the same attempt made again the same.
#[test]
fn a_body_draws_by_its_attempt() {
    let (outcome, ..) = run_once(1, async |ctx: Ctx, _| {
        let body = async |s: StepCtx| match s.attempt() {
            3 => Ok(format!("{} {}", s.random(), s.uuid())),
            _ => Err(format!("{} {}", s.random(), s.uuid()))?,
        };
        let third = ctx.step("a", body).retry(Retry::fixed(3, seconds(1))).await?;
        let first = ctx.step("a", body).await.expect_err("the first attempt fails");
        Ok(format!("{third} {first}"))
    });
    let drawn = outcome.expect("it draws");
    assert_eq!(drawn.split(' ').collect::<BTreeSet<_>>().len(), 4, "{drawn}");
}

/// `now()` is the time of what has reached the run, also of failed attempts and timers; it stands still between.
#[test]
fn now_moves_with_what_arrives_only() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let mut seen = vec![ctx.now()];
        assert_eq!(ctx.now(), seen[0]);
        ctx.step("a", async || Ok(())).await?;
        seen.push(ctx.now());
        let failed: Result<()> =
            ctx.step("b", async || Err("no".into())).retry(Retry::fixed(3, seconds(5))).await;
        assert!(failed.is_err());
        seen.push(ctx.now());
        ctx.sleep(hours(1)).await;
        seen.push(ctx.now());
        let scoped = ctx.scope("inner", async |ctx| Ok(ctx.now() == seen[3])).await?;
        assert!(scoped, "one time for all scopes");
        assert!(seen.is_sorted(), "{seen:?}");
        let passed = |a: usize, b: usize| seen[b].duration_since(seen[a]).map(|d| d.as_secs());
        Ok(format!("{} {} {}", passed(0, 1)?, passed(1, 2)?, passed(2, 3)?))
    });
    assert_eq!(outcomes[0].as_deref(), Ok("0 10 3600"));
}

fn as_text(at: SystemTime) -> String {
    Timestamp::from_system(at).to_string()
}

/// A run that waited for a worker does not live in the past, and replays with the time at which it began.
#[test]
fn a_run_that_begins_late_does_not_live_in_the_past() {
    for (wait, late) in [(Duration::ZERO, false), (Duration::from_millis(900), false), (hours(1), true)] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let client = Client::simulated(memory.clone(), &world);
            client.start(W, "r", 7).await.expect("it starts");
            let started = journal(&memory).await[0].at;
            tokio::time::advance(wait).await;
            let workflow = async |ctx: Ctx, _| {
                let began = as_text(ctx.now());
                ctx.step("a", async || Ok(())).await?;
                Ok(began)
            };
            let (live, entries, _) = finish(&memory, &world, workflow).await;
            let now = if late { started.after(wait) } else { started };
            let began = entries.iter().find(|e| e.known_kind() == Some(Kind::Began));
            assert_eq!(began.is_some(), late);
            if let Some(began) = began {
                assert!(began.at >= now, "{} for {now}", began.at);
                assert_eq!(live.as_deref(), Ok(began.at.to_string().as_str()));
            } else {
                assert_eq!(live.as_deref(), Ok(now.to_string().as_str()));
            }
            // Replayed a day later, and with its tail done again a day later: the function is told the same.
            for cut in [entries.len() - 1, 2] {
                let memory = memory.fork();
                memory.truncate("r", cut);
                tokio::time::advance(hours(24)).await;
                let (replayed, ..) = finish(&memory, &world, workflow).await;
                assert_eq!(replayed, live, "cut after {cut}");
            }
        });
    }
}

/// A clock that was a day ahead and was put right: time in the run stands still until the clock has caught up.
#[test]
fn time_in_a_run_never_runs_backwards() {
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let workflow = async |ctx: Ctx, _| {
            let mut seen = vec![ctx.now()];
            for _ in 0..4 {
                ctx.step("a", async || Ok(())).await?;
                seen.push(ctx.now());
            }
            ctx.sleep(seconds(1)).await;
            seen.push(ctx.now());
            assert!(seen.is_sorted(), "{seen:?}");
            Ok(as_text(seen[5]))
        };
        finish(&memory, &world, workflow).await.0.expect("it runs");
        memory.truncate("r", 3);
        memory.rewrite("r", |entries| entries[2].at = entries[2].at.after(hours(24)));
        let ahead = journal(&memory).await[2].at;
        let (outcome, entries, _) = finish(&memory, &world, workflow).await;
        assert_eq!(entries[3].at, ahead, "not before what is recorded");
        assert_eq!(outcome, Ok(entries[5].at.to_string()));
        assert!(entries.is_sorted_by_key(|entry| entry.at));
        memory.truncate("r", entries.len() - 1);
        assert_eq!(finish(&memory, &world, workflow).await.0, outcome);
    });
}

/// The values of a replay are those of the run, not those of the world that replays it.
#[test]
fn another_worlds_chance_changes_nothing_recorded() {
    virtual_time(async {
        let memory = Memory::default();
        let workflow = async |ctx: Ctx, _| {
            ctx.step("a", async || Ok(())).await?;
            settle_nothing(&ctx).await;
            Ok(draw(&ctx))
        };
        let (live, ..) = finish(&memory, &Simulation::new(1), workflow).await;
        for seed in 2..10 {
            for cut in [1, 2] {
                let memory = memory.fork();
                memory.truncate("r", cut);
                settle().await;
                assert_eq!(finish(&memory, &Simulation::new(seed), workflow).await.0, live);
            }
        }
    });
}

async fn settle_nothing(ctx: &Ctx) {
    ctx.sleep(Duration::ZERO).await;
}
