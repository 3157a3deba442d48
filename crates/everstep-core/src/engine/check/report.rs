//! What a check has found, for people and for scripts.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::Look;
use crate::{
    status::Status,
    store::RunId,
    stuck::{Stuck, StuckReason},
};

/// So many findings are kept; those beyond are counted.
pub const PROBLEMS_KEPT: usize = 10_000;

/// What a check has found. Its `Display` is for people, [`CheckReport::exit_code`] for scripts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// How many open runs were replayed.
    pub checked: u64,
    /// How many of them can go on.
    pub fine: u64,
    /// Those that cannot, oldest first; at most [`PROBLEMS_KEPT`] of them.
    pub findings: Vec<Finding>,
    numbers: Vec<RunId>,
}

/// A run that cannot go on with this code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Its id.
    pub run: Arc<str>,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// Where it stands; what is `stuck` already may have been so for the same reason.
    pub status: Status,
    /// Why.
    pub problem: Problem,
}

/// Why a run could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// No workflow of this name is registered: the run would be left for a binary that knows it.
    UnknownWorkflow,
    /// Its journal has an entry that this binary cannot read: the run would be left for one that can.
    UnknownEntry,
    /// It would be stuck, for this reason: the code asks for something else than the journal holds, its input or a record
    /// does not decode any more, its function panics, ...
    Stuck(Stuck),
}

impl Problem {
    /// In a word or two.
    pub fn words(&self) -> &'static str {
        match self {
            Problem::UnknownWorkflow => "unknown workflow",
            Problem::UnknownEntry => "unknown entry",
            Problem::Stuck(stuck) => stuck.reason.words(),
        }
    }

    /// The step it is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Problem::Stuck(stuck) => stuck.key.as_deref(),
            Problem::UnknownWorkflow | Problem::UnknownEntry => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::UnknownWorkflow => f.write_str("no workflow of this name is registered"),
            Problem::UnknownEntry => f.write_str("the journal has an entry that this binary does not know"),
            Problem::Stuck(stuck) => write!(f, "{}: {}", stuck.reason, stuck.detail),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}): {}", self.run, self.workflow, self.status, self.problem)
    }
}

impl CheckReport {
    pub(super) fn add(&mut self, look: Look) {
        self.checked += u64::from(!matches!(look, Look::Over));
        match look {
            Look::Fine => self.fine += 1,
            Look::Bad(number, finding) if self.findings.len() < PROBLEMS_KEPT => {
                self.findings.push(*finding);
                self.numbers.push(number);
            }
            Look::Bad(..) | Look::Over => {}
        }
    }

    /// In the order of the runs, whoever was looked at first.
    pub(super) fn sort(&mut self) {
        let mut sorted: Vec<_> =
            std::mem::take(&mut self.numbers).into_iter().zip(std::mem::take(&mut self.findings)).collect();
        sorted.sort_by_key(|(number, _)| *number);
        self.findings = sorted.into_iter().map(|(_, finding)| finding).collect();
    }

    /// How many runs cannot go on, also those beyond the findings that are kept.
    pub fn bad(&self) -> u64 {
        self.checked - self.fine
    }

    /// 0 if every run can go on, else 1: for a script that deploys.
    pub fn exit_code(&self) -> i32 {
        i32::from(self.bad() > 0)
    }

    /// What helps, once for each problem that was found.
    fn ways_out(&self) -> BTreeMap<&'static str, &'static str> {
        let way = |finding: &Finding| {
            let way = match &finding.problem {
                Problem::UnknownWorkflow => "register the workflow, or let a worker that does take its runs",
                Problem::UnknownEntry => "run a version of Everstep that is as new as the one that wrote it",
                Problem::Stuck(Stuck { reason: StuckReason::Diverged, .. }) => {
                    "ask for the same in the same order, and put what is new behind `ctx.patched`; or keep the old code until these runs are over"
                }
                Problem::Stuck(stuck) => stuck.reason.way_out(),
            };
            (finding.problem.words(), way)
        };
        self.findings.iter().map(way).collect()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checked, fine, bad) = (self.checked, self.fine, self.bad());
        writeln!(f, "{checked} open runs checked: {fine} can go on, {bad} cannot")?;
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let left = bad - self.findings.len() as u64;
        if left > 0 {
            writeln!(f, "... and {left} more")?;
        }
        for (words, way) in self.ways_out() {
            writeln!(f, "what helps ({words}): {way}")?;
        }
        Ok(())
    }
}
