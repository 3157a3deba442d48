//! The world outside: starts runs, sends them their signals, waits for their ends. Whatever it is not told, it asks for again,
//! under the same id or key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use everstep::{Client, EngineError, ErrorKind};
use everstep_postgres::Postgres;
use everstep_processes::chance::Chance;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    AnyResult,
    kind::{self, Kind},
    stage::Stage,
    time::{ms, now, pass, until},
    worker,
    workflows::{WORD, workflow},
};

/// Runs that are open at once.
const OPEN: usize = 120;
/// Before a call is made again: long enough that few of them are made while there is no server.
const TRY_AGAIN_MS: u64 = 300;

/// What those outside were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Calls that start a run or send a signal.
    pub(crate) asked: AtomicUsize,
    /// Of these, those that were acknowledged.
    pub(crate) acknowledged: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: BTreeSet<usize>,
    signalled: BTreeSet<(usize, usize)>,
    ends: BTreeMap<usize, String>,
    slowest: Duration,
}

impl Told {
    /// Runs whose start was acknowledged.
    pub(crate) fn started(&self) -> BTreeSet<usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).started.clone()
    }

    /// Runs and their signals that were acknowledged.
    pub(crate) fn signalled(&self) -> BTreeSet<(usize, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).signalled.clone()
    }

    /// How runs ended, in words.
    pub(crate) fn ends(&self) -> BTreeMap<usize, String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ends.clone()
    }

    /// The longest time from a start to the end.
    pub(crate) fn slowest(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).slowest
    }
}

/// Has so many runs done within about `length`; returns when all are over.
pub(crate) async fn act(
    stage: Arc<Stage>,
    told: Arc<Told>,
    (runs, length, seed): (usize, Duration, u64),
) -> AnyResult<()> {
    let clients = [
        Client::new(worker::open(&stage.url(), &Postgres::options()).await),
        Client::new(worker::open(&stage.broken_url(), &Postgres::options()).await),
    ];
    let (room, began) = (Arc::new(Semaphore::new(OPEN)), now());
    let mut open = JoinSet::new();
    for run in 0..runs {
        let place = room.clone().acquire_owned().await?;
        until(began + length.mul_f64(run as f64 / runs as f64)).await;
        let (client, stage, told) = (clients[run / 3 % 2].clone(), stage.clone(), told.clone());
        open.spawn(async move {
            let mut visitor = Visitor { client, stage, told, run, chance: Chance::new(seed ^ run as u64) };
            let visited = visitor.visit().await;
            drop(place);
            visited
        });
        while let Some(visited) = open.try_join_next() {
            visited??;
        }
    }
    while let Some(visited) = open.join_next().await {
        visited??;
    }
    Ok(())
}

/// What one asks for.
#[derive(Clone, Copy)]
enum Call {
    Start,
    Send(usize),
}

/// Who sees one run through.
struct Visitor {
    client: Client,
    stage: Arc<Stage>,
    told: Arc<Told>,
    run: usize,
    chance: Chance,
}

impl Visitor {
    async fn visit(&mut self) -> AnyResult<()> {
        self.until_acknowledged(Call::Start).await?;
        let began = now();
        self.knows(|state| {
            state.started.insert(self.run);
        });
        for signal in kind::signals(self.run) {
            pass(ms(self.chance.below(700) as u64)).await;
            self.until_acknowledged(Call::Send(signal)).await?;
            self.knows(|state| {
                state.signalled.insert((self.run, signal));
            });
        }
        let end = self.end().await?;
        self.knows(|state| {
            state.ends.insert(self.run, end);
            state.slowest = state.slowest.max(since(began));
        });
        Ok(())
    }

    fn knows(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.told.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn until_acknowledged(&self, call: Call) -> AnyResult<()> {
        loop {
            self.told.asked.fetch_add(1, Ordering::Relaxed);
            match self.calls(call).await {
                Ok(()) => {
                    self.told.acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.stage.pulse.beats();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Store => pass(ms(TRY_AGAIN_MS)).await,
                Err(error) => return Err(format!("{}: {} {error}", kind::id(self.run), error.code()).into()),
            }
        }
    }

    async fn calls(&self, call: Call) -> Result<(), EngineError> {
        let (id, kind) = (kind::id(self.run), Kind::of(self.run));
        match call {
            Call::Start => self.client.start(workflow(kind), id, self.run).await.map(drop),
            Call::Send(signal) => self.client.signal(id, WORD, signal).key(&signal.to_string()).await,
        }
    }

    async fn end(&self) -> AnyResult<String> {
        let id = kind::id(self.run);
        loop {
            let ended = match self.client.get(workflow(Kind::of(self.run)), id.clone()).await {
                Ok(run) => run.result().await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(value) => return Ok(format!("ok {value}")),
                Err(error) if error.kind() == ErrorKind::Store => pass(ms(TRY_AGAIN_MS)).await,
                Err(error) if error.kind() == ErrorKind::Raised => return Ok(format!("failed {error}")),
                Err(error) => return Ok(format!("{:?} {error}", error.kind())),
            }
        }
    }
}

fn since(at: Instant) -> Duration {
    now() - at
}
