//! How a copy goes on, by what earlier calls have left on the two stores. Pure.

use crate::store::{CopyId, CopyMark, CopyStage};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Everything.
    Begin,
    /// The source is closed, the destination is not.
    Enter(CopyId),
    /// Both are.
    GoOn(CopyId),
    /// Nothing: both are as they are afterwards.
    Complete,
}

/// A mark that another copy, or this one in another place, has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InTheWay {
    /// On the source.
    Left(CopyMark),
    /// On the destination.
    Arrived(CopyMark),
}

/// The plan for a copy into the store called `to`, or what is in its way.
pub(super) fn plan(left: Option<CopyMark>, arrived: Option<CopyMark>, to: &str) -> Result<Plan, InTheWay> {
    use CopyStage as S;
    match (left, arrived) {
        (None, None) => Ok(Plan::Begin),
        (Some(left), None) if *left.other == *to => match left.stage {
            S::Leaving => Ok(Plan::Enter(left.copy)),
            S::Moved => Ok(Plan::Complete),
            S::Arriving => Err(InTheWay::Left(left)),
        },
        (Some(left), Some(arrived))
            if left.copy == arrived.copy && left.stage != S::Arriving && arrived.stage == S::Arriving =>
        {
            Ok(Plan::GoOn(left.copy))
        }
        (Some(left), _) => Err(InTheWay::Left(left)),
        (None, Some(arrived)) => Err(InTheWay::Arrived(arrived)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn every_pair_of_marks_has_a_plan_or_is_in_the_way() {
        use CopyStage as S;
        let mark = |copy, stage, other: &str| {
            Some(CopyMark { copy: CopyId(copy), stage, other: other.into(), at: Timestamp(0) })
        };
        let sides = [
            None,
            mark(1, S::Leaving, "to"),
            mark(1, S::Moved, "to"),
            mark(1, S::Arriving, "from"),
            mark(2, S::Leaving, "other"),
            mark(2, S::Moved, "other"),
            mark(2, S::Arriving, "other"),
        ];
        let name = |mark: &Option<CopyMark>| {
            mark.as_ref().map_or("none".to_string(), |mark| format!("{:?} {}", mark.stage, mark.copy.0))
        };
        let mut plans = Vec::new();
        for left in &sides {
            for arrived in &sides {
                if let Ok(plan) = plan(left.clone(), arrived.clone(), "to") {
                    plans.push(format!("{}, {}: {plan:?}", name(left), name(arrived)));
                }
            }
        }
        assert_eq!(
            plans,
            [
                "none, none: Begin",
                "Leaving 1, none: Enter(CopyId(1))",
                "Leaving 1, Arriving 1: GoOn(CopyId(1))",
                "Moved 1, none: Complete",
                "Moved 1, Arriving 1: GoOn(CopyId(1))",
                "Leaving 2, Arriving 2: GoOn(CopyId(2))",
                "Moved 2, Arriving 2: GoOn(CopyId(2))",
            ]
        );
    }

    #[test]
    fn whoever_is_refused_hears_of_the_source_first() {
        let mark = |copy, stage| CopyMark { copy: CopyId(copy), stage, other: "x".into(), at: Timestamp(0) };
        let (left, arrived) = (mark(1, CopyStage::Leaving), mark(2, CopyStage::Arriving));
        assert_eq!(plan(Some(left.clone()), Some(arrived.clone()), "to"), Err(InTheWay::Left(left)));
        assert_eq!(plan(None, Some(arrived.clone()), "to"), Err(InTheWay::Arrived(arrived)));
    }
}
