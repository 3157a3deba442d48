//! One exported run, replayed: whether this code does what its journal holds.

use std::fmt;

use super::{Checker, Problem, Program};
use crate::{
    driver::run::same_input,
    error::EngineError,
    export::Export,
    journal::{Kind, Outcome, Role},
    store::{End, Whole},
};

/// What became of the replay of an exported run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replayed {
    /// The code asks for what the journal holds, and ends as it says, or could go on.
    Fine,
    /// It could not go on.
    Problem(Problem),
    /// It goes the same way, and ends otherwise: as it was recorded, and now.
    OtherOutcome {
        /// As it was recorded.
        recorded: String,
        /// As it would end, or where it would wait.
        now: String,
    },
}

impl Replayed {
    /// Whether the code does what the journal holds.
    pub fn is_fine(&self) -> bool {
        *self == Replayed::Fine
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Replayed::Fine => f.write_str("fine"),
            Replayed::Problem(problem) => problem.fmt(f),
            Replayed::OtherOutcome { recorded, now } => {
                write!(f, "another outcome: recorded was {recorded}, now it is {now}")
            }
        }
    }
}

/// Replays an exported run.
pub(in super::super) async fn replay(program: Program, export: &Export) -> Result<Replayed, EngineError> {
    let Whole { row, mut loaded, .. } = export.imported()?;
    let checker = Checker::of(program);
    if !checker.worker.knows(&row.workflow) {
        return Ok(Replayed::Problem(Problem::UnknownWorkflow));
    }
    // The outcome is what the replay is to come to by itself.
    let is_outcome = |kind: Kind| kind.role() == Role::Outcome;
    let recorded = loaded.entries.pop_if(|last| last.known_kind().is_some_and(is_outcome));
    let recorded = recorded.as_ref().and_then(Outcome::told_by);
    let ended = checker.replay(row, loaded).await;
    let now = match ended {
        Some((End::Stuck { stuck, .. }, _)) => return Ok(Replayed::Problem(Problem::Stuck(stuck))),
        Some((End::GivenBack { .. }, _)) => return Ok(Replayed::Problem(Problem::UnknownEntry)),
        Some((_, last)) => last.as_ref().and_then(Outcome::told_by),
        None => None,
    };
    Ok(match (recorded, now) {
        // Open, or ended from outside: all that was recorded was asked for.
        (None | Some(Outcome::Cancelled(_)), _) => Replayed::Fine,
        (Some(recorded), Some(now)) if is_same(&recorded, &now) => Replayed::Fine,
        (Some(recorded), now) => {
            Replayed::OtherOutcome { recorded: told(Some(&recorded)), now: told(now.as_ref()) }
        }
    })
}

/// Failures are the same if people would say so: the line that raised one may have moved.
fn is_same(recorded: &Outcome, now: &Outcome) -> bool {
    match (recorded, now) {
        (Outcome::Completed(a), Outcome::Completed(b)) => same_input(a, b),
        (Outcome::Failed(a), Outcome::Failed(b)) => {
            (a.kind, a.code, &a.message) == (b.kind, b.code, &b.message)
        }
        _ => recorded == now,
    }
}

fn told(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "none: it waits".to_string(),
        Some(Outcome::Completed(value)) => {
            format!("completed with {}", String::from_utf8_lossy(&value.bytes))
        }
        Some(Outcome::Failed(failure)) => format!("failed with {}: {}", failure.code, failure.message),
        Some(Outcome::Cancelled(why)) => format!("cancelled: {why}"),
    }
}
