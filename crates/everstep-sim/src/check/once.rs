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
    let more = content.rows.iter().filter(|(_, n)| **n != 1);
    let mut found: Vec<_> = more.map(|(row, n)| format!("row `{row}` was written {n} times")).collect();
    for run in content.runs.keys() {
        let label = format!("run-{run} ");
        let rows = content.rows.keys().filter(|row| row.starts_with(&label)).count();
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
        check(&history(facts.collect()), &Content { runs, rows }).len()
    }

    #[test]
    fn rows_that_are_too_many_or_too_few_are_found() {
        assert_eq!(finds(2, &[("run-0 0.1", 1), ("run-0 0.2", 1)]), 0);
        assert_eq!(finds(1, &[("run-0 0.1", 2)]), 1, "twice");
        assert_eq!(finds(2, &[("run-0 0.1", 1)]), 1, "never");
        assert_eq!(finds(0, &[("run-0 0.1", 1)]), 1, "without its record");
    }
}
