//! Steps of programs.

use serde::{Deserialize, Serialize};

use super::Feature;

/// A step: what its attempts do, and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: char,
    /// The value that it returns in the end; what it fails with is the same number.
    pub value: i64,
    /// How long a body takes.
    pub ms: u64,
    /// So many attempts fail.
    pub fails: u32,
    /// So many attempts never return.
    pub hangs: u32,
    /// The failure stops the retries.
    pub terminal: bool,
    /// So many attempts there are at most.
    pub attempts: u32,
    /// The pause between them.
    pub pause_ms: u64,
    /// How long an attempt may take.
    pub limit_ms: Option<u64>,
    /// Whether its error is kept whole.
    pub typed: bool,
    /// Whether it says what its input is.
    pub input: bool,
    /// What becomes of an attempt in doubt.
    pub doubt: Policy,
    /// Whether it is undone when the run fails or is cancelled.
    #[serde(default)]
    pub undo: bool,
}

/// What a step does about an attempt in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Policy {
    /// Makes it again.
    Retry,
    /// Fails.
    Fail,
    /// Asks a person.
    Ask,
    /// Looks.
    Verify,
}

impl Step {
    /// One that does nothing special.
    #[cfg(test)]
    pub(super) fn plain(name: char, value: i64) -> Step {
        Step {
            name,
            value,
            ms: 0,
            fails: 0,
            hangs: 0,
            terminal: false,
            attempts: 1,
            pause_ms: 0,
            limit_ms: None,
            typed: false,
            input: false,
            doubt: Policy::Retry,
            undo: false,
        }
    }

    /// What it is an example of.
    pub(super) fn features(&self) -> Vec<Feature> {
        use Feature as F;
        let doubt = match self.doubt {
            Policy::Retry => None,
            Policy::Fail => Some(F::DoubtFail),
            Policy::Ask => Some(F::DoubtAsk),
            Policy::Verify => Some(F::Verify),
        };
        let retries = (self.attempts > 1 && self.fails > 0).then_some(F::Retry);
        let fails = (self.fails >= self.attempts).then_some(F::Error);
        let times_out = self.limit_ms.map(|_| F::Timeout);
        let undo = self.undo.then_some(F::Undo);
        [doubt, retries, fails, times_out, undo].into_iter().flatten().collect()
    }
}
