//! What people see of bodies that take long: a started row after a second, one warning when nobody polls a body that
//! could go on.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use crate::common::{W, engine, finish, nap, plain, settle, soon, started, virtual_time};
use everstep_core::{
    Ctx, Result, Simulation, join, seconds,
    store::{Inspect, Memory},
};
use tracing::{Event, Metadata, Subscriber, field::Field, span};

/// Keeps the warnings that are told on this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        *about.level() == tracing::Level::WARN
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| line += &format!("{field}={value:?} "));
        self.0.lock().expect("unpoisoned").push(line);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Runs on virtual time; the warnings that were told.
fn warnings(work: impl Future<Output = ()>) -> Vec<String> {
    let told = Warnings::default();
    tracing::subscriber::with_default(told.clone(), || virtual_time(work));
    let told = told.0.lock().expect("unpoisoned");
    told.clone()
}

#[test]
fn a_body_that_runs_for_long_has_a_row_until_it_ends() {
    let told = warnings(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let engine = engine(&memory, &world, async |ctx: Ctx, _| {
            ctx.sleep(seconds(5)).await;
            ctx.step("short", async || {
                nap(900).await;
                Ok(1u64)
            })
            .await?;
            let long = ctx.step("long", async || {
                nap(2500).await;
                Ok(1u64)
            });
            let other = ctx.step("other", async || {
                nap(2600).await;
                Ok(1u64)
            });
            let (long, other) = join!(long, other);
            Ok((long? + other?).to_string())
        })
        .await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        nap(5_850).await;
        assert_eq!(started(&memory).await, [], "not yet");
        nap(1_000).await;
        assert_eq!(started(&memory).await, [], "the next one is not told with the time of the first");
        nap(200).await;
        let mut rows = started(&memory).await;
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        let keys: Vec<_> = rows.iter().map(|row| (&*row.key, row.attempt, row.abandoned)).collect();
        assert_eq!(keys, [("long", 1, false), ("other", 1, false)]);
        let began = memory.run("r".into()).await.expect("readable").expect("there").created_at;
        let began = began.after(seconds(5)).after(std::time::Duration::from_millis(900));
        assert!(rows.iter().all(|row| row.at == began), "since when they run: {rows:?}");
        assert_eq!(plain(soon(run.result()).await).as_deref(), Ok("2"));
        assert_eq!(started(&memory).await, [], "their outcomes took the rows with them");
    });
    assert_eq!(told, [] as [&str; 0], "bodies that are polled when they are woken");
}

/// The function comes back to it within a second.
#[test]
fn a_body_that_waits_a_little_to_be_polled_is_not_told_of() {
    let told = warnings(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (outcome, ..) = finish(&memory, &world, async |ctx: Ctx, _| {
            let mut held = Box::pin(ctx.step("held", async || -> Result<u64> {
                nap(900).await;
                Ok(1)
            }));
            let mut pause = Box::pin(ctx.sleep(Duration::from_millis(1500)));
            // Between the beginning of its body and the end of the pause only the pause is polled.
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                if polls <= 2 {
                    assert!(held.as_mut().poll(cx).is_pending());
                }
                pause.as_mut().poll(cx)
            })
            .await;
            Ok(held.await?.to_string())
        })
        .await;
        assert_eq!(outcome.as_deref(), Ok("1"));
    });
    assert_eq!(told, [] as [&str; 0]);
}

/// A body that was woken, and whose future nobody polls: it may hold what others need.
#[test]
fn a_body_that_nobody_polls_is_told_of_once() {
    let told = warnings(async {
        let (memory, world) = (Memory::default(), Simulation::new(1));
        let (outcome, ..) = finish(&memory, &world, async |ctx: Ctx, _| {
            let mut held = pin!(ctx.step("held", async || -> Result<u64> {
                nap(100).await;
                Ok(1)
            }));
            let mut polls = 0;
            // Begins its body, and lets it lie.
            poll_fn(|cx| {
                polls += 1;
                match held.as_mut().poll(cx) {
                    _ if polls > 1 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
            .await;
            ctx.sleep(seconds(10)).await;
            Ok(held.await?.to_string())
        })
        .await;
        assert_eq!(outcome.as_deref(), Ok("1"));
        settle().await;
    });
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("nobody polls it") && told[0].contains("step=held"), "{told:?}");
}
