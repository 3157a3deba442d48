//! Those who start runs, send them what they wait for, and wait for their results, again and again: as many as keep the
//! engines busy.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use everstep::{Client, Engine, Workflow};
use tokio::task::JoinSet;

use super::workflows::{CALLED, SIGNALS, WORD, WORDS, expected, nap_of};
use crate::actor::AnyResult;

/// More than that make the engines no faster.
const CALLERS: u64 = 400;

/// All of them, at work.
pub(super) struct Callers {
    at_work: JoinSet<Ended>,
    ended: Arc<AtomicU64>,
    leave: Arc<AtomicBool>,
}

/// What has come to its end.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) runs: u64,
    by_workflow: BTreeMap<&'static str, u64>,
    pub(super) violations: Vec<String>,
}

impl Ended {
    /// Runs of this workflow.
    pub(super) fn of(&self, workflow: &str) -> u64 {
        self.by_workflow.get(workflow).copied().unwrap_or(0)
    }
}

impl Callers {
    /// They begin, each with the engines in turn.
    pub(super) fn call(engines: &[Engine]) -> Callers {
        let clients: Vec<Client> = engines.iter().map(|engine| Client::clone(engine)).collect();
        let (mut at_work, ended, leave) = (JoinSet::new(), Arc::default(), Arc::default());
        for caller in 0..CALLERS {
            at_work.spawn(calls(clients.clone(), caller, Arc::clone(&ended), Arc::clone(&leave)));
        }
        Callers { at_work, ended, leave }
    }

    /// Runs that have ended so far.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// They start nothing more, and wait for what they have begun.
    pub(super) async fn leave(mut self) -> Ended {
        self.leave.store(true, Ordering::Relaxed);
        let mut all = Ended::default();
        while let Some(left) = self.at_work.join_next().await {
            let Ended { runs, by_workflow, violations } = left
                .unwrap_or_else(|panic| Ended { violations: vec![panic.to_string()], ..Ended::default() });
            all.runs += runs;
            all.violations.extend(violations);
            for (workflow, runs) in by_workflow {
                *all.by_workflow.entry(workflow).or_default() += runs;
            }
        }
        all
    }
}

async fn calls(clients: Vec<Client>, caller: u64, ended: Arc<AtomicU64>, leave: Arc<AtomicBool>) -> Ended {
    let mut told = Ended::default();
    for n in 0.. {
        if leave.load(Ordering::Relaxed) {
            break;
        }
        let workflow = CALLED[(caller + n) as usize % CALLED.len()];
        let mut of = clients.iter().cycle().skip(((caller + n / CALLED.len() as u64) % 2) as usize);
        let (starts, sends) = (of.next().expect("endless"), of.next().expect("endless"));
        match run(starts, sends, workflow, caller, n).await {
            Ok(result) if result == expected(n) => {}
            Ok(result) => told.violations.push(format!("{workflow}-{caller}-{n} comes to {result}")),
            Err(error) => {
                told.violations.push(format!("{workflow}-{caller}-{n}: {error}"));
                // What it was to be told next would not be true.
                break;
            }
        }
        ended.fetch_add(1, Ordering::Relaxed);
        told.runs += 1;
        *told.by_workflow.entry(workflow).or_default() += 1;
    }
    told
}

/// From the start to the result; signals come by the other engine.
async fn run(starts: &Client, sends: &Client, workflow: &'static str, caller: u64, n: u64) -> AnyResult<u64> {
    let id = format!("{workflow}-{caller}-{n}");
    let run = starts.start(Workflow::<u64, u64>::new(workflow), &id, n).await?;
    if workflow == SIGNALS {
        for word in 0..WORDS {
            tokio::time::sleep(nap_of(caller + n + word)).await;
            sends.signal(&id, WORD, n).await?;
        }
    }
    Ok(run.result().await?)
}
