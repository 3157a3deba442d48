//! Crashes at every place of a run: before each effect, after it, before and after each commit.

use std::{collections::BTreeMap, fmt};

use crate::{
    Builder, Client, Simulation, Start, Workflow,
    body::Data,
    engine::Engine,
    journal::{Entry, Kind},
    rehearsal::{Passed, Place},
    store::{Inspect, LetterKind, Memory, Store, WorkerInfo},
};

/// What [`crash_everywhere`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashReport {
    /// How many places the run passes, at each of which its process died once.
    pub crashes: usize,
    /// How often the body of each step began, over all lives.
    pub bodies: BTreeMap<String, u64>,
    /// The outcome, the same in each life: the value as JSON, or the error.
    pub outcome: String,
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} crashes, and each time {}", self.crashes, self.outcome)
    }
}

/// Runs a workflow once undisturbed, and then once for each place that this run passed, with a crash of the process at
/// that place and another process that goes on: before the body of each step, after it and before its record, before
/// each commit, after it. Time is virtual, chance is seeded: each life goes as the first until its process dies.
///
/// `build` makes the builder of a process, anew for each; what it captures is the world outside, which survives.
///
/// # Panics
/// If a life ends otherwise than the undisturbed one; if the body of a step begins again after its outcome was recorded;
/// if a step is recorded whose body never began; if a transactional
/// step begins again after its transaction was committed. With the place of the crash.
/// Outside of [`run`](super::run) and of a paused clock.
///
/// ```
/// # use everstep_core::{Ctx, Engine, Result, Workflow, hours, testing};
/// # const W: Workflow<u64, u64> = Workflow::new("w");
/// async fn work(ctx: Ctx, n: u64) -> Result<u64> {
///     let a = ctx.step("a", async || Ok(n + 1)).await?;
///     ctx.sleep(hours(1)).await;
///     ctx.step("b", async || Ok(a * 2)).await
/// }
/// testing::run(async {
///     let report = testing::crash_everywhere(|store| Engine::builder(store).register(W, work), W, 3).await;
///     assert_eq!(report.outcome, "8");
///     assert!(report.crashes >= 10);
/// });
/// ```
pub async fn crash_everywhere<S, I: Data + Clone, O: Data>(
    build: impl Fn(Memory) -> Builder<S>,
    workflow: Workflow<I, O>,
    input: I,
) -> CrashReport {
    crash_everywhere_by(build, |client| client.start(workflow, "run", input.clone())).await
}

/// As [`crash_everywhere`], of a run that `start` starts: with signals, with a delay, with attributes.
///
/// # Panics
/// As [`crash_everywhere`].
pub async fn crash_everywhere_by<S, O: Data>(
    build: impl Fn(Memory) -> Builder<S>,
    start: impl Fn(&Client) -> Start<O>,
) -> CrashReport {
    super::expect_paused_clock();
    let undisturbed = Life::live(&build, &start, None).await;
    undisturbed.check("undisturbed");
    let mut report =
        CrashReport { crashes: 0, bodies: BTreeMap::new(), outcome: undisturbed.outcome.clone() };
    undisturbed.count(&mut report.bodies);
    for (at, passed) in undisturbed.passed.iter().enumerate() {
        let place = format!("after a crash {}", told(passed));
        let life = Life::live(&build, &start, Some(at)).await;
        assert!(life.died, "{place}: it never came to that: is the workflow deterministic?");
        life.check(&place);
        assert_eq!(life.outcome, undisturbed.outcome, "{place}: another outcome. {}", life.story());
        life.count(&mut report.bodies);
        report.crashes += 1;
    }
    report
}

fn told((place, key): &Passed) -> String {
    match place {
        Place::BodyBegins => format!("before the body of step `{key}`"),
        Place::BodyReturned => format!("after the body of step `{key}`, before its record"),
        Place::TurnSent => "before a commit".to_string(),
        Place::TurnDurable => "after a commit".to_string(),
    }
}

/// One run, in one process or in two.
struct Life {
    died: bool,
    outcome: String,
    passed: Vec<Passed>,
    /// The journal as the crash left it.
    left: Vec<Entry>,
    /// The transactional steps whose effect it left, and perhaps no entry.
    committed: Vec<String>,
    /// What the second process passed.
    again: Vec<Passed>,
    journal: Vec<Entry>,
}

impl Life {
    async fn live<S, O: Data>(
        build: &impl Fn(Memory) -> Builder<S>,
        start: &impl Fn(&Client) -> Start<O>,
        dies_at: Option<usize>,
    ) -> Life {
        let (store, world) = (Memory::default(), Simulation::new(1));
        let client = Client::simulated(store.clone(), &world);
        let run = start(&client).await.unwrap_or_else(|error| panic!("the run does not start: {error}"));
        let (engine, first) = process(build(store.clone()), &world, dies_at).await;
        let outcome = run.result();
        let mut outcome = std::pin::pin!(outcome);
        let ended = tokio::select! {
            biased;
            () = first.died() => None,
            outcome = &mut outcome => Some(outcome),
        };
        let (died, mut left, mut again) = (ended.is_none(), Vec::new(), Vec::new());
        let mut committed = Vec::new();
        let ended = match ended {
            Some(ended) => {
                drop(engine);
                ended
            }
            None => {
                take_over(&store).await;
                drop(engine);
                left = run.journal().await.unwrap_or_default();
                committed = committed_by(&store, run.id()).await;
                // It counts what it passes, and dies no more.
                let (engine, second) = process(build(store.clone()), &world, None).await;
                let ended = run.result().await;
                again = second.passed();
                drop(engine);
                ended
            }
        };
        let outcome = match ended {
            Ok(value) => serde_json::to_string(&value).unwrap_or_else(|error| error.to_string()),
            Err(error) => error.to_string(),
        };
        let journal = run.journal().await.unwrap_or_default();
        Life { died, outcome, passed: first.passed(), left, committed, again, journal }
    }

    /// The counts of effects that are promised.
    fn check(&self, place: &str) {
        let over = |entries: &[Entry], key: &str| {
            let is_over = |e: &&Entry| matches!(e.known_kind(), Some(Kind::StepDone | Kind::StepFailed));
            entries.iter().filter(is_over).any(|entry| entry.key.as_deref() == Some(key))
        };
        for key in begun(&self.again) {
            let story = || self.story();
            assert!(
                !over(&self.left, key),
                "{place}: step `{key}` began again after its record. {}",
                story()
            );
            let is_committed = self.committed.iter().any(|committed| committed == key);
            assert!(!is_committed, "{place}: step `{key}` began again after its transaction. {}", story());
        }
        for entry in &self.journal {
            let is_done = entry.known_kind() == Some(Kind::StepDone);
            let Some(key) = entry.key.as_deref().filter(|_| is_done) else { continue };
            let count = begun(&self.passed).chain(begun(&self.again)).filter(|begun| *begun == key).count();
            assert!(count > 0, "{place}: step `{key}` is recorded, and never began. {}", self.story());
        }
    }

    fn count(&self, bodies: &mut BTreeMap<String, u64>) {
        for key in begun(&self.passed).chain(begun(&self.again)) {
            *bodies.entry(key.to_string()).or_default() += 1;
        }
    }

    fn story(&self) -> String {
        let told = |passed: &[Passed]| passed.iter().map(told).collect::<Vec<_>>().join(", ");
        format!("The first process passed: {}. The second: {}", told(&self.passed), told(&self.again))
    }
}

fn begun(passed: &[Passed]) -> impl Iterator<Item = &str> {
    passed.iter().filter(|(place, _)| *place == Place::BodyBegins).map(|(_, key)| &**key)
}

/// A process with an engine in it.
async fn process<S>(
    builder: Builder<S>,
    world: &Simulation,
    dies_at: Option<usize>,
) -> (Engine, crate::rehearsal::Rehearsal) {
    let machine = world.machine();
    let mut rehearsal = None;
    let builder = builder.rehearsed(&machine, |kept| {
        kept.set_scene(machine.process.clone(), dies_at);
        rehearsal = Some(kept.clone());
    });
    let engine = builder.start().await.unwrap_or_else(|error| panic!("the engine does not start: {error}"));
    (engine, rehearsal.expect("just set"))
}

/// The transactional steps whose record waits in the inbox of the run.
async fn committed_by(store: &Memory, id: &str) -> Vec<String> {
    let expected = "the store in memory does not fail";
    let Some(row) = store.run(id.into()).await.expect(expected) else { return Vec::new() };
    let inbox = store.inbox(row.run, 0).await.expect(expected).into_iter();
    let recorded = inbox.filter(|received| received.letter.kind == LetterKind::Recorded as u16);
    recorded.map(|received| received.letter.name.to_string()).collect()
}

/// What a living worker does with the runs of dead ones.
async fn take_over(store: &Memory) {
    let info = WorkerInfo { name: "next".to_string(), build: "test".into(), at: crate::Timestamp(0) };
    let expected = "the store in memory does not fail";
    let fence = store.enroll(info).await.expect(expected);
    for dead in store.workers().await.expect(expected).into_iter().filter(|dead| dead.worker != fence.worker)
    {
        store.fence(fence, dead.worker, dead.beat).await.expect(expected);
        store.free(fence, dead.worker, usize::MAX).await.expect(expected);
    }
    store.leave(fence).await.expect(expected);
}
