//! What is one transaction and must be found together, or not at all, in everything that is durable.

use std::collections::BTreeSet;

use super::Key;
use crate::snapshot::{RunSeen, Snapshot};

pub(super) fn check(snapshot: &Snapshot) -> Vec<String> {
    [
        rows_with_records(snapshot),
        wishes_with_runs(snapshot),
        children_with_records(snapshot),
        answers_with_records(snapshot),
    ]
    .concat()
}

/// A start in a transaction of the user's is there with the user's row, and both once.
fn wishes_with_runs(snapshot: &Snapshot) -> Vec<String> {
    let wished: BTreeSet<_> = snapshot.wished.iter().collect();
    let mut wrong: Vec<_> = wished
        .iter()
        .filter(|id| !snapshot.runs.contains_key(**id))
        .map(|id| format!("run {id} was wished for in one transaction with its start, and is not there"))
        .collect();
    let without = snapshot.runs.keys().filter(|id| is_wished_for(id, snapshot) && !wished.contains(id));
    wrong.extend(
        without.map(|id| format!("run {id} was started, and the row of the same transaction is lost")),
    );
    if wished.len() < snapshot.wished.len() {
        wrong.push(format!("a row was written twice beside one start: {:?}", snapshot.wished));
    }
    wrong
}

/// Either all runs of a workload are wished for, or none is.
fn is_wished_for(id: &str, snapshot: &Snapshot) -> bool {
    !snapshot.wished.is_empty() && snapshot.runs[id].parent.is_none()
}

/// Design, guarantee 3: the user's rows and the record are there together, and once.
fn rows_with_records(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows: BTreeSet<_> = snapshot.rows.iter().cloned().collect();
    if rows.len() < snapshot.rows.len() {
        wrong.push(format!("rows were written twice: {:?}", snapshot.rows));
    }
    let is_row = |key: &&String| key.starts_with("row-") || ["debit", "credit"].contains(&key.as_str());
    let recorded: BTreeSet<Key> = snapshot
        .runs
        .iter()
        .flat_map(|(run, seen)| seen.recorded.iter().filter(is_row).map(|key| (run.clone(), key.clone())))
        .collect();
    wrong.extend(rows.symmetric_difference(&recorded).map(|(run, key)| {
        let rows = if rows.contains(&(run.clone(), key.clone())) {
            "rows without a record"
        } else {
            "a record without rows"
        };
        format!("transaction {key} of run {run} left {rows}")
    }));
    wrong
}

/// A child and its parent's record of it.
fn children_with_records(snapshot: &Snapshot) -> Vec<String> {
    let child =
        |(id, run): (&String, &RunSeen)| run.parent.as_ref().map(|parent| (parent.clone(), id.clone()));
    let started: BTreeSet<_> = snapshot.runs.iter().filter_map(child).collect();
    let told = |(id, run): (&String, &RunSeen)| {
        run.children.iter().map(|child| (id.clone(), child.clone())).collect::<Vec<_>>()
    };
    let recorded: BTreeSet<_> = snapshot.runs.iter().flat_map(told).collect();
    let apart = started.symmetric_difference(&recorded);
    apart
        .map(|(parent, child)| {
            let known =
                if started.contains(&(parent.clone(), child.clone())) { "without" } else { "only as" };
            format!("child {child} is there {known} a record of run {parent}")
        })
        .collect()
}

/// What askers get and the run's record of it, each once.
fn answers_with_records(snapshot: &Snapshot) -> Vec<String> {
    let apart = snapshot.runs.iter().filter(|(_, run)| run.replies != run.answers);
    apart
        .map(|(id, run)| {
            format!("run {id} has recorded the answers {:?}, and gives {:?}", run.answers, run.replies)
        })
        .collect()
}
