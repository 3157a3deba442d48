//! The people outside: they start runs, start them again, cancel them, wait for results, and answer for steps in doubt.
//! They try again until they are heard.

use std::sync::Arc;

use everstep_core::{Client, EngineError, ErrorKind, Status, StuckReason, journal::Answer};
use tokio::sync::oneshot;

use crate::{
    history::{Ended, What, code_of_parts},
    machine::{Machine, Up},
    plan::Sending,
    program::{CANCELLED, Node, Out, PROGRAM, SIGNALS},
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
    /// Somebody looks after one run, others write to it, and others do something to it.
    pub fn look_after(&self, run: usize) {
        let plan = &self.world.plan.runs[run];
        self.at(Some(plan.start_ms), move |people| async move {
            people.start(run, true).await;
            people.world.saw(What::StartHeard { run });
            tokio::spawn(people.clone().wait_for(run));
        });
        self.at(plan.cancel_ms, move |people| async move { people.cancel(run).await });
        self.at(plan.again_ms, move |people| async move {
            people.start(run, false).await;
            people.world.saw(What::StartHeard { run });
            people.start_with_another_input(run).await;
        });
        self.write_to(run);
        self.operate(run);
    }

    /// Does something at that time, if there is one.
    pub(crate) fn at<F: Future<Output = ()> + Send + 'static>(
        &self,
        at: Option<u64>,
        does: impl FnOnce(People) -> F + Send + 'static,
    ) {
        let (Some(at), people) = (at, self.clone()) else { return };
        tokio::spawn(async move {
            nap(ms(at)).await;
            does(people).await;
        });
    }

    /// Asks with a worker's client, in its process, or with the one that has no worker; `None` if no answer came.
    pub(crate) async fn ask<T, F>(&self, question: impl FnOnce(Client) -> F) -> Option<T>
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

    async fn start(&self, run: usize, with_signals: bool) {
        loop {
            let plan = self.world.plan.runs[run].clone();
            let started = self.ask(move |client| async move {
                let mut start = client.start(PROGRAM, id_of(run), plan.program);
                if let Some(within) = plan.deadline_ms {
                    start = start.deadline(ms(within));
                }
                let sent = plan.letters.iter().filter(|sent| with_signals && sent.how == Sending::WithStart);
                for sent in sent {
                    start = start.with_signal(SIGNALS[sent.name], sent.value);
                }
                start.await.map(drop)
            });
            match started.await {
                Some(Ok(())) => return,
                Some(Err(error)) if error.is_conflict() => {
                    self.world.note(format_args!("run-{run} conflicts with itself: {error}"));
                    return self.world.saw(What::ConflictMissed { run });
                }
                // It is there, and over: it takes no signal any more.
                Some(Err(error)) if error.kind() == ErrorKind::NotAllowed => return,
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
        let asks = || self.ask(move |client| async move { client.cancel(&id_of(run), "enough").await });
        if self.until_heard(asks).await {
            self.world.saw(What::CancelHeard { run });
        }
    }

    /// Asks again and again; `false` if it cannot be any more.
    pub(crate) async fn until_heard<F>(&self, asks: impl Fn() -> F) -> bool
    where
        F: Future<Output = Option<Result<(), EngineError>>>,
    {
        loop {
            match asks().await {
                Some(Ok(())) => return true,
                Some(Err(error)) if error.kind() == ErrorKind::NotAllowed => return false,
                _ => nap(ms(1_000)).await,
            }
        }
    }

    /// Waits for the result as everybody does, until it is one.
    async fn wait_for(self, run: usize) {
        loop {
            match self.hear(run).await {
                Ok(Some(ended)) => return self.world.saw(What::Heard { run, ended }),
                _ => nap(ms(1_000)).await,
            }
        }
    }

    async fn hear(&self, run: usize) -> Result<Option<Ended>, EngineError> {
        let handle = self.client.get(PROGRAM, id_of(run)).await?;
        let error = match handle.result().await {
            Ok(value) => return Ok(Some(Ended::With(Out::Go(value)))),
            Err(error) => error,
        };
        // One that failed because its child was cancelled tells the same error.
        let failed = error.kind() == ErrorKind::Cancelled && handle.status().await? == Status::Failed;
        Ok(if failed { Some(Ended::With(Out::Fail(CANCELLED))) } else { ended_with(&error) })
    }

    /// Somebody looks at all runs, now and then: he answers for steps in doubt, and once all is healed he lets go on what
    /// was paused and forgotten.
    pub async fn watch(self) {
        loop {
            nap(ms(1_000 + self.world.below(4_000))).await;
            if !self.world.is_calm() && self.world.below(3) > 0 {
                continue;
            }
            for id in self.world.ids() {
                let _ = within(ms(PATIENCE_MS), self.look_at(&id)).await;
            }
        }
    }

    async fn look_at(&self, id: &str) -> Result<(), EngineError> {
        let handle = self.client.get(PROGRAM, id).await?;
        match handle.status().await? {
            Status::Paused if self.world.is_calm() => return self.client.resume(id).await,
            Status::Stuck => {}
            _ => return Ok(()),
        }
        let Some(stuck) = handle.stuck().await? else { return Ok(()) };
        let (StuckReason::InDoubt, Some(key)) = (stuck.reason, &stuck.key) else { return Ok(()) };
        let run = self.world.run_of_id(id);
        let effect = self.world.effect(run, &self.world.keyed(run, key));
        // A person looks whether it has happened, as `verify` does; some are careless and say that it failed.
        let answer = match (effect, self.world.below(6)) {
            (_, 0) => Answer::Fail { message: "somebody said so".to_string() },
            (Some(made), _) => Answer::Done { value: serde_json::to_string(&made).expect("plain data") },
            (None, _) => Answer::Retry,
        };
        self.client.answer(id, answer).await
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
