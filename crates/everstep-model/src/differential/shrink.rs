//! Makes a failing stream shorter, as long as it fails.

use super::operation::Step;

/// A shorter stream that fails too; perhaps the same.
pub(super) fn shrink(steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut steps = steps;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut from = 0;
        let mut shorter = false;
        while from < steps.len() {
            let mut without = steps.clone();
            without.drain(from..(from + size).min(steps.len()));
            if fails(&without) {
                (steps, shorter) = (without, true);
            } else {
                from += size;
            }
        }
        if !shorter || size > 1 {
            size /= 2;
        }
    }
    apart(steps, fails)
}

/// One after the other, where that fails too.
fn apart(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    for at in 0..steps.len() {
        if !steps[at].at_once {
            continue;
        }
        steps[at].at_once = false;
        if !fails(&steps) {
            steps[at].at_once = true;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{draw, operation::Operation};

    #[test]
    fn what_does_not_matter_goes() {
        let has = |steps: &[Step]| {
            let cuts = steps.iter().filter(|step| matches!(step.what, Operation::Cut { .. })).count();
            cuts > 1 && steps.iter().any(|step| matches!(step.what, Operation::Leave { .. }))
        };
        let steps = (0..).map(draw::stream).find(|steps| has(steps)).expect("some stream has them");
        let shrunk = shrink(steps, has);
        assert_eq!(shrunk.len(), 3, "{shrunk:?}");
        assert!(shrunk.iter().all(|step| !step.at_once));
    }
}
