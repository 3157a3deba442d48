//! What a copy says about each of its two stores, and which mark may follow which. Pure.

use std::{fmt, sync::Arc};

use super::super::StoreError;
use crate::time::Timestamp;

/// The name of one copy: both of its stores have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyId(pub u128);

/// Where a store stands in a copy. Numbered for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CopyStage {
    /// Its runs are being copied to another store.
    Leaving = 1,
    /// Its runs are at another store now.
    Moved = 2,
    /// Runs are being copied into it, and are not all there yet.
    Arriving = 3,
}

impl CopyStage {
    /// The stage of a stored number.
    pub fn from_code(code: u8) -> Option<CopyStage> {
        [CopyStage::Leaving, CopyStage::Moved, CopyStage::Arriving].into_iter().find(|s| *s as u8 == code)
    }
}

/// What a copy says about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyMark {
    /// Which copy.
    pub copy: CopyId,
    /// Where it stands.
    pub stage: CopyStage,
    /// The other store, as people name it; without secrets.
    pub other: Arc<str>,
    /// Since when.
    pub at: Timestamp,
}

/// What must be so for a mark to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing more than the mark before it.
    Nothing,
    /// All workers are fenced, and no run is owned.
    Quiet,
    /// That, and there is no run.
    Empty,
}

impl CopyMark {
    /// What must be so for `to` to follow `from`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it may never follow it.
    pub fn needs(from: Option<&CopyMark>, to: Option<&CopyMark>) -> Result<Needs, StoreError> {
        use CopyStage as S;
        match (from, to) {
            (None, Some(CopyMark { stage: S::Leaving, .. })) => Ok(Needs::Quiet),
            (None, Some(CopyMark { stage: S::Arriving, .. })) => Ok(Needs::Empty),
            (Some(CopyMark { stage: S::Leaving | S::Arriving, .. }), None) => Ok(Needs::Nothing),
            (
                Some(CopyMark { copy: a, stage: S::Leaving, .. }),
                Some(CopyMark { copy: b, stage: S::Moved, .. }),
            ) if a == b => Ok(Needs::Nothing),
            _ => Err(StoreError::Refused("such a mark of a copy does not follow the one before".into())),
        }
    }

    /// What whoever wanted to change the mark hears when the store has another one than expected.
    pub fn changed(found: Option<&CopyMark>) -> StoreError {
        let gone = || StoreError::Unusable("the copy was given up or completed by somebody else".into());
        found.map_or_else(gone, CopyMark::refusal)
    }

    /// What whoever wants to use the store hears.
    pub fn refusal(&self) -> StoreError {
        StoreError::Moved(self.to_string().into())
    }

    /// What is heard if something is in the way of the mark.
    pub fn blocked(by: &str) -> StoreError {
        StoreError::Unusable(format!("this store cannot be copied from or into now: {by}").into())
    }
}

impl fmt::Display for CopyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = &self.other;
        match self.stage {
            CopyStage::Leaving => write!(
                f,
                "the runs of this store are being copied to `{other}`, and nothing may change here until they are. If the \
                 copy was broken off, run `everstep copy` again as before, and it goes on; or give it up with `everstep \
                 copy --abandon`"
            ),
            CopyStage::Moved => write!(
                f,
                "the runs of this store have moved to `{other}`: use that one. Opened by force, this one has what it had, \
                 and what is done here is not done there"
            ),
            CopyStage::Arriving => write!(
                f,
                "runs are being copied into this store from `{other}`, and they are not all here yet. If the copy was \
                 broken off, run `everstep copy` again as before, and it goes on; if it was given up, remove this store"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_marks_is_decided() {
        use CopyStage as S;
        let mark = |copy, stage| CopyMark { copy: CopyId(copy), stage, other: "x".into(), at: Timestamp(0) };
        let marks = [
            None,
            Some(mark(1, S::Leaving)),
            Some(mark(1, S::Moved)),
            Some(mark(1, S::Arriving)),
            Some(mark(2, S::Moved)),
        ];
        let name = |mark: &Option<CopyMark>| {
            mark.as_ref().map_or("none".to_string(), |mark| format!("{:?} {}", mark.stage, mark.copy.0))
        };
        let mut allowed = Vec::new();
        for from in &marks {
            for to in &marks {
                if let Ok(needs) = CopyMark::needs(from.as_ref(), to.as_ref()) {
                    allowed.push(format!("{} → {}: {needs:?}", name(from), name(to)));
                }
            }
        }
        assert_eq!(
            allowed,
            [
                "none → Leaving 1: Quiet",
                "none → Arriving 1: Empty",
                "Leaving 1 → none: Nothing",
                "Leaving 1 → Moved 1: Nothing",
                "Arriving 1 → none: Nothing",
            ]
        );
    }

    #[test]
    fn stages_keep_their_numbers() {
        let all = [CopyStage::Leaving, CopyStage::Moved, CopyStage::Arriving];
        assert_eq!(all.map(|stage| stage as u8), [1, 2, 3]);
        assert_eq!(all.map(|stage| CopyStage::from_code(stage as u8)), all.map(Some));
        assert_eq!((CopyStage::from_code(0), CopyStage::from_code(4)), (None, None));
    }
}
