//! Branches side by side: given to the combinator in every order, ending in every order, the journal cut after every
//! entry. What was recorded never changes and is never done again, and a whole journal replays to its own outcome.
#![allow(clippy::disallowed_methods, reason = "the bodies of these tests take virtual time")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::common::{after, began, check_cuts, finish, run_once, told, virtual_time};
use everstep_core::{
    BoxFuture, Ctx, Result, Retry, Simulation, Step, StepCtx, join, seconds, select, store::Memory,
};
use futures_util::{
    StreamExt,
    future::{join_all, select_all, try_join_all},
    stream::FuturesUnordered,
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const NAMES: [&str; 4] = ["north", "east", "south", "west"];

/// What a branch saw, in the order in which it saw it: part of the outcome, so that a replay must keep it.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn add(&self, what: impl ToString) {
        self.0.lock().expect("unpoisoned").push(what.to_string());
    }
    fn text(&self) -> String {
        self.0.lock().expect("unpoisoned").join(" ")
    }
}

/// A program with branches: in which order they are given, and how long the bodies of each take.
type Program = fn(Ctx, Vec<usize>, Vec<u64>) -> BoxFuture<'static, Result<String>>;

/// Every order of `0..n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    let insert = |at| {
        shorter.iter().map(move |order| {
            let mut order = order.clone();
            order.insert(at, n - 1);
            order
        })
    };
    (0..n).flat_map(insert).collect()
}

/// How long each branch takes so that they end in this order; and all at once, with and without an await.
fn durations(n: usize) -> Vec<Vec<u64>> {
    let ranked = |order: Vec<usize>| {
        (0..n).map(|b| 10 * (1 + order.iter().position(|o| *o == b).expect("a permutation") as u64)).collect()
    };
    let mut all: Vec<_> = orders(n).into_iter().map(ranked).collect();
    all.extend([vec![10; n], vec![0; n]]);
    all
}

/// Runs `program` in every order of starts and ends, and cuts each journal everywhere. The outcomes of the live runs.
fn in_every_order(branches: usize, program: Program) -> BTreeSet<String> {
    let mut live = BTreeSet::new();
    for given in orders(branches) {
        for takes in durations(branches) {
            let (given, takes) = (given.clone(), takes.clone());
            let outcomes = check_cuts(move |ctx: Ctx, _| program(ctx, given.clone(), takes.clone()));
            live.insert(outcomes[0].clone().unwrap_or_else(|failed| failed));
        }
    }
    live
}

#[test]
fn every_order_is_every_order() {
    assert_eq!(orders(4).into_iter().collect::<BTreeSet<_>>().len(), 24);
    assert_eq!(durations(3)[..6].iter().collect::<BTreeSet<_>>().len(), 6);
}

/// `join_all`: four branches of a scope each, the same names in each.
/// faults.md rows 9 and 14: whoever ends first, no step that is recorded runs again, and nothing after a join twice.
#[test]
fn joined_scopes_replay_in_every_order() {
    let live = in_every_order(4, |ctx, given, takes| {
        Box::pin(async move {
            let log = Log::default();
            let branches = given.iter().map(|&b| {
                let (log, takes) = (&log, takes[b]);
                ctx.scope(NAMES[b], async move |ctx| {
                    let a = ctx.step("first", async || after(takes, b as u64).await).await?;
                    log.add(b);
                    let drawn = ctx.random() % 7;
                    let c = ctx.step("second", async || after(takes, a + drawn).await).await?;
                    log.add(b);
                    Ok(c)
                })
            });
            let values = try_join_all(branches).await?;
            Ok(format!("{values:?} in the order {}", log.text()))
        })
    });
    assert!(live.len() > 24, "the order of ends shows: {}", live.len());
}

/// `FuturesUnordered`: steps without scopes; what follows one is named after it.
#[test]
fn unordered_steps_replay_in_every_order() {
    let live = in_every_order(4, |ctx, given, takes| {
        Box::pin(async move {
            let log = Log::default();
            let mut open: FuturesUnordered<Step<'_, u64>> = given
                .iter()
                .map(|&b| {
                    let takes = takes[b];
                    ctx.step(NAMES[b], async move || after(takes, b as u64).await)
                })
                .collect();
            while let Some(done) = open.next().await {
                let name = NAMES[done? as usize];
                let next = ctx.step(&format!("after {name}"), async || after(3, 1).await).await?;
                log.add(format!("{name} {}", next + ctx.random() % 100));
            }
            Ok(log.text())
        })
    });
    assert_eq!(live.len(), 24, "every order of ends is seen");
}

/// `select_all`: the first wins, the losers are dropped; then the same again with the rest.
#[test]
fn races_replay_in_every_order() {
    let live = in_every_order(3, |ctx, given, takes| {
        Box::pin(async move {
            let mut left = given;
            let log = Log::default();
            while !left.is_empty() {
                let steps: Vec<_> = left
                    .iter()
                    .map(|&b| {
                        let takes = takes[b];
                        ctx.step(NAMES[b], async move || after(takes, b as u64).await)
                    })
                    .collect();
                let (won, at, losers) = select_all(steps).await;
                drop(losers);
                log.add(NAMES[won? as usize]);
                left.remove(at);
                ctx.step("between", async || after(15, 0).await).await?;
            }
            Ok(log.text())
        })
    });
    assert_eq!(live.len(), 6, "every branch can win: {live:?}");
}

/// `select_all` that keeps its losers: they are delivered while nobody polls them.
#[test]
fn held_losers_replay_in_every_order() {
    let live = in_every_order(4, |ctx, given, takes| {
        Box::pin(async move {
            let mut held: Vec<_> = given
                .iter()
                .map(|&b| {
                    let takes = takes[b];
                    ctx.step(NAMES[b], async move || after(takes, b as u64).await)
                })
                .collect();
            let log = Log::default();
            while !held.is_empty() {
                let (won, _, losers) = select_all(held).await;
                held = losers;
                log.add(NAMES[won? as usize]);
                ctx.step("between", async || after(15, 0).await).await?;
            }
            Ok(log.text())
        })
    });
    assert_eq!(live.len(), 24, "every order of ends is seen");
}

#[test]
fn retries_side_by_side_replay_in_every_order() {
    let live = in_every_order(3, |ctx, given, takes| {
        Box::pin(async move {
            let log = Log::default();
            let branches = given.iter().map(|&b| {
                let (ctx, log, takes) = (&ctx, &log, takes[b]);
                async move {
                    let tried = ctx
                        .step(NAMES[b], async |s: StepCtx| match s.attempt() {
                            3 => after(takes, 3).await,
                            n => Err(format!("{n} is not enough"))?,
                        })
                        .retry(Retry::fixed(3, ms(takes)))
                        .await;
                    log.add(format!("{b}:{tried:?}"));
                }
            });
            join_all(branches).await;
            Ok(log.text())
        })
    });
    assert!(live.len() >= 6, "{live:?}");
}

#[test]
fn timers_beside_steps_replay_in_every_order() {
    let live = in_every_order(4, |ctx, given, takes| {
        Box::pin(async move {
            let log = Log::default();
            let branches = given.iter().map(|&b| {
                let (log, takes) = (&log, takes[b]);
                ctx.scope(NAMES[b], async move |ctx| {
                    let before = ctx.now();
                    // Even branches wait first, odd ones work first.
                    if b % 2 == 0 {
                        ctx.sleep(ms(takes)).await;
                    }
                    ctx.step("work", async || after(takes, 0).await).await?;
                    if b % 2 == 1 {
                        ctx.sleep(ms(takes)).await;
                    }
                    log.add(format!("{b}+{}", ctx.now().duration_since(before)?.as_millis()));
                    Ok(())
                })
            });
            try_join_all(branches).await?;
            Ok(log.text())
        })
    });
    assert!(live.len() >= 24, "{}", live.len());
}

#[test]
fn timeouts_replay_in_every_order() {
    let live = in_every_order(3, |ctx, given, takes| {
        Box::pin(async move {
            let branches = given.iter().map(|&b| {
                let takes = takes[b];
                ctx.scope(NAMES[b], async move |ctx| {
                    let seen =
                        ctx.timeout(ms(20), ctx.step("slow", async || after(takes, b as u64).await)).await?;
                    ctx.step("after", async || after(1, 0).await).await?;
                    Ok(seen)
                })
            });
            let seen = try_join_all(branches).await?;
            Ok(format!("{seen:?}"))
        })
    });
    assert!(live.iter().any(|l| l.contains("None")) && live.iter().any(|l| l.contains("Some")), "{live:?}");
}

/// Attempt timeouts and total timeouts, whose attempts end the same way in every branch.
#[test]
fn step_timeouts_replay_in_every_order() {
    let live = in_every_order(3, |ctx, given, takes| {
        Box::pin(async move {
            let log = Log::default();
            let branches = given.iter().map(|&b| {
                let (ctx, log, takes) = (&ctx, &log, takes[b]);
                async move {
                    let done = ctx
                        .step(NAMES[b], async |s: StepCtx| after(takes * 2 / u64::from(s.attempt()), 1).await)
                        .attempt_timeout(ms(15))
                        .timeout(ms(45))
                        .retry(Retry::fixed(4, ms(1)))
                        .await;
                    log.add(format!("{b}:{}", done.map_or_else(|e| e.code().to_string(), |v| v.to_string())));
                }
            });
            join_all(branches).await;
            Ok(log.text())
        })
    });
    assert!(live.len() > 1, "{live:?}");
}

/// One of each side by side: a chain, a retry, a race with a timer, a bounded scope inside a scope.
#[test]
fn mixed_branches_replay_in_every_order() {
    let live = in_every_order(4, |ctx, given, takes| {
        Box::pin(async move {
            let log = Log::default();
            let branch = |b: usize| {
                let (log, takes) = (&log, takes[b]);
                ctx.scope(NAMES[b], async move |ctx| {
                    let saw = match b {
                        0 => {
                            let mut sum = 0;
                            for i in 0..3 {
                                sum += ctx.step("add", async || after(takes / 3, i).await).await?;
                            }
                            sum
                        }
                        1 => {
                            ctx.step("shaky", async |s: StepCtx| match s.attempt() {
                                1 => Err("once")?,
                                n => after(takes, u64::from(n)).await,
                            })
                            .retry(Retry::exponential(2).first_pause(ms(takes)))
                            .await?
                        }
                        2 => select! {
                            won = ctx.step("raced", async || after(takes, 7).await) => won?,
                            () = ctx.sleep(ms(25)) => 0,
                        },
                        _ => {
                            let inner = ctx.scope("inner", async |ctx| {
                                let (a, b) = join!(
                                    ctx.step("a", async || after(takes, 1).await),
                                    ctx.step("b", async || after(30 - takes.min(30), 2).await),
                                );
                                Ok(a? + b?)
                            });
                            ctx.timeout(ms(35), inner).await?.unwrap_or(0)
                        }
                    };
                    log.add(format!("{b}={saw}"));
                    Ok(())
                })
            };
            try_join_all(given.iter().map(|&b| branch(b))).await?;
            Ok(log.text())
        })
    });
    assert!(live.len() >= 6, "{live:?}");
}

/// Branches that wait for each other through a channel of the function's own.
#[test]
fn branches_that_talk_replay_in_every_order() {
    let live = in_every_order(3, |ctx, given, takes| {
        Box::pin(async move {
            let (send, mut receive) = tokio::sync::mpsc::channel::<u64>(1);
            let log = Log::default();
            let branches = given.iter().map(|&b| {
                let (takes, send) = (takes[b], send.clone());
                ctx.scope(NAMES[b], async move |ctx| {
                    for i in 0..2 {
                        let value = ctx.step("make", async || after(takes, 10 * b as u64 + i).await).await?;
                        send.send(value).await?;
                    }
                    Ok(())
                })
            });
            let all = try_join_all(branches);
            drop(send);
            let reader = ctx.scope("reader", async |ctx| {
                while let Some(value) = receive.recv().await {
                    ctx.step("take", async || after(5, 0).await).await?;
                    log.add(value);
                }
                Ok(())
            });
            let (made, taken) = join!(all, reader);
            made.and(taken)?;
            Ok(log.text())
        })
    });
    assert!(live.len() >= 6, "{live:?}");
}

/// tokio's own `select!` draws which branch it polls first: runs are compared by what they recorded.
#[test]
fn tokios_select_replays_whatever_it_draws() {
    for round in 0..20u64 {
        check_cuts(move |ctx: Ctx, _| async move {
            let (mut a, mut b) = (ctx.step("a", async || after(round % 3, 1).await), ctx.sleep(ms(1)));
            let mut seen = Vec::new();
            let (mut a_done, mut b_done) = (false, false);
            while !(a_done && b_done) {
                tokio::select! {
                    done = &mut a, if !a_done => { a_done = true; seen.push(done?) }
                    () = &mut b, if !b_done => { b_done = true; seen.push(100) }
                    // Always a loser: dropped and made anew in each turn.
                    lost = ctx.step("c", async || after(50, 3).await) => seen.push(lost?),
                }
            }
            tokio::select! {
                won = ctx.step("x", async || Ok(1u64)) => seen.push(won?),
                won = ctx.step("y", async || Ok(2u64)) => seen.push(won?),
            }
            ctx.step("end", async || Ok(0u64)).await?;
            Ok(format!("{seen:?}"))
        });
    }
}

/// Losers of both kinds of `select!` stop where they stand, and nothing of them begins again on replay.
/// faults.md row 30.
#[test]
fn losers_are_cancelled_once() {
    let (began, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counters = (began.clone(), ended.clone());
    let (outcome, journal, _) = run_once(1, move |ctx: Ctx, _| {
        let (began, ended) = counters.clone();
        async move {
            let long = async || {
                began.fetch_add(1, Ordering::SeqCst);
                after(10_000, 0).await?;
                Ok(ended.fetch_add(1, Ordering::SeqCst))
            };
            select! {
                _ = ctx.step("ours lost", long) => {}
                _ = ctx.step("ours won", async || after(5, 0).await) => {}
            }
            tokio::select! {
                _ = ctx.step("tokio's lost", long) => {}
                _ = ctx.step("tokio's won", async || after(5, 0).await) => {}
            }
            ctx.sleep(seconds(60)).await;
            Ok("both".to_string())
        }
    });
    assert_eq!(outcome.as_deref(), Ok("both"));
    assert_eq!((began.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (2, 0));
    assert!(!told(&journal).iter().any(|t| t.contains("lost")), "{:?}", told(&journal));
}

const MANY: u64 = 10_000;

/// faults.md row 26, by every way to wait for many.
#[test]
fn ten_thousand_steps_side_by_side_replay() {
    let unordered: Program = |ctx, _, _| {
        Box::pin(async move {
            let mut open: FuturesUnordered<_> =
                (0..MANY).map(|i| ctx.step("one", async move || after(MANY - i, i).await)).collect();
            let (mut sum, mut first) = (0, None);
            while let Some(done) = open.next().await {
                let done = done?;
                first.get_or_insert(done);
                sum += done;
            }
            Ok(format!("{sum} {first:?}"))
        })
    };
    let joined: Program = |ctx, _, _| {
        Box::pin(async move {
            let all = join_all((0..MANY).map(|i| ctx.step("one", async move || after(i % 7, i).await))).await;
            let sum: u64 = all.into_iter().sum::<Result<u64>>()?;
            Ok(sum.to_string())
        })
    };
    let raced: Program = |ctx, _, _| {
        Box::pin(async move {
            let steps: Vec<_> = (0..MANY)
                .map(|i| ctx.step("one", async move || after(1 + (i + MANY / 2) % MANY, i).await))
                .collect();
            let (won, at, losers) = select_all(steps).await;
            drop(losers);
            let after = ctx.step("after", async || Ok(1u64)).await?;
            Ok(format!("{} {at} {after}", won?))
        })
    };
    let sum = MANY * (MANY - 1) / 2;
    for (program, expected, entries) in [
        (unordered, format!("{sum} Some({})", MANY - 1), MANY + 2),
        (joined, sum.to_string(), MANY + 2),
        (raced, format!("{0} {0} 1", MANY / 2), 4),
    ] {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let workflow = move |ctx: Ctx, _| program(ctx, Vec::new(), Vec::new());
            let (outcome, journal, _) = finish(&memory, &world, workflow).await;
            assert_eq!(outcome.as_deref(), Ok(expected.as_str()));
            assert_eq!(journal.len() as u64, entries);
            memory.truncate("r", journal.len() - 1);
            let (replayed, again, events) = finish(&memory, &world, workflow).await;
            assert_eq!((replayed, told(&again)), (outcome, told(&journal)));
            assert_eq!(began(&events), Vec::<String>::new());
        });
    }
}
