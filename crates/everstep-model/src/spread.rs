//! Work that is spread over the cores. Each piece depends on its seed alone, so that it does not matter who does it.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Does `work` for each seed; what came of it, by seed.
///
/// # Errors
/// That of the lowest seed among those that failed. The others end soon.
pub fn spread<T: Send, E: Send>(
    seeds: Range<u64>,
    work: impl Fn(u64) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    let hand = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || seed > failed.load(Ordering::Relaxed) {
                return done;
            }
            let outcome = work(seed);
            if outcome.is_err() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
            done.push((seed, outcome));
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<_> = thread::scope(|scope| {
        let hands: Vec<_> = (0..cores).map(|_| scope.spawn(hand)).collect();
        hands.into_iter().flat_map(|hand| hand.join().expect("nobody panics")).collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_done_in_the_order_of_seeds() {
        let doubled: Result<Vec<u64>, ()> = spread(3..40, |seed| Ok(seed * 2));
        assert_eq!(doubled, Ok((3..40).map(|seed| seed * 2).collect()));
    }

    #[test]
    fn the_lowest_seed_that_fails_is_told() {
        let failed = spread(0..100, |seed| if seed % 7 == 5 { Err(seed) } else { Ok(()) });
        assert_eq!(failed, Err(5));
    }
}
