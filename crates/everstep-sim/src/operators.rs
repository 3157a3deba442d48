//! Those who do something to runs: kill them, pause them and let them go on, take them back to some step.

use everstep_core::{EngineError, Status, journal::Entry};

use crate::{
    people::{People, id_of},
    program::PROGRAM,
    world::{ms, nap},
};

/// How often somebody looks whether a run that he has paused is paused.
const LOOKS_MAX: u32 = 30;

impl People {
    /// Everybody who does something to a run.
    pub(crate) fn operate(&self, run: usize) {
        let plan = &self.world.plan.runs[run];
        self.at(plan.kill_ms, move |people| async move {
            let asks = || people.ask(move |client| async move { client.kill(&id_of(run), "enough").await });
            people.until_heard(asks).await;
        });
        if let Some((at, pause)) = plan.pause_ms {
            self.at(Some(at), move |people| async move {
                if people.pause(run).await {
                    nap(ms(pause)).await;
                    people.resume(run).await;
                }
            });
        }
        self.at(plan.rewind_ms, move |people| async move {
            if people.pause(run).await {
                let _ = people.rewind(run).await;
                people.resume(run).await;
            }
        });
    }

    async fn pause(&self, run: usize) -> bool {
        let asks = || self.ask(move |client| async move { client.pause(&id_of(run), "a look").await });
        self.until_heard(asks).await
    }

    async fn resume(&self, run: usize) -> bool {
        let asks = || self.ask(move |client| async move { client.resume(&id_of(run)).await });
        self.until_heard(asks).await
    }

    /// Takes a paused run back to something that its journal tells of.
    async fn rewind(&self, run: usize) -> Result<(), EngineError> {
        let handle = self.client.get(PROGRAM, id_of(run)).await?;
        let mut looks = 0;
        while handle.status().await? != Status::Paused {
            looks += 1;
            if looks > LOOKS_MAX {
                return Ok(());
            }
            nap(ms(500)).await;
        }
        let journal: Vec<Entry> = handle.journal().await?;
        let keys: Vec<_> = journal.iter().filter_map(|entry| entry.key.clone()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let key = keys[self.world.below(keys.len() as u64) as usize].clone();
        self.world.note(format_args!("run-{run} is to go back to {key}"));
        let rewound = self.ask(move |client| async move { client.rewind(&id_of(run), &key).await });
        rewound.await.unwrap_or(Ok(()))
    }
}
