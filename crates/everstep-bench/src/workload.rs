//! The workloads. Each gives one JSON object: its rate, the raw rate beside it, their ratio, and what is its own.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use everstep::{Ctx, Engine, Event, Result, Run, Workflow, days, sqlite::Sqlite};
use serde_json::{Value, json};

use crate::{
    measure::{bytes, cpu, median, memory_mib, quantile},
    raw,
};

/// All of them.
pub const NAMES: [&str; 7] =
    ["sequential", "parallel", "start", "start-batch", "recover", "long", "resident"];

const STEPS: Workflow<u64, u64> = Workflow::new("steps");
const SLEEPER: Workflow<u64, u64> = Workflow::new("sleeper");

/// A raw single limit below this part of the disk's syncs is no limit.
const RAW_SYNCS_MIN: f64 = 0.6;

async fn steps(ctx: Ctx, count: u64) -> Result<u64> {
    for n in 0..count {
        ctx.step("step", async || Ok(n)).await?;
    }
    Ok(count)
}

async fn sleeper(ctx: Ctx, _: u64) -> Result<u64> {
    ctx.step("one", async || Ok(1)).await?;
    ctx.step("two", async || Ok(2)).await?;
    ctx.sleep(days(1)).await;
    Ok(0)
}

async fn engine(path: &Path) -> Engine {
    let store = Sqlite::open(path).expect("a fresh file");
    Engine::builder(store).register(STEPS, steps).register(SLEEPER, sleeper).start().await.expect("it starts")
}

/// Runs one workload; `None` if there is none of that name.
pub async fn run(name: &str, folder: &Path, rounds: usize) -> Option<Value> {
    Some(match name {
        "sequential" => sequential(folder, rounds).await,
        "parallel" => parallel(folder, rounds).await,
        "start" => start(folder, rounds).await,
        "start-batch" => start_batch(folder, rounds).await,
        "recover" => recover(folder).await,
        "long" => long(folder).await,
        "resident" => resident(folder).await,
        _ => return None,
    })
}

struct Rates {
    ours: Vec<f64>,
    raw: Vec<f64>,
    times: Vec<Duration>,
    bytes_per_step: f64,
}

fn tell(workload: &str, unit: &str, raw: &str, mut rates: Rates) -> Value {
    let (rate, raw_rate) = (median(&rates.ours), median(&rates.raw));
    let spread = |values: &[f64]| {
        let (least, most) = values.iter().fold((f64::MAX, 0.0f64), |(a, b), v| (a.min(*v), b.max(*v)));
        json!([least.round(), most.round()])
    };
    json!({
        "workload": workload, "rate": rate.round(), "unit": unit, "raw": raw, "raw_rate": raw_rate.round(),
        "ratio": (rate / raw_rate * 1000.0).round() / 1000.0,
        "spread": spread(&rates.ours), "raw_spread": spread(&rates.raw),
        "p50_us": quantile(&mut rates.times, 0.5).as_micros(), "p99_us": quantile(&mut rates.times, 0.99).as_micros(),
        "bytes_per_step": rates.bytes_per_step.round(), "rss_mib": memory_mib("VmHWM").round(),
    })
}

async fn sequential(folder: &Path, rounds: usize) -> Value {
    const COUNT: u64 = 1000;
    let mut rates = Rates { ours: vec![], raw: vec![], times: vec![], bytes_per_step: 0.0 };
    let syncs = raw::fdatasync(folder);
    for round in 0..rounds {
        let place = folder.join(round.to_string());
        std::fs::create_dir(&place).expect("room");
        rates.raw.push(raw::single(&place, COUNT));
        let path = place.join("ours.db");
        let engine = engine(&path).await;
        let before = bytes(&path);
        let began = Instant::now();
        engine.run(STEPS, "r", COUNT).await.expect("it runs");
        let took = began.elapsed();
        rates.ours.push(COUNT as f64 / took.as_secs_f64());
        rates.times.push(took / COUNT as u32);
        engine.shutdown().await.expect("it leaves");
        rates.bytes_per_step = bytes(&path).saturating_sub(before) as f64 / COUNT as f64;
    }
    let part = median(&rates.raw) / syncs;
    let mut told = tell("sequential", "steps/s", "raw-single", rates);
    told["fdatasync_rate"] = json!(syncs.round());
    told["raw_per_sync"] = json!((part * 100.0).round() / 100.0);
    if part < RAW_SYNCS_MIN {
        told["warning"] = json!("the raw limit is none: it reaches too small a part of the disk's syncs");
    }
    told
}

async fn parallel(folder: &Path, rounds: usize) -> Value {
    const RUNS: u64 = 1000;
    const EACH: u64 = 10;
    const AT_LEAST: Duration = Duration::from_secs(1);
    let mut rates = Rates { ours: vec![], raw: vec![], times: vec![], bytes_per_step: 0.0 };
    for round in 0..rounds {
        let place = folder.join(round.to_string());
        std::fs::create_dir(&place).expect("room");
        rates.raw.push(raw::pipeline(&place, RUNS, EACH, AT_LEAST).await);
        let path = place.join("ours.db");
        let engine = engine(&path).await;
        let (before, began, mut wave) = (bytes(&path), Instant::now(), 0u64);
        while began.elapsed() < AT_LEAST || wave == 0 {
            let inputs = (0..RUNS).map(|n| (format!("{wave}-{n}"), EACH));
            let runs = engine.start_batch(STEPS, inputs.collect::<Vec<_>>()).await.expect("they start");
            let wave_began = Instant::now();
            wait_all(runs).await;
            rates.times.push(wave_began.elapsed() / EACH as u32);
            wave += 1;
        }
        rates.ours.push((wave * RUNS * EACH) as f64 / began.elapsed().as_secs_f64());
        engine.shutdown().await.expect("it leaves");
        rates.bytes_per_step = bytes(&path).saturating_sub(before) as f64 / (wave * RUNS * EACH) as f64;
    }
    tell("parallel", "steps/s", "raw-pipeline", rates)
}

async fn wait_all(runs: everstep::Batch<u64>) {
    for run in runs {
        run.expect("it started").result().await.expect("it runs");
    }
}

async fn start(folder: &Path, rounds: usize) -> Value {
    const RUNS: u64 = 10_000;
    const SUBMITTERS: u64 = 1000;
    let mut rates = Rates { ours: vec![], raw: vec![], times: vec![], bytes_per_step: 0.0 };
    for round in 0..rounds {
        let place = folder.join(round.to_string());
        std::fs::create_dir(&place).expect("room");
        rates.raw.push(raw::pipeline(&place, SUBMITTERS, RUNS / SUBMITTERS, Duration::ZERO).await);
        let path = place.join("ours.db");
        let engine = Arc::new(engine(&path).await);
        let (before, began) = (bytes(&path), Instant::now());
        let submitters: Vec<_> = (0..SUBMITTERS)
            .map(|submitter| {
                let engine = engine.clone();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for n in 0..RUNS / SUBMITTERS {
                        let began = Instant::now();
                        let run =
                            engine.start(STEPS, format!("{submitter}-{n}"), 1).await.expect("it starts");
                        run.result().await.expect("it runs");
                        times.push(began.elapsed());
                    }
                    times
                })
            })
            .collect();
        for submitter in submitters {
            rates.times.extend(submitter.await.expect("it does not panic"));
        }
        rates.ours.push(RUNS as f64 / began.elapsed().as_secs_f64());
        Arc::into_inner(engine).expect("all submitters are done").shutdown().await.expect("it leaves");
        rates.bytes_per_step = bytes(&path).saturating_sub(before) as f64 / RUNS as f64;
    }
    tell("start", "runs/s", "raw-pipeline", rates)
}

async fn start_batch(folder: &Path, rounds: usize) -> Value {
    const RUNS: u64 = 10_000;
    let mut rates = Rates { ours: vec![], raw: vec![], times: vec![], bytes_per_step: 0.0 };
    for round in 0..rounds {
        let place = folder.join(round.to_string());
        std::fs::create_dir(&place).expect("room");
        rates.raw.push(raw::pipeline(&place, RUNS, 1, Duration::ZERO).await);
        let path = place.join("ours.db");
        let engine = engine(&path).await;
        let (before, began) = (bytes(&path), Instant::now());
        let inputs: Vec<_> = (0..RUNS).map(|n| (n.to_string(), 1)).collect();
        wait_all(engine.start_batch(STEPS, inputs).await.expect("they start")).await;
        let took = began.elapsed();
        rates.times.push(took);
        rates.ours.push(RUNS as f64 / took.as_secs_f64());
        engine.shutdown().await.expect("it leaves");
        rates.bytes_per_step = bytes(&path).saturating_sub(before) as f64 / RUNS as f64;
    }
    tell("start-batch", "runs/s", "raw-pipeline", rates)
}

const RECOVERED: u64 = 1000;
const RECOVERED_STEPS: u64 = 10;

/// The process that is killed in the middle of `parallel`: half of all steps are done then.
pub async fn recover_child(path: &Path) {
    let engine = engine(path).await;
    let mut events = engine.events();
    let inputs: Vec<_> = (0..RECOVERED).map(|n| (n.to_string(), RECOVERED_STEPS)).collect();
    engine.start_batch(STEPS, inputs).await.expect("they start");
    let mut done = 0;
    while let Some(event) = events.next().await {
        done += match event {
            Event::StepDone { .. } => 1,
            Event::Missed(n) => n / 2,
            _ => 0,
        };
        if done >= RECOVERED * RECOVERED_STEPS / 2 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .expect("it dies");
        }
    }
}

async fn recover(folder: &Path) -> Value {
    let path = folder.join("ours.db");
    let child = Command::new(std::env::current_exe().expect("known")).arg("--child").arg(&path).status();
    assert!(!child.expect("it ran").success(), "the child kills itself");
    let began = Instant::now();
    let first = Arc::new(AtomicU64::new(0));
    let engine = engine(&path).await;
    let mut events = engine.events();
    let seen = first.clone();
    let watching = tokio::spawn(async move {
        let mut bodies = 0u64;
        while let Some(event) = events.next().await {
            if matches!(event, Event::StepStarted { .. }) {
                seen.fetch_or(
                    if bodies == 0 { began.elapsed().as_micros() as u64 } else { 0 },
                    Ordering::Relaxed,
                );
                bodies += 1;
            }
        }
        bodies
    });
    let mut entries_before = 0u64;
    let mut runs: Vec<Run<u64>> = Vec::new();
    for n in 0..RECOVERED {
        runs.push(engine.get(STEPS, n.to_string()).await.expect("its start was durable"));
    }
    for run in &runs {
        run.result().await.expect("it is finished");
    }
    let total = began.elapsed();
    for run in &runs {
        entries_before += run.journal().await.expect("readable").len() as u64;
    }
    engine.shutdown().await.expect("it leaves");
    let bodies = watching.await.expect("it does not panic");
    json!({
        "workload": "recover", "runs": RECOVERED, "entries": entries_before, "bodies_after": bodies,
        "first_step_ms": first.load(Ordering::Relaxed) as f64 / 1000.0, "total_ms": total.as_millis(),
        "rss_mib": memory_mib("VmHWM").round(),
    })
}

async fn long(folder: &Path) -> Value {
    const COUNT: u64 = 100_000;
    const PART: u64 = 1000;
    static MARKS: std::sync::Mutex<Vec<(Instant, Duration)>> = std::sync::Mutex::new(Vec::new());
    const LONG: Workflow<u64, u64> = Workflow::new("long");
    let workflow = async |ctx: Ctx, count: u64| {
        for n in 0..count {
            if n % PART == 0 {
                MARKS.lock().expect("unpoisoned").push((Instant::now(), cpu()));
            }
            ctx.step("step", async || Ok(n)).await?;
        }
        MARKS.lock().expect("unpoisoned").push((Instant::now(), cpu()));
        ctx.sleep(Duration::from_secs(2)).await;
        Ok(count)
    };
    let path = folder.join("ours.db");
    let open = async || {
        let store = Sqlite::open(&path).expect("it opens");
        Engine::builder(store).register(LONG, workflow).start().await.expect("it starts")
    };
    let engine = open().await;
    let run = engine.start(LONG, "r", COUNT).await.expect("it starts");
    while run.journal_len().await.expect("readable") < COUNT + 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(engine.shutdown().await);
    let marks = std::mem::take(&mut *MARKS.lock().expect("unpoisoned"));
    let part = |at: usize| {
        let ((t0, c0), (t1, c1)) = (marks[at], marks[at + 1]);
        ((t1 - t0).as_secs_f64() * 1e6 / PART as f64, (c1 - c0).as_secs_f64() * 1e6 / PART as f64)
    };
    let ((first_us, first_cpu_us), (last_us, last_cpu_us)) = (part(0), part(marks.len() - 2));
    let began = Instant::now();
    let engine = open().await;
    engine.get(LONG, "r").await.expect("found").result().await.expect("it is finished");
    // The function passes its last mark when everything recorded has been replayed.
    let replayed = MARKS.lock().expect("unpoisoned").last().expect("replayed").0 - began;
    engine.shutdown().await.expect("it leaves");
    json!({
        "workload": "long", "steps": COUNT, "first_us": first_us.round(), "last_us": last_us.round(),
        "first_cpu_us": first_cpu_us.round(), "last_cpu_us": last_cpu_us.round(),
        "replay_ms": replayed.as_millis(), "replay_entries_per_s": (COUNT as f64 / replayed.as_secs_f64()).round(),
        "bytes_per_step": bytes(&path) / COUNT, "rss_mib": memory_mib("VmHWM").round(),
    })
}

async fn resident(folder: &Path) -> Value {
    const RUNS: u64 = 100_000;
    let path = folder.join("ours.db");
    let engine = engine(&path).await;
    // What the first runs need is no cost of a run.
    wait_all(
        engine
            .start_batch(STEPS, (0..100).map(|n| (format!("warm-{n}"), 2)).collect::<Vec<_>>())
            .await
            .expect("ok"),
    )
    .await;
    let before = memory_mib("VmRSS");
    let mut events = engine.events();
    let watching = tokio::spawn(async move {
        let mut done = 0;
        while done < RUNS * 2 {
            match events.next().await {
                Some(Event::StepDone { .. }) => done += 1,
                Some(Event::Missed(_)) | None => return,
                Some(_) => {}
            }
        }
    });
    for part in 0..RUNS / 1000 {
        let inputs: Vec<_> = (0..1000).map(|n| (format!("{part}-{n}"), 0)).collect();
        let runs = engine.start_batch(SLEEPER, inputs).await.expect("they start");
        for run in runs {
            let run = run.expect("it started");
            while run.journal_len().await.expect("readable") < 3 {
                tokio::task::yield_now().await;
            }
        }
    }
    let after = memory_mib("VmRSS");
    watching.abort();
    drop(engine);
    json!({
        "workload": "resident", "runs": RUNS, "rss_before_mib": before.round(), "rss_mib": after.round(),
        "bytes_per_run": ((after - before) * 1024.0 * 1024.0 / RUNS as f64).round(),
    })
}
