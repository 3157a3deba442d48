//! The outcome of each run is one that the reference interpreter allows, and exactly the steps that it names have one.

use std::collections::BTreeSet;

use super::Content;
use crate::{
    history::{Ended, Fact, Noted, What},
    plan::Plan,
    program::{Expected, Out, expected},
};

/// What breaks it.
pub fn check(plan: &Plan, history: &[Fact], content: &Content) -> Vec<String> {
    let mut found = Vec::new();
    for (run, (_, entries)) in &content.runs {
        let Some(ended) = entries.last().and_then(|last| last.ended) else { continue };
        let was_cancelled = history.iter().any(|fact| fact.what == What::CancelPosted { run: *run });
        let Some(expected) = plan.runs.get(*run).and_then(|run| expected(&run.program)) else { continue };
        found.extend(differs(&expected, ended, was_cancelled, entries).map(|why| format!("run-{run} {why}")));
    }
    found
}

fn differs(expected: &Expected, ended: Ended, was_cancelled: bool, entries: &[Noted]) -> Option<String> {
    let out = match ended {
        Ended::Cancelled if was_cancelled => return None,
        Ended::Cancelled => return Some("was cancelled by nobody".to_string()),
        Ended::With(out) => out,
    };
    // From outside an early return is a value like any other.
    let is_allowed = match out {
        Out::Go(value) => {
            [Out::Go(value), Out::Return(value)].iter().any(|out| expected.outcomes.contains(out))
        }
        other => expected.outcomes.contains(&other),
    };
    if !is_allowed {
        return Some(format!("ended with {out:?}, and allowed are {:?}", expected.outcomes));
    }
    let outcomes = entries.iter().filter(|entry| entry.is_outcome_of_step());
    let done: BTreeSet<_> = outcomes.filter_map(|entry| Some(entry.key.as_deref()?.to_string())).collect();
    let steps = expected.steps.as_ref()?;
    (done != *steps).then(|| format!("has outcomes of the steps {done:?}, and expected are {steps:?}"))
}

#[cfg(test)]
mod tests {
    use everstep_core::journal::Kind;

    use super::{super::made_up::*, *};

    fn expects() -> Expected {
        Expected { outcomes: [Out::Return(4)].into(), steps: Some(["a".to_string()].into()) }
    }

    #[test]
    fn another_outcome_or_another_step_is_found() {
        let journal = [entry(0, Kind::Started), done(1, 1)];
        let with = |out| Ended::With(out);
        assert_eq!(differs(&expects(), with(Out::Go(4)), false, &journal), None);
        assert!(differs(&expects(), with(Out::Go(5)), false, &journal).is_some());
        assert!(differs(&expects(), with(Out::Fail(4)), false, &journal).is_some());
        assert!(differs(&expects(), with(Out::Go(4)), false, &journal[..1]).is_some(), "a step is missing");
        assert!(differs(&expects(), Ended::Cancelled, false, &journal).is_some());
        assert_eq!(differs(&expects(), Ended::Cancelled, true, &journal), None);
    }
}
