//! Requests: an answer is recorded once, is durable before anybody hears it, and is the same for everybody who asks under
//! the same key.

use std::collections::BTreeMap;

use everstep_core::journal::Kind;

use super::lives;
use crate::{
    history::{Fact, Got, Made, What},
    program::answer_to,
};

/// What breaks it.
pub fn check(history: &[Fact]) -> Vec<String> {
    let went_back = lives::went_back(history);
    let mut recorded = BTreeMap::<(usize, i64), Vec<Made>>::new();
    let mut found = Vec::new();
    for fact in history {
        match &fact.what {
            What::Turn { run, entries, .. } => {
                for entry in entries.iter().filter(|entry| entry.kind == Kind::RequestAnswered) {
                    match entry.got {
                        Some(Got::Value(made)) => recorded.entry((*run, made.v)).or_default().push(made),
                        _ => found.push(format!("run-{run}: a request was not answered: {:?}", entry.got)),
                    }
                }
            }
            What::Replied { run, question, made } => {
                let answers = recorded.get(&(*run, answer_to(*question))).map_or(&[][..], Vec::as_slice);
                let first = answers.first();
                let is_true =
                    if went_back.contains(run) { answers.contains(made) } else { first == Some(made) };
                if !is_true {
                    found.push(format!(
                        "run-{run}: somebody heard {made:?} as the answer to {question}, and recorded are {answers:?}"
                    ));
                }
            }
            _ => {}
        }
    }
    let twice = recorded.iter().filter(|((run, _), all)| all.len() > 1 && !went_back.contains(run));
    found.extend(
        twice.map(|((run, v), all)| format!("run-{run}: the answer {v} is recorded {} times", all.len())),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::{super::made_up::*, *};
    use crate::history::Noted;

    fn finds(facts: Vec<What>) -> usize {
        check(&history(facts)).len()
    }

    fn made(by: u64) -> Made {
        Made { v: answer_to(1), by }
    }

    fn answered(by: u64) -> What {
        turn(1, vec![Noted { got: Some(Got::Value(made(by))), ..entry(1, Kind::RequestAnswered) }])
    }

    fn replied(by: u64) -> What {
        What::Replied { run: 0, question: 1, made: made(by) }
    }

    #[test]
    fn answers_that_are_recorded_twice_or_heard_otherwise_are_found() {
        assert_eq!(finds(vec![answered(1), replied(1), replied(1)]), 0);
        assert_eq!(finds(vec![replied(1), answered(1)]), 1, "too early");
        assert_eq!(finds(vec![answered(1), replied(2)]), 1, "another");
        assert_eq!(finds(vec![answered(1), answered(2)]), 1, "twice");
        let back = What::CutBack { run: 0, from: 1 };
        assert_eq!(finds(vec![answered(1), back, answered(2), replied(2)]), 0, "a person went back");
    }
}
