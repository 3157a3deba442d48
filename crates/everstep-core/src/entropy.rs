//! The one door to chance.
#![allow(clippy::disallowed_methods, reason = "this is the replacement that the ban names")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::digest::draw;

/// Draws random numbers: from the system, or in simulation from a seed.
#[derive(Clone, Debug)]
pub struct Entropy(Option<Arc<(u64, AtomicU64)>>);

impl Entropy {
    /// The system's entropy.
    pub fn system() -> Entropy {
        Entropy(None)
    }

    /// The same numbers for the same seed.
    #[cfg(any(test, feature = "testing"))]
    pub fn seeded(seed: u64) -> Entropy {
        Entropy(Some(Arc::new((seed, AtomicU64::new(0)))))
    }

    /// 128 random bits.
    pub fn draw(&self) -> u128 {
        match &self.0 {
            Some(seeded) => draw(u128::from(seeded.0), seeded.1.fetch_add(1, Ordering::Relaxed)),
            None => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the operating system gives entropy");
                u128::from_le_bytes(bytes)
            }
        }
    }
}

/// Counts the draws of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
