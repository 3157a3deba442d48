//! Guarantee 3: a transactional step's rows and its record commit together, exactly once.

use std::collections::BTreeSet;

use super::Content;
use crate::history::{Fact, What};

/// What breaks it.
pub fn check(history: &[Fact], content: &Content) -> Vec<String> {
    let committed: BTreeSet<_> = history
        .iter()
        .filter_map(|fact| match &fact.what {
            What::Transacted { run, key, .. } => Some((*run, key.clone())),
            _ => None,
        })
        .collect();
    let went_back: BTreeSet<_> = history
        .iter()
        .filter_map(|fact| match fact.what {
            What::CutBack { run, .. } => Some(run),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    // A run that a person took back makes its steps again, and so their rows.
    for run in content.runs.keys().filter(|run| !went_back.contains(run)) {
        let label = format!("run-{run} ");
        let own: Vec<_> = content.rows.iter().filter(|(row, _)| row.starts_with(&label)).collect();
        let more = own.iter().filter(|(_, n)| **n != 1);
        found.extend(more.map(|(row, n)| format!("row `{row}` was written {n} times")));
        let rows = own.len();
        let records = committed.iter().filter(|(of, _)| of == run).count();
        if rows != records {
            found.push(format!("run-{run}: {rows} rows, and {records} transactions were committed"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};

    fn finds(records: usize, rows: &[(&str, u64)]) -> usize {
        let facts =
            (0..records).map(|i| What::Transacted { run: 0, worker: 1, key: format!("a#{i}").into() });
        let rows = rows.iter().map(|(row, n)| (row.to_string(), *n)).collect();
        let runs = [(0, ("Completed".to_string(), Vec::new()))].into();
        check(&history(facts.collect()), &Content { runs, rows, ..Content::default() }).len()
    }

    #[test]
    fn rows_that_are_too_many_or_too_few_are_found() {
        assert_eq!(finds(2, &[("run-0 0.1", 1), ("run-0 0.2", 1)]), 0);
        assert_eq!(finds(1, &[("run-0 0.1", 2)]), 1, "twice");
        assert_eq!(finds(2, &[("run-0 0.1", 1)]), 1, "never");
        assert_eq!(finds(0, &[("run-0 0.1", 1)]), 1, "without its record");
    }
}
