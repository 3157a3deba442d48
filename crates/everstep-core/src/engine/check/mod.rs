//! A check: whether the open runs of a store can go on with this code. Each is replayed to where it would go on, and no
//! further: no body runs, and nothing is written. Absent on purpose: what a replay finds (`driver`), and what keeps it
//! from writing (`store`).

mod replayed;
mod report;
mod store;

use std::{collections::HashMap, future::IntoFuture, num::NonZero, sync::Arc};

pub use report::{CheckReport, Finding, PROBLEMS_KEPT, Problem};
use tokio::{sync::broadcast, task::JoinSet};

pub use replayed::Replayed;
pub(super) use replayed::replay;

use self::store::{LastTurn, ReadOnly};
use super::{
    Engine,
    worker::{Runner, Worker},
};
use crate::{
    BoxFuture,
    client::bad_filter,
    clock::Clock,
    entropy::Entropy,
    error::{Code, EngineError, ErrorKind},
    journal::{Kind, Role},
    process::Process,
    settings::Settings,
    status::{Status, StatusSet},
    store::{Claimed, Condition, End, Fence, Filter, Loaded, RunId, RunRow, Store, StoreError, WorkerId},
    stuck::{Stuck, StuckReason},
};

/// Runs whose journals are in memory at once, unless [`Check::at_once`] says otherwise.
pub const CHECKED_AT_ONCE: usize = 32;
/// Rows that are read at once.
const PAGE: usize = 500;
/// A run that moves while it is looked at is looked at so often.
const LOOKS_MAX: usize = 5;

/// The code that is checked, and the store whose runs it is to go on with.
pub(super) struct Program {
    pub(super) store: Arc<dyn Store>,
    pub(super) runners: Arc<HashMap<Arc<str>, Runner>>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) build: Arc<str>,
}

type Told = Box<dyn FnMut(u64, u64) + Send>;

/// Whether the open runs of a store can go on with this code: made by [`Builder::check`](crate::Builder::check) and
/// [`Engine::check`]; set its options, then await it.
#[must_use = "nothing is checked until this is awaited"]
pub struct Check {
    code: Result<Program, EngineError>,
    filter: String,
    at_once: usize,
    told: Option<Told>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told = f.debug_struct("Check");
        told.field("filter", &self.filter).field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

impl Check {
    pub(super) fn of(code: Result<Program, EngineError>) -> Check {
        Check { code, filter: String::new(), at_once: CHECKED_AT_ONCE, told: None }
    }

    /// Only open runs that match, in the language of [`Client::list`](crate::Client::list): `workflow = onboard`, or
    /// `status != stuck` for those alone that nobody has to look after anyway.
    pub fn filter(mut self, filter: &str) -> Self {
        self.filter = filter.to_string();
        self
    }

    /// So many runs at a time: their journals are what a check holds in memory.
    pub fn at_once(mut self, runs: NonZero<usize>) -> Self {
        self.at_once = runs.get();
        self
    }

    /// Tells how many runs were checked, and how many there were when the check began, after each run.
    pub fn progress(mut self, told: impl FnMut(u64, u64) + Send + 'static) -> Self {
        self.told = Some(Box::new(told));
        self
    }

    async fn check(mut self) -> Result<CheckReport, EngineError> {
        let code = self.code?;
        let mut filter = Filter::parse(&self.filter, code.clock.now()).map_err(bad_filter)?;
        filter.conditions.push(Condition::Status(StatusSet::OPEN));
        let total = code.store.count(filter.clone(), u64::MAX).await?;
        let checker = Arc::new(Checker::of(code));
        let (mut report, mut looks) = (CheckReport::default(), JoinSet::new());
        let mut before = None;
        loop {
            let page = checker.store.find(filter.clone(), before, PAGE).await?;
            let Some(last) = page.last().map(|row| row.run) else { break };
            before = Some(last);
            for row in page {
                if looks.len() >= self.at_once {
                    take(&mut report, &mut looks, &mut self.told, total).await?;
                }
                let checker = checker.clone();
                looks.spawn(async move { checker.look_at(row).await });
            }
        }
        while !looks.is_empty() {
            take(&mut report, &mut looks, &mut self.told, total).await?;
        }
        report.sort();
        Ok(report)
    }
}

impl IntoFuture for Check {
    type Output = Result<CheckReport, EngineError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.check())
    }
}

impl Engine {
    /// Checks whether the open runs of the store can go on with this engine's code; see
    /// [`Builder::check`](crate::Builder::check), which needs no engine.
    pub fn check(&self) -> Check {
        let worker = &self.worker;
        Check::of(Ok(Program {
            store: worker.store.clone(),
            runners: worker.runners.clone(),
            settings: worker.settings.clone(),
            clock: worker.clock.clone(),
            build: worker.build.clone(),
        }))
    }
}

/// Waits for one of the looks.
async fn take(
    report: &mut CheckReport,
    looks: &mut JoinSet<Result<Look, StoreError>>,
    told: &mut Option<Told>,
    total: u64,
) -> Result<(), EngineError> {
    let look = match looks.join_next().await {
        None => return Ok(()),
        Some(Ok(look)) => look?,
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => {
                let message = format!("the runtime ended while runs were checked: {error}");
                return Err(EngineError::new(ErrorKind::Store, Code::STORE, message));
            }
        },
    };
    report.add(look);
    if let Some(told) = told {
        told(report.checked, total.max(report.checked));
    }
    Ok(())
}

/// What became of a run that was looked at.
enum Look {
    Fine,
    /// It was over before it could be looked at.
    Over,
    Bad(RunId, Box<Finding>),
}

struct Checker {
    store: Arc<dyn Store>,
    reads: Arc<ReadOnly>,
    worker: Arc<Worker>,
}

impl Checker {
    fn of(code: Program) -> Checker {
        let Program { store, runners, settings, clock, build } = code;
        let reads = Arc::new(ReadOnly::new(store.clone()));
        // Nobody's: every worker that a store enrolls has a number above 0.
        let fence = Fence { worker: WorkerId(0) };
        let (world, events) = ((clock, Entropy::system(), Process::default()), broadcast::Sender::new(1));
        let worker = Worker::new(reads.clone(), fence, settings, world, build, runners, events).that_checks();
        Checker { store, reads, worker: Arc::new(worker) }
    }

    /// A run that has moved since its row was read is looked at again, before anything is said of it.
    async fn look_at(&self, mut row: RunRow) -> Result<Look, StoreError> {
        for looks in 1.. {
            let Some(problem) = self.problem(&row).await? else { return Ok(Look::Fine) };
            let Some(now) = self.store.run(row.id.clone()).await? else { return Ok(Look::Over) };
            if now.status.is_over() || now.run != row.run {
                return Ok(Look::Over);
            }
            if now.generation == row.generation || looks == LOOKS_MAX {
                let RunRow { run, id, workflow, status, .. } = now;
                return Ok(Look::Bad(run, Box::new(Finding { run: id, workflow, status, problem })));
            }
            row = now;
        }
        Ok(Look::Fine)
    }

    /// Why a run could not go on.
    async fn problem(&self, row: &RunRow) -> Result<Option<Problem>, StoreError> {
        if !self.worker.knows(&row.workflow) {
            return Ok(Some(Problem::UnknownWorkflow));
        }
        let loaded = match self.store.load(row.run).await {
            Ok(loaded) => loaded,
            Err(StoreError::Damaged(what)) => {
                let (reason, detail) = (StuckReason::JournalDamaged, what.to_string());
                return Ok(Some(Problem::Stuck(Stuck { reason, key: None, detail })));
            }
            Err(error) => return Err(error),
        };
        let last = loaded.entries.last().and_then(|last| last.known_kind());
        if last.is_some_and(|kind| kind.role() == Role::Outcome && kind != Kind::Restarted) {
            return Ok(None);
        }
        Ok(match self.replay(row.clone(), loaded).await {
            Some((End::Stuck { stuck, .. }, _)) => Some(Problem::Stuck(stuck)),
            Some((End::GivenBack { .. }, _)) => Some(Problem::UnknownEntry),
            Some((
                End::Parked { .. } | End::Paused { .. } | End::Finished { .. } | End::Restarted { .. },
                _,
            ))
            | None => None,
        })
    }

    /// How the run's load would end, or where it would wait.
    async fn replay(&self, row: RunRow, loaded: Loaded) -> Option<LastTurn> {
        let (load, ends) = self.reads.load();
        // As if a person had said `retry`, where one is needed; and deaths of workers say nothing of the code.
        let row = RunRow { status: Status::Pending, takeovers: 0, ..row };
        self.worker.residents.reserve_one();
        self.worker.clone().drive(Box::new((Claimed { row, load }, loaded))).await;
        ends.await.ok()
    }
}
