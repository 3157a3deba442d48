//! The outcome of each run is one that the reference interpreter allows, and exactly the steps that it names have one.

use std::collections::BTreeSet;

use super::Content;
use crate::{
    history::{Ended, Fact, Noted, What, plain},
    plan::Plan,
    program::{Expected, Out, TIMEOUT, expected},
};

/// What breaks it.
pub fn check(plan: &Plan, history: &[Fact], content: &Content) -> Vec<String> {
    let mut found = Vec::new();
    for (run, (_, entries)) in &content.runs {
        let Some(ended) = entries.last().and_then(|last| last.ended) else { continue };
        let own = plan.runs.get(*run);
        let ends_otherwise = Otherwise {
            cancelled: is_cancelled(history, *run),
            late: own.is_some_and(|own| own.deadline_ms.is_some()),
        };
        let program = own.map(|own| &own.program).or_else(|| content.programs.get(run));
        let Some(expected) = program.and_then(expected) else { continue };
        found
            .extend(differs(&expected, ended, ends_otherwise, entries).map(|why| format!("run-{run} {why}")));
    }
    found
}

/// How a run may end besides by its function.
#[derive(Clone, Copy)]
struct Otherwise {
    cancelled: bool,
    late: bool,
}

/// Whether somebody cancelled or killed it: people, or the run that started it. (Whether that one was to is judged in
/// `family`.)
fn is_cancelled(history: &[Fact], run: usize) -> bool {
    history.iter().any(|fact| match &fact.what {
        What::CancelPosted { run: of } | What::Acted { run: of, verb: "kill" } => *of == run,
        What::ChildStarted { child, .. } => *child == run,
        _ => false,
    })
}

fn differs(expected: &Expected, ended: Ended, may: Otherwise, entries: &[Noted]) -> Option<String> {
    let out = match ended {
        Ended::Cancelled if may.cancelled => return None,
        Ended::With(Out::Fail(TIMEOUT)) if may.late => return None,
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
    let keys = outcomes.filter_map(|entry| Some(plain(entry.key.as_deref()?)));
    // Undos come after the program, and answers to requests beside it.
    let own = keys.filter(|key| !key.starts_with("undo/") && !is_reply(key));
    let done: BTreeSet<_> = own.map(ToString::to_string).collect();
    let steps = expected.steps.as_ref()?;
    (done != *steps).then(|| format!("has outcomes of the steps {done:?}, and expected are {steps:?}"))
}

fn is_reply(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    name == "reply" || name.starts_with("reply#")
}

#[cfg(test)]
mod tests {
    use everstep_core::journal::Kind;

    use super::{super::made_up::*, *};

    fn otherwise(cancelled: bool, late: bool) -> Otherwise {
        Otherwise { cancelled, late }
    }

    fn expects() -> Expected {
        Expected { outcomes: [Out::Return(4)].into(), steps: Some(["a".to_string()].into()) }
    }

    #[test]
    fn another_outcome_or_another_step_is_found() {
        let journal = [entry(0, Kind::Started), done(1, 1)];
        let with = |out| Ended::With(out);
        assert_eq!(differs(&expects(), with(Out::Go(4)), otherwise(false, false), &journal), None);
        assert!(differs(&expects(), with(Out::Go(5)), otherwise(false, false), &journal).is_some());
        assert!(differs(&expects(), with(Out::Fail(4)), otherwise(false, false), &journal).is_some());
        assert!(
            differs(&expects(), with(Out::Go(4)), otherwise(false, false), &journal[..1]).is_some(),
            "a step is missing"
        );
        assert!(differs(&expects(), Ended::Cancelled, otherwise(false, false), &journal).is_some());
        assert_eq!(differs(&expects(), Ended::Cancelled, otherwise(true, false), &journal), None);
        assert!(differs(&expects(), with(Out::Fail(TIMEOUT)), otherwise(false, false), &journal).is_some());
        assert_eq!(differs(&expects(), with(Out::Fail(TIMEOUT)), otherwise(false, true), &journal), None);
    }
}
