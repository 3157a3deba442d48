//! Virtual time and seeded chance for tests.

use crate::{clock::Clock, entropy::Entropy};

/// A world of virtual time and seeded chance, for engines on a single-threaded runtime whose clock is paused: the same
/// seed gives the same run. Engines of one simulation share its clock, so that one may go on where another stopped.
///
/// # Panics
/// [`Simulation::new`] needs a tokio runtime with time around it.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
}

impl Simulation {
    /// A world that begins now, at 2026-01-01T00:00:00Z.
    pub fn new(seed: u64) -> Simulation {
        Simulation { clock: Clock::simulated(), entropy: Entropy::seeded(seed) }
    }
}
