//! Signals by the thousand, to runs that wait for them in every way, from processes that are not the worker, which is
//! killed again and again: every signal that was acknowledged is taken once and in order, or reported undelivered.

mod check;
mod conductor;
mod ledger;
mod plan;
mod process;
mod troupe;
mod waits;

use std::{collections::BTreeMap, path::Path};

use everstep::{Client, sqlite::Sqlite};

use self::{
    check::Outcome,
    conductor::{Conductor, Played},
    ledger::Line,
    waits::{NAMES, WAITS},
};
use crate::actor::AnyResult;
pub use plan::Size;
pub use process::act;

/// What was played, and seen.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Calls that send, and waits.
    pub operations: usize,
    /// Calls that send.
    pub sent: usize,
    /// Of these, those that were told that the signal is durable.
    pub acknowledged: usize,
    /// Of these, those that were told that the run is over.
    pub refused: usize,
    /// Waits that were begun.
    pub waits: usize,
    /// Waits that returned a signal.
    pub taken: usize,
    /// Signals that runs reported undelivered.
    pub undelivered: usize,
    /// SIGKILLs of the worker.
    pub kills: usize,
    /// SIGKILLs of a sender.
    pub senders_killed: usize,
    /// What does not hold, in words.
    pub violations: Vec<String>,
}

/// Plays once; `told` hears now and then how many runs are over, and of how many.
///
/// # Errors
/// Processes cannot be made, or the database cannot be read in the end.
pub fn play(program: &Path, size: Size, seed: u64, told: impl Fn(usize, usize)) -> AnyResult<Figures> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("app.db");
    drop(Sqlite::open(&database)?);
    let played = Conductor::new(program, database.clone(), size, seed)?.conduct(told)?;
    if !played.figures.violations.is_empty() {
        return Ok(count(played.figures, &played.lines, &BTreeMap::new()));
    }
    let outcomes = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?
        .block_on(outcomes(&database, played.plan.runs.len()))?;
    Ok(judge(played, size, &outcomes))
}

fn judge(played: Played, size: Size, outcomes: &BTreeMap<usize, Outcome>) -> Figures {
    let mut figures = count(played.figures, &played.lines, outcomes);
    figures.violations.extend(check::violations(&played.plan.signals, &played.lines, outcomes));
    figures.violations.extend(figures.too_tame(size));
    figures
}

/// What the runs tell at their ends.
async fn outcomes(database: &Path, runs: usize) -> AnyResult<BTreeMap<usize, Outcome>> {
    let client = Client::new(Sqlite::open(database)?);
    let mut outcomes = BTreeMap::new();
    for run in 0..runs {
        let handle = client.get(WAITS, process::id(run)).await?;
        let mut left = Vec::new();
        for signal in handle.undelivered().await? {
            let name =
                NAMES.iter().position(|name| *name == &*signal.name).ok_or("a name that nobody uses")?;
            left.push((name, signal.value::<usize>()?));
        }
        outcomes.insert(run, Outcome { told: handle.result().await?, left });
    }
    Ok(outcomes)
}

fn count(figures: Figures, lines: &[Line], outcomes: &BTreeMap<usize, Outcome>) -> Figures {
    let of = |is_it: fn(&Line) -> bool| lines.iter().filter(|line| is_it(line)).count();
    let sum = |of: fn(&Outcome) -> usize| outcomes.values().map(of).sum::<usize>();
    let (sent, waits) = (of(|line| matches!(line, Line::Sent(_))), sum(|end| end.told.waits));
    Figures {
        operations: sent + waits,
        sent,
        waits,
        acknowledged: of(|line| matches!(line, Line::Acked(_))),
        refused: of(|line| matches!(line, Line::Refused(_))),
        taken: sum(|end| end.told.got.len()),
        undelivered: sum(|end| end.left.len()),
        ..figures
    }
}

impl Figures {
    /// A play in which little happened proves little.
    fn too_tame(&self, size: Size) -> Vec<String> {
        let wanted = [
            ("operations", self.operations, size.operations),
            ("kills", self.kills, size.kills),
            ("acknowledged", self.acknowledged, self.sent / 2),
            ("refused", self.refused, size.operations / 1_000),
            ("taken", self.taken, self.waits / 4),
            ("waits without a signal", self.waits - self.taken, self.waits / 10),
            ("undelivered", self.undelivered, size.operations / 100),
        ];
        let tame = wanted.into_iter().filter(|(_, n, least)| n < least);
        tame.map(|(what, n, least)| format!("too tame: {n} {what}, of {least} at least")).collect()
    }
}
