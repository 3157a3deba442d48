//! Which features of programs met which faults: a matrix that has no empty cell, or the seeds have not tried everything.

use std::collections::BTreeMap;

use crate::{fault::Fault, life::Life, program::Feature};

/// In how many seeds each feature met each fault.
#[derive(Clone, Debug, Default)]
pub struct Matrix(BTreeMap<(Feature, Fault), u64>);

impl Matrix {
    /// Counts a life.
    pub fn add(&mut self, life: &Life) {
        for feature in &life.features {
            for fault in &life.faults {
                *self.0.entry((*feature, *fault)).or_default() += 1;
            }
        }
    }

    /// Counts what another one has counted.
    pub fn merge(&mut self, other: Matrix) {
        for (cell, n) in other.0 {
            *self.0.entry(cell).or_default() += n;
        }
    }

    fn cell(&self, feature: Feature, fault: Fault) -> u64 {
        self.0.get(&(feature, fault)).copied().unwrap_or(0)
    }

    /// How many cells there are.
    pub fn cells() -> usize {
        Feature::ALL.len() * Fault::ALL.len()
    }

    /// How many of them are empty.
    pub fn empty(&self) -> usize {
        let cells = Feature::ALL.into_iter().flat_map(|feature| Fault::ALL.map(|fault| (feature, fault)));
        cells.filter(|(feature, fault)| self.cell(*feature, *fault) == 0).count()
    }

    /// The least that a cell holds.
    pub fn least(&self) -> u64 {
        let cells = Feature::ALL.into_iter().flat_map(|feature| Fault::ALL.map(|fault| (feature, fault)));
        cells.map(|(feature, fault)| self.cell(feature, fault)).min().unwrap_or(0)
    }
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:12}", "")?;
        Fault::ALL.iter().try_for_each(|fault| write!(f, "{:>10}", format!("{fault:?}")))?;
        for feature in Feature::ALL {
            write!(f, "\n{:12}", format!("{feature:?}"))?;
            Fault::ALL.iter().try_for_each(|fault| write!(f, "{:>10}", self.cell(feature, *fault)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_filled_when_its_feature_met_its_fault() {
        let mut matrix = Matrix::default();
        assert_eq!((matrix.empty(), matrix.least()), (Matrix::cells(), 0));
        let mut life = Life {
            trace: 0,
            violations: Vec::new(),
            features: Feature::ALL.into(),
            faults: [Fault::Crash].into(),
            facts: 0,
            seconds: 0,
            lines: Vec::new(),
        };
        matrix.add(&life);
        assert_eq!(matrix.empty(), Matrix::cells() - Feature::ALL.len());
        life.faults = Fault::ALL.into();
        matrix.add(&life);
        assert_eq!((matrix.empty(), matrix.least()), (0, 1));
        assert!(matrix.to_string().contains("Crash"));
    }
}
