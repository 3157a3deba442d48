//! Whether open runs can go on with this code, told before it is deployed.

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use everstep_core::{
    Builder, CheckReport, Client, Code, Ctx, Engine, NoState, Problem, Result, Settings, Signal, Simulation,
    Status, StuckReason, Workflow, join,
    journal::Payload,
    store::{Filter, Memory, Store},
};
use serde::{Deserialize, Serialize};

use crate::common::{W, engine, nap, settle, virtual_time};

const GO: Signal<u64> = Signal::new("go");

/// What a run does under the old code, and where the new code does something else.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    /// So many operations, each with one entry.
    len: u64,
    /// Before this one it waits.
    stands: u64,
    /// Chooses what each operation is.
    seed: u64,
    /// What the new code does otherwise, and at which operation.
    change: (Way, u64),
    /// Text in the new code; anything in the old.
    note: serde_json::Value,
}

/// The same as the new code wants it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NewPlan {
    len: u64,
    stands: u64,
    seed: u64,
    change: (Way, u64),
    note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Way {
    Missing,
    Extra,
    Renamed,
    Reordered,
    OtherKind,
    Moved,
    EarlyReturn,
    Undecodable,
}

const WAYS: [Way; 8] = [
    Way::Missing,
    Way::Extra,
    Way::Renamed,
    Way::Reordered,
    Way::OtherKind,
    Way::Moved,
    Way::EarlyReturn,
    Way::Undecodable,
];

static BODIES: AtomicU64 = AtomicU64::new(0);

async fn body() -> Result<u64> {
    Ok(BODIES.fetch_add(1, Ordering::SeqCst))
}

/// The names of a plan's operations.
const NAMES: [&str; 24] = [
    "op0", "op1", "op2", "op3", "op4", "op5", "op6", "op7", "op8", "op9", "op10", "op11", "op12", "op13",
    "op14", "op15", "op16", "op17", "op18", "op19", "op20", "op21", "op22", "op23",
];

/// What the operation is; 0 is a step in a scope.
fn sort(seed: u64, n: u64) -> u64 {
    seed.rotate_left(n as u32) % 4
}

/// One of the operations of a plan, each with a name of its own.
async fn operation(ctx: &Ctx, seed: u64, n: u64) -> Result<()> {
    let name = NAMES[n as usize];
    match sort(seed, n) {
        0 => ctx.scope(name, async |ctx| ctx.step("work", async || body().await).await).await.map(drop),
        1 if n.is_multiple_of(3) => {
            let (a, b) = join!(ctx.step(name, async || body().await), async { ctx.now() });
            a.map(|_| assert!(b > std::time::UNIX_EPOCH))
        }
        _ => ctx.step(name, async || body().await).await.map(drop),
    }
}

async fn old(ctx: Ctx, plan: Plan) -> Result<u64> {
    for n in 0..plan.len {
        if n == plan.stands {
            ctx.signal(GO).await?;
        }
        operation(&ctx, plan.seed, n).await?;
    }
    Ok(plan.len)
}

async fn new(ctx: Ctx, plan: NewPlan) -> Result<u64> {
    let (way, at) = plan.change;
    for n in 0..plan.len {
        if n == plan.stands {
            ctx.signal(GO).await?;
        }
        let name = NAMES[n as usize];
        match way {
            Way::EarlyReturn if n == at => return Ok(n),
            Way::Missing if n == at => {}
            Way::Extra if n == at => {
                ctx.step("extra", async || body().await).await?;
                operation(&ctx, plan.seed, n).await?;
            }
            Way::Renamed if n == at => drop(ctx.step("renamed", async || body().await).await?),
            Way::Reordered if n == at => operation(&ctx, plan.seed, n + 1).await?,
            Way::Reordered if n == at + 1 => operation(&ctx, plan.seed, n - 1).await?,
            Way::OtherKind if n == at && sort(plan.seed, n) == 0 => {
                let work = Signal::<u64>::new("work");
                ctx.scope(name, async |ctx| ctx.signal(work).await).await?;
            }
            Way::OtherKind if n == at => drop(ctx.signal(Signal::<u64>::new(name)).await?),
            Way::Moved if n == at => {
                ctx.scope("moved", async |ctx| operation(&ctx, plan.seed, n).await).await?;
            }
            _ => operation(&ctx, plan.seed, n).await?,
        }
    }
    Ok(plan.len)
}

fn of_build<S>(builder: Builder<S>, build: &str) -> Builder<S> {
    builder.settings(Settings { build: Some(build.to_string()), ..Settings::default() })
}

/// Everything that a store tells.
async fn content(store: &impl Store) -> Vec<String> {
    let rows = store.find(Filter::default(), None, usize::MAX).await.expect("reads");
    let mut told = vec![format!("{:?}", store.workers().await.expect("reads"))];
    for row in rows {
        let run = row.run;
        let said = (store.attributes(run).await, store.published_all(run, 99).await, store.stuck(run).await);
        told.push(format!("{row:?} {:?} {said:?}", store.load(run).await.expect("reads")));
    }
    told
}

/// splitmix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

const RUNS: u64 = 10_000;
const BAD: usize = 137;
const PLAN: Workflow<Plan, u64> = Workflow::new("plan");
const NEW_PLAN: Workflow<NewPlan, u64> = Workflow::new("plan");

/// Plans of runs, and which of them cannot go on under the new code.
fn plans(seed: u64) -> (Vec<(String, Plan)>, BTreeMap<String, Way>) {
    let mut dice = Dice(seed);
    let mut bad = BTreeMap::new();
    // So many of each way, and one more of the first.
    while bad.len() < BAD {
        bad.entry(dice.below(RUNS)).or_insert(());
    }
    let bad: BTreeMap<_, _> =
        bad.into_keys().enumerate().map(|(nth, run)| (run, WAYS[nth % WAYS.len()])).collect();
    let plan = |run: u64| {
        let len = 3 + dice.below(NAMES.len() as u64 - 3);
        let (stands, way) = match bad.get(&run) {
            // Where it stands, it has passed the change, and both of what changed places.
            Some(way) => (2 + dice.below(len - 2), *way),
            None => (dice.below(len), WAYS[dice.below(7) as usize]),
        };
        let at = match bad.contains_key(&run) {
            true => dice.below(stands - u64::from(way == Way::Reordered)),
            // Still to come; and who changes places with the next needs one.
            false => stands + dice.below(len - stands),
        };
        let way = if way == Way::Reordered && at + 1 == len { Way::Extra } else { way };
        let note = if way == Way::Undecodable { serde_json::json!(7) } else { serde_json::json!("text") };
        (format!("run-{run}"), Plan { len, stands, seed: dice.below(u64::MAX), change: (way, at), note })
    };
    let plans = (0..RUNS).map(plan).collect();
    (plans, bad.into_iter().map(|(run, way)| (format!("run-{run}"), way)).collect())
}

/// Runs all of them, under the old code, until they wait.
async fn stand(memory: &Memory, plans: Vec<(String, Plan)>) {
    let world = Simulation::new(1);
    let builder = of_build(Engine::builder(memory.clone()), "old").register(PLAN, old).simulated(&world);
    let engine = builder.start().await.expect("it starts");
    for batch in plans.chunks(1000) {
        let started = engine.start_batch(PLAN, batch.to_vec()).await.expect("they start");
        assert!(started.into_iter().all(|run| run.is_ok()));
        settle().await;
    }
    while engine.count("status = waiting").await.expect("counts") < RUNS {
        nap(1000).await;
    }
    engine.shutdown().await.expect("it leaves");
}

/// Of 10,000 open runs, 137 of which stand where the new code has changed what came before.
#[test]
#[allow(clippy::disallowed_methods, reason = "how many runs are checked in a second of real time is told")]
fn exactly_the_runs_that_cannot_go_on_are_named() {
    let (plans, bad) = plans(0xc4ec);
    let of_way = |way| bad.values().filter(|found| **found == way).count();
    assert!(WAYS.into_iter().all(|way| of_way(way) >= 15), "{bad:?}");
    let memory = Memory::default();
    virtual_time(stand(&memory, plans));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("a runtime");
    let report = runtime.block_on(async {
        let (before, bodies) = (content(&memory).await, BODIES.load(Ordering::SeqCst));
        let began = std::time::Instant::now();
        let builder = of_build(Engine::builder(memory.clone()), "new").register(NEW_PLAN, new);
        let report = builder.check().await.expect("it checks");
        println!("{:.0} runs/s", RUNS as f64 / began.elapsed().as_secs_f64());
        assert_eq!(BODIES.load(Ordering::SeqCst), bodies, "no body ran");
        assert!(content(&memory).await == before, "nothing was written");
        report
    });
    let named: BTreeMap<_, _> = report.findings.iter().map(|found| (found.run.to_string(), found)).collect();
    assert_eq!((report.checked, report.bad(), report.exit_code()), (RUNS, BAD as u64, 1));
    assert!(named.keys().eq(bad.keys()), "{:?}", named.keys().filter(|run| !bad.contains_key(*run)));
    for (run, way) in &bad {
        let Problem::Stuck(stuck) = &named[run].problem else { panic!("{}", named[run]) };
        let expected = match way {
            Way::Undecodable => {
                (StuckReason::Undecodable, "the input does not decode as the workflow's type")
            }
            Way::EarlyReturn => (StuckReason::Diverged, "but the code returned without asking for it"),
            Way::OtherKind => (StuckReason::Diverged, "but the code asks for a signal of that key"),
            _ => (StuckReason::Diverged, "but the code has not asked for it; it asks for "),
        };
        assert!(stuck.reason == expected.0 && stuck.detail.contains(expected.1), "{way:?}: {stuck:?}");
        let is_told = *way == Way::Undecodable
            || (stuck.detail.contains("checks.rs:")
                && stuck.key.is_some()
                && stuck.detail.contains("build old"));
        assert!(is_told, "{way:?}: {stuck:?}");
    }
}

async fn says(ctx: Ctx, name: &'static str) -> Result<String> {
    ctx.step(name, async || body().await).await?;
    ctx.signal(GO).await?;
    Ok(name.to_string())
}

/// A store with run `r` of workflow `w`, which has done step `a` under build `test` and waits.
fn waiting() -> Memory {
    virtual_time(async {
        let memory = Memory::default();
        let engine = engine(&memory, &Simulation::new(1), |ctx, _| says(ctx, "a")).await;
        engine.start(W, "r", 7).await.expect("it starts");
        settle().await;
        engine.shutdown().await.expect("it leaves");
        memory
    })
}

fn builder(memory: &Memory, build: &str) -> Builder<NoState> {
    of_build(Engine::builder(memory.clone()), build)
}

fn checked(builder: Builder<NoState>) -> CheckReport {
    virtual_time(async { builder.check().await.expect("it checks") })
}

fn problem(builder: Builder<NoState>) -> Problem {
    let mut report = checked(builder);
    assert_eq!((report.checked, report.exit_code(), report.findings.len()), (1, 1, 1));
    report.findings.remove(0).problem
}

#[test]
fn a_store_without_open_runs_is_fine() {
    let report = checked(builder(&Memory::default(), "new").register(W, |ctx, _: u64| says(ctx, "a")));
    assert_eq!((report.checked, report.exit_code()), (0, 0));
    assert_eq!(report.to_string(), "0 open runs checked: 0 can go on, 0 cannot\n");
}

#[test]
fn the_report_says_what_was_recorded_what_is_asked_for_and_what_helps() {
    let memory = waiting();
    let report = checked(builder(&memory, "new").register(W, |ctx, _: u64| says(ctx, "b")));
    let finding = &report.findings[0];
    assert_eq!((&*finding.run, &*finding.workflow, finding.status), ("r", "w", Status::Pending));
    assert_eq!((finding.problem.words(), finding.problem.key()), ("diverged", Some("a")));
    let line = 1 + include_str!("checks.rs")
        .lines()
        .position(|l| l.contains("ctx.step(name, async || body().await).await?;") && !l.contains("lines()"))
        .expect("there");
    let site = format!("{}:{line}:9", file!());
    assert_eq!(
        report.to_string(),
        format!(
            "1 open runs checked: 0 can go on, 1 cannot\nr (w, pending): diverged: entry 1: recorded `a` done ({site}, build test), but the code has not asked for it; it asks for step `b` ({site}) (build new)\nwhat helps (diverged): ask for the same in the same order, and put what is new behind `ctx.patched`; or keep the old code until these runs are over\n"
        )
    );
}

#[test]
fn runs_of_no_registered_workflow_are_named() {
    assert_eq!(problem(builder(&waiting(), "new")), Problem::UnknownWorkflow);
}

#[test]
fn what_this_binary_does_not_know_is_named() {
    let code = |memory: &Memory| builder(memory, "new").register(W, |ctx, _: u64| says(ctx, "a"));
    for entry in [0, 1] {
        let memory = waiting();
        memory.rewrite("r", |entries| entries[entry].kind = 999);
        assert_eq!(problem(code(&memory)), Problem::UnknownEntry, "entry {entry}");
    }
    let memory = waiting();
    memory.rewrite("r", |entries| drop(entries.remove(0)));
    let Problem::Stuck(stuck) = problem(code(&memory)) else { panic!("it is damaged") };
    assert_eq!(stuck.reason, StuckReason::JournalDamaged);
    let memory = waiting();
    memory.rewrite("r", |entries| entries[1].body = Payload::json("\"no number\""));
    let Problem::Stuck(stuck) = problem(code(&memory)) else { panic!("it does not decode") };
    assert_eq!((stuck.reason, stuck.key.as_deref()), (StuckReason::Undecodable, Some("a")));
}

#[test]
fn a_function_that_panics_or_waits_for_nothing_is_named() {
    let panics = async |_: Ctx, _: u64| -> Result<String> { panic!("on purpose") };
    let Problem::Stuck(stuck) = problem(builder(&waiting(), "new").register(W, panics)) else {
        panic!("it panics")
    };
    assert_eq!(stuck.reason, StuckReason::Panicked);
    let hangs = async |ctx: Ctx, _: u64| {
        ctx.step("a", async || body().await).await?;
        std::future::pending::<Result<String>>().await
    };
    let Problem::Stuck(stuck) = problem(builder(&waiting(), "new").register(W, hangs)) else {
        panic!("it hangs")
    };
    assert_eq!(stuck.reason, StuckReason::WaitsForNothing);
}

#[test]
fn only_under_the_same_build_the_calls_between_entries_count() {
    // Draws where nothing was drawn before: another fingerprint, the same keys.
    let draws = async |ctx: Ctx, _: u64| {
        let _ = ctx.random();
        says(ctx, "a").await
    };
    assert_eq!(checked(builder(&waiting(), "new").register(W, draws)).exit_code(), 0);
    let Problem::Stuck(stuck) = problem(builder(&waiting(), "test").register(W, draws)) else {
        panic!("it is stuck")
    };
    assert_eq!(stuck.reason, StuckReason::Diverged);
}

#[test]
fn what_would_end_or_begin_anew_can_go_on() {
    let ends = async |ctx: Ctx, _: u64| {
        ctx.step("a", async || body().await).await?;
        Ok("over".to_string())
    };
    assert_eq!(checked(builder(&waiting(), "new").register(W, ends)).exit_code(), 0);
    let restarts = async |ctx: Ctx, n: u64| -> Result<String> {
        ctx.step("a", async || body().await).await?;
        ctx.restart(W, n + 1).await
    };
    assert_eq!(checked(builder(&waiting(), "new").register(W, restarts)).exit_code(), 0);
}

#[test]
fn a_stuck_run_is_checked_as_if_it_were_let_go_on() {
    let memory = waiting();
    virtual_time(async {
        let engine = engine(&memory, &Simulation::new(1), |ctx, _| says(ctx, "b")).await;
        engine.signal("r", GO, 1).await.expect("it is sent");
        settle().await;
        assert_eq!(engine.get(W, "r").await.expect("there").status().await.expect("reads"), Status::Stuck);
        engine.shutdown().await.expect("it leaves");
    });
    let code = |name| builder(&memory, "new").register(W, move |ctx, _: u64| says(ctx, name));
    assert_eq!(checked(code("a")).exit_code(), 0);
    assert_eq!(checked(code("b")).exit_code(), 1);
    let others =
        virtual_time(async { code("b").check().filter("status != stuck").await.expect("it checks") });
    assert_eq!((others.checked, others.exit_code()), (0, 0));
}

#[test]
fn some_runs_are_checked_a_few_at_a_time_and_progress_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (memory, seen) = (Memory::default(), told.clone());
    let report = virtual_time(async {
        let client = Client::simulated(memory.clone(), &Simulation::new(1));
        for n in 0..20 {
            client.start(W, format!("r{n}"), n).await.expect("it starts");
        }
        client.start(Workflow::<u64, String>::new("v"), "v", 1).await.expect("it starts");
        let check = builder(&memory, "new").register(W, |ctx, _: u64| says(ctx, "a")).check();
        let check = check.filter("workflow = w").at_once(NonZero::new(3).expect("3"));
        check.progress(move |n, of| seen.lock().expect("whole").push((n, of))).await.expect("it checks")
    });
    assert_eq!((report.checked, report.exit_code()), (20, 0));
    assert_eq!(*told.lock().expect("whole"), (1..=20).map(|n| (n, 20)).collect::<Vec<_>>());
}

#[test]
fn an_engine_checks_its_own_runs_while_it_drives_them() {
    virtual_time(async {
        let memory = Memory::default();
        let engine = engine(&memory, &Simulation::new(1), |ctx, _| says(ctx, "a")).await;
        let run = engine.start(W, "r", 7).await.expect("it starts");
        settle().await;
        let before = content(&memory).await;
        assert_eq!(engine.check().await.expect("it checks").fine, 1);
        assert_eq!(content(&memory).await, before);
        engine.signal("r", GO, 1).await.expect("it is sent");
        assert_eq!(run.result().await.expect("it ends"), "a");
        assert_eq!(engine.check().await.expect("it checks").checked, 0);
        engine.shutdown().await.expect("it leaves");
    });
}

#[test]
fn what_cannot_be_checked_says_why() {
    virtual_time(async {
        let twice = builder(&Memory::default(), "new").register(W, |ctx, _: u64| says(ctx, "a"));
        let twice = twice.register(W, |ctx, _: u64| says(ctx, "b")).check().await;
        assert_eq!(twice.expect_err("twice").code(), Code::BAD_SETTING);
        let check = builder(&Memory::default(), "new").check().filter("status = open");
        assert_eq!(check.await.expect_err("no status").code(), Code::BAD_FILTER);
    });
}
