//! Runs a program on the engine, through what every user has: `Ctx`, steps, the macros. Its step bodies tell the world
//! what they do, and the world decides whether their process survives it.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};

use everstep_core::{
    BoxFuture, Ctx, Doubt, Error, Result, Retry, Step as EngineStep, StepCtx, Verdict, Workflow, join, select,
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};

use super::{
    Node, Out, Policy, Step,
    reference::{all_of, branch_name, caught, winner},
};
use crate::{
    base,
    fault::Fault,
    history::{Got, Made, What, code_of_parts},
    opening::Opening,
    program::{OUT_OF_TIME, mix},
    world::{ms, nap},
};

/// The workflow that runs programs.
pub const PROGRAM: Workflow<Node, i64> = Workflow::new("program");

/// What a step fails with.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("declined {0}")]
struct Declined(i64);

/// Runs `program` as a workflow of the process that has `opening`.
///
/// # Errors
/// What the program comes to.
pub async fn interpret(ctx: Ctx, program: Node, opening: Arc<Opening>) -> Result<i64> {
    let run = opening.world.run_of_id(ctx.id());
    let life = opening.world.next_life();
    let call = Call { opening, run, life };
    let place = Place { ctx, names: Arc::default(), at: "0".to_string() };
    match call.node(place, &program).await? {
        Out::Go(value) | Out::Return(value) => Ok(value),
        Out::Fail(_) => unreachable!("an error is an `Err`"),
    }
}

/// The number of an error, as the function sees it.
fn code_of(error: &Error) -> i64 {
    match error.downcast::<Declined>() {
        Some(Declined(code)) => code,
        None => code_of_parts(error.code(), &error.to_string()),
    }
}

/// One call of the function: in which process, of which run, and its number.
#[derive(Clone)]
struct Call {
    opening: Arc<Opening>,
    run: usize,
    life: u64,
}

/// A place in a program: its scope, and where it stands in the text.
#[derive(Clone)]
struct Place {
    ctx: Ctx,
    names: Arc<Names>,
    at: String,
}

/// The keys of a scope, counted here once more: on replay no body tells its key.
#[derive(Default)]
struct Names {
    path: String,
    used: Mutex<BTreeMap<String, u32>>,
}

impl Names {
    fn claim(&self, name: &str) -> Arc<str> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let count = used.entry(name.to_string()).or_default();
        *count += 1;
        let number = if *count == 1 { String::new() } else { format!("#{count}") };
        format!("{}{name}{number}", self.path).into()
    }
}

impl Place {
    /// Somewhere in it.
    fn part(&self, part: impl std::fmt::Display) -> Place {
        Place { at: format!("{}.{part}", self.at), ..self.clone() }
    }

    /// What `body` comes to in a scope of its own.
    fn scope<'a, F, B>(
        &self,
        name: &str,
        body: B,
    ) -> impl Future<Output = Result<Out>> + Send + Unpin + use<'a, F, B>
    where
        B: FnOnce(Place) -> F + Send + 'a,
        F: Future<Output = Result<Out>> + Send + 'a,
    {
        let path = format!("{}/", self.names.claim(name));
        let (names, at) = (Arc::new(Names { path, used: Mutex::default() }), format!("{}.{name}", self.at));
        self.ctx.scope(name, move |ctx| body(Place { ctx, names, at }))
    }
}

impl Call {
    fn node<'a>(&'a self, place: Place, node: &'a Node) -> BoxFuture<'a, Result<Out>> {
        Box::pin(async move {
            self.opening.world.meets(node.features());
            match node {
                Node::Step(step) => self.step(&place, step).await,
                Node::Transact(name, value) => self.transact(&place, *name, *value).await,
                Node::Sleep(wait) => {
                    place.ctx.sleep(ms(*wait)).await;
                    Ok(Out::Go(1))
                }
                Node::Yield(times) => {
                    wake_oneself(*times).await;
                    Ok(Out::Go(1))
                }
                Node::Draw => {
                    let value = place.ctx.random();
                    self.opening.saw(What::Drawn { run: self.run, label: place.at, value });
                    Ok(Out::Go(1))
                }
                Node::Sequence(all) => self.row(&place, all.iter()).await,
                Node::Loop(times, body) => self.row(&place, (0..*times).map(|_| &**body)).await,
                Node::Scope(body) => place.scope("scope", |inner| self.node(inner, body)).await,
                Node::Join(all) => self.join(&place, all).await,
                Node::Stream(all) => self.stream(&place, all).await,
                Node::Race(all) => self.race(&place, all).await,
                Node::Timeout(wait, body) => {
                    let work = self.node(place.part("in"), body);
                    Ok(place.ctx.timeout(ms(*wait), work).await?.unwrap_or(Out::Go(OUT_OF_TIME)))
                }
                Node::Catch(body) => match self.node(place.part("try"), body).await {
                    Err(error) => Ok(caught(Out::Fail(code_of(&error)))),
                    done => done,
                },
                Node::Raise(code) => Err(Declined(*code).into()),
                Node::Return(value) => Ok(Out::Return(*value)),
            }
        })
    }

    async fn row<'a>(&'a self, place: &Place, parts: impl Iterator<Item = &'a Node> + Send) -> Result<Out> {
        let mut sum = 0;
        for (i, node) in parts.enumerate() {
            match self.node(place.part(i), node).await? {
                Out::Go(value) => sum = mix(sum, value),
                over => return Ok(over),
            }
        }
        Ok(Out::Go(sum))
    }

    /// Branch `i` of several.
    fn branch<'a>(
        &'a self,
        place: &Place,
        all: &'a [Node],
        i: usize,
    ) -> impl Future<Output = Result<Out>> + Send + Unpin + use<'a> {
        place.scope(&branch_name(i as i64 + 1), move |inner| self.node(inner, &all[i]))
    }

    async fn join(&self, place: &Place, all: &[Node]) -> Result<Out> {
        let branch = |i| self.branch(place, all, i);
        let done = match all.len() {
            1 => vec![branch(0).await],
            2 => {
                let (a, b) = join!(branch(0), branch(1));
                vec![a, b]
            }
            _ => {
                let (a, b, c) = join!(branch(0), branch(1), branch(2));
                vec![a, b, c]
            }
        };
        together(done)
    }

    async fn stream(&self, place: &Place, all: &[Node]) -> Result<Out> {
        let mut open = FuturesUnordered::new();
        for i in 0..all.len() {
            let branch = self.branch(place, all, i);
            open.push(async move { (i, branch.await) });
        }
        let mut done: Vec<_> = all.iter().map(|_| None).collect();
        while let Some((i, out)) = open.next().await {
            done[i] = Some(out);
        }
        together(done.into_iter().map(|out| out.expect("each branch ends once")).collect())
    }

    async fn race(&self, place: &Place, all: &[Node]) -> Result<Out> {
        let branch = |i| self.branch(place, all, i);
        let (at, out) = match all.len() {
            1 => (1, branch(0).await),
            2 => select! {
                out = branch(0) => (1, out),
                out = branch(1) => (2, out),
            },
            _ => select! {
                out = branch(0) => (1, out),
                out = branch(1) => (2, out),
                out = branch(2) => (3, out),
            },
        };
        Ok(winner(at, out?))
    }

    async fn transact(&self, place: &Place, name: char, value: i64) -> Result<Out> {
        let world = self.opening.world.clone();
        let store = world.plan.store;
        let (name, label) = (name.to_string(), format!("run-{} {}", self.run, place.at));
        let key = place.names.claim(&name);
        let make = move || Made { v: value, by: world.next_body() };
        let given = base::transact(store, &place.ctx, &name, label, make).await;
        self.given(key, given)
    }

    async fn step(&self, place: &Place, step: &Step) -> Result<Out> {
        let name = step.name.to_string();
        let key = place.names.claim(&name);
        let (call, text) = (self.clone(), step.clone());
        let made = place.ctx.step(&name, async move |s: StepCtx| call.body(&text, s).await);
        let given = self.options(made, step).await;
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

    fn options<'a>(&self, made: EngineStep<'a, Made>, step: &Step) -> EngineStep<'a, Made> {
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
        let (key, attempt): (Arc<str>, _) = (s.key().into(), s.attempt());
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
        let made = self.opening.world.effect(self.run, s.key());
        self.opening.saw(What::Looked { run: self.run, key: s.key().into(), found: made.is_some() });
        made.map_or(Verdict::NotDone, Verdict::Done)
    }

    /// The process may die here.
    async fn may_die(&self) {
        if self.opening.world.strikes(Fault::Crash, 60) {
            self.opening.die(true);
        }
        if self.opening.is_dead() {
            std::future::pending::<()>().await;
        }
    }
}

/// What branches that all ran come to.
fn together(done: Vec<Result<Out>>) -> Result<Out> {
    let done: Result<Vec<_>> = done.into_iter().collect();
    Ok(all_of(&done?))
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
