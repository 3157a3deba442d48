//! Maps: the order of their values, how many items run at a time, when they have ended; journals cut after every entry,
//! workers that die in the middle.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use crate::common::{
    W, after, began, check_cuts, check_cuts_at, check_replays, engine, engine_with, finish, journal, nap,
    plain, run_once, run_once_with, settings, told, virtual_time,
};
use everstep_core::{
    Code, Ctx, Error, ErrorKind, Result, Retry, Settings, Simulation, join,
    journal::{Entry, Kind},
    seconds, select,
    store::Memory,
    try_join,
};

/// How many bodies run now, and how many ran at a time at most.
#[derive(Clone, Default)]
struct Busy(Arc<[AtomicUsize; 2]>);

impl Busy {
    /// A body that takes `ms`.
    async fn work(&self, ms: u64, value: u64) -> Result<u64> {
        struct Leaves<'a>(&'a AtomicUsize);
        impl Drop for Leaves<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let [now, most] = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _leaves = Leaves(now);
        after(ms, value).await
    }

    fn most(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }
}

/// The keys of the journal, without the start and the end.
fn keys(journal: &[Entry]) -> Vec<&str> {
    journal.iter().filter_map(|entry| entry.key.as_deref()).collect()
}

/// A body that takes `ms` and fails if the number is odd.
async fn even(ms: u64, n: u64) -> Result<u64> {
    match after(ms, n).await? {
        n if n % 2 == 0 => Ok(n),
        n => Err(format!("{n} is odd").into()),
    }
}

/// Values, or `-` for what failed.
fn shown(each: &[Result<u64>]) -> String {
    let each = each.iter().map(|end| end.as_ref().map_or("-".to_string(), ToString::to_string));
    each.collect::<Vec<_>>().join(" ")
}

#[test]
fn values_come_in_the_order_of_the_items() {
    for limit in [1, 2, 3, 5, 6, usize::MAX] {
        let out = check_replays(move |ctx: Ctx, factor| async move {
            // The first takes longest.
            let takes = [50, 40, 30, 20, 10];
            let values = ctx
                .map("item", takes, limit, async |ctx, ms| {
                    let first = ctx.step("first", async || after(ms, ms).await).await?;
                    ctx.step("second", async || after(ms, first * factor).await).await
                })
                .await?;
            Ok(format!("{values:?}"))
        });
        assert_eq!(out, "[350, 280, 210, 140, 70]");
    }
}

#[test]
fn keys_tell_the_place_of_the_item() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        for round in 0..2u64 {
            ctx.scope("all", async |ctx| {
                ctx.map("row", ["a", "b"], 1, async |ctx, name| {
                    ctx.sleep(seconds(1)).await;
                    ctx.step(name, async || Ok(round)).await?;
                    ctx.step(name, async || Ok(round)).await
                })
                .await
            })
            .await?;
        }
        Ok("done".to_string())
    });
    assert_eq!(out.as_deref(), Ok("done"));
    let one = ["row/1/$sleep", "row/1/a", "row/1/a#2", "row/2/$sleep", "row/2/b", "row/2/b#2"];
    let expected: Vec<_> =
        ["all", "all#2"].iter().flat_map(|all| one.map(|key| format!("{all}/{key}"))).collect();
    assert_eq!(keys(&journal), expected);
}

#[test]
fn no_more_than_the_limit_run_at_a_time() {
    for limit in [1, 2, 3, 7, 19, 20, 21, usize::MAX] {
        let busy = Busy::default();
        let seen = busy.clone();
        let (out, _, events) = run_once(limit as u64, move |ctx: Ctx, _| {
            let busy = seen.clone();
            async move {
                let values = ctx.map("item", 0..20u64, limit, async |ctx, n| {
                    ctx.step("a", async || busy.work(1 + n * 7 % 5, n).await).await?;
                    ctx.step("b", async || busy.work(1 + n * 3 % 5, n).await).await
                });
                Ok(values.await?.iter().sum::<u64>().to_string())
            }
        });
        assert_eq!(out.as_deref(), Ok("190"));
        assert_eq!(busy.most(), limit.min(20), "so many, and no less");
        let first: Vec<_> = began(&events).into_iter().filter(|key| key.ends_with("/a")).collect();
        let in_order: Vec<_> = (1..=20).map(|place| format!("item/{place}/a")).collect();
        assert_eq!(first, in_order, "items begin in their order");
    }
}

#[test]
fn the_next_item_begins_when_one_has_ended() {
    let (_, journal, _) = run_once(1, async |ctx: Ctx, _| {
        // The first is still there when all others are over.
        let ms = [90, 10, 10, 20, 10];
        let values =
            ctx.map("item", ms, 2, async |ctx, ms| ctx.step("x", async || after(ms, ms).await).await);
        Ok(format!("{:?}", values.await?))
    });
    assert_eq!(keys(&journal), ["item/2/x", "item/3/x", "item/4/x", "item/5/x", "item/1/x"]);
}

/// How each way of asking ends, live; every journal replays, wherever it is cut.
#[test]
fn every_policy_has_its_end() {
    type Ask = fn(everstep_core::Map<'_, u64>) -> everstep_core::BoxFuture<'_, Result<String>>;
    let cases: [(&[u64], Ask, &str, usize); 13] = [
        (&[2, 4, 6], |map| Box::pin(async { Ok(format!("{:?}", map.await?)) }), "[2, 4, 6]", 3),
        (&[2, 3, 5, 4, 6], |map| Box::pin(async { Ok(format!("{:?}", map.await?)) }), "3 is odd", 3),
        (&[2, 3, 5, 4], |map| Box::pin(async { Ok(shown(&map.each().await)) }), "2 - - 4", 4),
        (&[1, 3], |map| Box::pin(async { Ok(shown(&map.each().await)) }), "- -", 2),
        (&[1, 2], |map| Box::pin(async { Ok(shown(&map.at_most_failures(0).await?)) }), "1 is odd", 2),
        (&[1, 2, 3], |map| Box::pin(async { Ok(shown(&map.at_most_failures(2).await?)) }), "- 2 -", 3),
        (
            &[1, 2, 3, 4, 6],
            |map| Box::pin(async { Ok(shown(&map.at_most_failures(1).await?)) }),
            "3 is odd",
            4,
        ),
        (&[1, 3], |map| Box::pin(async { Ok(shown(&map.at_most_failures(usize::MAX).await?)) }), "- -", 2),
        (
            &[1, 2, 3, 4, 6, 8],
            |map| Box::pin(async { Ok(format!("{:?}", map.at_least(2).await?)) }),
            "[2, 4]",
            5,
        ),
        (
            &[1, 2, 3, 4, 5],
            |map| Box::pin(async { Ok(format!("{:?}", map.at_least(3).await?)) }),
            "5 is odd",
            5,
        ),
        (&[1, 3, 2, 4], |map| Box::pin(async { Ok(format!("{:?}", map.at_least(3).await?)) }), "3 is odd", 3),
        (&[2, 4], |map| Box::pin(async { Ok(format!("{:?}", map.at_least(2).await?)) }), "[2, 4]", 2),
        (&[1, 3], |map| Box::pin(async { Ok(format!("{:?}", map.at_least(0).await?)) }), "[]", 0),
    ];
    for (numbers, ask, expected, begun) in cases {
        let workflow = move |ctx: Ctx, _| async move {
            let items = numbers.iter().copied();
            let map =
                ctx.map("n", items, 2, async |ctx, n| ctx.step("even", async || even(10 + n, n).await).await);
            let said = ask(map).await.unwrap_or_else(|error| error.to_string());
            let next = ctx.step("next", async || Ok(1u64)).await?;
            Ok(format!("{said} {next}"))
        };
        assert_eq!(check_cuts(workflow)[0], Ok(format!("{expected} 1")), "{numbers:?}");
        let (.., events) = run_once(1, workflow);
        let items = began(&events).iter().filter(|key| key.starts_with("n/")).count();
        assert_eq!(items, begun, "none begins after the end: {numbers:?}");
    }
}

/// Items that wait for nothing: the map is over in the poll that begins it, and the rest of them never begins.
#[test]
fn items_without_operations_end_as_they_begin() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let begun = AtomicUsize::new(0);
        let map = || {
            begun.store(0, Ordering::SeqCst);
            ctx.map("n", [2, 4, 5, 6, 8u64], 3, async |_, n| {
                begun.fetch_add(1, Ordering::SeqCst);
                if n % 2 == 0 { Ok(n) } else { Err(format!("{n} is odd").into()) }
            })
        };
        let mut said = Vec::new();
        let mut say = |what: String| said.push(format!("{what} of {}", begun.load(Ordering::SeqCst)));
        say(map().await.expect_err("there is a 5").to_string());
        say(shown(&map().each().await));
        say(shown(&map().at_most_failures(1).await?));
        say(format!("{:?}", map().at_least(1).await?));
        say(format!("{:?}", map().at_least(3).await?));
        say(map().at_least(5).await.expect_err("there are four").to_string());
        Ok(said.join(", "))
    });
    let expected = "5 is odd of 3, 2 4 - 6 8 of 5, 2 4 - 6 8 of 5, [2] of 1, [2, 4, 6] of 4, 5 is odd of 3";
    assert_eq!(out.as_deref(), Ok(expected));
    assert_eq!(keys(&journal), Vec::<&str>::new());
}

/// What runs when a map is over is dropped at once, not when the map is: the run goes on without it.
#[test]
fn the_end_drops_what_runs() {
    let busy = Busy::default();
    let seen = busy.clone();
    let (out, journal, _) = run_once(1, move |ctx: Ctx, _| {
        let busy = seen.clone();
        async move {
            let mut work = ctx.map("n", [100_000, 3, 200_000], 3, async |ctx, ms| {
                ctx.step("work", async || match busy.work(ms, ms).await? {
                    3 => Err("no".into()),
                    ms => Ok(ms),
                })
                .await
            });
            let failed = (&mut work).await.expect_err("the second one");
            let left = ctx.step("left", async || Ok(busy.0[0].load(Ordering::SeqCst))).await?;
            drop(work);
            Ok(format!("{failed} {left}"))
        }
    });
    assert_eq!(out.as_deref(), Ok("no 0"));
    assert_eq!(keys(&journal), ["n/2/work", "left"]);
}

/// One whose body has returned when another's error ends the map is recorded all the same, as of any dropped step.
#[test]
fn an_effect_is_recorded_whatever_becomes_of_the_map() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let values = ctx
            .map("n", [1, 2, 3, 4u64], 9, async |ctx, n| ctx.step("even", async || even(10, n).await).await);
        let failed = values.await.expect_err("the first");
        ctx.step("next", async || Ok(0u64)).await?;
        Ok(failed.to_string())
    });
    assert_eq!(outcomes[0].as_deref(), Ok("1 is odd"), "of several at once, the first in the list");
    let (_, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let numbers =
            ctx.map("n", [1, 2u64], 9, async |ctx, n| ctx.step("even", async || even(10, n).await).await);
        Ok(numbers.await.is_err().to_string())
    });
    assert_eq!(keys(&journal), ["n/1/even", "n/2/even"]);
}

#[test]
fn an_empty_list_is_ready_at_once_and_takes_its_name() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let none = || ctx.map("n", [0u64; 0], 3, async |ctx, n| ctx.step("x", async || Ok(n)).await);
        assert!(none().await?.is_empty());
        assert!(none().each().await.is_empty());
        assert!(none().at_most_failures(0).await?.is_empty());
        assert!(none().at_least(0).await?.is_empty());
        let values = ctx.map("n", [1u64], 3, async |ctx, n| ctx.step("x", async || Ok(n)).await);
        Ok(format!("{:?}", values.await?))
    });
    assert_eq!(out.as_deref(), Ok("[1]"));
    assert_eq!(keys(&journal), ["n#5/1/x"], "so that a list may be empty today and not tomorrow");
}

#[test]
fn what_cannot_work_is_refused_with_advice() {
    let (out, journal, _) = run_once(1, async |ctx: Ctx, _| {
        let map =
            |name, limit| ctx.map(name, [1u64, 2], limit, async |ctx, n| ctx.step("x", async || Ok(n)).await);
        let refused = |error: Error, code, advice: &str| {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Misuse, code), "{error}");
            assert!(error.is_terminal() && error.to_string().contains(advice), "{error}");
        };
        refused(map("n", 0).await.expect_err("no room"), Code::BAD_MAP, "`usize::MAX` for all");
        refused(map("a/b", 1).await.expect_err("a path"), Code::BAD_NAME, "part of keys");
        let too_few = map("few", 1).at_least(3).await.expect_err("there are two");
        refused(too_few, Code::BAD_MAP, "map `few` has 2 items, and at least 3 of them are to succeed");
        let each = map("n", 0).each().await;
        assert_eq!(each.len(), 2, "each of the items");
        each.into_iter().for_each(|end| refused(end.expect_err("no room"), Code::BAD_MAP, "limit of 0"));
        let (first, second) = join!(async { map("both", 2).await }, async { map("both", 2).await });
        assert_eq!(first?, [1, 2]);
        refused(second.expect_err("which is `both#2`?"), Code::SIDE_BY_SIDE, "ctx.scope");
        let inside = ctx.clone();
        let in_body = ctx.step("body", async move || inside.map("n", [1u64], 1, async |_, n| Ok(n)).await);
        refused(in_body.await.expect_err("not replayed"), Code::IN_BODY, "map `n` inside a step body");
        Ok("refused".to_string())
    });
    assert_eq!(out.as_deref(), Ok("refused"));
    assert_eq!(keys(&journal), ["both/1/x", "both/2/x", "body"], "nothing else ran: {:?}", told(&journal));
}

/// The entries tell the lines of the calls in the body; the map itself has a line when it is what is asked for.
#[test]
fn a_map_takes_place_in_reports_with_its_line() {
    let settings = || Settings { build: Some("other".to_string()), ..settings() };
    let (memory, world) = (Memory::default(), Simulation::new(1));
    let (outcome, line) = virtual_time(async {
        let step = async |ctx: Ctx, _| ctx.step("n", async || Ok("1".to_string())).await;
        finish(&memory, &world, step).await.0.expect("it ends");
        memory.truncate("r", 2);
        let line = line!() + 2;
        let engine = engine_with(&memory, &world, settings(), async |ctx: Ctx, _| {
            ctx.map("n", [1u64], 1, async |ctx, _| ctx.step("x", async || Ok(1u64)).await).await?;
            Ok(String::new())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it is there");
        (plain(run.result().await), line)
    });
    let report = outcome.expect_err("recorded was a step of that key");
    let place = format!("the code asks for a scope of that key ({}:{line}:", file!());
    assert!(report.contains(&place), "{place} in {report}");
}

/// Maps in maps, in scopes, under a timeout, beside each other.
#[test]
fn maps_nest() {
    let outcomes = check_cuts(async |ctx: Ctx, base| {
        let rows = vec![vec![1, 2, 3], vec![], vec![4, 5]];
        let sum = async |ctx: &Ctx, rows: &[Vec<u64>]| {
            let sums = ctx.map("row", rows, 2, async |ctx, row| {
                let cells = ctx.map("cell", row, 2, async |ctx, n| {
                    ctx.sleep(seconds(*n)).await;
                    ctx.step("add", async || after(*n, base + *n).await).await
                });
                Ok(cells.await?.iter().sum::<u64>() + ctx.random() % 2)
            });
            Ok(format!("{:?}", sums.await?))
        };
        let (left, right) = try_join!(
            ctx.scope("left", async |ctx| sum(&ctx, &rows).await),
            ctx.scope("right", async |ctx| {
                let in_time = ctx.timeout(seconds(600), sum(&ctx, &rows)).await?;
                let too_late = ctx.timeout(seconds(2), sum(&ctx, &rows)).await?;
                Ok(format!("{in_time:?} {too_late:?}"))
            }),
        )?;
        ctx.step("last", async || Ok(0u64)).await?;
        Ok(format!("{left} {right}"))
    });
    let live = outcomes[0].as_deref().expect("it ends");
    assert!(live.ends_with("None") && live.contains("Some"), "{live}");
    assert!(outcomes.iter().all(|outcome| outcome.as_deref() == Ok(live)), "{outcomes:#?}");
}

/// A map that is held: it takes part in a loop of races and is neither begun anew nor forgotten.
#[test]
fn a_map_may_be_awaited_in_pieces() {
    let outcomes = check_cuts(async |ctx: Ctx, _| {
        let mut map = ctx.map("n", [30u64, 700, 900], 2, async |ctx, ms| {
            let first = ctx.step("a", async || after(ms, ms).await).await?;
            ctx.step("b", async || after(ms, first + 1).await).await
        });
        assert_eq!(format!("{map:?}"), "Map");
        for round in 0.. {
            select! {
                values = &mut map => return Ok(format!("{:?} after {round}", values?)),
                () = ctx.sleep(std::time::Duration::from_millis(400)) => {}
            }
            // Nobody looks at the map meanwhile.
            ctx.step("pause", async || after(100, 0).await).await?;
        }
        unreachable!()
    });
    assert!(outcomes[0].as_ref().is_ok_and(|live| live.starts_with("[31, 701, 901] after ")), "{outcomes:?}");
}

/// Items that wake one another by something of their own: what they draw and say next replays, although live their
/// bodies wake them at moments that a replay does not have.
#[test]
fn items_that_wake_one_another_replay() {
    for chatty in [false, true] {
        check_cuts(move |ctx: Ctx, _| async move {
            let bells: Vec<_> = (0..6).map(|_| tokio::sync::Notify::new()).collect();
            let log = Mutex::new(Vec::new());
            let values = ctx.map("n", 0..6usize, 4, async |ctx, n| {
                let say = |what: &str| {
                    log.lock().expect("unpoisoned").push(format!("{n}{what}{}", ctx.random() % 10));
                };
                let first = ctx.step("first", async || {
                    // A body that wakes itself all the time.
                    for _ in 0..if chatty { 5 } else { 0 } {
                        tokio::task::yield_now().await;
                    }
                    after((n as u64 * 7) % 5, 1).await
                });
                let second = async {
                    bells[n].notified().await;
                    say("heard");
                    ctx.scope("heard", async |ctx| ctx.step("x", async || after(1, 1).await).await).await
                };
                let first = async {
                    let done = first.await;
                    say("did");
                    bells.iter().for_each(tokio::sync::Notify::notify_one);
                    done
                };
                let (a, b) = try_join!(second, first)?;
                Ok(a + b)
            });
            let values = values.await?;
            Ok(format!("{values:?} {}", log.lock().expect("unpoisoned").join(" ")))
        });
    }
}

/// 500 items, 20 at a time, each eleventh of them fails after its retry.
#[test]
fn five_hundred_items_with_failures_allowed() {
    let busy = Busy::default();
    let seen = busy.clone();
    let outcomes = check_cuts_at(
        |cut| cut % 97 == 3,
        move |ctx: Ctx, _| {
            let busy = seen.clone();
            async move {
                let each = ctx.map("item", 0..500u64, 20, async |ctx, n| {
                    let got = ctx.step("get", async || busy.work(n * 7 % 13, n).await).await?;
                    let put = ctx.step("put", async || match got % 11 {
                        0 => Err(format!("{got} is refused").into()),
                        _ => busy.work(got % 5, got).await,
                    });
                    put.retry(Retry::fixed(2, seconds(1))).await
                });
                let each = each.at_most_failures(50).await?;
                let failed: Vec<_> = each.iter().filter_map(|end| end.as_ref().err()).collect();
                let sum: u64 = each.iter().flatten().sum();
                Ok(format!("{} failed, the last: {}, sum {sum}", failed.len(), failed[failed.len() - 1]))
            }
        },
    );
    let sum: u64 = (0..500).filter(|n| n % 11 != 0).sum();
    let expected = format!("46 failed, the last: 495 is refused, sum {sum}");
    assert!(outcomes.len() > 10);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref() == Ok(&expected)), "{outcomes:#?}");
    assert_eq!(busy.most(), 20);
}

/// Many items at a time cost what each of them costs: each outcome polls the item that it is for.
#[test]
fn ten_thousand_items_are_not_polled_for_each_other() {
    const ITEMS: usize = 10_000;
    for limit in [100, ITEMS] {
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        let (out, journal, _) = run_once_with(settings(), 1, move |ctx: Ctx, _| {
            let polls = counted.clone();
            async move {
                let values = ctx.map("n", 0..ITEMS as u64, limit, |ctx, n| {
                    let polls = polls.clone();
                    let mut work = Box::pin(async move { ctx.step("x", async move || Ok(n)).await });
                    std::future::poll_fn(move |cx| {
                        polls.fetch_add(1, Ordering::SeqCst);
                        work.as_mut().poll(cx)
                    })
                });
                Ok(values.await?.iter().sum::<u64>().to_string())
            }
        });
        assert_eq!(out, Ok((ITEMS * (ITEMS - 1) / 2).to_string()));
        assert_eq!(journal.len(), ITEMS + 2);
        // Registered, begun, over.
        assert_eq!(polls.load(Ordering::SeqCst), 3 * ITEMS, "at most {limit} at a time");
    }
}

/// The worker dies at every moment of a map; the next one goes on.
#[test]
fn a_map_goes_on_wherever_its_worker_dies() {
    let workflow = async |ctx: Ctx, _| {
        let each = ctx.map("n", 1..=8u64, 3, async |ctx, n| {
            let first = ctx.step("first", async || even(3 * n, 2 * n).await).await?;
            ctx.step("second", async || even(n, first / 2).await).await
        });
        Ok(shown(&each.each().await))
    };
    let (expected, whole, _) = run_once(1, workflow);
    assert_eq!(expected.as_deref(), Ok("- 2 - 4 - 6 - 8"));
    let mut recorded = std::collections::BTreeSet::new();
    for ms in 0..70 {
        virtual_time(async {
            let (memory, world) = (Memory::default(), Simulation::new(1));
            let first = engine(&memory, &world, workflow).await;
            first.start(W, "r", 7).await.expect("it starts");
            nap(ms).await;
            drop(first);
            nap(1).await;
            let before = journal(&memory).await;
            recorded.insert(before.len());
            let (outcome, after, events) = finish(&memory, &world, workflow).await;
            assert_eq!(outcome, expected, "died after {ms} ms");
            assert_eq!(after[..before.len()], before);
            let known = keys(&before);
            let again: Vec<_> =
                began(&events).into_iter().filter(|key| known.contains(&key.as_str())).collect();
            assert!(again.is_empty(), "{again:?} were recorded");
        });
    }
    assert!(recorded.len() > whole.len() / 2, "nearly every prefix was seen: {recorded:?}");
}

/// A new build may let more items run at a time: old runs go on.
#[test]
fn a_higher_limit_replays_in_another_build() {
    let map = |limit| {
        move |ctx: Ctx, _| async move {
            let values = ctx.map("n", 0..9u64, limit, async |ctx, n| {
                ctx.step("a", async || after(1 + n * 5 % 7, n).await).await?;
                ctx.step("b", async || after(1, n).await).await
            });
            Ok(format!("{:?}", values.await?))
        }
    };
    virtual_time(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (outcome, whole, _) = finish(&memory, &world, map(2)).await;
        for cut in 1..whole.len() {
            let memory = memory.fork();
            memory.truncate("r", cut);
            let settings = Settings { build: Some("next".to_string()), ..settings() };
            let engine = engine_with(&memory, &world, settings, map(4)).await;
            let run = engine.start(W, "r", 7).await.expect("it is there");
            assert_eq!(plain(run.result().await), outcome, "cut after {cut}");
        }
    });
}

/// Numbers that look drawn, from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Maps of every shape: how many items, at a time, how many steps each, which fail, what is asked for, what is inside.
#[test]
fn maps_of_every_shape_replay() {
    for seed in 0..150 {
        let busy = Busy::default();
        let seen = busy.clone();
        let limit = 1 + Dice(seed).below(6) as usize;
        check_cuts(move |ctx: Ctx, _| {
            let busy = seen.clone();
            async move {
                let mut dice = Dice(seed);
                dice.below(6);
                let items: Vec<_> =
                    (0..dice.below(9)).map(|_| [dice.below(4), dice.below(6), dice.below(5)]).collect();
                let asked = dice.below(5);
                let allowed = dice.below(4) as usize;
                let map = ctx.map("n", &items, limit, async |ctx, [steps, ms, kind]| {
                    let mut sum = ctx.random() % 10;
                    for step in 0..*steps {
                        sum += match kind {
                            0 if step == 2 => Err(format!("no {ms}"))?,
                            1 => ctx
                                .timeout(
                                    std::time::Duration::from_millis(3),
                                    ctx.step("x", async || busy.work(*ms, step).await),
                                )
                                .await?
                                .unwrap_or(50),
                            2 => {
                                let inner = ctx.map("in", 0..step, 2, async |ctx, n| {
                                    ctx.step("x", async || after(*ms, n).await).await
                                });
                                inner.await?.iter().sum()
                            }
                            3 => {
                                ctx.sleep(std::time::Duration::from_millis(*ms)).await;
                                step
                            }
                            _ => ctx.step("x", async || busy.work(*ms, step).await).await?,
                        };
                    }
                    Ok(sum)
                });
                let said = match asked {
                    0 => format!("{:?}", map.await?),
                    1 => shown(&map.each().await),
                    2 => shown(&map.at_most_failures(allowed).await?),
                    3 => format!("{:?}", map.at_least(allowed).await?),
                    _ => {
                        let mut map = map;
                        let first =
                            std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut map).poll(cx)))
                                .await;
                        drop(map);
                        format!("{first:?}")
                    }
                };
                ctx.step("next", async || Ok(())).await?;
                Ok(format!("{said} {}", ctx.random()))
            }
        });
        assert!(busy.most() <= limit, "seed {seed}: {} of {limit}", busy.most());
    }
}

/// A journal that is full fails the item that meets the limit, live and on replay.
#[test]
fn a_full_journal_is_an_error_of_the_item() {
    let settings = Settings { entries_max: 8, ..settings() };
    let (out, journal, _) = run_once_with(settings, 1, async |ctx: Ctx, _| {
        let each = ctx.map("n", 0..9u64, 2, async |ctx, n| ctx.step("x", async || Ok(n)).await);
        let each = each.each().await;
        let full = each.iter().filter(|end| end.as_ref().is_err_and(|e| e.code() == Code::TOO_MANY_ENTRIES));
        Ok(full.count().to_string())
    });
    let done = journal.iter().filter(|entry| entry.known_kind() == Some(Kind::StepDone)).count();
    assert_eq!(out, Ok((9 - done).to_string()));
    assert!(done < 8, "{:?}", told(&journal));
}
