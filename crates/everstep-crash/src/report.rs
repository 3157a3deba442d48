//! The figures of a sweep.

use std::{collections::BTreeMap, path::Path};

use crate::{check::Verdict, history::History, store::Kind};

/// What was done and found.
#[derive(Default)]
pub(crate) struct Figures {
    /// Histories that were played.
    pub(crate) played: usize,
    /// Processes that were killed where it was planned.
    pub(crate) points: usize,
    /// Acknowledged facts that were looked for after a death or at the end.
    pub(crate) facts: usize,
    /// Effects that happened again inside their window of doubt.
    pub(crate) repeated: usize,
    pub(crate) violations: Vec<String>,
    /// Kills by workload.
    by_workload: BTreeMap<String, usize>,
    /// What is to be added to the command that plays one plan.
    again: &'static str,
}

impl Figures {
    pub(crate) fn of(store: Kind) -> Figures {
        let again = match store {
            Kind::Sqlite => "",
            Kind::Postgres => "--store postgres ",
        };
        Figures { again, ..Figures::default() }
    }

    pub(crate) fn add(&mut self, history: &History, verdict: Verdict) {
        self.played += 1;
        self.points += history.kills();
        *self.by_workload.entry(history.plan.workload.clone()).or_default() += history.kills();
        self.facts += verdict.facts;
        self.repeated += verdict.repeated;
        for violation in verdict.violations {
            let shown =
                format!("{violation}\n    again: cargo xtask crash {}--only {}", self.again, history.plan);
            println!("VIOLATION {shown}");
            self.violations.push(shown);
        }
    }

    pub(crate) fn progress(&self, of: usize) {
        if self.played.is_multiple_of(500) {
            println!(
                "{} of {of} histories, {} points, {} violations",
                self.played,
                self.points,
                self.violations.len()
            );
        }
    }

    pub(crate) fn tell_more(&self) {
        let by: Vec<_> = self.by_workload.iter().map(|(name, n)| format!("{name} {n}")).collect();
        println!(
            "{} histories; points by workload: {}; {} effects repeated inside their window of doubt",
            self.played,
            by.join(", "),
            self.repeated
        );
    }

    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, file: &Path, missed: usize) -> std::io::Result<()> {
        let figures = serde_json::json!({
            "histories": self.played,
            "points": self.points,
            "facts": self.facts,
            "repeated": self.repeated,
            "failpoints_missed": missed,
            "violations": self.violations.len(),
        });
        std::fs::write(file, format!("{figures:#}\n"))
    }
}
