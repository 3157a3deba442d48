//! Plays one play in many orders, at random and with few, well-placed changes of threads (PCT, after Burckhardt).

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::{
    Config, FailurePersistence, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

use crate::Play;

/// Orders that one seed gives; so many are repeated to see a failure again.
pub const AT_ONCE: usize = 500;
/// Places where PCT changes threads: nearly all known mistakes need one or two.
const CHANGES: usize = 3;

/// A seed whose orders do not all hold, and what went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Repeats it.
    pub seed: u64,
    /// The panic's message.
    pub why: String,
}

/// Plays it in `orders` orders, from this seed on; how many there were.
///
/// # Errors
/// The first failure.
pub fn explore(play: Play, orders: usize, seed: u64) -> Result<usize, Failure> {
    let mut played = 0;
    for seed in seed.. {
        if played >= orders {
            break;
        }
        played += once(play, seed)?;
    }
    Ok(played)
}

/// The orders of one seed: even ones are random, odd ones PCT's.
///
/// # Errors
/// The first failure.
pub fn once(play: Play, seed: u64) -> Result<usize, Failure> {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    let run = || match seed % 2 {
        0 => Runner::new(RandomScheduler::new_from_seed(seed, AT_ONCE), config).run(play),
        _ => Runner::new(PctScheduler::new_from_seed(seed, CHANGES, AT_ONCE), config).run(play),
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let why = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Failure { seed, why: why.to_string() }
    })
}
