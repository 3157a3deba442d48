//! A machine: runs one engine, and starts another when that one is gone.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use everstep_core::{Client, Ctx, Engine, Event, Settings, Simulation};
use tokio::sync::oneshot;

use crate::{
    base::Base,
    fault::Fault,
    history::What,
    opening::{Opening, Over, Role},
    program::{Node, PROGRAM, interpret},
    store::FaultyStore,
    world::{World, ms, nap, within},
};

/// A machine.
#[derive(Debug)]
pub struct Machine {
    world: Arc<World>,
    base: Base,
    /// By how much its clock is wrong, in microseconds: a new process does not set it right.
    clock_error: AtomicI64,
    up: Mutex<Option<Up>>,
}

/// The process that runs on it.
#[derive(Clone, Debug)]
pub struct Up {
    /// A client of its engine.
    pub client: Client,
    /// Its opening of the store.
    pub opening: Arc<Opening>,
    /// Itself.
    pub process: Simulation,
}

impl Machine {
    /// A machine on which nothing runs yet.
    pub fn new(world: Arc<World>, base: Base) -> Arc<Machine> {
        Arc::new(Machine { world, base, clock_error: AtomicI64::new(0), up: Mutex::default() })
    }

    /// What runs on it.
    pub fn up(&self) -> Option<Up> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_up(&self, up: Option<Up>) {
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = up;
    }

    /// From now on its clock is wrong by so much.
    pub fn set_clock_error(&self, micros: i64) {
        self.clock_error.store(micros, Ordering::Relaxed);
        if let Some(up) = self.up() {
            up.process.set_clock_error(micros);
        }
    }

    /// Runs one engine after the other, for as long as the world lasts.
    pub async fn work(self: Arc<Self>) {
        loop {
            let process = self.world.time.machine();
            process.set_clock_error(self.clock_error.load(Ordering::Relaxed));
            let opening = Opening::new(self.world.clone(), self.base.reopen(), process.clone(), Role::Worker);
            if let Some(engine) = self.start(&opening, &process).await {
                tokio::spawn(listen(engine.events(), opening.clone()));
                let client = (*engine).clone();
                self.set_up(Some(Up { client, opening: opening.clone(), process: process.clone() }));
                let over = opening.over().await;
                self.set_up(None);
                self.end(over, engine, &opening, &process).await;
            }
            opening.die(false);
            let pause = if self.world.is_calm() { 100 } else { 50 + self.world.below(5_000) };
            nap(ms(pause)).await;
        }
    }

    /// An engine in a process of its own; `None` if that dies meanwhile, or the store does not want it.
    async fn start(&self, opening: &Arc<Opening>, process: &Simulation) -> Option<Engine> {
        let (send, started) = oneshot::channel();
        let plan = &self.world.plan;
        let settings = Settings {
            lease: ms(plan.lease_ms),
            resident_runs_max: plan.residents,
            running_steps_max: plan.bodies,
            takeovers_max: 10_000,
            park_after: ms(plan.park_ms),
            build: Some("sim".to_string()),
            ..Settings::default()
        };
        let starting = Engine::builder(FaultyStore(opening.clone()))
            .state(opening.clone())
            .register(PROGRAM, |ctx: Ctx, program: Node, opening| interpret(ctx, program, opening))
            .settings(settings)
            .simulated(process)
            .start();
        tokio::spawn(process.host(async move { drop(send.send(starting.await)) }));
        tokio::select! {
            biased;
            started = started => started.ok()?.ok(),
            _ = opening.over() => None,
        }
    }

    async fn end(&self, over: Over, engine: Engine, opening: &Arc<Opening>, process: &Simulation) {
        match over {
            Over::Died => {}
            // Somebody has to notice, and to start another process.
            Over::Closed => nap(ms(self.world.below(2_000))).await,
            Over::Leave => {
                self.world.saw(What::Fault(Fault::Shutdown));
                let (send, left) = oneshot::channel();
                let leave = async move {
                    let left = engine.shutdown().await;
                    let _ = send.send(left.is_ok());
                };
                tokio::spawn(process.host(leave));
                let left = async {
                    tokio::select! {
                        biased;
                        () = opening.died() => {}
                        _ = left => {}
                    }
                };
                let _ = within(ms(60_000), left).await;
                return;
            }
        }
        opening.die(false);
        drop(engine);
    }
}

/// Observes what an engine tells its audience.
async fn listen(mut events: everstep_core::Events, opening: Arc<Opening>) {
    while let Some(event) = events.next().await {
        let world = &opening.world;
        let run_of = |id: &str| world.run_of_id(id);
        match event {
            Event::StepDone { run, key, .. } | Event::StepFailed { run, key, .. } => {
                world.saw(What::ToldStep { run: run_of(&run), key });
            }
            Event::Completed { run } => world.saw(What::ToldEnd { run: run_of(&run), word: "completed" }),
            Event::Failed { run, .. } => world.saw(What::ToldEnd { run: run_of(&run), word: "failed" }),
            Event::Cancelled { run } => world.saw(What::ToldEnd { run: run_of(&run), word: "cancelled" }),
            Event::Stuck { run, reason, detail } => {
                world.note(format_args!("stuck {run} {reason} {detail}"));
            }
            other => world.note(format_args!("event {other:?}")),
        }
    }
}
