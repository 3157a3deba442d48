//! What runs end with, and what is told of it: that of the undisturbed history, once and for all.

use std::collections::BTreeMap;

use crate::{history::History, workload::Expected};

/// The results are those of the undisturbed history, but for what a policy says of attempts in doubt.
pub(super) fn check(history: &History, expected: &BTreeMap<String, Expected>) -> Vec<String> {
    let mut wrong = Vec::new();
    let told = told(history, "result");
    for (run, expected) in expected {
        let value = &expected.value;
        match told.get(run).map(Vec::as_slice) {
            None | Some([]) => wrong.push(format!("run {run} has no result")),
            Some(all) => {
                for result in all {
                    if !is_allowed(history, run, result, expected) {
                        wrong.push(format!("run {run} has the result `{result}` instead of `{value}`"));
                    }
                    if result != &all[0] {
                        wrong.push(format!("run {run} has two results: `{result}`, `{}`", all[0]));
                    }
                }
            }
        }
    }
    wrong
}

/// What was told twice was told alike: replies and items of streams.
pub(super) fn same_again(history: &History) -> Vec<String> {
    let mut first: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in history.lives.iter().flat_map(|(life, _)| &life.lines) {
        let words: Vec<&str> = line.split(' ').collect();
        let [what @ ("reply" | "read"), .., value] = words[..] else { continue };
        let of = &line[what.len() + 1..line.len() - value.len() - 1];
        let told = *first.entry((what, of)).or_insert(value);
        if told != value {
            wrong.push(format!("{what} {of} was told as `{told}` and as `{value}`"));
        }
    }
    wrong
}

fn told(history: &History, what: &str) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in history.lives.iter().flat_map(|(life, _)| &life.lines) {
        let rest = line.strip_prefix(what).and_then(|rest| rest.strip_prefix(' '));
        if let Some((run, result)) = rest.and_then(|rest| rest.split_once(' ')) {
            told.entry(run.to_string()).or_default().push(result.to_string());
        }
    }
    told
}

fn is_allowed(history: &History, run: &str, result: &str, expected: &Expected) -> bool {
    let (tokens, wanted): (Vec<_>, Vec<_>) =
        (result.split(',').collect(), expected.value.split(',').collect());
    let in_doubt = |key: &str| {
        history.lives.iter().any(|(_, s)| s.runs.get(run).is_some_and(|run| run.started.contains(key)))
    };
    let same = |(token, wanted): (&&str, &&str)| {
        token == wanted
            || token.strip_suffix("=doubted").is_some_and(|key| key.starts_with("fail-") && in_doubt(key))
            || token.strip_suffix("=answered").is_some_and(|key| key.starts_with("ask-") && in_doubt(key))
    };
    // The wish to cancel may come when the function has returned.
    (expected.cancelled && result == "cancelled")
        || (tokens.len() == wanted.len() && tokens.iter().zip(&wanted).all(same))
}
