//! The people outside: they start runs, start them again, cancel them, wait for results, and answer for steps in doubt.
//! They try again until they are heard.

use std::sync::Arc;

use everstep_core::{Client, EngineError, ErrorKind, StuckReason, journal::Answer};
use tokio::sync::oneshot;

use crate::{
    history::{Ended, What, code_of_parts},
    machine::{Machine, Up},
    program::{Node, Out, PROGRAM},
    world::{World, ms, nap, within},
};

/// After this long without an answer somebody asks again.
const PATIENCE_MS: u64 = 20_000;

/// Everybody outside.
#[derive(Clone, Debug)]
pub struct People {
    /// The world they live in.
    pub world: Arc<World>,
    /// Where engines run, whose clients they may use.
    pub machines: Vec<Arc<Machine>>,
    /// A client without a worker.
    pub client: Client,
}

impl People {
    /// Somebody looks after one run.
    pub fn look_after(&self, run: usize) {
        let plan = self.world.plan.runs[run].clone();
        let (people, program) = (self.clone(), plan.program.clone());
        tokio::spawn(async move {
            nap(ms(plan.start_ms)).await;
            people.start(run, &program).await;
            people.world.saw(What::StartHeard { run });
            tokio::spawn(people.clone().wait_for(run));
        });
        if let Some(at) = plan.cancel_ms {
            let people = self.clone();
            tokio::spawn(async move {
                nap(ms(at)).await;
                people.cancel(run).await;
            });
        }
        if let Some(at) = plan.again_ms {
            let people = self.clone();
            tokio::spawn(async move {
                nap(ms(at)).await;
                people.start(run, &plan.program).await;
                people.world.saw(What::StartHeard { run });
                people.start_with_another_input(run).await;
            });
        }
    }

    /// Asks with a worker's client, in its process, or with the one that has no worker; `None` if no answer came.
    async fn ask<T, F>(&self, question: impl FnOnce(Client) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let n = self.machines.len() as u64;
        let at = self.world.below(n * 2) as usize;
        let up = self.machines.get(at).and_then(|machine| machine.up());
        let answer = match up {
            Some(Up { client, process, .. }) => {
                let (send, answer) = oneshot::channel();
                let asking = question(client);
                tokio::spawn(process.host(async move { drop(send.send(asking.await)) }));
                within(ms(PATIENCE_MS), async { answer.await.ok() }).await.flatten()
            }
            None => within(ms(PATIENCE_MS), question(self.client.clone())).await,
        };
        if answer.is_none() {
            nap(ms(500)).await;
        }
        answer
    }

    async fn start(&self, run: usize, program: &Node) {
        loop {
            let program = program.clone();
            let started = self
                .ask(move |client| async move { client.start(PROGRAM, id_of(run), program).await.map(drop) });
            match started.await {
                Some(Ok(())) => return,
                Some(Err(error)) if error.is_conflict() => {
                    self.world.note(format_args!("run-{run} conflicts with itself: {error}"));
                    return self.world.saw(What::ConflictMissed { run });
                }
                _ => nap(ms(1_000)).await,
            }
        }
    }

    /// Nobody may get the run with another input.
    async fn start_with_another_input(&self, run: usize) {
        loop {
            let other = Node::Sequence(vec![Node::Return(-1)]);
            let started = self
                .ask(move |client| async move { client.start(PROGRAM, id_of(run), other).await.map(drop) });
            match started.await {
                Some(Ok(())) => return self.world.saw(What::ConflictMissed { run }),
                Some(Err(error)) if error.is_conflict() => return,
                _ => nap(ms(1_000)).await,
            }
        }
    }

    async fn cancel(&self, run: usize) {
        loop {
            let asked = self.ask(move |client| async move { client.cancel(&id_of(run), "enough").await });
            match asked.await {
                Some(Ok(())) => return self.world.saw(What::CancelHeard { run }),
                Some(Err(error)) if error.kind() == ErrorKind::NotAllowed => return,
                _ => nap(ms(1_000)).await,
            }
        }
    }

    /// Waits for the result as everybody does, until it is one.
    async fn wait_for(self, run: usize) {
        loop {
            let heard = async {
                let handle = self.client.get(PROGRAM, id_of(run)).await?;
                handle.result().await
            };
            match heard.await {
                Ok(value) => {
                    return self.world.saw(What::Heard { run, ended: Ended::With(Out::Go(value)) });
                }
                Err(error) => match ended_with(&error) {
                    Some(ended) => return self.world.saw(What::Heard { run, ended }),
                    None => nap(ms(1_000)).await,
                },
            }
        }
    }

    /// Somebody answers for steps in doubt, now and then, and always once all is healed.
    pub async fn answer_for_steps(self) {
        loop {
            nap(ms(1_000 + self.world.below(4_000))).await;
            if !self.world.is_calm() && self.world.below(3) > 0 {
                continue;
            }
            for run in 0..self.world.plan.runs.len() {
                let _ = within(ms(PATIENCE_MS), self.answer_for(run)).await;
            }
        }
    }

    async fn answer_for(&self, run: usize) -> Result<(), EngineError> {
        let handle = self.client.get(PROGRAM, id_of(run)).await?;
        let Some(stuck) = handle.stuck().await? else { return Ok(()) };
        let (StuckReason::InDoubt, Some(key)) = (stuck.reason, &stuck.key) else { return Ok(()) };
        // A person looks whether it has happened, as `verify` does; some are careless and say that it failed.
        let answer = match (self.world.effect(run, key), self.world.below(6)) {
            (_, 0) => Answer::Fail { message: "somebody said so".to_string() },
            (Some(made), _) => Answer::Done { value: serde_json::to_string(&made).expect("plain data") },
            (None, _) => Answer::Retry,
        };
        self.client.answer(&id_of(run), answer).await
    }
}

/// The id of a run of the plan.
pub fn id_of(run: usize) -> String {
    format!("run-{run}")
}

/// How a run ended, as an error tells it; `None` if it did not end.
fn ended_with(error: &EngineError) -> Option<Ended> {
    match error.kind() {
        ErrorKind::Cancelled => Some(Ended::Cancelled),
        ErrorKind::Store | ErrorKind::Stuck | ErrorKind::NotFound => None,
        _ => Some(Ended::With(Out::Fail(code_of_parts(error.code(), &error.to_string())))),
    }
}
