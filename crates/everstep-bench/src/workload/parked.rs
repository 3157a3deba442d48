//! A million runs that wait, half for timers and half for signals, in one database: what it costs to have them, and how fast
//! many of them wake. One process parks them, another one opens it, does nothing for a minute, and is then woken.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use everstep::{Ctx, Engine, Result, Settings, Signal, Status, Workflow, days};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{Place, count};
use crate::{
    database::Database,
    measure::{cpu, memory_mib},
    report::thousandths,
};

/// Runs; a tenth of them is in each of the four groups that are woken.
const RUNS: u64 = 1_000_000;
const GROUP: u64 = RUNS / 10;
/// Started and parked together.
const PART: u64 = 4_000;
/// Signals on their way at once.
const SENDERS: usize = 2_000;
const IDLE: Duration = Duration::from_secs(60);
/// From the opening to the idle minute, from there to the first timers, and between the two groups of timers.
const SLACK: Duration = Duration::from_secs(20);
/// How much is measured before the rest of the setup is estimated.
const SAMPLE: u64 = 40_000;

/// What a run waits for: a point in time in milliseconds since 1970, or a signal.
type Until = Option<u64>;
const PARKED: Workflow<Until, u64> = Workflow::new("parked");
const GO: Signal<u64> = Signal::new("go");

async fn parked(ctx: Ctx, until: Until) -> Result<u64> {
    for n in 0..3u64 {
        ctx.step("before", async || Ok(n)).await?;
    }
    match until {
        Some(ms) => {
            let at = UNIX_EPOCH + Duration::from_millis(ms);
            ctx.sleep(at.duration_since(ctx.now()).unwrap_or_default()).await;
        }
        None => drop(ctx.signal(GO).await?),
    }
    ctx.step("after", async || Ok(0)).await
}

/// Which of the four groups a run is in, if any: two lie side by side, two are scattered over all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Timers,
    TimersScattered,
    Signals,
    SignalsScattered,
    Rest { timer: bool },
}

fn group(n: u64) -> Group {
    // The first fifth lies side by side, behind the sample.
    let (timers, signals) = (SAMPLE..SAMPLE + GROUP, SAMPLE + GROUP..SAMPLE + 2 * GROUP);
    match n {
        _ if timers.contains(&n) => Group::Timers,
        _ if signals.contains(&n) => Group::Signals,
        // Every seventh of what follows, in turn, until both have as many.
        _ if n >= signals.end && n.is_multiple_of(7) && (n - signals.end) / 7 < GROUP => {
            Group::TimersScattered
        }
        _ if n >= signals.end && n % 7 == 3 && (n - signals.end) / 7 < GROUP => Group::SignalsScattered,
        _ => Group::Rest { timer: n.is_multiple_of(2) },
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

async fn open(database: &Database, settings: Settings) -> Engine {
    database.builder().await.register(PARKED, parked).settings(settings).start().await.expect("it starts")
}

/// The process that parks them. Prints when the two groups of timers are due.
pub async fn parks(database: &Database) {
    let settings = Settings { park_after: Duration::ZERO, ..Settings::default() };
    let engine = open(database, settings).await;
    let began = Instant::now();
    let (mut timers, mut scattered) = (u64::MAX, u64::MAX);
    for part in 0..RUNS / PART {
        if part * PART == SAMPLE {
            // Twice as long as it has taken so far: it gets slower as the file grows.
            let rest = began.elapsed().mul_f64(2.0 * (RUNS - SAMPLE) as f64 / SAMPLE as f64);
            timers = now_ms() + (rest + 2 * SLACK + IDLE).as_millis() as u64;
            scattered = timers + (2 * SLACK).as_millis() as u64;
        }
        let later = now_ms() + days(1).as_millis() as u64;
        let inputs: Vec<_> = (part * PART..(part + 1) * PART)
            .map(|n| {
                let until = match group(n) {
                    Group::Timers => Some(timers),
                    Group::TimersScattered => Some(scattered),
                    Group::Rest { timer: true } => Some(later),
                    Group::Rest { timer: false } | Group::Signals | Group::SignalsScattered => None,
                };
                (n.to_string(), until)
            })
            .collect();
        for run in engine.start_batch(PARKED, inputs).await.expect("they start") {
            run.expect("it started");
        }
        count(&engine, Status::Waiting, (part + 1) * PART).await;
    }
    engine.shutdown().await.expect("it leaves");
    println!("{timers} {scattered}");
}

/// The process that is woken. Prints its figures as JSON.
pub async fn wakes(folder: &Path, database: &Database) {
    let due = std::fs::read_to_string(folder.join("due")).expect("written");
    let mut due = due.split_whitespace().map(|ms| ms.parse::<u64>().expect("a number"));
    let mut next_due = || UNIX_EPOCH + Duration::from_millis(due.next().expect("two of them"));
    let (timers, scattered) = (next_due(), next_due());
    let began = Instant::now();
    let engine = open(database, Settings::default()).await;
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu_before, written) = (cpu(), written());
    tokio::time::sleep(IDLE).await;
    let idle = cpu() - cpu_before;
    let rss = memory_mib("VmRSS");
    let idle_writes = self::written() - written;
    let mut told = HashMap::new();
    let mut done = 0;
    for (name, at) in [("timers_per_s", timers), ("timers_scattered_per_s", scattered)] {
        let early = at.duration_since(SystemTime::now());
        tokio::time::sleep(early.expect("the setup took longer than was estimated: run it again")).await;
        done += GROUP;
        told.insert(name, rate(count(&engine, Status::Completed, done)).await);
    }
    for (name, of) in
        [("signals_per_s", Group::Signals), ("signals_scattered_per_s", Group::SignalsScattered)]
    {
        let runs: Vec<_> = (0..RUNS).filter(|n| group(*n) == of).collect();
        assert_eq!(runs.len() as u64, GROUP);
        done += GROUP;
        let sends = stream::iter(runs).for_each_concurrent(SENDERS, |n| {
            let sent = engine.signal(n.to_string(), GO, n);
            async { sent.await.expect("it is open") }
        });
        let all = async {
            sends.await;
            count(&engine, Status::Completed, done).await;
        };
        told.insert(name, rate(all).await);
    }
    let peak = memory_mib("VmHWM");
    engine.shutdown().await.expect("it leaves");
    println!(
        "{}",
        json!({
            "open_ms": thousandths(open_ms), "rss_mib": rss.round(), "peak_mib": peak.round(),
            "idle_cpu_pct": thousandths(idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0),
            "idle_write_calls": idle_writes, "rates": told,
        })
    );
}

/// Runs of one group a second, as `work` takes them all from waking to finished.
async fn rate(work: impl Future<Output = ()>) -> u64 {
    let began = Instant::now();
    work.await;
    (GROUP as f64 / began.elapsed().as_secs_f64()) as u64
}

/// Write calls of this process so far.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let calls = io.lines().find_map(|line| line.strip_prefix("syscw: "));
    calls.and_then(|calls| calls.trim().parse().ok()).unwrap_or(0)
}

pub async fn run(place: &Place<'_>) -> Value {
    let round = place.round(0).await;
    let began = Instant::now();
    let parks = super::spawn("parks", &round).output().expect("it ran");
    assert!(parks.status.success(), "{}", String::from_utf8_lossy(&parks.stderr));
    std::fs::write(round.folder.join("due"), &parks.stdout).expect("room");
    let setup = began.elapsed();
    let size = round.database.bytes().await;
    let wakes = super::spawn("wakes", &round).output().expect("it ran");
    assert!(wakes.status.success(), "{}", String::from_utf8_lossy(&wakes.stderr));
    let told: Value = serde_json::from_slice(&wakes.stdout).expect("JSON");
    let mut all = json!({
        "workload": "parked", "runs": RUNS, "parked_per_s": (RUNS as f64 / setup.as_secs_f64()).round(),
        "bytes_per_run": size / RUNS, "beats_in_idle": IDLE.as_secs_f64() / 2.5,
    });
    let flat = all.as_object_mut().expect("an object");
    for (key, value) in told.as_object().expect("an object") {
        match value.as_object() {
            Some(rates) => flat.extend(rates.clone()),
            None => drop(flat.insert(key.clone(), value.clone())),
        }
    }
    all
}
