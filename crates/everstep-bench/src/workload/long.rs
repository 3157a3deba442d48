//! One run of a hundred thousand steps: whether the last ones cost more than the first, and how fast it replays.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use everstep::{Ctx, Engine, Result, Workflow};
use serde_json::{Value, json};

use super::Place;
use crate::{
    database::Database,
    measure::{cpu, median, memory_mib, quantile},
    report::thousandths,
};

const COUNT: u64 = 100_000;
const PART: u64 = 1000;
const ROUNDS_MAX: usize = 3;
/// The second process replays while the run sleeps: long enough to be loaded again before it ends.
const PAUSE: Duration = Duration::from_secs(2);
const LONG: Workflow<u64, u64> = Workflow::new("long");

/// Wall and CPU time whenever a part of the steps was done.
static MARKS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());
static TIMES: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

async fn long(ctx: Ctx, count: u64) -> Result<u64> {
    let mut times = Vec::new();
    for n in 0..count {
        if n % PART == 0 {
            lock(&MARKS).push((Instant::now(), cpu()));
        }
        let began = Instant::now();
        ctx.step("step", async || Ok(n)).await?;
        times.push(began.elapsed());
    }
    lock(&MARKS).push((Instant::now(), cpu()));
    *lock(&TIMES) = times;
    ctx.sleep(PAUSE).await;
    Ok(count)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open(database: &Database) -> Engine {
    database.builder().await.register(LONG, long).start().await.expect("it starts")
}

/// Wall and CPU time of one step, in microseconds, in part `at`.
fn part(marks: &[(Instant, Duration)], at: usize) -> (f64, f64) {
    let ((wall, cpu), (wall_after, cpu_after)) = (marks[at], marks[at + 1]);
    let of_one = |time: Duration| time.as_secs_f64() * 1e6 / PART as f64;
    (of_one(wall_after - wall), of_one(cpu_after - cpu))
}

/// One round's figures.
struct Round {
    wall: Duration,
    first: (f64, f64),
    last: (f64, f64),
    replay: Duration,
}

pub async fn run(place: &Place<'_>) -> Value {
    let (mut rounds, mut times, mut size) = (Vec::new(), Vec::new(), 0);
    // A thousand steps are a short time for a CPU clock on a busy machine: the median of a few rounds is told.
    for n in 0..place.rounds.min(ROUNDS_MAX) {
        let round = place.round(n).await;
        rounds.push(once(&round.database, &mut times).await);
        size = round.database.bytes().await;
    }
    let middle = |of: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let replay = middle(&|r| r.replay.as_secs_f64());
    json!({
        "workload": "long", "steps": COUNT, "rounds": rounds.len(),
        "rate": (COUNT as f64 / middle(&|r| r.wall.as_secs_f64())).round(), "unit": "steps/s",
        "p50_us": quantile(&mut times, 0.5).as_micros(), "p99_us": quantile(&mut times, 0.99).as_micros(),
        "first_us": middle(&|r| r.first.0).round(), "last_us": middle(&|r| r.last.0).round(),
        "first_cpu_us": middle(&|r| r.first.1).round(), "last_cpu_us": middle(&|r| r.last.1).round(),
        "cpu_ratio": thousandths(middle(&|r| r.last.1 / r.first.1)),
        "replay_ms": (replay * 1e3).round(), "replay_entries_per_s": (COUNT as f64 / replay).round(),
        "bytes_per_step": size / COUNT, "rss_mib": memory_mib("VmHWM").round(),
    })
}

async fn once(database: &Database, times: &mut Vec<Duration>) -> Round {
    let engine = open(database).await;
    let run = engine.start(LONG, "r", COUNT).await.expect("it starts");
    while run.journal_len().await.expect("readable") < COUNT + 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(engine.shutdown().await);
    let marks = std::mem::take(&mut *lock(&MARKS));
    times.append(&mut lock(&TIMES));
    let began = Instant::now();
    let engine = open(database).await;
    engine.get(LONG, "r").await.expect("found").result().await.expect("it is finished");
    // The function passes its last mark when everything recorded has been replayed.
    let replay = lock(&MARKS).last().expect("replayed").0 - began;
    engine.shutdown().await.expect("it leaves");
    lock(&MARKS).clear();
    lock(&TIMES).clear();
    let wall = marks[marks.len() - 1].0 - marks[0].0;
    Round { wall, first: part(&marks, 0), last: part(&marks, marks.len() - 2), replay }
}
