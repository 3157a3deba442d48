//! A process is killed in the middle of `parallel`; another one opens the database and finishes every run.
//!
//! Every body writes its run and step to a ledger beside the database, so that the steps that were in flight at the
//! kill, and those that were done twice, are counted by what happened and not by what the engine says.
//!
//! Times count from the start of the new process; on a server from one lease later, because there only its beat shows
//! that a process is dead.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use everstep::{Ctx, Engine, Result, Settings, Status, Workflow};
use serde_json::{Value, json};

use super::{Place, Round, count};
use crate::{
    database::Database,
    measure::{memory_mib, monotonic},
};

const RUNS: u64 = 1000;
const EACH: u64 = 10;
const LEDGERED: Workflow<(u64, u64), u64> = Workflow::new("ledgered");

/// A line of the ledger: which run, which step, when.
type Line = [u64; 3];

#[derive(Clone)]
struct Ledger(Arc<File>);

impl Ledger {
    fn open(folder: &Path) -> Ledger {
        let file = OpenOptions::new().create(true).append(true).open(folder.join("ledger"));
        Ledger(Arc::new(file.expect("room")))
    }

    /// One write, so that lines of several threads do not mix.
    fn write(&self, run: u64, step: u64) {
        let line: Vec<u8> =
            [run, step, monotonic().as_nanos() as u64].iter().flat_map(|n| n.to_le_bytes()).collect();
        (&*self.0).write_all(&line).expect("room");
    }

    fn read(folder: &Path) -> Vec<Line> {
        let bytes = std::fs::read(folder.join("ledger")).expect("written");
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        bytes.chunks_exact(24).map(|l| [number(&l[..8]), number(&l[8..16]), number(&l[16..])]).collect()
    }
}

async fn ledgered(ctx: Ctx, (run, count): (u64, u64), ledger: Ledger) -> Result<u64> {
    for step in 0..count {
        let bodies = BODIES.get();
        ctx.step("step", async || {
            ledger.write(run, step);
            if let Some(half) = bodies {
                half.done();
            }
            Ok(step)
        })
        .await?;
    }
    Ok(count)
}

/// Kills this process at the middle of all bodies.
struct KillAtHalf(std::sync::atomic::AtomicU64);
static BODIES: OnceLock<KillAtHalf> = OnceLock::new();

impl KillAtHalf {
    fn done(&self) {
        if self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == RUNS * EACH / 2 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .expect("it dies");
        }
    }
}

async fn engine(folder: &Path, database: &Database) -> Engine {
    database
        .builder()
        .await
        .state(Ledger::open(folder))
        .register(LEDGERED, ledgered)
        .start()
        .await
        .expect("it starts")
}

/// The process that dies.
pub async fn killed(folder: &Path, database: &Database) {
    let engine = engine(folder, database).await;
    BODIES.get_or_init(|| KillAtHalf(Default::default()));
    let inputs: Vec<_> = (0..RUNS).map(|n| (n.to_string(), (n, EACH))).collect();
    for run in engine.start_batch(LEDGERED, inputs).await.expect("they start") {
        run.expect("it started").result().await.expect("it is killed before");
    }
}

/// The process that finishes what is left.
pub async fn resumes(folder: &Path, database: &Database) {
    let engine = engine(folder, database).await;
    // Whoever asked for one result after the other would measure a thousand questions.
    count(&engine, Status::Completed, RUNS).await;
    println!("{} {}", monotonic().as_nanos(), memory_mib("VmHWM"));
}

/// What passes, on a server, until a worker counts as dead.
fn lease(on_a_server: bool) -> Duration {
    if on_a_server { Settings::default().lease } else { Duration::ZERO }
}

pub async fn run(place: &Place<'_>) -> Value {
    let mut told = Vec::new();
    for round in 0..place.rounds {
        told.push(once(&place.round(round).await).await);
    }
    let worst = |key: &str| told.iter().map(|t| t[key].as_f64().expect("a number")).fold(0.0, f64::max);
    let sum = |key: &str| told.iter().map(|t| t[key].as_u64().expect("a number")).sum::<u64>();
    json!({
        "workload": "recover", "runs": RUNS, "rounds": told.len(), "lease_ms": lease(place.server.is_some()).as_millis(), "unfinished": sum("unfinished"),
        "in_flight": sum("in_flight"), "reexecuted": sum("reexecuted"),
        "first_step_ms": worst("first_step_ms"), "total_ms": worst("total_ms"), "rss_mib": worst("rss_mib"),
    })
}

async fn once(round: &Round) -> Value {
    let folder = &round.folder;
    let child = super::spawn("killed", round).status().expect("it ran");
    assert!(!child.success(), "the child is killed");
    let before = Ledger::read(folder);
    let known = round.database.recorded().await;
    let done = |line: &&Line| known.get(&line[0]).is_some_and(|count| line[1] < *count);
    let in_flight: HashSet<_> =
        before.iter().filter(|line| !done(line)).map(|line| (line[0], line[1])).collect();
    let free = monotonic() + lease(matches!(round.database, Database::Postgres(_)));
    let output = super::spawn("resumes", round).output().expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (said, after) = (String::from_utf8_lossy(&output.stdout).into_owned(), Ledger::read(folder));
    let mut words = said.split_whitespace();
    let ended: u64 = words.next().and_then(|ns| ns.parse().ok()).expect("it says when it ended");
    let rss: f64 = words.next().and_then(|mib| mib.parse().ok()).expect("and its memory");
    let again = &after[before.len()..];
    let had: HashSet<_> = before.iter().map(|line| (line[0], line[1])).collect();
    let repeated: Vec<_> = again.iter().filter(|line| had.contains(&(line[0], line[1]))).collect();
    assert!(
        repeated.iter().all(|l| in_flight.contains(&(l[0], l[1]))),
        "only what was in flight is repeated"
    );
    let all: HashSet<_> = after.iter().map(|line| (line[0], line[1])).collect();
    let ms = |at: u64| (Duration::from_nanos(at).saturating_sub(free)).as_secs_f64() * 1e3;
    json!({
        "unfinished": RUNS * EACH - all.len() as u64, "in_flight": in_flight.len(), "reexecuted": repeated.len(),
        "first_step_ms": again.iter().map(|l| l[2]).min().map_or(0.0, ms).round(), "total_ms": ms(ended).round(),
        "rss_mib": rss.round(),
    })
}
