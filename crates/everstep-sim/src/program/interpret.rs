//! Runs a program on the engine, through what every user has: `Ctx`, steps, the macros. Its step bodies tell the world
//! what they do, and the world decides whether their process survives it.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::AtomicI64},
    task::Poll,
};

use everstep_core::{
    BoxFuture, Ctx, Doubt, Error, Result, Retry, Step as EngineStep, StepCtx, Verdict, Workflow,
};
use serde::{Deserialize, Serialize};

use super::{
    Node, Out, Policy, Step,
    place::{Names, Place},
    reference::caught,
};
use crate::{
    base,
    fault::Fault,
    history::{Got, Made, What, code_of_parts, keyed},
    opening::Opening,
    program::OUT_OF_TIME,
    world::{ms, nap},
};

/// The workflow that runs programs.
pub const PROGRAM: Workflow<Node, i64> = Workflow::new("program");

/// What a step fails with.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("declined {0}")]
pub(super) struct Declined(pub(super) i64);

/// Runs `program` as a workflow of the process that has `opening`.
///
/// # Errors
/// What the program comes to.
pub async fn interpret(ctx: Ctx, program: Node, opening: Arc<Opening>) -> Result<i64> {
    let (generation, program) = match program {
        Node::Generation(generation, program) => (generation, *program),
        first => (0, first),
    };
    let run = opening.world.run_of_id(ctx.id());
    let life = opening.world.next_life();
    opening.saw(What::Called { run, worker: opening.worker(), life, generation });
    let call = Call { opening, run, life, generation, told: Arc::default() };
    let place = Place { ctx, names: Arc::<Names>::default(), at: generation.to_string() };
    match call.node(place, &program).await? {
        Out::Go(value) | Out::Return(value) => Ok(value),
        Out::Fail(_) => unreachable!("an error is an `Err`"),
    }
}

/// The number of an error, as the function sees it.
pub(super) fn code_of(error: &Error) -> i64 {
    match error.downcast::<Declined>() {
        Some(Declined(code)) => code,
        None => code_of_parts(error.code(), &error.to_string()),
    }
}

/// One call of the function: in which process, of which run and generation, and its number.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) opening: Arc<Opening>,
    pub(super) run: usize,
    pub(super) life: u64,
    pub(super) generation: u32,
    /// How often it has told its readers something.
    pub(super) told: Arc<AtomicI64>,
}

impl Call {
    pub(super) fn node<'a>(&'a self, place: Place, node: &'a Node) -> BoxFuture<'a, Result<Out>> {
        Box::pin(async move {
            self.opening.world.meets(node.features());
            match node {
                Node::Step(step) => self.step(&place, step).await,
                Node::Transact(name, value) => self.transact(&place, *name, *value).await,
                Node::Raise(code) => Err(Declined(*code).into()),
                Node::Return(value) => Ok(Out::Return(*value)),
                Node::Sequence(all) => self.row(&place, all.iter()).await,
                Node::Loop(times, body) => self.row(&place, (0..*times).map(|_| &**body)).await,
                Node::Scope(body) => place.scope("scope", |inner| self.node(inner, body)).await,
                Node::Join(all) => self.join(&place, all).await,
                Node::Stream(all) => self.stream(&place, all).await,
                Node::Race(all) => self.race(&place, all).await,
                Node::Map(map) => self.map(&place, map).await,
                Node::Block(block) => self.block(&place, block).await,
                Node::Timeout(wait, body) => {
                    let work = self.node(place.part("in"), body);
                    Ok(place.ctx.timeout(ms(*wait), work).await?.unwrap_or(Out::Go(OUT_OF_TIME)))
                }
                Node::Catch(body) => match self.node(place.part("try"), body).await {
                    Err(error) => Ok(caught(Out::Fail(code_of(&error)))),
                    done => done,
                },
                Node::Signal(name) => self.signal(&place, *name).await,
                Node::Promise(owed) => self.promise(&place, *owed).await,
                Node::Child(child) => self.child(&place, child).await,
                Node::Serve(body) => self.serve(&place, body).await,
                Node::Restart(body) => {
                    place.ctx.forget_undos();
                    let next = Node::Generation(self.generation + 1, body.clone());
                    place.ctx.restart(PROGRAM, next).await
                }
                Node::Generation(_, body) => self.node(place, body).await,
                small => {
                    self.small(&place, small).await;
                    Ok(Out::Go(1))
                }
            }
        })
    }

    /// What comes to nothing but that it was done.
    async fn small(&self, place: &Place, node: &Node) {
        match node {
            Node::Sleep(wait) => place.ctx.sleep(ms(*wait)).await,
            Node::Yield(times) => wake_oneself(*times).await,
            Node::Draw => {
                let (value, label) = (place.ctx.random(), place.at.clone());
                self.opening.saw(What::Drawn { run: self.run, worker: self.opening.worker(), label, value });
            }
            Node::Tell(what) => self.tell(place, *what),
            Node::OnCancel => self.on_cancel(place),
            other => unreachable!("{other:?} comes to something"),
        }
    }

    async fn transact(&self, place: &Place, name: char, value: i64) -> Result<Out> {
        let world = self.opening.world.clone();
        let store = world.plan.store;
        let (name, label) = (name.to_string(), format!("run-{} {}", self.run, place.at));
        let key = keyed(self.generation, &place.names.claim(&name));
        let make = move || Made { v: value, by: world.next_body() };
        let given = base::transact(store, &place.ctx, &name, label, make).await;
        self.given(key, given)
    }

    async fn step(&self, place: &Place, step: &Step) -> Result<Out> {
        let name = step.name.to_string();
        let key = keyed(self.generation, &place.names.claim(&name));
        if step.undo {
            let (run, life, key) = (self.run, self.life, key.clone());
            self.opening.saw(What::Undoable { run, life, key, cleanup: false });
        }
        let (call, text) = (self.clone(), step.clone());
        let made = place.ctx.step(&name, async move |s: StepCtx| call.body(&text, s).await);
        let given = self.options(made, step, &key).await;
        self.given(key, given)
    }

    /// The function was given the outcome of a step.
    fn given(&self, key: Arc<str>, given: Result<Made>) -> Result<Out> {
        let got = match &given {
            Ok(made) => Got::Value(*made),
            Err(error) => Got::Error(code_of(error)),
        };
        let (run, worker, life) = (self.run, self.opening.worker(), self.life);
        self.opening.saw(What::Given { run, key, worker, life, got });
        Ok(Out::Go(given?.v))
    }

    fn options<'a>(&self, made: EngineStep<'a, Made>, step: &Step, key: &Arc<str>) -> EngineStep<'a, Made> {
        let mut made = made.retry(Retry::fixed(step.attempts, ms(step.pause_ms)));
        if step.typed {
            made = made.typed::<Declined>();
        }
        if step.input {
            made = made.input(&step.value);
        }
        if let Some(limit) = step.limit_ms {
            made = made.attempt_timeout(ms(limit));
        }
        if step.undo {
            let (call, key) = (self.clone(), key.clone());
            made = made.undo(async move |_: Made| call.undo(key).await);
        }
        let call = self.clone();
        match step.doubt {
            Policy::Retry => made,
            Policy::Fail => made.on_doubt(Doubt::Fail),
            Policy::Ask => made.on_doubt(Doubt::Ask),
            Policy::Verify => made.verify(async move |s: StepCtx| Ok(call.look(&s))),
        }
    }

    /// What a body does.
    async fn body(self, step: &Step, s: StepCtx) -> Result<Made> {
        let (run, life, worker) = (self.run, self.life, s.fence_number());
        let (key, attempt) = (keyed(self.generation, s.key()), s.attempt());
        let by = self.opening.world.next_body();
        let begun = What::Begun { run, key: key.clone(), attempt, worker, life, by, policy: step.doubt };
        self.opening.saw(begun);
        self.may_die().await;
        if step.ms > 0 {
            nap(ms(step.ms)).await;
        }
        if attempt <= step.hangs {
            return std::future::pending().await;
        }
        if attempt <= step.fails {
            let declined = Declined(step.value);
            return Err(if step.terminal { Error::terminal(declined) } else { declined.into() });
        }
        let made = Made { v: step.value, by };
        self.opening.saw(What::Effect { run, key, made });
        self.may_die().await;
        Ok(made)
    }

    /// Whether an attempt in doubt has happened.
    fn look(&self, s: &StepCtx) -> Verdict<Made> {
        let key = keyed(self.generation, s.key());
        let made = self.opening.world.effect(self.run, &key);
        self.opening.saw(What::Looked { run: self.run, key, found: made.is_some() });
        made.map_or(Verdict::NotDone, Verdict::Done)
    }

    /// The process may die here.
    pub(super) async fn may_die(&self) {
        if self.opening.world.strikes(Fault::Crash, 60) {
            self.opening.die(true);
        }
        if self.opening.is_dead() {
            std::future::pending::<()>().await;
        }
    }
}

/// Wakes its own task `times` times before it goes on.
async fn wake_oneself(times: u32) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
