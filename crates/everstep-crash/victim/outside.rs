//! The world around the runs: who sends them messages, acts on them, and waits for their end. Everything is done again in
//! every life, as by somebody who does not know what came of it.

use std::{future::Future, pin::Pin};

use everstep::{
    Client, Code, EngineError, ErrorKind, Event, Events, Run, Status, StuckReason, Workflow, journal::Answer,
};

use crate::world::say;

/// What somebody does while a run goes on.
pub(crate) type Visit = Pin<Box<dyn Future<Output = Result<(), EngineError>> + Send>>;

/// A run, and by what it is visited.
pub(crate) struct Visited {
    pub(crate) client: Client,
    pub(crate) run: Run<String>,
    /// Since before the run was started or found.
    pub(crate) events: Events,
}

/// Nobody comes.
pub(crate) fn nobody(_: Visited, _: u64) -> Visit {
    Box::pin(async { Ok(()) })
}

impl Visited {
    pub(crate) fn id(&self) -> &str {
        self.run.id()
    }

    /// Says `line` when `done` is acknowledged. A run that is over had it before, or does without.
    pub(crate) async fn tell(
        &self,
        done: impl Future<Output = Result<(), EngineError>>,
        line: String,
    ) -> Result<(), EngineError> {
        match done.await {
            Ok(()) => say(line),
            Err(error) if error.code() == Code::NOT_ALLOWED && self.run.status().await?.is_over() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A signal with its value as its key: sent in every life, and one.
    pub(crate) async fn signal(&self, name: &'static str, value: u64) -> Result<(), EngineError> {
        let sent = self.client.signal(self.id(), name, value).key(&value.to_string());
        self.tell(sent, format!("signalled {} {name} {value}", self.id())).await
    }

    /// Waits until it is paused, if a pause is on its way.
    pub(crate) async fn until_paused(&mut self) -> Result<(), EngineError> {
        // The events of earlier changes are waiting: after each the status is looked at anew.
        while self.run.status().await? != Status::Paused {
            let paused = |event: &Event| matches!(event, Event::Paused { run } if **run == *self.run.id());
            while !self.events.next().await.as_ref().is_none_or(paused) {}
        }
        Ok(())
    }

    /// Another run, to its end.
    pub(crate) async fn end_of(&self, workflow: Workflow<u64, String>, id: &str) -> Result<(), EngineError> {
        end(&self.client, &self.client.get(workflow, id).await?).await
    }
}

/// Waits for a run's end. A step in doubt that asks a person is answered.
pub(crate) async fn end(client: &Client, run: &Run<String>) -> Result<(), EngineError> {
    loop {
        let told = match run.result().await {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::Cancelled => "cancelled".to_string(),
            Err(error) if error.kind() == ErrorKind::Raised => "failed".to_string(),
            Err(error) if error.kind() == ErrorKind::Stuck => {
                answer(client, run, error).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        say(format!("result {} {told}", run.id()));
        return Ok(());
    }
}

async fn answer(client: &Client, run: &Run<String>, error: EngineError) -> Result<(), EngineError> {
    match run.stuck().await? {
        Some(stuck) if stuck.reason == StuckReason::InDoubt => {
            client.answer(run.id(), Answer::Done { value: "\"answered\"".to_string() }).await?;
            say(format!("answered {} {}", run.id(), stuck.key.as_deref().unwrap_or("-")));
            Ok(())
        }
        Some(_) => Err(error),
        // Somebody has answered meanwhile.
        None => Ok(()),
    }
}
